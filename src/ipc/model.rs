//! Tests of the whole bus on plain arrays, against a model that a child could check: a `Vec` of what
//! was published, and for each reader how far it has come.

use proptest::prelude::*;

use super::cursor::{Cursor, Next, ReadAt, read_at};
use super::layout::tests::plain_words;
use super::layout::{Layout, Parts, WORD_BYTES};
use super::producer::{Moment, Producer};
use super::record::{Draft, Member, topic_hash};
use super::sync::{AtomicU64, Ordering};

const RING_BYTES: usize = 4096;
const LOG_ENTRIES: usize = 64;
const TOPICS: [&str; 3] = ["room:lobby", "room:kitchen", "größe"];

const NOW: Moment = Moment {
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

/// What one publish was given.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    topic: &'static str,
    frame: Vec<u8>,
    producer: Member,
}

fn publish(producer: &mut Producer, parts: Parts<'_>, message: &Message) -> Option<u64> {
    let (head, payload) = message.frame.split_at(message.frame.len().min(3));
    let draft = Draft {
        topic: message.topic,
        topic_hash: topic_hash(message.topic.as_bytes()),
        flags: message.frame.len() as u8,
        origin: 5,
        frame: [head, payload],
    };
    producer.publish(parts, &draft, NOW, |_| ()).ok()
}

/// One reader and what it has got so far.
struct Reader {
    cursor: Cursor,
    wants: &'static [&'static str],
    received: u64,
    skipped: u64,
    lagged: u64,
}

impl Reader {
    fn new(wants: &'static [&'static str]) -> Reader {
        let cursor = Cursor::new(0);
        Reader {
            cursor,
            wants,
            received: 0,
            skipped: 0,
            lagged: 0,
        }
    }

    /// Reads once, and holds what it got against what was published.
    fn step(&mut self, parts: Parts<'_>, published: &[Message]) -> Next {
        let before = self.cursor.offset();
        let mut frames = b"before".to_vec();
        let hashes: Vec<_> = self
            .wants
            .iter()
            .map(|topic| topic_hash(topic.as_bytes()))
            .collect();
        let next = self
            .cursor
            .next(parts, |hash| hashes.contains(&hash), &mut frames);
        let after = self.cursor.offset();
        let unwanted = |range: std::ops::Range<u64>| {
            let passed = &published[range.start as usize..range.end as usize];
            passed
                .iter()
                .filter(|message| !self.wants.contains(&message.topic))
                .count() as u64
        };
        match &next {
            Next::Record(head) => {
                let message = &published[head.offset as usize];
                assert_eq!(head.offset + 1, after);
                assert_eq!(frames[head.frame.clone()], message.frame);
                assert_eq!(
                    frames.len(),
                    6 + message.frame.len(),
                    "only the frame is appended"
                );
                assert_eq!(self.cursor.topic(), message.topic);
                assert_eq!(head.topic_hash, topic_hash(message.topic.as_bytes()));
                assert_eq!(head.producer, message.producer);
                assert_eq!((head.flags, head.origin), (message.frame.len() as u8, 5));
                assert!(self.wants.contains(&message.topic));
                assert_eq!(
                    unwanted(before..head.offset),
                    head.offset - before,
                    "it passed by one"
                );
                self.received += 1;
                self.skipped += head.offset - before;
            }
            Next::Lagged(count) => {
                let behind = read_at(parts, after, &mut frames, &mut String::new());
                assert_ne!(behind, ReadAt::Overwritten, "one gap was told in two");
                assert!((1..=after - before).contains(count));
                self.lagged += count;
                self.skipped += after - before - count;
            }
            Next::Empty => {
                assert_eq!(after, published.len() as u64);
                self.skipped += after - before;
            }
            Next::Skipped => panic!("there are never so many unwanted records here"),
        }
        assert_eq!(self.received + self.skipped + self.lagged, after);
        next
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        slot: u8,
        topic: usize,
        bytes: usize,
    },
    Read {
        reader: usize,
        times: usize,
    },
    Replace {
        slot: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let publish = (
        0_u8..3,
        0_usize..3,
        prop_oneof![0_usize..100, 0_usize..1024],
    )
        .prop_map(|(slot, topic, bytes)| Step::Publish { slot, topic, bytes });
    let read = (0_usize..3, 1_usize..40).prop_map(|(reader, times)| Step::Read { reader, times });
    let replace = (0_u8..3).prop_map(|slot| Step::Replace { slot });
    prop::collection::vec(prop_oneof![20 => publish, 4 => read, 1 => replace], 1..400)
}

