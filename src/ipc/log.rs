//! The commit log: the order of all records of all members.
//!
//! The log is an array of 64-bit words, one per record, that is used in a circle. A record exists from the moment at
//! which a compare-and-swap puts its word into the log. There is no state in between, in which a dying process could
//! leave a hole. The index of the word is the record's **offset**.
//!
//! Invariant: all entries below `tail` are filled, and entries are filled in order. So the true end is at most a few
//! entries behind `tail`. The tail is a hint that moves every eighth entry, because a word that every publisher writes
//! costs more than eight words that are read.

use super::layout::{LINE_BYTES, MAX_OFFSET};
use super::sync::{AtomicU64, Ordering};

/// Bits of a position that an entry stores. The lowest six are always zero.
const POS_BITS: u32 = 40;
/// Positions are compared modulo this.
pub(super) const POS_MASK: u64 = (1 << POS_BITS) - 1;
const LINE_BITS: u32 = LINE_BYTES.trailing_zeros();

const SLOT_SHIFT: u32 = POS_BITS - LINE_BITS;
const TAG_SHIFT: u32 = SLOT_SHIFT + 6;
const LAP_SHIFT: u32 = TAG_SHIFT + 8;
const _: () = assert!(LAP_SHIFT == 48);

/// The tail moves after this many entries.
const TAIL_EVERY: u64 = 8;

/// An entry of the log: the content of one word, apart from its lap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LogEntry {
    /// Low 8 bits of the topic's hash: a reader can pass by without touching the record.
    pub(super) tag: u8,
    /// The slot of the producer, in whose ring the record is. Below 64.
    pub(super) slot: u8,
    /// The position of the record in that ring, modulo 2^40. A multiple of 64.
    pub(super) pos: u64,
}

impl LogEntry {
    fn to_word(self, lap: u64) -> u64 {
        lap << LAP_SHIFT
            | u64::from(self.tag) << TAG_SHIFT
            | u64::from(self.slot) << SLOT_SHIFT
            | (self.pos & POS_MASK) >> LINE_BITS
    }

    fn from_word(word: u64) -> LogEntry {
        LogEntry {
            tag: (word >> TAG_SHIFT) as u8,
            slot: (word >> SLOT_SHIFT) as u8 & 63,
            pos: (word << LINE_BITS) & POS_MASK,
        }
    }
}

/// The state of the entry at an offset, for a reader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EntryState {
    /// Nothing was published there yet.
    Empty,
    /// It is there.
    Filled(LogEntry),
    /// It has been overwritten. The reader continues at `resume`, which is larger.
    Lapped { resume: u64 },
}

/// The error that the log has a content that no publisher could have written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LogDamage;

/// The commit log, over words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log<'a> {
    /// Their number is a power of two.
    entries: &'a [AtomicU64],
    tail: &'a AtomicU64,
}

