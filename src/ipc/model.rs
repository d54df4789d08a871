//! The model test of the bus on plain arrays: it compares every record and every gap with a simple reference. Further
//! tests use damaged memory, and threads that publish and read at once.

use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;

use super::cursor::{Cursor, Next, ReadAt, read_at};
use super::extent::Extent;
use super::layout::tests::plain_words;
use super::layout::{Layout, WORD_BYTES};
use super::parts::Parts;
use super::producer::{Producer, PublishHints};
use super::record::{Draft, Head, Member, topic_hash};
use super::reference::{ExpectedAt, ExpectedNext, Message, Reference};
use super::sync::{AtomicU64, Ordering, process};

const RING_BYTES: usize = 4096;
const LOG_ENTRIES: usize = 64;
/// Bytes of a ring that are reserved at first, and bytes by which that grows. The largest record here fits.
const FIRST: usize = 1280;
const PIECE: usize = 256;
const TOPICS: [&str; 3] = ["room:lobby", "room:kitchen", "größe"];

const HINTS: PublishHints = PublishHints {
    seen: 0,
    seconds: 0,
};

fn layout() -> Layout {
    Layout::new(RING_BYTES, LOG_ENTRIES).expect("small, and allowed")
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

fn publish(producer: &mut Producer, parts: Parts<'_>, message: &Message) -> Option<u64> {
    let (head, payload) = message.frame.split_at(message.frame.len().min(3));
    let draft = Draft {
        topic: message.topic,
        topic_hash: topic_hash(message.topic.as_bytes()),
        flags: message.frame.len() as u8,
        exclude_session: 5,
        frame: [head, payload],
    };
    let ring = parts.ring(message.producer.slot);
    producer
        .publish(parts.log(), ring, &draft, HINTS, |_| ())
        .ok()
}

/// A reader of the bus and of the reference.
struct Reader {
    cursor: Cursor,
    wants: &'static [&'static str],
    next: u64,
}

impl Reader {
    fn new(wants: &'static [&'static str], next: u64) -> Reader {
        Reader {
            cursor: Cursor::new(next),
            wants,
            next,
        }
    }

    /// Reads once from both, compares, and returns the common result.
    fn step(&mut self, parts: Parts<'_>, reference: &Reference) -> ExpectedNext {
        let hashes: Vec<_> = self
            .wants
            .iter()
            .map(|topic| topic_hash(topic.as_bytes()))
            .collect();
        let mut frames = b"before".to_vec();
        let next = self
            .cursor
            .next(parts, |hash| hashes.contains(&hash), &mut frames);
        let outcome = match next {
            Next::Record(head) => {
                let topic = self.cursor.topic();
                let offset = head.offset;
                ExpectedNext::Record(offset, message(&head, &frames, topic))
            }
            Next::Lagged(count) => ExpectedNext::Lagged(count),
            Next::Empty => ExpectedNext::Empty,
            Next::Skipped => panic!("there are never so many unwanted records here"),
        };
        assert_eq!(outcome, reference.read(&mut self.next, self.wants));
        assert_eq!(self.cursor.offset(), self.next);
        outcome
    }
}

/// The published message of a record that was read behind "before".
fn message(head: &Head, frames: &[u8], topic: &str) -> Message {
    assert_eq!(head.frame, 6..frames.len(), "only the frame is appended");
    assert_eq!(head.topic_hash, topic_hash(topic.as_bytes()));
    assert_eq!(
        (head.flags, head.exclude_session),
        (head.frame.len() as u8, 5)
    );
    let known = TOPICS.iter().find(|known| **known == topic);
    Message {
        topic: known.expect("a topic of these tests"),
        frame: frames[6..].to_vec(),
        producer: head.producer,
    }
}