proptest! {
    #[test]
    fn every_reader_gets_everything_once_in_order_or_is_told_how_much_it_missed(steps in steps()) {
        let words = plain_words(layout());
        let parts = Parts::new(&words, layout());
        let mut producers = [0, 1, 2].map(|slot| Producer::resume(parts, member(slot)));
        let mut readers =
            [Reader::new(&TOPICS), Reader::new(&TOPICS[..1]), Reader::new(&TOPICS[1..])];
        let mut published = Vec::new();
        for step in steps {
            match step {
                Step::Publish { slot, topic, bytes } => {
                    let number = published.len() as u8;
                    let frame = (0..bytes).map(|i| number.wrapping_add(i as u8)).collect();
                    let producer = member(slot);
                    let message = Message { topic: TOPICS[topic], frame, producer };
                    let offset = publish(&mut producers[usize::from(slot)], parts, &message);
                    prop_assert_eq!(offset, Some(published.len() as u64));
                    published.push(message);
                }
                Step::Read { reader, times } => {
                    for _ in 0..times {
                        readers[reader].step(parts, &published);
                    }
                }
                Step::Replace { slot } => {
                    // Died after announcing a record, before committing it.
                    let ring = parts.ring(slot);
                    let draft = Draft {
                        topic: "lost", topic_hash: 1, flags: 0, origin: 0, frame: [b"", &[0; 99]],
                    };
                    let header = super::record::Header {
                        pos: ring.place(ring.resume(), 192), floor: 0, topic_hash: 1, origin: 0,
                        frame_len: 99, topic_len: 4, flags: 0, incarnation: 1, seconds: 0,
                    };
                    ring.write(header, &draft);
                    producers[usize::from(slot)] = Producer::resume(parts, member(slot));
                }
            }
        }
        for reader in &mut readers {
            while reader.step(parts, &published) != Next::Empty {}
            prop_assert_eq!(reader.cursor.offset(), published.len() as u64);
        }
    }

    #[test]
    fn what_can_be_read_by_offset_is_the_newest_and_whole(
        sizes in prop::collection::vec(0_usize..500, 1..150)
    ) {
        let words = plain_words(layout());
        let parts = Parts::new(&words, layout());
        let mut producer = Producer::resume(parts, member(9));
        for (number, bytes) in sizes.iter().enumerate() {
            let frame = vec![number as u8; *bytes];
            let message = Message { topic: TOPICS[number % 3], frame, producer: member(9) };
            prop_assert!(publish(&mut producer, parts, &message).is_some());
        }
        let mut seen_one = false;
        for (offset, bytes) in sizes.iter().enumerate() {
            let (mut frame, mut topic) = (Vec::new(), String::new());
            match read_at(parts, offset as u64, &mut frame, &mut topic) {
                ReadAt::Record(head) => {
                    seen_one = true;
                    prop_assert_eq!(head.offset, offset as u64);
                    prop_assert_eq!(&frame, &vec![offset as u8; *bytes]);
                    prop_assert_eq!(topic.as_str(), TOPICS[offset % 3]);
                }
                ReadAt::Overwritten => prop_assert!(!seen_one, "a hole at {}", offset),
                ReadAt::NotYet => prop_assert!(false, "{} was published", offset),
            }
        }
        prop_assert!(seen_one);
        let not_yet = read_at(parts, sizes.len() as u64, &mut Vec::new(), &mut String::new());
        prop_assert_eq!(not_yet, ReadAt::NotYet);
    }

    #[test]
    fn bytes_that_nobody_published_neither_panic_nor_loop(
        seed: u64,
        published in 0_usize..200,
        holes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..40),
        all_garbage: bool,
        start in prop_oneof![0_u64..300, any::<u64>().prop_map(|n| n >> 1)],
    ) {
        let words = plain_words(layout());
        let parts = Parts::new(&words, layout());
        let mut producer = Producer::resume(parts, member(0));
        for number in 0..published {
            let frame = vec![number as u8; number * 3];
            let message = Message { topic: TOPICS[number % 3], frame, producer: member(0) };
            prop_assert!(publish(&mut producer, parts, &message).is_some());
        }
        if all_garbage {
            scramble(&words, seed);
        }
        // Where it hurts: everything before the second ring.
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
        let mut producer = Producer::resume(parts, member(63));
        let _ = publish(&mut producer, parts, &message);
        super::members::clean(parts, 5);
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
fn a_lapped_reader_is_told_exactly_how_many_it_missed() {
    let words = plain_words(layout());
    let parts = Parts::new(&words, layout());
    let mut producer = Producer::resume(parts, member(0));
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
fn records_of_other_tags_are_passed_by_and_do_not_count_as_missed() {
    let words = plain_words(layout());
    let parts = Parts::new(&words, layout());
    let mut producer = Producer::resume(parts, member(0));
    let mut cursor = Cursor::new(0);
    let tag = topic_hash(b"wanted") as u8;
    assert_ne!(tag, topic_hash(b"other") as u8);
    let mut tags = [0; 4];
    tags[usize::from(tag >> 6)] |= 1 << (tag & 63);
    cursor.set_tags(tags);
    // Twenty large records of another topic overwrite each other; one is wanted.
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
fn a_reader_of_a_busy_bus_gets_a_pause_from_what_it_does_not_want() {
    let layout = Layout::new(1 << 18, 4096).expect("allowed");
    let words = plain_words(layout);
    let parts = Parts::new(&words, layout);
    let mut producer = Producer::resume(parts, member(0));
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

    // Its length and every byte follow from who published it and as which.
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
                let mut producer = Producer::resume(parts, member(slot));
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
