//! The rounds: in each, for each row, all contenders take their turns.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::child::Actor;
use crate::figures::{Figures, Run};
use crate::options::Options;
use crate::plan::{Case, Contender, Work, cases};
use crate::task::{Pace, Patience, Role, Task};
use crate::{Outcome, clock};

/// Longest time of a run beyond its measurement, before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// No further round begins that would end after this.
const ENOUGH: Duration = Duration::from_secs(450);

/// The interval of messages to a busy reader, longer if they are large.
const BUSY_INTERVAL_NS: u64 = 20_000;
/// Long enough for a reader, and its CPU, to fall asleep.
const ASLEEP_INTERVAL_NS: u64 = 1_000_000;

/// Runs all rounds, and reports progress.
pub(crate) fn all(options: &Options, figures: &mut Figures) -> Outcome<()> {
    let cpus = clock::cpus()?;
    let folder = tempfile::tempdir()?;
    let mut brokers = BTreeMap::new();
    let mut number = 0;
    let begin = Instant::now();
    for round in 1..=options.rounds {
        let used = begin.elapsed();
        if used + used / (round as u32 - 1).max(1) > ENOUGH && round > 1 {
            eprintln!("round {round}: left out, since it would take longer than {ENOUGH:?} in all");
            break;
        }
        for case in cases() {
            for contender in options.contenders(case) {
                let broker = if contender.has_broker() {
                    Some(started(&mut brokers, contender, folder.path())?)
                } else {
                    None
                };
                number += 1;
                let setting = Setting {
                    case,
                    contender,
                    broker,
                    each: options.each,
                    ring_bytes: options.ring_bytes,
                    cpus: &cpus,
                    name: format!("bench-{}-{number}-", std::process::id()),
                };
                let run = setting.run();
                let said = match &run {
                    Ok(run) => run.to_string(),
                    Err(error) => format!("failed: {error}"),
                };
                let (name, who) = (case.name(), contender.name());
                eprintln!("round {round}: {name:34} {who:12} {said}");
                figures.add(case, contender, run.ok());
            }
        }
    }
    Ok(())
}

/// The address of a broker, which is started when it is first needed.
fn started(
    brokers: &mut BTreeMap<Contender, Broker>,
    contender: Contender,
    folder: &Path,
) -> Outcome<String> {
    let broker = match brokers.entry(contender) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Broker::start(contender, folder)?),
    };
    Ok(broker.address().to_owned())
}

/// One run of one contender.
struct Setting<'a> {
    case: Case,
    contender: Contender,
    broker: Option<String>,
    each: Duration,
    ring_bytes: usize,
    cpus: &'a [usize],
    name: String,
}

impl Setting<'_> {
    fn run(&self) -> Outcome<Run> {
        let run = self.lead();
        self.clean()?;
        run
    }

    /// Removes the files that the run has left in shared memory: Fanbus's segment, and those of iceoryx2.
    fn clean(&self) -> Outcome<()> {
        for entry in std::fs::read_dir("/dev/shm")? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_named = |prefix: &str| {
                name.strip_prefix(prefix)
                    .is_some_and(|it| it.starts_with(&self.name))
            };
            if is_named("fanbus.") || is_named("") {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Readers open first, then producers; then readers connect, and producers begin.
    fn lead(&self) -> Outcome<Run> {
        let folder = tempfile::tempdir()?;
        let deadline = Instant::now() + self.each + PATIENCE;
        let work = self.case.work;
        let mut readers = self.start(Role::Reader, work.readers(), folder.path(), deadline)?;
        let mut producers =
            self.start(Role::Producer, work.producers(), folder.path(), deadline)?;
        for reader in &mut readers {
            reader.go()?;
            reader.hear_ready(deadline)?;
        }
        for actor in readers.iter_mut().chain(&mut producers) {
            actor.go()?;
        }
        let mut run = Run::default();
        for producer in &mut producers {
            run.sent
                .push(serde_json::from_str(&producer.hear(deadline)?)?);
        }
        for reader in &mut readers {
            run.received
                .push(serde_json::from_str(&reader.hear(deadline)?)?);
        }
        for producer in &mut producers {
            producer.go()?;
        }
        for actor in readers.iter_mut().chain(&mut producers) {
            actor.hear_end(deadline)?;
        }
        Ok(run)
    }

    fn start(
        &self,
        role: Role,
        count: usize,
        folder: &Path,
        deadline: Instant,
    ) -> Outcome<Vec<Actor>> {
        let start = |number| Actor::start(&self.task(role, number, folder));
        let mut actors = (0..count).map(start).collect::<Outcome<Vec<_>>>()?;
        for actor in &mut actors {
            actor.hear_ready(deadline)?;
        }
        Ok(actors)
    }

    fn task(&self, role: Role, number: usize, folder: &Path) -> Task {
        let work = self.case.work;
        // Producers from the first CPU on, readers from the second: a pair is on two.
        let step = match (role, work) {
            (Role::Producer, _) | (_, Work::AsleepTogether) => 0,
            (Role::Reader, _) => 1,
        };
        Task {
            contender: self.contender,
            role,
            number,
            producers: work.producers(),
            readers: work.readers(),
            bytes: self.case.bytes,
            pace: self.pace(),
            patience: self.case.patience(self.contender),
            cpu: self.cpus[(number + step) % self.cpus.len()],
            folder: folder.to_owned(),
            name: self.name.clone(),
            broker: self.broker.clone(),
            window: self.case.window(self.case.ring_bytes(self.ring_bytes)),
            ring_bytes: self.case.ring_bytes(self.ring_bytes),
        }
    }

    fn pace(&self) -> Pace {
        let for_ns = self.each.as_nanos() as u64;
        match self.case.patience(self.contender) {
            _ if matches!(self.case.work, Work::Throughput { .. }) => Pace::Flat { for_ns },
            Patience::Spin => Pace::Spinning {
                interval_ns: BUSY_INTERVAL_NS + self.case.bytes as u64,
                for_ns,
            },
            // There are fewer messages: twice the time, so that percentiles mean something.
            Patience::Sleep | Patience::Yield => Pace::Sleeping {
                interval_ns: ASLEEP_INTERVAL_NS,
                for_ns: 2 * for_ns,
            },
        }
    }
}