#[derive(Clone, Debug)]
enum ModelStep {
    Publish {
        slot: u8,
        topic: usize,
        bytes: usize,
    },
    Read {
        reader: usize,
        times: usize,
    },
    ReadAt(prop::sample::Index),
    Subscribe {
        reader: usize,
        offset: prop::sample::Index,
    },
    Replace {
        slot: u8,
    },
    /// From now on the system has memory for this many bytes of a ring.
    Memory {
        slot: u8,
        bytes: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<ModelStep>> {
    let publish = (
        0_u8..3,
        0_usize..3,
        prop_oneof![0_usize..100, 0_usize..1024],
    )
        .prop_map(|(slot, topic, bytes)| ModelStep::Publish { slot, topic, bytes });
    let read =
        (0_usize..3, 1_usize..40).prop_map(|(reader, times)| ModelStep::Read { reader, times });
    let read_at = any::<prop::sample::Index>().prop_map(ModelStep::ReadAt);
    let subscribe = (0_usize..3, any::<prop::sample::Index>())
        .prop_map(|(reader, offset)| ModelStep::Subscribe { reader, offset });
    let replace = (0_u8..3).prop_map(|slot| ModelStep::Replace { slot });
    let memory =
        (0_u8..3, 0..=RING_BYTES).prop_map(|(slot, bytes)| ModelStep::Memory { slot, bytes });
    let step = prop_oneof![
        20 => publish, 4 => read, 4 => read_at, 1 => subscribe, 1 => replace, 1 => memory,
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn every_reader_gets_the_records_of_a_list_under_a_lock(steps in steps()) {
        let words = plain_words(layout());
        let parts = Parts::new(&words, layout());
        let mut reference = Reference::new(RING_BYTES, LOG_ENTRIES, FIRST, PIECE);
        let memory: [Arc<process::AtomicU64>; 3] = Default::default();
        let extent = |slot: u8| {
            let memory = Arc::clone(&memory[usize::from(slot)]);
            let reserve = move |part: Range<usize>| part.end as u64 <= memory.load(Ordering::Relaxed);
            Extent::small(FIRST, PIECE, RING_BYTES, Box::new(reserve))
        };
        let resume_within = |slot| resume(parts, slot).within(extent(slot));
        let mut producers = [0, 1, 2].map(resume_within);
        let wants = [&TOPICS[..], &TOPICS[..1], &TOPICS[1..]];
        let mut readers = wants.map(|topics| Reader::new(topics, 0));
        for step in steps {
            match step {
                ModelStep::Publish { slot, topic, bytes } => {
                    let number = reference.end() as u8;
                    let frame = (0..bytes).map(|i| number.wrapping_add(i as u8)).collect();
                    let producer = member(slot);
                    let message = Message { topic: TOPICS[topic], frame, producer };
                    let offset = publish(&mut producers[usize::from(slot)], parts, &message);
                    prop_assert_eq!(offset, Some(reference.publish(message)));
                }
                ModelStep::Read { reader, times } => {
                    for _ in 0..times {
                        readers[reader].step(parts, &reference);
                    }
                }
                ModelStep::ReadAt(offset) => {
                    let offset = offset.index(reference.end() as usize + 2) as u64;
                    let (mut frames, mut topic) = (b"before".to_vec(), String::new());
                    let at = match read_at(parts, offset, &mut frames, &mut topic) {
                        ReadAt::Record(head) => ExpectedAt::Record(message(&head, &frames, &topic)),
                        ReadAt::Overwritten => ExpectedAt::Overwritten,
                        ReadAt::NotYet => ExpectedAt::NotYet,
                    };
                    prop_assert_eq!(at, reference.read_at(offset));
                }
                ModelStep::Subscribe { reader, offset } => {
                    let offset = offset.index(reference.end() as usize + 1) as u64;
                    readers[reader] = Reader::new(wants[reader], offset);
                }
                ModelStep::Replace { slot } => {
                    // The member dies after announcing a record, and before committing it.
                    let ring = parts.ring(slot);
                    let draft = Draft {
                        topic: "lost", topic_hash: 1, flags: 0, exclude_session: 0, frame: [b"", &[0; 99]],
                    };
                    let header = super::record::RecordHeader {
                        pos: ring.place(ring.resume(), 192, RING_BYTES as u64), floor: 0, topic_hash: 1, exclude_session: 0,
                        frame_len: 99, topic_len: 4, flags: 0, incarnation: 1, seconds: 0,
                    };
                    ring.write(header, &draft);
                    producers[usize::from(slot)] = resume_within(slot);
                    reference.replace(slot, 99 + 4);
                }
                ModelStep::Memory { slot, bytes } => {
                    memory[usize::from(slot)].store(bytes as u64, Ordering::Relaxed);
                    reference.has_memory(slot, bytes);
                }
            }
        }
        for reader in &mut readers {
            while reader.step(parts, &reference) != ExpectedNext::Empty {}
            prop_assert_eq!(reader.next, reference.end());
        }
    }

    #[test]
    fn a_reader_of_damaged_memory_neither_panics_nor_loops(
        seed: u64,
        published in 0_usize..200,
        holes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..40),
        all_garbage: bool,
        start in prop_oneof![0_u64..300, any::<u64>().prop_map(|n| n >> 1)],
    ) {
        let words = plain_words(layout());
        let parts = Parts::new(&words, layout());
        let mut producer = resume(parts, 0);
        for number in 0..published {
            let frame = vec![number as u8; number * 3];
            let message = Message { topic: TOPICS[number % 3], frame, producer: member(0) };
            prop_assert!(publish(&mut producer, parts, &message).is_some());
        }
        if all_garbage {
            scramble(&words, seed);
        }
        // The words that matter: everything before the second ring.
        let near = layout().ring_range(1).start / WORD_BYTES;
        for (place, value) in holes {
            words[place.index(near)].store(value, Ordering::Relaxed);
        }

        let mut cursor = Cursor::new(start);
        let mut frames = Vec::new();
        for _ in 0..500 {
            let before = cursor.offset();
            let next = cursor.next(parts, |hash| hash & 1 == 0, &mut frames);
            prop_assert!(cursor.offset() >= before && next != Next::Lagged(0));
            prop_assert!(frames.len() <= RING_BYTES * 500);
        }
        let _ = read_at(parts, start, &mut frames, &mut String::new());
        let _ = parts.log().is_sound();
        let message = Message { topic: "a", frame: vec![1; 700], producer: member(0) };
        let _ = publish(&mut producer, parts, &message);
        let mut producer = resume(parts, 63);
        let _ = publish(&mut producer, parts, &message);
        super::membership::clean(parts, 5);
    }
}

/// Fills memory with noise (xorshift).
fn scramble(words: &[AtomicU64], seed: u64) {
    let mut state = seed | 1;
    for word in words {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.store(state, Ordering::Relaxed);
    }
}

#[test]
fn a_lapped_reader_gets_the_exact_number_of_missed_records() {
    let words = plain_words(layout());
    let parts = Parts::new(&words, layout());
    let mut producer = resume(parts, 0);
    let mut cursor = Cursor::new(0);
    let message = Message {
        topic: "a",
        frame: vec![1; 15],
        producer: member(0),
    }; // one line each
    for _ in 0..1000 {
        publish(&mut producer, parts, &message).expect("sound");
    }
    // The ring holds 64 records and so does the log: half a log is what a lapped reader gets.
    let mut frames = Vec::new();
    assert_eq!(
        cursor.next(parts, |_| true, &mut frames),
        Next::Lagged(1000 - 32)
    );
    for offset in 1000 - 32..1000 {
        let Next::Record(head) = cursor.next(parts, |_| true, &mut frames) else {
            panic!()
        };
        assert_eq!(head.offset, offset);
    }
    assert_eq!(cursor.next(parts, |_| true, &mut frames), Next::Empty);
}

#[test]
fn an_offset_far_behind_the_end_is_empty_though_its_lap_looks_like_an_old_one() {
    let words = plain_words(layout());
    let parts = Parts::new(&words, layout());
    let mut producer = resume(parts, 0);
    let message = Message {
        topic: "a",
        frame: vec![1; 15],
        producer: member(0),
    };
    publish(&mut producer, parts, &message).expect("sound");
    let lap = LOG_ENTRIES as u64;
    for laps in [1, 2, 1 << 15, (1 << 15) + 1, 1 << 16, 1 << 17, 1 << 50] {
        let read = read_at(parts, laps * lap, &mut Vec::new(), &mut String::new());
        assert_eq!(read, ReadAt::NotYet, "{laps} laps ahead");
    }
}

#[test]
fn records_of_other_tags_are_passed_by_and_do_not_count_as_missed() {
    let words = plain_words(layout());
    let parts = Parts::new(&words, layout());
    let mut producer = resume(parts, 0);
    let mut cursor = Cursor::new(0);
    let tag = topic_hash(b"wanted") as u8;
    assert_ne!(tag, topic_hash(b"other") as u8);
    let mut tags = [0; 4];
    tags[usize::from(tag >> 6)] |= 1 << (tag & 63);
    cursor.set_tags(tags);
    // Twenty large records of another topic overwrite each other, and one of them is wanted.
    for number in 0..20 {
        let topic = if number == 18 { "wanted" } else { "other" };
        let message = Message {
            topic,
            frame: vec![number; 1000],
            producer: member(0),
        };
        publish(&mut producer, parts, &message).expect("sound");
    }
    let mut frames = Vec::new();
    let Next::Record(head) = cursor.next(parts, |_| true, &mut frames) else {
        panic!()
    };
    assert_eq!((head.offset, frames), (18, vec![18; 1000]));
    assert_eq!(cursor.next(parts, |_| true, &mut Vec::new()), Next::Empty);
}

#[test]
fn a_reader_of_a_busy_bus_gets_control_back_between_unwanted_records() {
    let layout = Layout::new(1 << 18, 4096).expect("allowed");
    let words = plain_words(layout);
    let parts = Parts::new(&words, layout);
    let mut producer = resume(parts, 0);
    let message = Message {
        topic: "a",
        frame: Vec::new(),
        producer: member(0),
    };
    (0..2500).for_each(|_| assert!(publish(&mut producer, parts, &message).is_some()));
    let mut cursor = Cursor::new(0);
    let nexts: Vec<_> = (0..4)
        .map(|_| cursor.next(parts, |_| false, &mut Vec::new()))
        .collect();
    assert_eq!(
        nexts,
        [Next::Skipped, Next::Skipped, Next::Empty, Next::Empty]
    );
    assert_eq!(cursor.offset(), 2500);
}

#[test]
fn threads_that_publish_and_read_at_once_agree_on_one_order() {
    const EACH: u64 = 20_000;
    const PRODUCERS: u8 = 3;
    let total = EACH * u64::from(PRODUCERS);
    let words = plain_words(layout());
    let parts = Parts::new(&words, layout());

    // Its length and every byte follow from the producer and the number.
    let frame_of = |slot: u8, number: u64| {
        let mut frame = number.to_le_bytes().to_vec();
        let bytes = (number * 7 + u64::from(slot)) % 300;
        frame.extend((0..bytes).map(|i| (i + number + u64::from(slot)) as u8));
        frame
    };
    let read_all = || {
        let mut cursor = Cursor::new(0);
        let (mut got, mut lagged) = (Vec::new(), 0);
        let mut frames = Vec::new();
        while cursor.offset() < total {
            frames.clear();
            match cursor.next(parts, |_| true, &mut frames) {
                Next::Record(head) => {
                    let number = u64::from_le_bytes(frames[..8].try_into().expect("8 bytes"));
                    let slot = head.producer.slot;
                    assert_eq!(frames, frame_of(slot, number), "torn at {}", head.offset);
                    got.push((head.offset, slot, number));
                }
                Next::Lagged(count) => lagged += count,
                Next::Empty | Next::Skipped => std::thread::yield_now(),
            }
        }
        assert_eq!(got.len() as u64 + lagged, total);
        got
    };
    let readers = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(read_all)).collect();
        for slot in 0..PRODUCERS {
            scope.spawn(move || {
                let mut producer = resume(parts, slot);
                for number in 0..EACH {
                    let frame = frame_of(slot, number);
                    let message = Message {
                        topic: "a",
                        frame,
                        producer: member(slot),
                    };
                    publish(&mut producer, parts, &message).expect("sound");
                    if number % 16 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        readers
            .into_iter()
            .map(|reader| reader.join().expect("no panic"))
            .collect::<Vec<_>>()
    });

    assert!(readers.iter().all(|got| !got.is_empty()));
    let mut order = std::collections::HashMap::new();
    for (offset, slot, number) in readers.into_iter().flatten() {
        let first = *order.entry(offset).or_insert((slot, number));
        assert_eq!(
            first,
            (slot, number),
            "two readers saw different records at {offset}"
        );
    }
    let mut last = [None; PRODUCERS as usize];
    let mut offsets: Vec<_> = order.into_iter().collect();
    offsets.sort_unstable();
    for (offset, (slot, number)) in offsets {
        let before = last[usize::from(slot)].replace(number);
        assert!(
            before < Some(number),
            "producer {slot} was reordered at {offset}"
        );
    }
}
