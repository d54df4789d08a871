//! The model of published messages, with which a replay of the bus is compared.

use fanbus::ipc::{Bus, Draft, Replay, ReplayRange, ReplayRecord, RetentionRule, topic_hash};

/// No limit.
pub(super) const ALL: usize = usize::MAX;

pub(super) fn publish(bus: &Bus, topic: &str, frame: &[u8]) -> u64 {
    let draft = Draft {
        topic,
        topic_hash: topic_hash(topic.as_bytes()),
        flags: 2,
        exclude_session: 0,
        frame: [&frame[..frame.len() / 2], &frame[frame.len() / 2..]],
    };
    bus.publish(&draft).expect("a sound bus")
}

pub(super) fn retain(bus: &Bus, pattern: &str, records: u32, seconds: u32) {
    let rule = RetentionRule {
        pattern: pattern.into(),
        records,
        seconds,
    };
    bus.retain(&rule).expect("space for a rule");
}

pub(super) fn frames(replay: &Replay) -> Vec<(u64, &[u8])> {
    let frame = |it: &ReplayRecord| (it.offset, &replay.frames[it.frame.clone()]);
    replay.records.iter().map(frame).collect()
}

/// A sequence of random numbers that is the same in each run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// All published messages.
#[derive(Default)]
pub(super) struct Model(pub(super) Vec<(String, Vec<u8>)>);

impl Model {
    pub(super) fn publish(&mut self, bus: &Bus, topic: &str, frame: Vec<u8>) {
        let offset = publish(bus, topic, &frame);
        assert_eq!(offset, self.0.len() as u64);
        self.0.push((topic.into(), frame));
    }

    pub(super) fn of(&self, topic: &str) -> Vec<(u64, &[u8])> {
        let all = self.0.iter().enumerate();
        all.filter(|(_, (name, _))| name == topic)
            .map(|(offset, (_, frame))| (offset as u64, frame.as_slice()))
            .collect()
    }

    /// Compares a replay of the bus with the published messages. Returns whether it is complete.
    pub(super) fn check(&self, bus: &Bus, topic: &str, range: ReplayRange, limit: usize) -> bool {
        let replay = bus.replay(topic, range, u64::MAX, limit);
        let (all, found) = (self.of(topic), frames(&replay));
        assert!(replay.frames.len() <= limit);
        assert!(
            all.ends_with(&found),
            "{topic} {range:?}: {:?} of {:?}",
            found.iter().map(|it| it.0).collect::<Vec<_>>(),
            all.iter().map(|it| it.0).collect::<Vec<_>>(),
        );
        let wanted = match range {
            ReplayRange::Last(count) => count.min(all.len()),
            ReplayRange::From(from) => all.iter().filter(|(offset, _)| *offset >= from).count(),
        };
        if replay.complete {
            assert_eq!(found.len(), wanted, "{topic} {range:?} is called complete");
        }
        assert!(found.len() <= wanted, "{topic} {range:?} gave too much");
        replay.complete
    }
}
