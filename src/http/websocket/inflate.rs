//! The decompressor that turns a whole deflated message into its payload: the receiving side of permessage-deflate
//! (RFC 7692).
//!
//! It promises that no bytes beyond the message limit are stored, whatever size the message inflates to. It refuses
//! text at the first bad byte. Every message is deflated on its own (no context takeover): a thread has one
//! decompressor for all its sessions, and a session has none.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};

use super::message::PartialMessage;
use crate::actors::close::Violation;
use crate::actors::frame::Kind;

/// The end that the sender has left out (RFC 7692, section 7.2.2), which ends a block without ending the data; and
/// an empty block that does end it. A message is whole if this ends it and adds nothing.
const TAIL: [u8; 9] = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

/// Bytes inflated at once. The limit is checked after each such piece, before the piece is stored.
const PIECE_BYTES: usize = 32 * 1024;

/// Inflates a message of at most `max_message_bytes`. Returned text is valid UTF-8.
pub(super) fn inflate(
    kind: Kind,
    deflated: &[u8],
    max_message_bytes: usize,
) -> Result<Vec<u8>, Violation> {
    INFLATER.with_borrow_mut(|inflater| inflater.inflate(kind, deflated, max_message_bytes))
}

thread_local! {
    static INFLATER: RefCell<Inflater> = RefCell::new(Inflater::new());
}

struct Inflater {
    decompressor: Decompress,
    piece: Box<[u8]>,
}

impl Inflater {
    fn new() -> Self {
        // Raw deflate, with the largest window: a client may use any window up to that.
        let decompressor = Decompress::new(false);
        let piece = vec![0; PIECE_BYTES].into_boxed_slice();
        Self {
            decompressor,
            piece,
        }
    }

    fn inflate(
        &mut self,
        kind: Kind,
        deflated: &[u8],
        max_message_bytes: usize,
    ) -> Result<Vec<u8>, Violation> {
        let mut message = PartialMessage::new(kind, false);
        let mut input = deflated;
        let mut is_tail = false;
        self.decompressor.reset(false);
        // Most implementations accept no bytes at all as an empty message, although the RFC does not say so.
        while !deflated.is_empty() {
            let (taken, made, status) = self.step(input)?;
            input = &input[taken..];
            if is_tail && made > 0 {
                // The decompressor has used the tail as data that the message lacked.
                return Err(Violation::BadDeflate);
            }
            if made > max_message_bytes - message.len() {
                return Err(Violation::MessageTooBig);
            }
            message.push(&self.piece[..made], 0, max_message_bytes)?;
            match status {
                // The last block of the message says that it is the last. All is there, or further
                // blocks follow (section 7.2.1).
                Status::StreamEnd if input.is_empty() => break,
                Status::StreamEnd if is_tail => return Err(Violation::BadDeflate),
                Status::StreamEnd => self.decompressor.reset(false),
                // The decompressor may have more output than the piece could hold.
                Status::Ok | Status::BufError if made == PIECE_BYTES => {}
                Status::Ok | Status::BufError if !input.is_empty() => {
                    return Err(Violation::BadDeflate);
                }
                Status::Ok | Status::BufError if is_tail => return Err(Violation::BadDeflate),
                Status::Ok | Status::BufError => {
                    input = &TAIL;
                    is_tail = true;
                }
            }
        }
        message.finish()
    }

    /// Inflates the next piece. Returns how much was read, and how much was written to `piece`.
    fn step(&mut self, input: &[u8]) -> Result<(usize, usize, Status), Violation> {
        let Self {
            decompressor,
            piece,
        } = self;
        let (read, written) = (decompressor.total_in(), decompressor.total_out());
        let status = decompressor
            .decompress(input, piece, FlushDecompress::None)
            .map_err(|_| Violation::BadDeflate)?;
        let taken = (decompressor.total_in() - read) as usize;
        let made = (decompressor.total_out() - written) as usize;
        Ok((taken, made, status))
    }
}
