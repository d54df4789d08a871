//! The script over a segment's words: publishers, readers and sleepers, with damage between their calls and in the
//! middle of them.

use arbitrary::Arbitrary;

use super::memory::GuardedMemory;
use super::sound::{ExpectedRecords, TOPICS};
use super::write::Write;
use crate::ipc::cursor::{Cursor, Next, ReadAt, read_at};
use crate::ipc::layout::MAX_TOPIC_BYTES;
use crate::ipc::layout::{Layout, MAX_MEMBERS, MAX_OFFSET};
use crate::ipc::membership;
use crate::ipc::open::read_header;
use crate::ipc::parts::Parts;
use crate::ipc::producer::Producer;
use crate::ipc::record::{Head, Member, topic_hash};
use crate::ipc::ring::max_message_bytes;
use crate::ipc::sync::AtomicU64;
use crate::ipc::wake::slots;

const READERS: usize = 3;
/// The content of a buffer before a read.
const BEFORE: &[u8] = b"before";

/// The sizes of small segments. Only the larger rings allow copies of more than 4 KiB, which take the other branch in
/// `copy`.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Sizes {
    Small,
    LargeRings,
    LongLog,
}

impl Sizes {
    pub(super) fn layout(self) -> Layout {
        let (ring_bytes, log_entries) = match self {
            Sizes::Small => (4096, 64),
            Sizes::LargeRings => (32 << 10, 64),
            Sizes::LongLog => (4096, 2048),
        };
        Layout::new(ring_bytes, log_entries).expect("small, and allowed")
    }
}

/// An offset in the log.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Spot {
    BeforeEnd(u16),
    BehindEnd(u16),
    Any(u64),
}

impl Spot {
    fn offset(self, parts: Parts<'_>) -> u64 {
        let end = parts.log().end(0);
        match self {
            Spot::BeforeEnd(count) => end.saturating_sub(count.into()),
            Spot::BehindEnd(count) => end + u64::from(count),
            Spot::Any(offset) => offset,
        }
    }
}

/// One call, or one damage.
#[derive(Arbitrary, Clone, Debug)]
enum ScriptStep {
    Publish {
        slot: u8,
        topic: u8,
        bytes: u16,
        times: u8,
    },
    Damage(Write),
    /// `during`: words that change between the reader's look at a header and its copy of the body.
    Read {
        reader: u8,
        wanted: u8,
        times: u8,
        during: Vec<Write>,
    },
    ReadAt(Spot),
    Seek {
        reader: u8,
        spot: Spot,
    },
    Tags {
        reader: u8,
        tags: [u64; 4],
    },
    /// A member leaves or is reaped, and the next one in its slot resumes.
    Replace(u8),
    Park {
        slot: u8,
        sleep: u64,
    },
    Unpark(u8),
    /// `during`: a word that changes between the look at a sleeper and its mark.
    Wake {
        during: Option<Write>,
    },
    Interest {
        slot: u8,
        topic: u8,
    },
    /// The checks of a process that opens or inspects a bus.
    Judge,
}

/// The script over a segment's words, which a fuzzer writes.
#[derive(Arbitrary, Debug)]
pub struct Script {
    sizes: Sizes,
    steps: Vec<ScriptStep>,
}

impl Script {
    /// Plays it over a new segment. Panics if the bus breaks a promise.
    pub fn play(self) {
        let layout = self.sizes.layout();
        let memory = GuardedMemory::new(layout);
        let parts = memory.parts();
        let producer = |slot| resume(parts, slot);
        let mut play = Play {
            words: memory.words(),
            parts,
            producers: (0..MAX_MEMBERS as u8).map(producer).collect(),
            readers: std::array::from_fn(|_| Cursor::new(0)),
            published: ExpectedRecords::default(),
            is_sound: true,
        };
        for step in self.steps {
            play.step(step);
        }
    }
}

fn member(slot: u8) -> Member {
    Member {
        slot,
        incarnation: 1,
    }
}

/// The producer of a slot, where its last incarnation ended.
fn resume(parts: Parts<'_>, slot: u8) -> Producer {
    Producer::resume(parts.log(), parts.ring(slot), member(slot))
}

fn slot(any: u8) -> u8 {
    any % MAX_MEMBERS as u8
}

struct Play<'a> {
    words: &'a [AtomicU64],
    parts: Parts<'a>,
    producers: Vec<Producer>,
    readers: [Cursor; READERS],
    published: ExpectedRecords,
    /// Nothing was damaged yet.
    is_sound: bool,
}

