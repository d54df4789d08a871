//! The ledger of a run: the stamp in each message, and the account of every message at every reader.

/// Bytes of a stamp.
const STAMP_BYTES: usize = 24;

/// The beginning of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    pub(crate) producer: u32,
    /// The last message of a producer. Its number is the number of messages before it.
    pub(crate) is_end: bool,
    /// Its number at its producer, from 0 on.
    pub(crate) number: u64,
    /// The time of its publication.
    pub(crate) time_ns: u64,
}

impl Stamp {
    /// Panics if the message is shorter than a stamp. No message here is.
    pub(crate) fn write(self, message: &mut [u8]) {
        let first = u64::from(self.producer) | u64::from(self.is_end) << 32;
        for (at, word) in [first, self.number, self.time_ns].into_iter().enumerate() {
            message[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
    }

    /// `None` if the message is shorter than a stamp.
    pub(crate) fn read(message: &[u8]) -> Option<Stamp> {
        let stamp = message.first_chunk::<STAMP_BYTES>()?;
        let word = |at: usize| {
            let bytes = stamp[at * 8..][..8].try_into();
            u64::from_le_bytes(bytes.expect("eight bytes"))
        };
        Some(Stamp {
            producer: word(0) as u32,
            is_end: word(0) >> 32 != 0,
            number: word(1),
            time_ns: word(2),
        })
    }
}

/// Reads one byte of every cache line, as a user of the message would: data that is handed over in place has to come
/// to this core too.
#[inline]
pub(crate) fn touch(message: &[u8]) -> u8 {
    let bytes = message.iter().step_by(64);
    std::hint::black_box(bytes.fold(0, |all, byte| all ^ byte))
}

/// The messages of one producer at one reader.
#[derive(Debug)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    misplaced: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    received: u64,
    /// The next number if no message is lost.
    next: u64,
    /// The number of its messages, once it is known.
    sent: Option<u64>,
}

impl Ledger {
    pub(crate) fn new(producers: usize) -> Ledger {
        Ledger {
            accounts: vec![Account::default(); producers],
            misplaced: 0,
        }
    }

    /// Counts a message.
    #[inline]
    pub(crate) fn take(&mut self, stamp: Stamp) {
        let Some(account) = self.accounts.get_mut(stamp.producer as usize) else {
            self.misplaced += 1;
            return;
        };
        if stamp.is_end {
            account.sent = Some(stamp.number);
            return;
        }
        account.received += 1;
        if stamp.number != account.next {
            self.misplaced += 1;
        }
        account.next = stamp.number + 1;
    }

    /// The number of messages that have arrived from a producer.
    #[inline]
    pub(crate) fn next_of(&self, producer: usize) -> u64 {
        self.accounts[producer].next
    }

    /// Whether every producer has sent its last message.
    pub(crate) fn is_over(&self) -> bool {
        self.accounts.iter().all(|account| account.sent.is_some())
    }

    pub(crate) fn received(&self) -> u64 {
        self.accounts.iter().map(|account| account.received).sum()
    }

    pub(crate) fn misplaced(&self) -> u64 {
        self.misplaced
    }

    pub(crate) fn missing(&self) -> u64 {
        let sent: u64 = self
            .accounts
            .iter()
            .filter_map(|account| account.sent)
            .sum();
        sent.saturating_sub(self.received())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64, is_end: bool) -> Stamp {
        Stamp {
            producer: 0,
            is_end,
            number,
            time_ns: 0,
        }
    }

    #[test]
    fn a_stamp_comes_back_from_its_message() {
        let stamp = Stamp {
            producer: 3,
            is_end: true,
            number: u64::MAX,
            time_ns: 7,
        };
        let mut message = [9; 64];
        stamp.write(&mut message);
        assert_eq!(Stamp::read(&message), Some(stamp));
        assert_eq!(Stamp::read(&message[..STAMP_BYTES - 1]), None);
    }

    #[test]
    fn what_did_not_come_is_missing_and_what_came_twice_is_misplaced() {
        let mut ledger = Ledger::new(1);
        for number in [0, 1, 3, 3] {
            ledger.take(stamp(number, false));
        }
        assert!(!ledger.is_over());
        ledger.take(stamp(6, true));
        assert!(ledger.is_over());
        assert_eq!(
            (ledger.received(), ledger.missing(), ledger.misplaced()),
            (4, 2, 2)
        );
    }
}
