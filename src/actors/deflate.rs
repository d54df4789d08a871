//! permessage-deflate (RFC 7692), the sending side: a message's frame made smaller.
//!
//! Every message is deflated for itself (no context takeover), so that one result is good for every
//! client that takes deflated messages, and a session holds nothing for it. A thread that deflates
//! has one compressor; a thread that does not has none. What does not become smaller stays plain:
//! a client that takes deflated messages takes plain ones as well.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::frame::{self, Kind};

/// How the messages of a session travel.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Encoding {
    /// As they were published or sent.
    #[default]
    Plain,
    /// Deflated, where that makes them smaller.
    Deflated,
}

/// Payloads below this many bytes stay plain: of 128 bytes of JSON deflating saves 27 %, of 96 bytes
/// 7 %, for 2 µs of work.
pub const SMALLEST: usize = 128;

/// Payloads above this many bytes stay plain: deflating happens on the I/O thread, and nobody
/// else is served meanwhile. JSON takes 2 ms for each MiB.
pub const LARGEST: usize = 4 << 20;

/// Level 1. On JSON, level 6 takes three to five times as long and saves a third of what is left.
const LEVEL: Compression = Compression::fast();

/// Bytes after which a payload must have begun to shrink. An image or an archive is given up here.
const PATIENCE: usize = 64 * 1024;

/// What ends the compressor's output when it is flushed, and is left out of the message (RFC 7692,
/// section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

impl Encoding {
    /// Appends the frame of a whole message, whose payload is given in parts.
    pub fn append(self, kind: Kind, parts: [&[u8]; 2], out: &mut Vec<u8>) {
        let append_deflated = |payload: &[u8]| {
            out.extend_from_slice(&frame::message_header(kind, payload.len()).deflated());
            out.extend_from_slice(payload);
        };
        if self == Self::Deflated && with_deflated(parts, append_deflated).is_some() {
            return;
        }
        let len = parts[0].len() + parts[1].len();
        out.extend_from_slice(&frame::message_header(kind, len));
        out.extend_from_slice(parts[0]);
        out.extend_from_slice(parts[1]);
    }
}

/// Deflates a whole message's frame. `None`: it is sent as it is.
///
/// ```
/// use fanbus::actors::deflate::deflated;
///
/// let frame = [&b"\x81\x7E\x01\x00"[..], &[b'x'; 256]].concat();
/// let smaller = deflated(&frame).expect("this shrinks");
/// assert_eq!(smaller[0], 0xC1); // FIN, RSV1, text
/// assert!(smaller.len() < 20);
/// assert_eq!(deflated(b"\x81\x02hi"), None);
/// ```
pub fn deflated(frame: &[u8]) -> Option<Bytes> {
    let (kind, payload) = frame::message_of(frame)?;
    with_deflated([payload, &[]], |payload| {
        let header = frame::message_header(kind, payload.len()).deflated();
        Bytes::from([&header, payload].concat())
    })
}

/// Deflates each of several frames, one behind the other. Never longer than they were.
pub fn all_deflated(mut frames: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((kind, payload, rest)) = frame::first_message(frames) {
        Encoding::Deflated.append(kind, [payload, &[]], &mut out);
        frames = rest;
    }
    debug_assert!(frames.is_empty(), "only whole messages are sent");
    out.extend_from_slice(frames);
    out
}

thread_local! {
    static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::new());
}

/// Hands the deflated payload to `take`, unless it would not be smaller.
fn with_deflated<R>(parts: [&[u8]; 2], take: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let len = parts[0].len() + parts[1].len();
    if !(SMALLEST..=LARGEST).contains(&len) {
        return None;
    }
    DEFLATER.with_borrow_mut(|deflater| deflater.deflate(parts).map(take))
}

struct Deflater {
    compressor: Compress,
    /// The last result. Kept for its memory, up to [`PATIENCE`] bytes of it.
    out: Vec<u8>,
}

impl Deflater {
    fn new() -> Self {
        // Raw deflate: the message has neither header nor checksum.
        let compressor = Compress::new(LEVEL, false);
        Self {
            compressor,
            out: Vec::new(),
        }
    }

    fn deflate(&mut self, parts: [&[u8]; 2]) -> Option<&[u8]> {
        let len = parts[0].len() + parts[1].len();
        self.compressor.reset();
        self.out.clear();
        self.out.shrink_to(PATIENCE);
        // The compressor writes to what is reserved here and no further. One byte more than is
        // good enough: as long as there is room, it has kept nothing back.
        self.out.reserve(len + TAIL.len() + 1);
        for piece in parts.iter().flat_map(|part| part.chunks(PATIENCE)) {
            if !self.take_in(piece, FlushCompress::None) {
                return None;
            }
            let read = self.compressor.total_in();
            if read >= PATIENCE as u64 && self.compressor.total_out() > read - read / 16 {
                return None;
            }
        }
        if !self.take_in(&[], FlushCompress::Sync) {
            return None;
        }
        let payload = self.out.strip_suffix(&TAIL)?;
        (payload.len() < len).then_some(payload)
    }

    /// False when there is no room for the result.
    fn take_in(&mut self, piece: &[u8], flush: FlushCompress) -> bool {
        let before = self.compressor.total_in();
        let status = self.compressor.compress_vec(piece, &mut self.out, flush);
        let taken = self.compressor.total_in() - before;
        matches!(status, Ok(Status::Ok))
            && taken == piece.len() as u64
            && self.out.len() < self.out.capacity()
    }
}
