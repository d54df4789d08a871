//! The tests that kill a publisher at instructions of a publish that archives first.
//!
//! As in `killpoints`, only a sample runs here; `FANBUS_KILL_EVERY=1` and `make soak` run all.

#![allow(clippy::print_stdout)] // the figures, for complete runs

use std::fs;

use fanbus::ipc::{Bus, BusOptions, ReplayRange};

use super::killpoints::stride;
use super::process::Name;
use super::replay::{ALL, Dice, Model, retain};
use super::roles::{TOPIC, draft};
use super::stepped::{Act, LAP_OF_KEEP, Stepped, tiny};

/// Records that the rule promises for each topic.
const PROMISED: u32 = 6;
const TOPICS: u64 = 20;
const HISTORY_BYTES: usize = 128 << 10;

/// A record like the retained ones: small, and sometimes one of several blocks.
fn publish_some(model: &mut Model, bus: &Bus, dice: &mut Dice, count: u64) {
    for _ in 0..count {
        let size = if dice.below(10) == 0 {
            900
        } else {
            dice.below(120)
        };
        let frame = vec![dice.below(256) as u8; size as usize];
        model.publish(bus, &format!("t{}", dice.below(TOPICS)), frame);
    }
}

// The history of this segment, as in docs/bus.md, in words.
const HEAD: usize = 384 / 8;
const HISTORY: usize = (299_008 + 4096 + 64 * 4096) / 8;
const HASHES: usize = HISTORY + 64 * 35;
const BLOCKS: usize = (HISTORY_BYTES / 8 - 64 * 35) / 139;
const TOPIC_WORDS: usize = 40;
const BLOCK_WORDS: usize = 128;

/// Checks that every block that was ever used belongs to a topic or is free, and that all counts agree.
fn assert_in_order(segment: &[u8]) {
    let (words, _) = segment.as_chunks::<8>();
    let word = |at: usize| u64::from_le_bytes(words[at]);
    let topics = HASHES + BLOCKS / 4;
    let block = |number: u64| topics + BLOCKS / 4 * TOPIC_WORDS + number as usize * BLOCK_WORDS;
    let mut owned = 0;
    for topic in (0..BLOCKS / 4).filter(|topic| word(HASHES + topic) != 0) {
        let topic = topics + topic * TOPIC_WORDS;
        let (mut link, mut records, mut oldest) = (word(topic + 1), 0, 0);
        while link & 0xff_ffff != 0
            && word(block((link & 0xff_ffff) - 1)) as u32 == (link >> 32) as u32
        {
            oldest = link & 0xff_ffff;
            records += word(block(oldest - 1) + 5) >> 32;
            link = word(block(oldest - 1) + 1);
            owned += 1;
        }
        assert_eq!(word(topic + 4), records, "records of a topic");
        assert_eq!(word(topic + 5), oldest, "oldest block of a topic");
    }
    let (used, mut next, free_blocks) = (word(HEAD + 4), word(HEAD + 5), word(HEAD + 6));
    let mut free = 0;
    while next != 0 {
        free += 1;
        next = word(block(next - 1) + 4);
    }
    assert_eq!(
        (free, owned + free),
        (free_blocks, used),
        "free blocks, and all of them"
    );
}

/// Overwrites a part of its ring with records of dead members.
fn payload(number: usize) -> String {
    format!("{number:0>300}")
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [draft(b"").frame[0], payload].concat()
}

impl Model {
    /// The messages that the process publishes before its act.
    fn note_lap(&mut self) {
        let numbers = 0..LAP_OF_KEEP;
        self.0
            .extend(numbers.map(|number| (TOPIC.into(), frame(&[number; 20]))));
    }
}

/// Goes through the whole act once.
fn instructions_of_keeping(name: &Name) -> usize {
    let mut stepped = Stepped::start(Act::Keep, name, &payload(0));
    let mut all = 0;
    while stepped.step(1) {
        all += 1;
    }
    stepped.kill();
    all
}

#[test]
fn a_publisher_killed_while_it_archives_loses_no_promised_record() {
    let name = Name::new("killed-keep");
    let options = BusOptions {
        history_bytes: HISTORY_BYTES,
        ..tiny()
    };
    let bus = Bus::open(&name.0, &options).expect("it opens");
    retain(&bus, "{any}", PROMISED, 0);
    let (mut model, mut dice) = (Model::default(), Dice(42));
    publish_some(&mut model, &bus, &mut dice, 300);
    let (mut kills, mut committed) = (0, 0);
    // Archiving takes many times the instructions of a publish, so some kills must hit it.
    let all = instructions_of_keeping(&name);
    let some = all / if stride(0) == 1 { 1500 } else { 16 } + 1;
    model.note_lap();
    model.0.push((TOPIC.into(), frame(payload(0).as_bytes())));
    for instructions in (0..).step_by(some) {
        let payload = payload(instructions);
        let mut stepped = Stepped::start(Act::Keep, &name, &payload);
        model.note_lap();
        let is_inside = stepped.step(instructions);
        stepped.kill();
        if bus.end() > model.0.len() as u64 {
            model.0.push((TOPIC.into(), frame(payload.as_bytes())));
            committed += 1;
        }
        publish_some(&mut model, &bus, &mut dice, 20);
        bus.reap();
        for topic in (0..TOPICS)
            .map(|number| format!("t{number}"))
            .chain([TOPIC.into()])
        {
            let reach = ReplayRange::Last(PROMISED as usize);
            assert!(
                model.check(&bus, &topic, reach, ALL),
                "{topic} after {instructions}"
            );
        }
        assert_in_order(&fs::read(name.path()).expect("the segment"));
        kills += 1;
        if !is_inside {
            break;
        }
    }
    println!("Keep: killed {kills} times in {all} instructions, {committed} with a record");
    assert!(kills > 10 && committed > 0);
}
