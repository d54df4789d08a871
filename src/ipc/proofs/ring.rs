//! The models of the ring: a reader of a record, while its producer overwrites it.

use loom::sync::Arc;
use loom::thread;

use super::super::log::EntryState;
use super::super::producer::{Producer, PublishHints};
use super::super::record::{Draft, Member};
use super::super::ring::{ReadResult, Ring};
use super::super::sync::AtomicU64;
use super::log::LogMemory;
use super::{Seen, words};

/// Short enough for a record of one line.
const TOPIC: &str = "t";

const HINTS: PublishHints = PublishHints {
    seen: 0,
    seconds: 0,
};

/// One producer's ring, and the log.
struct RingMemory {
    log: LogMemory,
    words: Vec<AtomicU64>,
    intent: AtomicU64,
}

impl RingMemory {
    fn new(lines: usize) -> RingMemory {
        RingMemory {
            log: LogMemory::new(0),
            words: words(lines * 8),
            intent: AtomicU64::new(0),
        }
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.words, &self.intent)
    }

    fn producer(&self) -> Producer {
        let member = Member {
            slot: 0,
            incarnation: 1,
        };
        Producer::resume(self.log.log(), self.ring(), member)
    }

    /// Publishes a record of one line in which every word follows from its number.
    fn publish(&self, producer: &mut Producer, number: u64) {
        let frame = [number as u8; 8];
        let draft = Draft {
            topic: TOPIC,
            topic_hash: number << 8,
            flags: number as u8,
            exclude_session: number,
            frame: [&frame, &[]],
        };
        let offset = producer.publish(self.log.log(), self.ring(), &draft, HINTS, |_| ());
        assert_eq!(offset, Ok(number));
    }

    /// Reads the record at an offset. `None`: the log has none. False: it is gone. A record that is there must be
    /// whole.
    fn read(&self, offset: u64, wants: bool) -> Option<bool> {
        let EntryState::Filled(entry) = self.log.log().state_at(offset) else {
            return None;
        };
        let (mut frames, mut topic) = (Vec::new(), String::new());
        let mut asked = None;
        let wants = |hash| {
            asked = Some(hash);
            wants
        };
        match self
            .ring()
            .read(entry, offset, wants, &mut frames, &mut topic)
        {
            ReadResult::Record(header) => {
                assert_eq!((frames, topic.as_str()), (vec![offset as u8; 8], TOPIC));
                assert_eq!(
                    (header.topic_hash, header.exclude_session),
                    (offset << 8, offset)
                );
                assert_eq!((header.flags, header.pos), (offset as u8, offset * 64));
                Some(true)
            }
            ReadResult::Unwanted => {
                assert_eq!(asked, Some(offset << 8), "passed by for another's topic");
                Some(true)
            }
            ReadResult::Overwritten => Some(false),
        }
    }
}

/// A reader of the first record while `later` more overwrite it, in a ring of that many lines.
fn overwrite(lines: usize, later: u64, wants: bool) {
    let (whole, gone) = (Seen::new(), Seen::new());
    loom::model(move || {
        let memory = Arc::new(RingMemory::new(lines));
        let mut producer = memory.producer();
        memory.publish(&mut producer, 0);
        let other = Arc::clone(&memory);
        let reader = thread::spawn(move || match other.read(0, wants) {
            Some(true) => whole.note(),
            Some(false) => gone.note(),
            None => {} // overwritten in the log too
        });
        for number in 1..=later {
            memory.publish(&mut producer, number);
        }
        reader.join().expect("no panic");
        assert_eq!(memory.read(later, wants), Some(true), "the newest is there");
    });
    whole.assert("the record was read");
    gone.assert("the record was gone");
}

#[test]
fn a_record_is_read_whole_or_not_at_all_while_the_next_overwrites_it() {
    overwrite(1, 1, true);
}

#[test]
fn a_record_is_read_whole_or_not_at_all_while_two_laps_go_over_it() {
    overwrite(1, 2, true);
}

#[test]
fn a_record_is_passed_by_only_for_its_own_topic() {
    overwrite(2, 2, false);
}

#[test]
fn a_reader_that_finds_an_entry_finds_the_record() {
    let (found, nothing_yet) = (Seen::new(), Seen::new());
    loom::model(move || {
        let memory = Arc::new(RingMemory::new(2));
        let other = Arc::clone(&memory);
        let reader = thread::spawn(move || {
            for offset in 0..2 {
                match other.read(offset, true) {
                    Some(true) => found.note(),
                    Some(false) => panic!("there is room for both"),
                    None => nothing_yet.note(),
                }
            }
        });
        let mut producer = memory.producer();
        memory.publish(&mut producer, 0);
        memory.publish(&mut producer, 1);
        reader.join().expect("no panic");
    });
    found.assert("a record was found");
    nothing_yet.assert("there was none yet");
}
