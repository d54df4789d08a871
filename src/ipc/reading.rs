//! The methods of an open bus that read it: subscribers, single records, interest, and the sleep of a thread.

use std::time::Duration;

use super::bus::{Bus, lock};
use super::cursor::{ReadAt, read_at};
use super::layout::INTEREST_BUCKETS;
use super::parker::Parker;
use super::subscriber::Subscriber;
use super::wait_queue::SAFETY_TICK;

impl Bus {
    /// A subscriber that reads from the end of the bus on.
    pub fn subscriber(&self) -> Subscriber {
        Subscriber::new(self.clone(), self.end())
    }

    /// A subscriber that reads from `offset` on, or from the end if that comes first. Records that were overwritten
    /// meanwhile are reported as [`Next::Lagged`](super::Next::Lagged).
    pub fn subscriber_at(&self, offset: u64) -> Subscriber {
        Subscriber::new(self.clone(), offset.min(self.end()))
    }

    /// Reads one record by its offset, for a replay. Its frame is appended to `frame`.
    pub fn read_at(&self, offset: u64, frame: &mut Vec<u8>) -> ReadAt {
        read_at(self.parts(), offset, frame, &mut String::new())
    }

    /// As [`Bus::read_at`], with the name of the topic, which replaces the content of `topic`.
    pub fn read_at_with_topic(
        &self,
        offset: u64,
        frame: &mut Vec<u8>,
        topic: &mut String,
    ) -> ReadAt {
        read_at(self.parts(), offset, frame, topic)
    }

    /// From now on records of this topic wake this member when it sleeps. Calls are counted: each needs one
    /// [`Bus::remove_interest`].
    pub fn add_interest(&self, topic_hash: u64) {
        let mut interest = lock(&self.shared.interest);
        let count = &mut interest[topic_hash as usize & (INTEREST_BUCKETS - 1)];
        *count += 1;
        if *count == 1 && !self.is_forked() {
            self.parts()
                .sleepers()
                .set_interest(self.shared.member.slot, topic_hash);
        }
    }

    /// Undoes one [`Bus::add_interest`]. Without one it does nothing.
    pub fn remove_interest(&self, topic_hash: u64) {
        let mut interest = lock(&self.shared.interest);
        let count = &mut interest[topic_hash as usize & (INTEREST_BUCKETS - 1)];
        if *count == 1 && !self.is_forked() {
            self.parts()
                .sleepers()
                .clear_interest(self.shared.member.slot, topic_hash);
        }
        *count = count.saturating_sub(1);
    }

    /// Blocks this thread until there is a record at `offset`, until [`Bus::wake_threads`], or for a quarter of a
    /// second. It may return earlier for no reason. It is meant for threads that share their
    /// [`Subscriber`]; the others have [`Subscriber::wait`].
    ///
    /// In a forked child it returns at once.
    pub fn sleep(&self, offset: u64) {
        self.sleep_for(offset, SAFETY_TICK);
    }

    /// As [`Bus::sleep`], and for no longer than `limit`.
    pub fn sleep_for(&self, offset: u64, limit: Duration) {
        if !self.is_forked() {
            let queue = &self.shared.wait_queue;
            queue.sleep(self.parker(), limit.min(SAFETY_TICK), offset, || {
                self.reap();
            });
        }
    }

    /// Wakes the threads of this process that sleep on this bus, so that they look at their state again. A thread
    /// that is just falling asleep may notice only at the end of [`Bus::sleep`].
    pub fn wake_threads(&self) {
        self.shared.parker.send_wakeup();
    }

    /// Sleep and wake-up of this member's reading thread.
    pub fn parker(&self) -> &Parker {
        &self.shared.parker
    }
}
