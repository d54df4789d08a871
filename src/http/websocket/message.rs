//! The message that is joined from pieces: fragments, or parts of a frame that the input cut.

use crate::actors::close::Violation;
use crate::actors::frame::{Kind, LARGE_BYTES};

/// The most frames that one message may be cut into; empty ones count.
///
/// Each frame costs the peer at least six bytes, but empty ones never reach the size limit: without this bound a
/// message may go on forever. Real clients send a handful of fragments; a message of the Autobahn suite comes in
/// 65,537, the last of which is empty.
pub const MAX_FRAGMENTS: u32 = 1 << 17;

/// A message of which a part has come.
#[derive(Debug)]
pub(super) struct PartialMessage {
    kind: Kind,
    /// The bytes so far are deflated: they are not text yet, whatever `kind` says.
    is_deflated: bool,
    /// The bytes so far. Neither their number nor the capacity exceeds the message limit.
    bytes: Vec<u8>,
    /// The number of `bytes` that are known to be whole characters, if it is text. At most three bytes follow them:
    /// the beginning of a character.
    valid: usize,
    /// The number of its frames that have come whole.
    fragments: u32,
}

impl PartialMessage {
    pub(super) fn new(kind: Kind, is_deflated: bool) -> Self {
        Self {
            kind,
            is_deflated,
            bytes: Vec::new(),
            valid: 0,
            fragments: 0,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn is_deflated(&self) -> bool {
        self.is_deflated
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory that it holds.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn fragments(&self) -> u32 {
        self.fragments
    }

    /// One of its frames has come whole.
    pub(super) fn count_fragment(&mut self) {
        debug_assert!(self.fragments < MAX_FRAGMENTS);
        self.fragments += 1;
    }

    /// Appends unmasked payload. It fits the limit, because the header was checked against it. `announced` bytes of
    /// its frame have not come yet.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        announced: usize,
        max_message_bytes: usize,
    ) -> Result<(), Violation> {
        let len = self.bytes.len() + piece.len();
        debug_assert!(len <= max_message_bytes);
        if len > self.bytes.capacity() {
            // Grows by the bytes that have come, not by the announced ones. The capacity doubles, as in `Vec`. A
            // large payload whose frame is incomplete grows to four times its size, so that it is moved only twice
            // on its way to a mebibyte.
            let ahead = if len >= LARGE_BYTES {
                (len + announced).min(4 * len)
            } else {
                len
            };
            let capacity = ahead.max(2 * self.bytes.capacity()).min(max_message_bytes);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);

        if self.is_text() {
            match simdutf8::compat::from_utf8(&self.bytes[self.valid..]) {
                Ok(_) => self.valid = len,
                Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
                Err(_) => return Err(Violation::BadUtf8),
            }
        }
        Ok(())
    }

    /// The whole message, as it came, if it does not end in the middle of a character.
    pub(super) fn finish(self) -> Result<Vec<u8>, Violation> {
        if self.is_text() && self.valid < self.bytes.len() {
            return Err(Violation::BadUtf8);
        }
        Ok(self.bytes)
    }

    /// Must its bytes be UTF-8?
    fn is_text(&self) -> bool {
        self.kind == Kind::Text && !self.is_deflated
    }
}
