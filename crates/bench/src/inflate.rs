//! The inflater that decompresses the messages of the server: permessage-deflate (RFC 7692).

use flate2::{Decompress, FlushDecompress};

use super::error::{BenchError, Outcome};

/// The bytes that the sender removes from the end of each message (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// One inflater serves all connections, because no message depends on an earlier one.
pub(super) struct Inflater {
    decompressor: Decompress,
    message: Vec<u8>,
}

impl Inflater {
    /// An inflater for messages of at most `most_bytes`.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            decompressor: Decompress::new(false),
            message: Vec::with_capacity(most_bytes + 1),
        }
    }

    pub(super) fn inflate(&mut self, deflated: &[u8]) -> Outcome<&[u8]> {
        self.decompressor.reset(false);
        self.message.clear();
        for part in [deflated, &TAIL] {
            self.decompressor
                .decompress_vec(part, &mut self.message, FlushDecompress::Sync)
                .map_err(|error| {
                    BenchError::Server(format!("The server sent what does not inflate: {error}."))
                })?;
        }
        if self.decompressor.total_in() != (deflated.len() + TAIL.len()) as u64 {
            return Err(BenchError::Server(
                "The server sent a deflated message that is longer than any here.".to_owned(),
            ));
        }
        Ok(&self.message)
    }
}
