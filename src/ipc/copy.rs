//! The copy of bytes into words and out of them, while another process may be doing the same.
//!
//! A racing copy with plain loads is undefined behaviour, so small copies go word by word through relaxed atomics.
//! From [`OPAQUE_BYTES`] on the processor's own string copy is 1.5 times as fast (64 KiB: 7.6 us instead of 12;
//! `docs/bus.md`), and the compiler sees neither its loads nor its stores. That instruction is the only reason for
//! `unsafe` here. Other processors, Miri and loom copy everything by words.

use super::layout::WORD_BYTES;
use super::sync::{AtomicU64, Ordering};

/// From this many bytes on a copy is one opaque instruction.
const OPAQUE_BYTES: usize = 4096;

/// The writer of byte strings into words, one string behind the other.
///
/// The bytes behind the last string, up to the word's end, become zero.
#[derive(Debug)]
pub(super) struct Packer<'a> {
    words: &'a [AtomicU64],
    /// Index of the word that is being filled.
    at: usize,
    /// Its bytes so far. Those that are not filled yet are zero.
    pending: u64,
    /// The number of bits of it that are filled: a multiple of 8 below 64.
    filled: u32,
}

impl<'a> Packer<'a> {
    pub(super) fn new(words: &'a [AtomicU64]) -> Packer<'a> {
        Packer {
            words,
            at: 0,
            pending: 0,
            filled: 0,
        }
    }

    /// Appends `bytes`. Panics if they do not fit: the caller has sized the words.
    #[inline(always)]
    #[allow(clippy::inline_always)] // measured: 2 of 28 ns of a publish
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if bytes.len() >= OPAQUE_BYTES {
            return self.write_opaque(bytes);
        }
        let Some(first) = bytes.first_chunk() else {
            return self.write_few(bytes);
        };
        let mut rest = bytes;
        if self.filled > 0 {
            // The shift leaves out what does not fit in the word any more.
            self.pending |= u64::from_le_bytes(*first) << self.filled;
            self.store_pending();
            rest = &bytes[WORD_BYTES - (self.filled / 8) as usize..];
        }
        // From here on destinations are aligned, and sources need not be.
        let (chunks, few) = rest.as_chunks();
        let words = &self.words[self.at..self.at + chunks.len()];
        for (word, chunk) in words.iter().zip(chunks) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        self.at += chunks.len();
        self.filled = 8 * few.len() as u32;
        self.pending = few_bytes(few);
    }

    /// Appends fewer bytes than a word has.
    #[inline]
    fn write_few(&mut self, bytes: &[u8]) {
        let next = few_bytes(bytes);
        self.pending |= next << self.filled;
        let filled = self.filled + 8 * bytes.len() as u32;
        if filled < u64::BITS {
            self.filled = filled;
            return;
        }
        self.store_pending();
        // `self.filled` is not 0 here: fewer than eight bytes would not have filled the word.
        self.pending = next >> (u64::BITS - self.filled);
        self.filled = filled - u64::BITS;
    }

    #[inline]
    fn store_pending(&mut self) {
        self.words[self.at].store(self.pending, Ordering::Relaxed);
        self.at += 1;
    }

    #[cold]
    fn write_opaque(&mut self, bytes: &[u8]) {
        let start = self.at * WORD_BYTES + (self.filled / 8) as usize;
        let end = start + bytes.len();
        self.flush();
        opaque::write(self.words, start, bytes);
        self.at = end / WORD_BYTES;
        self.filled = 8 * (end % WORD_BYTES) as u32;
        self.pending = match self.filled {
            0 => 0,
            // Behind its last byte the copy left the old content of the word.
            filled => self.words[self.at].load(Ordering::Relaxed) & ((1 << filled) - 1),
        };
    }

    /// Stores the word that is being filled.
    #[inline]
    fn flush(&self) {
        if self.filled > 0 {
            self.words[self.at].store(self.pending, Ordering::Relaxed);
        }
    }

    /// Stores the rest.
    #[inline]
    pub(super) fn finish(self) {
        self.flush();
    }
}

/// Fewer than eight bytes, as the low bytes of a word. Reads some of them twice, to avoid branches.
#[inline]
fn few_bytes(bytes: &[u8]) -> u64 {
    debug_assert!(bytes.len() < WORD_BYTES);
    let at = |index: usize| u64::from(bytes[index]) << (8 * index);
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let first = u64::from(u32::from_le_bytes(*first));
            first | u64::from(u32::from_le_bytes(*last)) << (8 * (bytes.len() - 4))
        }
        _ if bytes.is_empty() => 0,
        _ => at(0) | at(bytes.len() / 2) | at(bytes.len() - 1),
    }
}

