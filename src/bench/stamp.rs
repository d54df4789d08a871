//! What a message carries to be recognised by: its run, its number, and when it was sent.
//!
//! Seven bits to a byte, so that it is valid text.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The size of a stamp in a message.
pub(super) const STAMP_BYTES: usize = RUN + NUMBER + TIME;

const RUN: usize = 4;
const NUMBER: usize = 6;
const TIME: usize = 9;

/// A message's stamp.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Stamp {
    /// Of this run of the client: leftovers of another do not count. 28 bits.
    pub(super) run: u32,
    /// 42 bits.
    pub(super) number: u64,
    /// When it was sent, or due, by the client's clock.
    pub(super) time_ns: u64,
}

impl Stamp {
    /// A run that no other in this process or beside it is likely to have.
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
        *byte = value as u8 & 0x7F;
        value >>= 7;
    }
    debug_assert_eq!(value, 0);
}

fn get(bytes: &[u8]) -> Option<u64> {
    let is_stamp = bytes.iter().all(u8::is_ascii);
    is_stamp.then(|| {
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 7 | *byte as u64)
    })
}