impl<'a> Log<'a> {
    pub(super) fn new(entries: &'a [AtomicU64], tail: &'a AtomicU64) -> Log<'a> {
        debug_assert!(entries.len().is_power_of_two());
        Log { entries, tail }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.entries.len() as u64
    }

    fn word(&self, at: u64) -> &'a AtomicU64 {
        &self.entries[at as usize & (self.entries.len() - 1)]
    }

    /// The lap in which `at` is written. The first is 1, because a new log is all zero.
    fn lap(&self, at: u64) -> u64 {
        (at >> self.entries.len().trailing_zeros()) + 1
    }

    /// The number of laps by which the word at `at` is ahead of the expected one: 0 filled, -1 empty. Laps are known
    /// modulo 2^16.
    fn laps_ahead(&self, word: u64, at: u64) -> i16 {
        ((word >> LAP_SHIFT) as u16).wrapping_sub(self.lap(at) as u16) as i16
    }

    /// A lower bound of the end. Never above the true end, unless the memory is damaged.
    pub(super) fn tail(&self) -> u64 {
        // [R3] Pairs with [P3]: entries below are seen filled.
        self.tail.load(Ordering::Acquire).min(MAX_OFFSET)
    }

    /// Puts `entry` at the first free offset, and returns that offset. `from` is any offset that is not above the end:
    /// the nearer, the quicker.
    #[inline]
    pub(super) fn commit(&self, from: u64, entry: LogEntry) -> Result<u64, LogDamage> {
        let mut at = from.max(self.tail());
        // Each turn finds an entry of another publisher. More turns than four laps mean that the log is damaged.
        for _ in 0..self.capacity() * 4 {
            if at >= MAX_OFFSET {
                break;
            }
            let word = self.word(at);
            // [P6] Pairs with [P2] of earlier publishers. `SeqCst`, so that their commits come before this one in the
            // order that [S1] and [P4] rely on. Nothing is read through it.
            let seen = word.load(Ordering::SeqCst);
            match self.laps_ahead(seen, at) {
                0 => at += 1,
                -1 => {
                    let mine = entry.to_word(self.lap(at));
                    // [P2] Commit. As a release it pairs with [R1]: a process that sees this word sees the whole
                    // record. As `SeqCst` it pairs with [K3] and [S2]: see [P4].
                    let swap =
                        word.compare_exchange(seen, mine, Ordering::SeqCst, Ordering::Relaxed);
                    if swap.is_ok() {
                        self.count(at);
                        return Ok(at);
                    }
                }
                ahead if ahead > 0 => at = self.tail().max(at + 1), // other publishers were a lap faster
                _ => break,
            }
        }
        Err(LogDamage)
    }

    /// Moves the tail past the entry that was just committed, if it is the last of eight.
    #[inline]
    fn count(&self, at: u64) {
        if at % TAIL_EVERY == TAIL_EVERY - 1 {
            // [P3] Pairs with [R3]. A publisher that dies before this leaves it to the next one.
            self.tail.fetch_max(at + 1, Ordering::Release);
        }
    }

    /// The state of the entry at `at`, for a reader whose next offset that is.
    #[inline]
    pub(super) fn state_at(&self, at: u64) -> EntryState {
        // [R1] Pairs with [P2].
        self.judge(self.word(at).load(Ordering::Acquire), at)
    }

    /// Whether the entry at `at` is still empty, for a reader that is about to sleep before it.
    pub(super) fn is_empty_at(&self, at: u64) -> bool {
        // [K3] Pairs with [P2]: see [P4].
        self.judge(self.word(at).load(Ordering::SeqCst), at) == EntryState::Empty
    }

    #[inline]
    fn judge(&self, word: u64, at: u64) -> EntryState {
        let ahead = self.laps_ahead(word, at);
        if at >= MAX_OFFSET {
            return EntryState::Empty;
        }
        if ahead == 0 {
            return EntryState::Filled(LogEntry::from_word(word));
        }
        if ahead > 0 {
            let index = at.saturating_add(ahead as u64 * self.capacity());
            return EntryState::Lapped {
                resume: self.resume(at, index.saturating_add(1)),
            };
        }
        // Empty, unless the reader is more than 2^15 laps behind: then laps compare the wrong way.
        let tail = self.tail();
        if tail > at.saturating_add(self.capacity()) {
            return EntryState::Lapped {
                resume: self.resume(at, tail),
            };
        }
        EntryState::Empty
    }

    /// The offset at which a lapped reader continues: half a log behind the end, so that it is not lapped again at
    /// once. The end is at least `end`.
    fn resume(&self, at: u64, end: u64) -> u64 {
        let end = end.max(self.tail()).min(MAX_OFFSET);
        end.saturating_sub(self.capacity() / 2).max(at + 1)
    }

    /// The true end: the offset that the next record gets. `from` is a hint that is not above it.
    pub(super) fn end(&self, from: u64) -> u64 {
        let mut at = from.max(self.tail());
        for _ in 0..self.capacity() * 4 {
            // [S2] Pairs with [P2]: see [S1].
            let word = self.word(at).load(Ordering::SeqCst);
            match self.laps_ahead(word, at) {
                0 => at += 1,
                ahead if ahead > 0 => at = self.tail().max(at + 1),
                _ => break,
            }
            if at >= MAX_OFFSET {
                break;
            }
        }
        at.min(MAX_OFFSET)
    }

    /// Whether a log without writers is one that publishers could have left: filled up to the end, and the end is near
    /// the tail.
    pub(super) fn is_sound(&self) -> bool {
        let tail = self.tail();
        let end = self.end(0);
        let oldest = end.saturating_sub(self.capacity());
        let lap_of = |at| self.laps_ahead(self.word(at).load(Ordering::Relaxed), at);
        end < MAX_OFFSET / 2
            && end - tail <= self.capacity()
            && (oldest..end).all(|at| lap_of(at) == 0)
            && (end..oldest + self.capacity()).all(|at| lap_of(at) == -1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Memory {
        entries: Vec<AtomicU64>,
        tail: AtomicU64,
    }

    impl Memory {
        fn new(capacity: usize) -> Memory {
            let entries = std::iter::repeat_with(|| AtomicU64::new(0))
                .take(capacity)
                .collect();
            Memory {
                entries,
                tail: AtomicU64::new(0),
            }
        }

        fn log(&self) -> Log<'_> {
            Log::new(&self.entries, &self.tail)
        }

        fn fill(&self, count: u64) {
            for number in 0..count {
                assert_eq!(self.log().commit(0, entry(number)), Ok(number));
            }
        }

        /// A log that looks as if `laps` laps had been written.
        fn after_laps(capacity: usize, laps: u64) -> Memory {
            let memory = Memory::new(capacity);
            let word = LogEntry {
                tag: 0,
                slot: 0,
                pos: 0,
            }
            .to_word(laps);
            memory
                .entries
                .iter()
                .for_each(|entry| entry.store(word, Ordering::Relaxed));
            memory.tail.store(laps * capacity as u64, Ordering::Relaxed);
            memory
        }
    }

    fn entry(number: u64) -> LogEntry {
        LogEntry {
            tag: number as u8,
            slot: number as u8 & 63,
            pos: (number * 64) & POS_MASK,
        }
    }

    #[test]
    fn offsets_are_dense_and_start_at_zero() {
        let memory = Memory::new(64);
        for number in 0..1000 {
            assert_eq!(memory.log().commit(0, entry(number)), Ok(number));
            assert_eq!(
                memory.log().state_at(number),
                EntryState::Filled(entry(number))
            );
            assert_eq!(memory.log().state_at(number + 1), EntryState::Empty);
            assert_eq!(memory.log().end(0), number + 1);
        }
    }

    #[test]
    fn the_tail_lags_by_less_than_eight() {
        let memory = Memory::new(64);
        for number in 0..100 {
            memory.log().commit(0, entry(number)).expect("a sound log");
            let behind = memory.log().end(0) - memory.log().tail();
            assert!(behind < TAIL_EVERY, "{behind}");
        }
    }

    #[test]
    fn the_end_is_found_behind_a_tail_that_never_moved() {
        let memory = Memory::new(64);
        memory.fill(40);
        memory.tail.store(0, Ordering::Relaxed); // all publishers died before [P3]
        assert_eq!(memory.log().end(0), 40);
        assert_eq!(memory.log().commit(0, entry(40)), Ok(40));
    }

    #[test]
    fn a_lapped_reader_resumes_half_a_log_behind_the_end() {
        let memory = Memory::new(64);
        memory.fill(200);
        assert_eq!(
            memory.log().state_at(0),
            EntryState::Lapped { resume: 200 - 32 }
        );
        assert_eq!(
            memory.log().state_at(135),
            EntryState::Lapped { resume: 168 }
        );
        assert_eq!(memory.log().state_at(136), EntryState::Filled(entry(136)));
    }

    #[test]
    fn laps_go_on_past_sixteen_bits() {
        for laps in [
            1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x1_0000, 0x1_0001, 0x5_0000,
        ] {
            let memory = Memory::after_laps(64, laps);
            let log = memory.log();
            let end = laps * 64;
            assert_eq!(log.end(0), end);
            assert_eq!(log.state_at(end), EntryState::Empty);
            assert!(log.is_empty_at(end));
            assert!(log.is_sound());
            assert_eq!(log.commit(0, entry(7)), Ok(end));
            assert_eq!(log.state_at(end), EntryState::Filled(entry(7)));
            assert_eq!(log.end(0), end + 1);
        }
    }

    #[test]
    fn a_reader_that_slept_for_many_laps_is_lapped_and_does_not_see_an_empty_log() {
        let memory = Memory::after_laps(64, 0xffff);
        let resume = 0xffff * 64 - 32;
        for at in [0, 1, 64, 0x7ff0 * 64, 0x8000 * 64, 0xfffc * 64] {
            assert_eq!(
                memory.log().state_at(at),
                EntryState::Lapped { resume },
                "{at}"
            );
            assert!(!memory.log().is_empty_at(at));
        }
    }

    #[test]
    fn a_damaged_log_is_an_error_and_not_a_loop() {
        let memory = Memory::new(64);
        let words = [
            u64::MAX,
            5 << LAP_SHIFT,
            0x8000 << LAP_SHIFT,
            0xfff0 << LAP_SHIFT,
        ];
        for (word, tail) in words
            .into_iter()
            .flat_map(|w| [0, 1 << 40, u64::MAX].map(|t| (w, t)))
        {
            memory
                .entries
                .iter()
                .for_each(|entry| entry.store(word, Ordering::Relaxed));
            memory.tail.store(tail, Ordering::Relaxed);
            // The results do not matter, only that there are some.
            let _ = memory.log().commit(3, entry(0));
            let _ = memory.log().end(3);
        }
        let memory = Memory::after_laps(64, 9);
        memory.tail.store(64 * 1000, Ordering::Relaxed);
        assert_eq!(memory.log().commit(0, entry(0)), Err(LogDamage));
        assert!(!memory.log().is_sound());
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_from_its_word(tag: u8, slot in 0_u8..64, line in 0_u64..1 << 34, lap: u16) {
            let entry = LogEntry { tag, slot, pos: line << LINE_BITS };
            prop_assert_eq!(LogEntry::from_word(entry.to_word(lap.into())), entry);
            prop_assert_eq!(entry.to_word(lap.into()) >> LAP_SHIFT, u64::from(lap));
        }

        #[test]
        fn a_reader_never_resumes_backwards(word: u64, tail: u64, at: u64) {
            let memory = Memory::new(64);
            memory.entries.iter().for_each(|entry| entry.store(word, Ordering::Relaxed));
            memory.tail.store(tail, Ordering::Relaxed);
            if let EntryState::Lapped { resume } = memory.log().state_at(at) {
                prop_assert!(resume > at && resume <= MAX_OFFSET.max(at + 1));
            }
            memory.log().is_empty_at(at);
            memory.log().end(at);
        }

        #[test]
        fn hints_do_not_change_the_offset(hints in prop::collection::vec(0.0_f64..1.0, 1..300)) {
            let memory = Memory::new(64);
            for (number, hint) in hints.into_iter().enumerate() {
                let from = (hint * number as f64) as u64;
                let offset = memory.log().commit(from, entry(number as u64));
                prop_assert_eq!(offset, Ok(number as u64));
            }
        }

        #[test]
        fn a_hole_in_a_log_is_noticed(filled in 70_u64..200, hole in 0_u64..64) {
            let memory = Memory::new(64);
            memory.fill(filled);
            prop_assert!(memory.log().is_sound());
            memory.entries[hole as usize].fetch_xor(0x0100 << LAP_SHIFT, Ordering::Relaxed);
            prop_assert!(!memory.log().is_sound());
        }
    }
}
