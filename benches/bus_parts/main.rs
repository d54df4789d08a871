//! The benchmark of the parts of the bus, each by itself, in one thread: the cost of a publish, a read and their
//! parts when no other core touches their cache lines. `cargo bench --bench bus_parts`
//!
//! Between processes they cost more: `make bench-bus`.

#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "two functions of five files are wanted, and clippy takes their tests in"
)]
mod ipc;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use fanbus::ipc::{
    Bus, BusOptions, Draft, Next, ReplayRange, RetentionRule, Subscriber, topic_hash,
};

const TOPIC: &str = "room:lobby";
const SIZES: [usize; 5] = [64, 128, 1 << 10, 64 << 10, 1 << 20];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let name = format!("bench-parts-{}", std::process::id());
    let bus = Bus::open(&name, &BusOptions::default()).expect("room in /dev/shm");
    whole(&mut criterion, &bus);
    kept(&mut criterion);
    hash(&mut criterion);
    ipc::encode(&mut criterion, &SIZES);
    ipc::commit(&mut criterion);
    bus.remove().expect("it is there");
    criterion.final_summary();
}

/// The cost of a publish on a bus with a retention rule, for this topic or another, and of a replay.
fn kept(criterion: &mut Criterion) {
    let name = format!("bench-kept-{}", std::process::id());
    let bus = Bus::open(&name, &BusOptions::default()).expect("room in /dev/shm");
    let mut group = criterion.benchmark_group("publish beside a rule");
    for (what, pattern) in [("for others", "other:{name}"), ("for it", TOPIC)] {
        let rule = RetentionRule {
            pattern: pattern.into(),
            records: 100,
            seconds: 0,
        };
        bus.retain(&rule).expect("room for it");
        for bytes in [128, 1 << 10] {
            let payload = vec![7; bytes];
            let draft = draft(&payload);
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(BenchmarkId::new(what, bytes), |bencher| {
                bencher.iter(|| bus.publish(&draft).expect("a sound bus"));
            });
        }
    }
    group.finish();
    // A quiet topic on a busy bus, and a busy one.
    let quiet = "other:quiet";
    let payload = [7; 128];
    let of_quiet = Draft {
        topic: quiet,
        topic_hash: topic_hash(quiet.as_bytes()),
        ..draft(&payload)
    };
    for (draft, count) in [(of_quiet, 100), (draft(&payload), 200_000)] {
        for _ in 0..count {
            bus.publish(&draft).expect("a sound bus");
        }
    }
    let mut group = criterion.benchmark_group("the last 50");
    for (what, topic) in [("of a quiet topic", quiet), ("of a busy topic", TOPIC)] {
        group.bench_function(what, |bencher| {
            bencher.iter(|| {
                let past = bus.replay(topic, ReplayRange::Last(50), u64::MAX, usize::MAX);
                assert_eq!(black_box(past).records.len(), 50);
            });
        });
    }
    group.finish();
    bus.remove().expect("it is there");
}

/// Publish, read, and both in turn, for each size.
fn whole(criterion: &mut Criterion, bus: &Bus) {
    for bytes in SIZES {
        let payload = vec![7; bytes];
        let draft = draft(&payload);
        let publish = || bus.publish(&draft).expect("a sound bus");

        let mut group = criterion.benchmark_group("publish");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(publish);
        });
        group.finish();

        // Half a ring of messages is published without a reader, then read.
        let batch = ((4 << 20) / (bytes + 128)).min(bus.log_entries() as usize / 2) as u64;
        let mut group = criterion.benchmark_group("read");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter_custom(|count| {
                let (mut left, mut spent) = (count, Duration::ZERO);
                while left > 0 {
                    let turn = left.min(batch);
                    let mut subscriber = bus.subscriber();
                    (0..turn).for_each(|_| {
                        publish();
                    });
                    spent += read(&mut subscriber, turn);
                    left -= turn;
                }
                spent
            });
        });
        group.finish();

        let mut group = criterion.benchmark_group("publish and read");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            let mut subscriber = bus.subscriber();
            let mut frame = Vec::new();
            bencher.iter(|| {
                publish();
                next(&mut subscriber, &mut frame);
            });
        });
        group.finish();
    }
}

fn draft(payload: &[u8]) -> Draft<'_> {
    Draft {
        topic: TOPIC,
        topic_hash: topic_hash(TOPIC.as_bytes()),
        flags: 0,
        exclude_session: 0,
        frame: [b"", payload],
    }
}

/// Reads that many records, and returns the time that it took.
fn read(subscriber: &mut Subscriber, count: u64) -> Duration {
    let mut frame = Vec::new();
    let start = Instant::now();
    (0..count).for_each(|_| next(subscriber, &mut frame));
    start.elapsed()
}

/// Reads the next record, which is there.
fn next(subscriber: &mut Subscriber, frame: &mut Vec<u8>) {
    frame.clear();
    match subscriber.next(|_| true, frame) {
        Next::Record(head) => assert_eq!(black_box(head).frame.len(), frame.len()),
        other => panic!("a record was published, and {other:?} came"),
    }
}

fn hash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic_hash");
    for bytes in [10, 40, 255] {
        let topic = vec![b'x'; bytes];
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| topic_hash(black_box(&topic)));
        });
    }
    group.finish();
}
