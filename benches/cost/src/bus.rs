//! The bus in one thread: a record in, a record out.

use std::hint::black_box;

use fanbus::ipc::{Bus, BusOptions, Draft, Next, RetentionRule, topic_hash};

use crate::walk::Walk;

/// Several turns of the ring below: what comes up once in a turn is in the figure.
const COUNT: usize = 2048;
const RING_BYTES: usize = 256 << 10;

const TOPIC: &str = "room:lobby";

/// A bus that is gone at the end.
struct Own(Bus);

impl Own {
    fn open(what: &str) -> Own {
        let options = BusOptions {
            ring_bytes: RING_BYTES,
            log_entries: 1 << 12,
            ..BusOptions::default()
        };
        let name = format!("cost-{what}-{}", std::process::id());
        Own(Bus::open(&name, &options).expect("room in /dev/shm"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.remove();
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

pub(crate) fn paths(walk: &mut Walk<'_>) {
    let bus = Own::open("plain");
    for (size, bytes) in [("64 B", 64), ("1 KiB", 1 << 10)] {
        let payload = vec![7; bytes];
        let draft = draft(&payload);
        let publish = || bus.0.publish(black_box(&draft)).expect("a sound bus");
        walk.path(&format!("publish, {size}"), COUNT, publish);
        let mut subscriber = bus.0.subscriber();
        let mut frame = Vec::new();
        walk.path(&format!("publish and read, {size}"), COUNT, || {
            publish();
            frame.clear();
            let Next::Record(head) = subscriber.next(|_| true, &mut frame) else {
                panic!("a record was published");
            };
            black_box(head).frame.len()
        });
    }
    for (what, pattern) in [("of others", "other:{name}"), ("of its own", TOPIC)] {
        let bus = Own::open("kept");
        let rule = RetentionRule {
            pattern: pattern.into(),
            records: 100,
            seconds: 0,
        };
        bus.0.retain(&rule).expect("room for it");
        let payload = [7; 128];
        let draft = draft(&payload);
        walk.path(&format!("publish, 128 B, a rule {what}"), COUNT, || {
            bus.0.publish(black_box(&draft)).expect("a sound bus")
        });
    }
}
