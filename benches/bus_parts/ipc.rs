//! The two halves of a publish, over plain memory: a record into words, and its word into the log.
//!
//! They do not belong to Fanbus's interface, so their files are compiled here a second time.

#[path = "../../src/ipc/copy.rs"]
mod copy;
#[path = "../../src/ipc/log.rs"]
mod log;
#[path = "../../src/ipc/record.rs"]
mod record;
#[path = "../../src/ipc/ring.rs"]
mod ring;
#[path = "../../src/ipc/sync.rs"]
mod sync;

/// The part of the layout that these files need. The real one describes the whole segment.
mod layout {
    pub(super) const WORD_BYTES: usize = 8;
    pub(super) const LINE_BYTES: usize = 64;
    pub(super) const MAX_OFFSET: u64 = 1 << 62;
    pub(super) const MAX_TOPIC_BYTES: usize = 255;
    pub(super) const RING_STEPS: usize = 64;
}

use criterion::{BenchmarkId, Criterion, Throughput};

use log::{Log, LogEntry};
use record::{Draft, RecordHeader, record_bytes, topic_hash};
use ring::Ring;
use sync::AtomicU64;

const RING_BYTES: usize = 8 << 20;
const LOG_ENTRIES: usize = 1 << 16;
const TOPIC: &str = "room:lobby";

fn words(bytes: usize) -> Vec<AtomicU64> {
    let zeros = std::iter::repeat_with(|| AtomicU64::new(0));
    zeros.take(bytes / layout::WORD_BYTES).collect()
}

/// Writes header, frame and topic into a ring.
pub(crate) fn encode(criterion: &mut Criterion, sizes: &[usize]) {
    let mut group = criterion.benchmark_group("record encode");
    let (memory, intent) = (words(RING_BYTES), AtomicU64::new(0));
    let ring = Ring::new(&memory, &intent);
    let mut pos = 0;
    for bytes in sizes {
        let payload = vec![7; *bytes];
        let draft = Draft {
            topic: TOPIC,
            topic_hash: topic_hash(TOPIC.as_bytes()),
            flags: 0,
            exclude_session: 0,
            frame: [b"", &payload],
        };
        group.throughput(Throughput::Bytes(*bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| {
                let header = RecordHeader {
                    pos: ring.place(
                        pos,
                        record_bytes(payload.len() + TOPIC.len()),
                        RING_BYTES as u64,
                    ),
                    floor: 0,
                    topic_hash: draft.topic_hash,
                    exclude_session: 0,
                    frame_len: payload.len() as u32,
                    topic_len: TOPIC.len() as u8,
                    flags: 0,
                    incarnation: 1,
                    seconds: 0,
                };
                pos = ring.write(header, &draft);
            });
        });
    }
    group.finish();
}

/// Writes a word into the log, as a publisher that knows its end.
pub(crate) fn commit(criterion: &mut Criterion) {
    let (memory, tail) = (words(LOG_ENTRIES * layout::WORD_BYTES), AtomicU64::new(0));
    let log = Log::new(&memory, &tail);
    let entry = LogEntry {
        tag: 1,
        slot: 0,
        pos: 64,
    };
    let mut end = 0;
    criterion.bench_function("log commit", |bencher| {
        bencher.iter(|| end = log.commit(end, entry).expect("a sound log") + 1);
    });
}
