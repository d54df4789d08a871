//! The tests that kill a process at every instruction of a publish, a read, or falling asleep, or stop it there.
//!
//! One process for each instruction, so only a sample runs here: kills that are a prime number of instructions apart.
//! `FANBUS_KILL_EVERY=1` runs all of them, and so does `make soak`.

#![allow(clippy::print_stdout)] // the figures, for complete runs

use std::collections::HashMap;
use std::env;
use std::time::{Duration, Instant};

use super::roles::draft;
use super::scene::{Got, Scene, read};
use super::stepped::{Act, Stepped, tiny};

/// Instructions from one kill to the next.
pub(super) fn stride(sample: usize) -> usize {
    env::var("FANBUS_KILL_EVERY").map_or(sample, |every| every.parse().expect("a number"))
}

/// Whether every single instruction is tried.
pub(super) fn is_whole_run() -> bool {
    stride(0) == 1
}

/// Prints from time to time how far it has come.
struct Progress {
    what: String,
    start: Instant,
    next: Instant,
}

impl Progress {
    /// The time without output.
    const EVERY: Duration = Duration::from_secs(10);

    fn new(what: String) -> Progress {
        let start = Instant::now();
        Progress {
            what,
            start,
            next: start + Progress::EVERY,
        }
    }

    fn tell(&mut self, instructions: usize, runs: usize) {
        if Instant::now() < self.next {
            return;
        }
        self.next += Progress::EVERY;
        let seconds = self.start.elapsed().as_secs();
        println!(
            "{}: at instruction {instructions}, {runs} runs in {seconds} s",
            self.what
        );
    }
}

/// Kills a process after 0, `stride`, 2 x `stride`.. instructions of its act, until the act is over. Returns the
/// number of runs that ended without and with a record of the dead process.
fn kill_everywhere(act: Act, stride: usize) -> [usize; 2] {
    let mut scene = Scene::new(&format!("killed-{act:?}"));
    let mut runs = [0; 2];
    let mut progress = Progress::new(format!("{act:?}"));
    for instructions in (0..).step_by(stride) {
        let payload = format!("dead after {instructions}");
        let mut stepped = Stepped::start(act, &scene.name, &payload);
        let mut expected = Vec::new();
        while let Some(got) = read(&mut scene.looker) {
            expected.push(got); // it published this to read it
        }
        if !expected.is_empty() {
            let last = scene.writer.end() - 1;
            assert_eq!(scene.arrived(last), expected);
        }
        let before = scene.snapshot();
        let end = scene.writer.end();
        let is_inside = stepped.step(instructions);
        let member = stepped.member;
        stepped.kill();
        scene.assert_only_it_wrote(&before, member.slot, end);

        let committed = scene.writer.end() - end;
        assert!(
            committed <= u64::from(act == Act::Publish),
            "after {instructions}"
        );
        let of_the_dead = (end..end + committed).map(|at| Got::Record(at, payload.clone().into()));
        scene.publish_and_expect(b"after it", of_the_dead.collect());
        scene.reap(member);
        runs[committed as usize] += 1;
        progress.tell(instructions, runs[0] + runs[1]);
        if !is_inside {
            break;
        }
    }
    let (kills, slowest) = (runs[0] + runs[1], scene.end());
    println!(
        "{act:?}: killed {kills} times, {runs:?} without and with a record; slowest {slowest:?}"
    );
    runs
}

#[test]
fn a_publisher_killed_at_any_instruction_has_published_all_or_nothing() {
    let [without, with] = kill_everywhere(Act::Publish, stride(223));
    assert!(without > 0 && with > 0, "the commit is somewhere between");
}

#[test]
fn a_reader_killed_at_any_instruction_of_its_copy_disturbs_no_member() {
    let [without, with] = kill_everywhere(Act::Read, stride(3001));
    assert!(without > 1 && with == 0);
}

#[test]
fn a_reader_killed_at_any_instruction_of_falling_asleep_disturbs_no_member() {
    let [without, with] = kill_everywhere(Act::Park, stride(199));
    assert!(without > 1 && with == 0);
}

#[test]
fn a_publisher_stopped_at_any_instruction_for_three_laps_publishes_once_when_it_continues() {
    let mut scene = Scene::new("stopped");
    let laps = 3 * tiny().log_entries as u64;
    let mut placed = [0; 2];
    let mut progress = Progress::new("Stop".into());
    for instructions in (0..).step_by(stride(599)) {
        let payload = format!("stopped after {instructions}");
        let mut stepped = Stepped::start(Act::Publish, &scene.name, &payload);
        drop(scene.snapshot());
        let start = scene.writer.end();
        let mut late = scene.writer.subscriber();
        let is_inside = stepped.step(instructions);
        // Other members overwrite the log three times meanwhile, and one reads along.
        let mut seen = HashMap::new();
        let mut look = |scene: &mut Scene| {
            while let Some(got) = read(&mut scene.looker) {
                let Got::Record(offset, payload) = got else {
                    panic!("eight records cannot be too fast: {got:?}")
                };
                assert_eq!(seen.insert(offset, payload), None);
            }
        };
        for number in 0..laps {
            let number = number.to_le_bytes();
            scene.writer.publish(&draft(&number)).expect("a sound bus");
            if number[0] % 8 == 7 {
                look(&mut scene);
            }
        }
        let before = scene.writer.end() - start - laps;
        if is_inside {
            assert!(stepped.run(), "it came to the end of its act");
        }
        let said = stepped.let_go();
        look(&mut scene);
        let offset: u64 = said
            .strip_prefix("published ")
            .and_then(|offset| offset.parse().ok())
            .unwrap_or_else(|| panic!("{said}"));
        placed[before as usize] += 1;
        let end = scene.writer.end();
        assert_eq!(end, start + laps + 1, "once, and nothing else");
        assert_eq!(offset, if before == 1 { start } else { end - 1 });
        assert_eq!(seen.len() as u64, laps + 1, "the looker has everything");
        assert_eq!(seen[&offset], payload.as_bytes());

        // The reader that slept through all of it agrees, and knows the number of missed records.
        let last = scene
            .writer
            .publish(&draft(b"after it"))
            .expect("a sound bus");
        seen.insert(last, b"after it".to_vec());
        assert_eq!(
            read(&mut scene.looker),
            Some(Got::Record(last, b"after it".to_vec()))
        );
        let slow = std::iter::from_fn(|| read(&mut late)).collect();
        for got in [slow, scene.arrived(last)] {
            let mut next = start;
            for got in got {
                match got {
                    Got::Missed(count) => next += count,
                    Got::Record(offset, payload) => {
                        assert_eq!((offset, &payload), (next, &seen[&offset]));
                        next += 1;
                    }
                }
            }
            assert_eq!(next, last + 1, "received and missed are all there was");
        }
        progress.tell(instructions, placed[0] + placed[1]);
        if !is_inside {
            break;
        }
    }
    println!("stopped {placed:?} times before and after the commit");
    assert!(placed[0] > 0 && placed[1] > 0);
    scene.end();
}
