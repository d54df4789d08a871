//! The check of chunked bodies: the body is the same for every way of cutting it, and for every size of the output.

use bytes::BytesMut;
use fanbus::http::http1::chunked::{ChunkedDecoder, Malformed};
use fanbus::http::limits::{MAX_CHUNK_EXTENSION_BYTES, MAX_TRAILER_BYTES};

#[derive(Debug, Eq, PartialEq)]
struct Decoded {
    body: Vec<u8>,
    used: usize,
    is_done: bool,
    is_malformed: bool,
}

/// Decodes chunks of the input of one size, with an output buffer of one size.
fn decode(bytes: &[u8], piece: usize, capacity: usize) -> Decoded {
    let (mut decoder, mut body, mut used) = (ChunkedDecoder::default(), Vec::new(), 0);
    let mut is_malformed = false;
    'pieces: for piece in bytes.chunks(piece) {
        let mut rest = piece;
        while !rest.is_empty() && !decoder.is_done() {
            let mut out = BytesMut::new();
            match decoder.decode(rest, &mut out, capacity) {
                Ok(count) => {
                    assert!(count > 0 && out.len() <= capacity.min(count));
                    rest = &rest[count..];
                    used += count;
                }
                Err(Malformed) => is_malformed = true,
            }
            body.extend_from_slice(&out);
            if is_malformed {
                break 'pieces;
            }
        }
    }
    // The number of bytes before the decoder noticed an error does not matter.
    Decoded {
        body,
        used: if is_malformed { 0 } else { used },
        is_done: decoder.is_done(),
        is_malformed,
    }
}

/// Decodes a body in several ways.
pub(crate) fn play(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1), usize::MAX);
    for (piece, capacity) in [(1, usize::MAX), (2, 1), (3, 7), (bytes.len().max(1), 1)] {
        assert_eq!(decode(bytes, piece, capacity), whole);
    }
    if whole.is_malformed {
        return;
    }
    let overhead = whole.used - whole.body.len();
    // A size of 15 digits and two line ends for each chunk.
    let most = whole.body.len() * 19 + MAX_CHUNK_EXTENSION_BYTES + MAX_TRAILER_BYTES + 64;
    assert!(overhead <= most, "{overhead} bytes beside the body");
}
