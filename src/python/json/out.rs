//! The output buffer: bytes, of which the first ones are in use.
//!
//! All bytes are initialised. So a writer takes a slice of fixed length, fills a part of it, and reports the length of
//! that part: capacity is checked once, and copies of fixed length are single instructions.

/// Capacity for most responses of a few fields.
const FIRST: usize = 128;

/// The value of unwritten bytes. Zeros would make the allocator clear memory, which takes longer.
const FILLER: u8 = b' ';

/// The capacity of a buffer that has outgrown that.
const SMALL: usize = 1024;

/// Bytes that are initialised at a time, beyond those that are wanted.
const AHEAD: usize = 2048;

pub(super) struct Out {
    bytes: Vec<u8>,
    /// Up to where they are in use. Not beyond their end.
    len: usize,
}

impl Out {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![FILLER; FIRST],
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }

    /// The next bytes, which have any value. `take` takes those that were written.
    #[inline]
    pub(super) fn space<const N: usize>(&mut self) -> &mut [u8; N] {
        if self.bytes.len() - self.len < N {
            self.grow(N);
        }
        self.bytes[self.len..]
            .first_chunk_mut()
            .expect("it has grown")
    }

    /// Marks this number of bytes of the last `space` as written.
    #[inline]
    pub(super) fn take(&mut self, len: usize) {
        self.len += len;
        debug_assert!(
            self.len <= self.bytes.len(),
            "more than there was space for"
        );
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        *self.space() = [byte];
        self.take(1);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.bytes.len() - self.len < bytes.len() {
            self.bytes.truncate(self.len);
            self.bytes.reserve(bytes.len() + FIRST); // something follows, if only a quote
            self.bytes.extend_from_slice(bytes);
        } else {
            self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    /// The bytes in use from `start` on.
    pub(super) fn since(&mut self, start: usize) -> &mut [u8] {
        &mut self.bytes[start..self.len]
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, more: usize) {
        let wanted = self.len + more;
        if wanted > self.bytes.capacity() {
            // To twice as much, and a small one to more at once.
            self.bytes.reserve(more.max(SMALL.saturating_sub(self.len)));
        }
        // Bytes that are never used need not be cleared.
        let end = self.bytes.capacity().min(wanted + AHEAD);
        self.bytes.resize(end, FILLER);
    }
}