impl Play<'_> {
    fn step(&mut self, step: ScriptStep) {
        let parts = self.parts;
        let sleepers = parts.sleepers();
        match step {
            ScriptStep::Publish {
                slot: of,
                topic,
                bytes,
                times,
            } => {
                for _ in 0..=times & 31 {
                    self.publish(slot(of), topic, bytes.into());
                }
            }
            ScriptStep::Damage(write) => {
                self.is_sound = false;
                write.apply(self.words, parts);
            }
            ScriptStep::Read {
                reader,
                wanted,
                times,
                during,
            } => {
                for _ in 0..=times & 31 {
                    self.read(usize::from(reader) % READERS, wanted, &during);
                }
            }
            ScriptStep::ReadAt(spot) => self.read_at(spot.offset(parts)),
            ScriptStep::Seek { reader, spot } => {
                let offset = spot.offset(parts);
                // A correct caller does not go beyond the end: `Bus::subscriber_at`.
                let limit = if self.is_sound {
                    self.published.end()
                } else {
                    u64::MAX
                };
                self.readers[usize::from(reader) % READERS] = Cursor::new(offset.min(limit));
            }
            ScriptStep::Tags { reader, tags } => {
                self.readers[usize::from(reader) % READERS].set_tags(tags);
            }
            ScriptStep::Replace(of) => {
                membership::clean(parts, slot(of));
                self.producers[usize::from(slot(of))] = resume(parts, slot(of));
            }
            ScriptStep::Park { slot: of, sleep } => sleepers.park(slot(of), sleep),
            ScriptStep::Unpark(of) => sleepers.unpark(slot(of)),
            ScriptStep::Wake { during } => {
                self.is_sound &= during.is_none();
                for slot in slots(sleepers.all()) {
                    sleepers.wake(slot, || {
                        if let Some(write) = during {
                            write.apply(self.words, parts);
                        }
                        true
                    });
                }
            }
            ScriptStep::Interest { slot: of, topic } => {
                let hash = topic_hash(TOPICS[usize::from(topic) % TOPICS.len()].as_bytes());
                sleepers.set_interest(slot(of), hash);
                assert!(self.parts.sleepers().interested(hash) <= sleepers.all() || !self.is_sound);
                sleepers.clear_interest(slot(of), hash);
            }
            ScriptStep::Judge => self.judge(),
        }
    }

    fn publish(&mut self, slot: u8, topic: u8, bytes: usize) {
        let limit = max_message_bytes(self.parts.layout().ring_bytes());
        let producer = &mut self.producers[usize::from(slot)];
        let bytes = bytes % (limit + 1);
        let expected = self.published.end();
        let published = self.published.publish(producer, self.parts, topic, bytes);
        if self.is_sound {
            assert_eq!(published, Ok(expected));
        }
        assert!(published.is_ok_and(|offset| offset < MAX_OFFSET) || published.is_err());
    }

    fn read(&mut self, reader: usize, wanted: u8, during: &[Write]) {
        let parts = self.parts;
        let cursor = &mut self.readers[reader];
        let before = cursor.offset();
        let mut frames = BEFORE.to_vec();
        let mut asked = 0;
        self.is_sound &= during.is_empty();
        let next = cursor.next(
            parts,
            |hash| {
                if asked == 0 {
                    for write in during {
                        write.apply(self.words, parts);
                    }
                }
                asked += 1;
                wanted == 0 || hash as u8 & 7 <= wanted & 7
            },
            &mut frames,
        );
        let after = cursor.offset();
        assert!(
            asked <= parts.log().capacity() + 1024,
            "a loop without bound"
        );
        assert_eq!(frames[..BEFORE.len()], *BEFORE);
        match &next {
            Next::Record(head) => {
                assert!(before <= head.offset && head.offset + 1 == after);
                self.check_record(head, &frames, self.readers[reader].topic());
            }
            Next::Lagged(count) => assert!((1..=after - before).contains(count)),
            Next::Empty | Next::Skipped => assert!(before <= after),
        }
        if !matches!(next, Next::Record(_)) {
            assert_eq!(frames.len(), BEFORE.len(), "something was left behind");
        }
        if self.is_sound {
            self.published.check_next(&next, before, after);
        }
    }

    fn read_at(&mut self, offset: u64) {
        let (mut frame, mut topic) = (BEFORE.to_vec(), String::new());
        let read = read_at(self.parts, offset, &mut frame, &mut topic);
        match &read {
            ReadAt::Record(head) => {
                assert_eq!(head.offset, offset);
                self.check_record(head, &frame, &topic);
            }
            ReadAt::Overwritten | ReadAt::NotYet => assert_eq!(frame, BEFORE),
        }
        if self.is_sound {
            let is_there = offset < self.published.end();
            assert_eq!(read == ReadAt::NotYet, !is_there);
        }
    }

    fn check_record(&self, head: &Head, frames: &[u8], topic: &str) {
        assert_eq!(
            head.frame,
            BEFORE.len()..frames.len(),
            "nothing but the frame"
        );
        assert!(head.frame.len() <= self.parts.layout().ring_bytes());
        assert!((1..=MAX_TOPIC_BYTES).contains(&topic.len()));
        if self.is_sound {
            self.published
                .check_record(head, &frames[BEFORE.len()..], topic);
        }
    }

    fn judge(&self) {
        let log = self.parts.log();
        assert!(log.end(0) <= MAX_OFFSET && log.tail() <= MAX_OFFSET);
        assert!(log.is_sound() || !self.is_sound);
        assert!(log.end(0) == self.published.end() || !self.is_sound);
        let _ = read_header(self.words);
        for slot in 0..MAX_MEMBERS as u8 {
            let table = self.parts.table();
            let _ = (
                table.is_taken(slot),
                table.incarnation(slot),
                table.identity(slot),
            );
            let _ = self.parts.sleepers().last_sleep(slot);
        }
    }
}
