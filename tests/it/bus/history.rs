//! The tests of retained records: enough of each topic, without a hole, and complete only if they are.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use fanbus::ipc::{Bus, BusError, BusOptions, ReplayRange, RetentionRule, inspect};

use super::process::{Name, until};
use super::replay::{ALL, Dice, Model, frames, publish, retain};

/// Overwrites itself after a few records.
const TINY: BusOptions = BusOptions {
    ring_bytes: 4096,
    log_entries: 64,
    history_bytes: 128 << 10,
};
#[test]
fn promised_records_are_retained_whatever_else_is_published() {
    for seed in 1..=20 {
        let name = Name::new("history-model");
        let first = Bus::open(&name.0, &TINY).expect("it opens");
        let second = Bus::open(&name.0, &TINY).expect("it opens");
        retain(&first, "room:{room}", 5, 0);
        retain(&second, "news", 40, 0);
        let (mut dice, mut model) = (Dice(seed * 0x9e37_79b9), Model::default());
        for step in 0..1500 {
            let bus = if dice.below(3) == 0 { &second } else { &first };
            let size = match dice.below(20) {
                0 => dice.below(1000),
                1 => 0,
                _ => dice.below(120),
            };
            let frame = vec![step as u8; size as usize];
            let topic = match dice.below(12) {
                0 => format!("room:{}", dice.below(5)),
                1 => "news".into(),
                _ => "noise".into(),
            };
            model.publish(bus, &topic, frame);
            if dice.below(10) > 0 {
                continue;
            }
            let topic = format!("room:{}", dice.below(5));
            let bus = if dice.below(2) == 0 { &second } else { &first };
            let wanted = dice.below(6) as usize;
            assert!(model.check(bus, &topic, ReplayRange::Last(wanted), ALL));
            let news = dice.below(41) as usize;
            assert!(model.check(bus, "news", ReplayRange::Last(news), ALL));
            let far = dice.below(60) as usize;
            model.check(bus, &topic, ReplayRange::Last(far), ALL);
            model.check(bus, "noise", ReplayRange::Last(far), ALL);
            model.check(
                bus,
                &topic,
                ReplayRange::Last(far),
                dice.below(300) as usize,
            );
            let from = dice.below(model.0.len() as u64 + 1);
            for topic in [topic.as_str(), "noise", "never"] {
                model.check(bus, topic, ReplayRange::From(from), ALL);
            }
            let recent = model.of(&topic).iter().rev().nth(4).map_or(0, |it| it.0);
            assert!(model.check(bus, &topic, ReplayRange::From(recent), ALL));
        }
    }
}

#[test]
fn records_of_any_size_come_back_as_they_were() {
    let name = Name::new("history-sizes");
    let options = BusOptions {
        ring_bytes: 1 << 16,
        history_bytes: 1 << 20,
        ..TINY
    };
    let bus = Bus::open(&name.0, &options).expect("it opens");
    retain(&bus, "kept", 500, 0);
    let mut model = Model::default();
    for size in (0..100).chain([935, 936, 937, 960, 1000, 5000, 16_000, 0, 1]) {
        let frame = (0..size).map(|at| (at * 7 + size) as u8).collect();
        model.publish(&bus, "kept", frame);
    }
    for _ in 0..200 {
        model.publish(&bus, "noise", vec![1; 2000]);
    }
    assert!(model.check(&bus, "kept", ReplayRange::Last(500), ALL));
    assert!(model.check(&bus, "kept", ReplayRange::From(0), ALL));
    assert_eq!(
        bus.replay("kept", ReplayRange::From(0), u64::MAX, ALL)
            .records
            .len(),
        109
    );
}