/// Appends the first `count` bytes of `words` to `bytes`. Panics if there are fewer.
#[inline]
pub(super) fn append(words: &[AtomicU64], count: usize, bytes: &mut Vec<u8>) {
    if count >= OPAQUE_BYTES {
        return opaque::append(words, count, bytes);
    }
    let start = bytes.len();
    let words = &words[..count.div_ceil(WORD_BYTES)];
    bytes.resize(start + words.len() * WORD_BYTES, 0);
    for (chunk, word) in bytes[start..].chunks_exact_mut(WORD_BYTES).zip(words) {
        chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    bytes.truncate(start + count);
}

#[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
#[allow(unsafe_code)] // The one instruction that this file is about.
mod opaque {
    use std::arch::asm;

    use super::{AtomicU64, WORD_BYTES};

    /// Copies `bytes` into `words`, from byte `start` on.
    pub(super) fn write(words: &[AtomicU64], start: usize, bytes: &[u8]) {
        assert!(
            start + bytes.len() <= words.len() * WORD_BYTES,
            "the words were sized for this"
        );
        // SAFETY: the destination lies within `words`, whose atomics permit writes through `&`; the
        // source is a slice. The compiler sees no access that could race.
        unsafe {
            asm!(
                "rep movsb",
                inout("rcx") bytes.len() => _,
                inout("rsi") bytes.as_ptr() => _,
                inout("rdi") words.as_ptr().cast::<u8>().cast_mut().add(start) => _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Appends the first `count` bytes of `words` to `bytes`.
    pub(super) fn append(words: &[AtomicU64], count: usize, bytes: &mut Vec<u8>) {
        assert!(
            count <= words.len() * WORD_BYTES,
            "the words were sized for this"
        );
        bytes.reserve(count);
        let end = bytes.len() + count;
        let free = bytes.spare_capacity_mut();
        // SAFETY: the source lies within `words`, the destination within the reserved capacity, all
        // of which is initialized up to `end` afterwards. `lfence` keeps the loads of the string copy
        // before the loads that validate it.
        unsafe {
            asm!(
                "rep movsb",
                "lfence",
                inout("rcx") count => _,
                inout("rsi") words.as_ptr().cast::<u8>() => _,
                inout("rdi") free.as_mut_ptr().cast::<u8>() => _,
                options(nostack, preserves_flags),
            );
            bytes.set_len(end);
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
mod opaque {
    use super::{AtomicU64, OPAQUE_BYTES, Ordering, Packer, WORD_BYTES};

    pub(super) fn write(words: &[AtomicU64], start: usize, bytes: &[u8]) {
        let (at, filled) = (start / WORD_BYTES, 8 * (start % WORD_BYTES) as u32);
        let pending = match filled {
            0 => 0,
            filled => words[at].load(Ordering::Relaxed) & ((1 << filled) - 1),
        };
        let mut packer = Packer {
            words,
            at,
            pending,
            filled,
        };
        for piece in bytes.chunks(OPAQUE_BYTES - WORD_BYTES) {
            packer.write(piece);
        }
        packer.finish();
    }

    pub(super) fn append(words: &[AtomicU64], count: usize, bytes: &mut Vec<u8>) {
        let mut left = count;
        for piece in words[..count.div_ceil(WORD_BYTES)].chunks(OPAQUE_BYTES / WORD_BYTES / 2) {
            let take = left.min(piece.len() * WORD_BYTES);
            super::append(piece, take, bytes);
            left -= take;
        }
        assert_eq!(left, 0, "the words were sized for this");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(count: usize) -> Vec<AtomicU64> {
        std::iter::repeat_with(|| AtomicU64::new(u64::MAX))
            .take(count)
            .collect()
    }

    fn round_trip(parts: &[Vec<u8>]) {
        let all = parts.concat();
        let memory = words(all.len().div_ceil(WORD_BYTES) + 1);
        let mut packer = Packer::new(&memory);
        for part in parts {
            packer.write(part);
        }
        packer.finish();

        let mut out = b"before".to_vec();
        append(&memory, all.len(), &mut out);
        assert_eq!(&out[..6], b"before");
        assert_eq!(out[6..], all);
        let last = memory
            .last()
            .expect("one more word than needed")
            .load(Ordering::Relaxed);
        assert_eq!(last, u64::MAX, "the word behind the bytes was touched");
    }

    proptest! {
        #[test]
        fn packed_parts_come_out_whole(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)
        ) {
            round_trip(&parts);
        }

        #[test]
        fn large_parts_come_out_whole_at_any_alignment(
            before in 0_usize..20, large in 4000_usize..9000, after in 0_usize..20
        ) {
            let bytes = |count: usize, seed: usize| (0..count).map(|i| (i * 7 + seed) as u8).collect();
            round_trip(&[bytes(before, 1), bytes(large, 2), bytes(after, 3)]);
        }
    }

    #[test]
    #[should_panic(expected = "range end index")]
    fn a_caller_with_more_bytes_than_words_panics() {
        Packer::new(&words(1)).write(&[0; 16]);
    }
}
