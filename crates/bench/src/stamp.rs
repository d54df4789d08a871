//! The stamp that identifies a message: its run, its number, and the time at which it was sent.
//!
//! Each byte carries six bits, as a character that a JSON string contains unescaped: servers with
//! their own protocol expect their messages inside such a string.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The size of a stamp in a message, in bytes.
pub(super) const STAMP_BYTES: usize = RUN + NUMBER + TIME;

const RUN: usize = 5;
const NUMBER: usize = 7;
const TIME: usize = 10;

const BITS: u32 = 6;

/// The character of 0. The others follow; another character takes the place of the backslash.
const ZERO: u8 = b'0';
const INSTEAD_OF_BACKSLASH: u8 = b'p';

/// A message's stamp.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Stamp {
    /// The run of the client: leftovers of another run do not count. 28 bits.
    pub(super) run: u32,
    /// The number of the message. 42 bits.
    pub(super) number: u64,
    /// The time at which it was sent, or due, by the client's clock. 60 bits.
    pub(super) time_ns: u64,
}

impl Stamp {
    /// A run that is probably different from all others in this process and in those beside it.
    pub(super) fn new_run() -> u32 {
        RandomState::new().build_hasher().finish() as u32 >> 4
    }

    pub(super) fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        let (run, rest) = bytes.split_at_mut(RUN);
        let (number, time) = rest.split_at_mut(NUMBER);
        put(run, self.run as u64);
        put(number, self.number);
        put(time, self.time_ns);
        bytes
    }

    /// Reads the stamp at a message's beginning; `None` if there is none.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let bytes = message.get(..STAMP_BYTES)?;
        let (run, rest) = bytes.split_at(RUN);
        let (number, time) = rest.split_at(NUMBER);
        let (run, number, time_ns) = (get(run)?, get(number)?, get(time)?);
        Some(Self {
            run: run as u32,
            number,
            time_ns,
        })
    }
}

fn put(bytes: &mut [u8], mut value: u64) {
    for byte in bytes {
        *byte = match ZERO + (value as u8 & 0x3F) {
            b'\\' => INSTEAD_OF_BACKSLASH,
            byte => byte,
        };
        value >>= BITS;
    }
    debug_assert_eq!(value, 0);
}

fn get(bytes: &[u8]) -> Option<u64> {
    bytes.iter().rev().try_fold(0, |value, &byte| {
        let digit = match byte {
            b'\\' => return None,
            INSTEAD_OF_BACKSLASH => b'\\' - ZERO,
            byte => byte.checked_sub(ZERO)?,
        };
        (digit < 1 << BITS).then_some(value << BITS | digit as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_stands_for_itself_in_json() {
        for value in (0..64)
            .map(|digit| digit << 12 | digit)
            .chain([(1 << 28) - 1])
        {
            let stamp = Stamp {
                run: value,
                number: (1 << 42) - 1 - value as u64,
                time_ns: (value as u64) << 32,
            };
            let bytes = stamp.encode();
            let text = str::from_utf8(&bytes).expect("a stamp is ASCII");
            assert!(!text.contains(['"', '\\']) && text.chars().all(|c| c.is_ascii_graphic()));
            assert_eq!(Stamp::decode(&bytes), Some(stamp));
        }
    }

    #[test]
    fn other_text_is_no_stamp() {
        let bytes = Stamp {
            run: 1,
            number: 2,
            time_ns: 3,
        }
        .encode();
        for other in [b' ', b'"', b'\\', b'q', 0x80] {
            let mut bytes = bytes;
            bytes[4] = other;
            assert_eq!(Stamp::decode(&bytes), None, "{other}");
        }
        assert_eq!(Stamp::decode(&bytes[..STAMP_BYTES - 1]), None);
    }
}