#[test]
fn the_history_outlives_all_processes() {
    let name = Name::new("history-restart");
    let mut model = Model::default();
    let epoch = {
        let bus = Bus::open(&name.0, &TINY).expect("it opens");
        retain(&bus, "room:{room}", 10, 0);
        for number in 0..300_u16 {
            let topic = if number < 10 { "room:a" } else { "noise" };
            model.publish(&bus, topic, number.to_le_bytes().to_vec());
        }
        bus.epoch()
    };
    let bus = Bus::open(&name.0, &TINY).expect("it is taken over");
    assert_eq!(bus.epoch(), epoch);
    assert_eq!(bus.rules().len(), 1, "rules stay too");
    assert!(model.check(&bus, "room:a", ReplayRange::Last(10), ALL));
    assert!(model.check(&bus, "room:a", ReplayRange::From(0), ALL));
    model.publish(&bus, "room:a", b"after".to_vec());
    assert!(model.check(&bus, "room:a", ReplayRange::Last(11), ALL));
}

#[test]
fn a_history_with_too_many_topics_loses_the_oldest_and_is_not_complete() {
    let name = Name::new("history-bound");
    let bus = Bus::open(&name.0, &TINY).expect("it opens");
    retain(&bus, "{any}", 3, 0);
    let mut model = Model::default();
    for round in 0..3 {
        for number in 0..200 {
            model.publish(&bus, &format!("t{number}"), vec![round; 50]);
        }
    }
    let history = inspect(&name.0).expect("it is there").contents;
    let history = history.and_then(|it| it.history).expect("space for one");
    assert!(
        history.topics > 10 && history.used_bytes <= history.bytes,
        "{history:?}"
    );
    assert!(history.bytes <= TINY.history_bytes);
    let complete: Vec<_> = (0..200)
        .map(|number| model.check(&bus, &format!("t{number}"), ReplayRange::Last(3), ALL))
        .collect();
    assert!(!complete[0], "there is no space for all of them");
    assert!(model.check(&bus, "t199", ReplayRange::Last(1), ALL));
    // A record that is larger than the history's share for one.
    model.publish(&bus, "large", vec![1; 1000]);
}

#[test]
fn a_topic_of_large_records_stays_within_the_history() {
    let name = Name::new("history-large");
    let options = BusOptions {
        ring_bytes: 1 << 20,
        log_entries: 64,
        history_bytes: 128 << 10,
    };
    let bus = Bus::open(&name.0, &options).expect("it opens");
    retain(&bus, "{any}", 100, 0);
    let mut model = Model::default();
    for number in 0..200_u64 {
        let size = if number % 10 == 0 { 200_000 } else { 20_000 };
        model.publish(&bus, "large", vec![number as u8; size]);
        model.publish(&bus, "small", vec![number as u8; 10]);
        model.check(&bus, "large", ReplayRange::Last(5), ALL);
        model.check(&bus, "small", ReplayRange::Last(5), ALL);
    }
}

#[test]
fn a_topic_without_a_rule_replays_the_records_of_the_rings() {
    let name = Name::new("history-none");
    let bus = Bus::open(&name.0, &TINY).expect("it opens");
    let mut model = Model::default();
    for number in 0..5 {
        model.publish(&bus, "t", vec![number; 20]);
    }
    assert!(model.check(&bus, "t", ReplayRange::Last(5), ALL));
    assert!(
        model.check(&bus, "t", ReplayRange::Last(99), ALL),
        "there never were more"
    );
    assert!(model.check(&bus, "t", ReplayRange::From(3), ALL));
    for _ in 0..100 {
        model.publish(&bus, "noise", vec![0; 20]);
    }
    assert!(!model.check(&bus, "t", ReplayRange::Last(1), ALL));
    assert!(
        bus.replay("t", ReplayRange::Last(1), u64::MAX, ALL)
            .records
            .is_empty()
    );
    let other_life = bus.replay("noise", ReplayRange::From(9999), u64::MAX, ALL);
    assert!(!other_life.complete && !other_life.records.is_empty());
}

