//! The tests of slow readers, for which publishers may wait.

use fanbus::ipc::{Bus, BusOptions, Next, PacedReader};

use super::process::Name;
use super::replay::publish;

const OPTIONS: BusOptions = BusOptions {
    ring_bytes: 1 << 20,
    log_entries: 1 << 12,
    history_bytes: 0,
};

fn slow_readers(bus: &Bus) -> Vec<PacedReader> {
    bus.slow_readers(bus.slow_below()).collect()
}

#[test]
fn a_reader_counts_as_slow_well_before_it_is_overtaken() {
    // Messages for which the log is the limit, some between, and the largest.
    for bytes in [0, 100, 1000, 10_000, 100_000, 256 << 10] {
        let name = Name::new("pace");
        let publisher = Bus::open(&name.0, &OPTIONS).expect("a bus");
        let reader = Bus::open(&name.0, &OPTIONS).expect("the same");
        let mut subscriber = reader.subscriber();
        let message = vec![7; bytes];
        for lap in 0..4 {
            let from = subscriber.offset();
            reader.keep_pace(from);
            assert_eq!(slow_readers(&publisher), [], "lap {lap}, {bytes} bytes");
            let mut most = 0;
            while slow_readers(&publisher).is_empty() {
                publish(&publisher, "room:lobby", &message);
                most += 1;
                assert!(most <= OPTIONS.log_entries, "{bytes} bytes: never told");
            }
            let told = PacedReader {
                slot: reader.member().slot,
                offset: from,
            };
            assert_eq!(slow_readers(&publisher), [told]);
            let mut frames = Vec::new();
            for number in 0..most {
                frames.clear();
                let next = subscriber.next(|_| true, &mut frames);
                assert!(
                    matches!(next, Next::Record(_)),
                    "{number} of {most}: {next:?}"
                );
            }
        }
    }
}

#[test]
fn readers_that_sleep_or_left_or_have_no_pace_are_not_slow() {
    let name = Name::new("pace-sleep");
    let publisher = Bus::open(&name.0, &OPTIONS).expect("a bus");
    let reader = Bus::open(&name.0, &OPTIONS).expect("the same");
    let _never_asked = Bus::open(&name.0, &OPTIONS).expect("the same");
    let end = reader.end();
    reader.keep_pace(end);
    let far = |count| {
        for _ in 0..count {
            publish(&publisher, "room:lobby", b"hello");
        }
    };
    assert!(reader.parker().park(end));
    // Every quarter of the log all members are woken: this is just before one, after the first.
    far(OPTIONS.log_entries / 4 - 1);
    reader.parker().unpark();
    far(OPTIONS.log_entries / 4);
    assert_eq!(slow_readers(&publisher).len(), 1);
    assert!(reader.parker().park(publisher.end()));
    assert_eq!(slow_readers(&publisher), [], "it sleeps");
    far(OPTIONS.log_entries / 4);
    assert_eq!(slow_readers(&publisher).len(), 1, "it was woken");
    drop(reader);
    assert_eq!(slow_readers(&publisher), [], "it has left");
}
