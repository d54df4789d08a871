//! permessage-deflate (RFC 7692) as a client does it, with a compressor of its own for each message.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::client;

/// The bit that says that a message is deflated.
pub const RSV1: u8 = 0x40;

/// What the server answers to an offer without parameters.
pub const AGREED: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What is left out at the end of a message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The request for a WebSocket, with an offer.
pub fn handshake(path: &str) -> String {
    let plain = client::handshake(path);
    let head = plain.strip_suffix("\r\n").expect("an empty line ends it");
    format!("{head}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n")
}

/// A payload, deflated.
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::best(), false);
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
    compressor
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .expect("any data can be deflated");
    out.truncate(out.len() - TAIL.len());
    out
}

/// A whole deflated message as clients send it: masked.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    client::frame(true, RSV1 | opcode, &deflate(payload))
}

/// A payload that stands for itself, inflated.
pub fn inflate(deflated: &[u8]) -> Vec<u8> {
    let mut decompressor = Decompress::new(false);
    let mut out = Vec::new();
    for input in [deflated, &TAIL] {
        let end = decompressor.total_in() + input.len() as u64;
        let mut rest = input;
        while !rest.is_empty() {
            out.reserve(64 * 1024);
            decompressor
                .decompress_vec(rest, &mut out, FlushDecompress::Sync)
                .expect("the server sends what can be inflated");
            rest = &input[input.len() - (end - decompressor.total_in()) as usize..];
        }
    }
    out
}
