//! Sleep and wake-up of members, over words. It knows no pipes: the caller passes in the function that sends a wake-up.
//!
//! A member that is about to sleep writes this in two places: first in its own wake word, then as a bit in the mask
//! that publishers read. Then it looks at the log once more. A publisher first commits, then reads the mask. So either
//! the publisher sees the sleeper, or the sleeper sees the record.
//!
//! A waking process sends the wake-up **first** and marks it **after**. If it dies in between, another one sends a
//! wake-up too many. In the other order, its death would lose the wake-ups of all.
//!
//! Interest (32,768 buckets of one bit per member) only decides which members are woken. Every member may read all
//! records.

use super::layout::{INTEREST_BUCKETS, MEMBER_WORDS, WAKE};
use super::sync::{AtomicU64, Ordering, dekker_fence};

/// The low bits of a wake word. The bits above them are the number of the sleep, so that a late mark cannot hit a later
/// sleep.
const RUNNING: u64 = 0;
const PARKED: u64 = 1;
const NOTIFIED: u64 = 2;
const STATE_BITS: u32 = 2;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;

/// The sleeping members and their interest, over words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sleepers<'a> {
    /// Bit per member: it sleeps, or is about to. Set and cleared by that member (or its reaper).
    parked: &'a AtomicU64,
    /// Per bucket, bit per member: it has a subscriber for a topic of this bucket.
    interest: &'a [AtomicU64],
    /// The slots of all members. The first word of each is its wake word.
    members: &'a [AtomicU64],
}

impl<'a> Sleepers<'a> {
    pub(super) fn new(
        parked: &'a AtomicU64,
        interest: &'a [AtomicU64],
        members: &'a [AtomicU64],
    ) -> Sleepers<'a> {
        debug_assert!(interest.len() == INTEREST_BUCKETS || cfg!(loom));
        Sleepers {
            parked,
            interest,
            members,
        }
    }

    fn bucket(&self, topic_hash: u64) -> &'a AtomicU64 {
        &self.interest[topic_hash as usize & (INTEREST_BUCKETS - 1)]
    }

    fn word(&self, slot: u8) -> &'a AtomicU64 {
        &self.members[usize::from(slot) * MEMBER_WORDS + WAKE]
    }

    /// The members that sleep and have interest in the topic, as a mask. Called right after the commit.
    #[inline(always)]
    #[allow(clippy::inline_always)] // as `Parts::sleepers`
    pub(super) fn interested(&self, topic_hash: u64) -> u64 {
        let parked = self.all();
        if parked == 0 {
            return 0;
        }
        // [P5] Pairs with [S1]: a subscription made before the commit is seen.
        parked & self.bucket(topic_hash).load(Ordering::SeqCst)
    }

    /// The members that sleep, as a mask.
    #[inline]
    pub(super) fn all(&self) -> u64 {
        dekker_fence();
        // [P4] Pairs with [K2]. Store-buffering: {commit [P2], load mask [P4]} against {set mask [K2],
        // load log [K3]}. All four are `SeqCst`, so at least one side sees the other.
        self.parked.load(Ordering::SeqCst)
    }

    /// Wakes the member in `slot`, unless it runs or another process has woken it already. `send` makes its pipe
    /// readable, and returns whether that worked.
    pub(super) fn wake(&self, slot: u8, send: impl FnOnce() -> bool) {
        // [W1] Pairs with [K1]: a process that saw the bit of [K2] sees the word stored before it. And with [W2].
        let word = self.word(slot).load(Ordering::Acquire);
        if word & STATE_MASK == PARKED && send() {
            let mark = (word & !STATE_MASK) | NOTIFIED;
            // [W2] Only after the wake-up. Pairs with [W1]: a process that sees the mark can rely on the wake-up. Fails
            // if that sleep is over, and then no mark is needed.
            let (done, failed) = (Ordering::Release, Ordering::Relaxed);
            let _ = self.word(slot).compare_exchange(word, mark, done, failed);
        }
    }

    /// Whether the member in `slot` sleeps, and no process has woken it.
    #[cfg(not(loom))]
    pub(super) fn is_asleep(&self, slot: u8) -> bool {
        self.word(slot).load(Ordering::Relaxed) & STATE_MASK == PARKED
    }

    /// Marks the member in `slot` as about to sleep, for the `sleep`-th time.
    pub(super) fn park(&self, slot: u8, sleep: u64) {
        // [K1] Word first. Pairs with [W1].
        self.word(slot)
            .store(sleep << STATE_BITS | PARKED, Ordering::SeqCst);
        // [K2] Mask second. Pairs with [P4].
        self.parked.fetch_or(1 << slot, Ordering::SeqCst);
        dekker_fence();
    }

    /// Marks the member in `slot` as running again.
    pub(super) fn unpark(&self, slot: u8) {
        // A swap, though a store would do. The value does not matter, but the swap comes behind a mark [W2] of this
        // sleep in the model too, which has no total order of stores.
        self.word(slot).swap(RUNNING, Ordering::Relaxed);
        // [K4] Pairs with [P4]: a publisher that still saw the bit committed before this. At the latest the check [K3]
        // of the next sleep sees its record.
        self.parked.fetch_and(!(1 << slot), Ordering::SeqCst);
    }

    /// The number of the last sleep in this slot, so that a new member continues to count from there.
    pub(super) fn last_sleep(&self, slot: u8) -> u64 {
        self.word(slot).load(Ordering::Relaxed) >> STATE_BITS
    }

    pub(super) fn set_interest(&self, slot: u8, topic_hash: u64) {
        // [S1] Pairs with [P5]. Interest first, then the end of the log [S2] as the start: a publisher that commits at
        // or behind that start sees the interest.
        self.bucket(topic_hash)
            .fetch_or(1 << slot, Ordering::SeqCst);
        dekker_fence();
    }

    pub(super) fn clear_interest(&self, slot: u8, topic_hash: u64) {
        // Relaxed: at worst this member is woken without need.
        self.bucket(topic_hash)
            .fetch_and(!(1 << slot), Ordering::Relaxed);
    }

    /// Removes all words of the member in `slot`, which has left or died. Relaxed: the token of the slot, a lock in the
    /// kernel, orders this before the next member.
    pub(super) fn remove_member(&self, slot: u8) {
        let last = self.word(slot).load(Ordering::Relaxed);
        // The number of the sleep stays, for `last_sleep`.
        self.word(slot)
            .store(last & !STATE_MASK | RUNNING, Ordering::Relaxed);
        self.parked.fetch_and(!(1 << slot), Ordering::Relaxed);
        for bucket in self.interest {
            if bucket.load(Ordering::Relaxed) & 1 << slot != 0 {
                bucket.fetch_and(!(1 << slot), Ordering::Relaxed);
            }
        }
    }
}