#[test]
fn old_records_are_not_replayed() {
    let name = Name::new("history-age");
    let bus = Bus::open(&name.0, &TINY).expect("it opens");
    retain(&bus, "brief", 10, 1);
    retain(&bus, "long", 10, 3600);
    for topic in ["brief", "long"] {
        publish(&bus, topic, b"x");
        assert!(
            bus.replay(topic, ReplayRange::Last(10), u64::MAX, ALL)
                .complete
        );
    }
    until("it is too old", || {
        bus.replay("brief", ReplayRange::Last(10), u64::MAX, ALL)
            .records
            .is_empty()
    });
    assert!(
        !bus.replay("brief", ReplayRange::Last(10), u64::MAX, ALL)
            .complete
    );
    for _ in 0..200 {
        publish(&bus, "noise", b"x");
    }
    assert!(
        bus.replay("brief", ReplayRange::Last(10), u64::MAX, ALL)
            .records
            .is_empty()
    );
    assert_eq!(
        bus.replay("long", ReplayRange::Last(10), u64::MAX, ALL)
            .records
            .len(),
        1
    );
}

#[test]
fn a_reader_beside_busy_publishers_never_sees_a_hole() {
    let name = Name::new("history-race");
    let bus = Bus::open(&name.0, &TINY).expect("it opens");
    retain(&bus, "room:{room}", 20, 0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..2_u8)
            .map(|number| {
                let own = Bus::open(&name.0, &TINY).expect("it opens");
                scope.spawn(move || {
                    let mut dice = Dice(u64::from(number) + 7);
                    let topic = format!("room:{number}");
                    let mut count = 0_u64;
                    for _ in 0..30_000 {
                        if dice.below(8) == 0 {
                            publish(&own, &topic, &count.to_le_bytes());
                            count += 1;
                        } else {
                            publish(&own, "noise", &[number; 100]);
                        }
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Relaxed) {
                for topic in ["room:0", "room:1"] {
                    let replay = bus.replay(topic, ReplayRange::Last(20), u64::MAX, ALL);
                    let numbers: Vec<_> = frames(&replay)
                        .iter()
                        .map(|(_, frame)| u64::from_le_bytes((*frame).try_into().expect("eight")))
                        .collect();
                    let first = numbers.first().copied().unwrap_or(0);
                    let expected: Vec<_> = (first..first + numbers.len() as u64).collect();
                    assert_eq!(numbers, expected);
                    if replay.complete {
                        assert!(numbers.len() == 20 || first == 0);
                    }
                    looks += 1;
                }
            }
            looks
        });
        for publisher in publishers {
            publisher.join().expect("it publishes");
        }
        done.store(true, Relaxed);
        assert!(reader.join().expect("no hole") > 0);
    });
    for topic in ["room:0", "room:1"] {
        assert!(
            bus.replay(topic, ReplayRange::Last(20), u64::MAX, ALL)
                .complete
        );
    }
}

#[test]
fn invalid_rules_are_refused_with_a_message() {
    let name = Name::new("history-rules");
    let bus = Bus::open(&name.0, &TINY).expect("it opens");
    let rule = |pattern: &str| RetentionRule {
        pattern: pattern.into(),
        records: 1,
        seconds: 0,
    };
    let error = bus.retain(&rule("room:{room")).expect_err("half a brace");
    assert!(
        error
            .to_string()
            .starts_with("\"room:{room\" is not a pattern of topics.")
    );
    for number in 0..64 {
        bus.retain(&rule(&format!("t{number}")))
            .expect("space for it");
    }
    bus.retain(&rule("t7")).expect("it is there already");
    assert!(matches!(
        bus.retain(&rule("one more")),
        Err(BusError::TooManyRules { .. })
    ));

    let other = Name::new("history-without");
    let options = BusOptions {
        history_bytes: 0,
        ..TINY
    };
    let bus = Bus::open(&other.0, &options).expect("it opens");
    assert!(matches!(
        bus.retain(&rule("t")),
        Err(BusError::NoHistory { .. })
    ));
    let options = BusOptions {
        history_bytes: 5,
        ..TINY
    };
    let error = Bus::open(&other.0, &options).expect_err("too small");
    assert_eq!(
        error.to_string(),
        "A bus cannot have a history of 5 bytes. The size must be 0, for none, or from 128 KiB to 8 GiB."
    );
}
