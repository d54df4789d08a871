//! The methods of an open bus for its history: retention rules and replay.

use std::time::Instant;

use super::bus::{Bus, lock};
use super::error::BusError;
use super::history::replay::{Replay, ReplayRange, replay};
use super::history::rules::RetentionRule;
use super::open;

impl Bus {
    /// Makes a retention rule: from now on records of the topics that match are retained when they would be
    /// overwritten, by the member that overwrites them, for [`Bus::replay`]. It replaces a rule of the same pattern.
    ///
    /// The limit is `history_bytes` of [`BusOptions`](super::BusOptions): beyond it the oldest records go first. May
    /// wait up to ten seconds for another process that is just opening the bus.
    pub fn retain(&self, rule: &RetentionRule) -> Result<(), BusError> {
        if self.is_forked() {
            return Err(BusError::Forked);
        }
        rule.check()?;
        let name = || self.name().to_owned();
        let area = self.parts().history();
        let area = area.ok_or_else(|| BusError::NoHistory { name: name() })?;
        let _housekeeping = lock(&self.shared.housekeeping);
        let file = self.shared.segment.file();
        file.lock_door(Instant::now() + open::DOOR_TIMEOUT)?;
        let made = file
            .reserve(&self.parts().layout().history_range())
            .map(|()| area.make_rule(rule, self.end()));
        file.unlock_door()?;
        if made? {
            Ok(())
        } else {
            Err(BusError::TooManyRules { name: name() })
        }
    }

    /// The rules of [`Bus::retain`], of all members.
    pub fn rules(&self) -> Vec<RetentionRule> {
        self.parts()
            .history()
            .map_or_else(Vec::new, |it| it.rules())
    }

    /// Replays the records of a topic below offset `until`: as far back as `range` says, but at most `max_bytes` of
    /// frames. Without a rule for the topic, it returns what the rings and the log still hold.
    ///
    /// If `until` is the offset at which a subscriber of that topic began, replay and subscriber meet without a gap.
    pub fn replay(&self, topic: &str, range: ReplayRange, until: u64, max_bytes: usize) -> Replay {
        let until = until.min(self.end());
        replay(self.parts(), topic, range, until, max_bytes)
    }
}