/// The slots of a mask.
pub(super) fn slots(mut mask: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let slot = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (slot < u64::BITS).then_some(slot as u8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::layout::Layout;
    use crate::ipc::layout::tests::plain_words;
    use crate::ipc::parts::Parts;
    use std::cell::Cell;

    fn with_sleepers(test: impl Fn(Sleepers<'_>)) {
        let layout = Layout::new(4096, 64).expect("the smallest");
        test(Parts::new(&plain_words(layout), layout).sleepers());
    }

    #[test]
    fn only_sleepers_with_interest_are_woken() {
        with_sleepers(|sleepers| {
            sleepers.set_interest(3, 77);
            assert_eq!(sleepers.interested(77), 0, "it does not sleep");
            sleepers.park(3, 1);
            sleepers.park(5, 1);
            assert_eq!(sleepers.interested(77), 1 << 3);
            assert_eq!(sleepers.interested(78), 0);
            assert_eq!(sleepers.all(), 1 << 3 | 1 << 5);
            sleepers.clear_interest(3, 77);
            assert_eq!(sleepers.interested(77), 0);
            sleepers.unpark(3);
            sleepers.unpark(5);
            assert_eq!(sleepers.all(), 0);
        });
    }

    #[test]
    fn each_sleep_gets_one_wakeup() {
        with_sleepers(|sleepers| {
            let sent = Cell::new(0);
            let wake = |works| {
                sleepers.wake(9, || {
                    sent.set(sent.get() + 1);
                    works
                });
            };
            wake(true);
            assert_eq!(sent.get(), 0, "it runs");
            sleepers.park(9, 1);
            wake(true);
            wake(true);
            assert_eq!(sent.get(), 1);
            sleepers.unpark(9);
            sleepers.park(9, 2);
            wake(true);
            assert_eq!(sent.get(), 2);
        });
    }

    #[test]
    fn a_wakeup_that_failed_does_not_suppress_the_next() {
        with_sleepers(|sleepers| {
            sleepers.park(9, 1);
            sleepers.wake(9, || false);
            let sent = Cell::new(false);
            sleepers.wake(9, || {
                sent.set(true);
                true
            });
            assert!(sent.get());
        });
    }

    #[test]
    fn a_late_mark_does_not_hit_a_later_sleep() {
        with_sleepers(|sleepers| {
            sleepers.park(9, 1);
            sleepers.wake(9, || {
                sleepers.unpark(9);
                sleepers.park(9, 2);
                true
            });
            let sent = Cell::new(false);
            sleepers.wake(9, || {
                sent.set(true);
                true
            });
            assert!(
                sent.get(),
                "the second sleep was taken for one that had its wake-up"
            );
        });
    }

    #[test]
    fn a_dead_member_leaves_no_interest_and_no_bit() {
        with_sleepers(|sleepers| {
            sleepers.park(9, 41);
            (0..10_000).for_each(|hash| sleepers.set_interest(9, hash));
            sleepers.set_interest(8, 5);
            sleepers.park(8, 1);
            sleepers.remove_member(9);
            assert_eq!(sleepers.all(), 1 << 8);
            sleepers.park(9, sleepers.last_sleep(9) + 1);
            assert_eq!(sleepers.interested(5), 1 << 8);
            assert_eq!(sleepers.interested(6), 0);
            assert_eq!(sleepers.last_sleep(9), 42);
        });
    }

    #[test]
    fn the_slots_of_a_mask_are_its_bits() {
        assert_eq!(slots(0).count(), 0);
        assert_eq!(slots(1 << 63 | 0b101).collect::<Vec<_>>(), [0, 2, 63]);
        assert_eq!(slots(u64::MAX).count(), 64);
    }
}
