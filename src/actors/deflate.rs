//! The compressor that makes the frame of a message smaller: the sending side of permessage-deflate (RFC 7692).
//!
//! Every message is deflated on its own (no context takeover). So one result serves every client that takes
//! deflated messages, and a session holds nothing for it. A thread that deflates has one compressor for each
//! [`Window`] that its clients use; other threads have none. A message that does not become smaller stays plain: a
//! client that takes deflated messages takes plain ones as well.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::frame::{self, Kind};

/// The encoding of the messages of a session.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Encoding {
    /// As they were published or sent.
    #[default]
    Plain,
    /// Deflated, if that makes them smaller. No reference goes further back than the window.
    Deflated(Window),
    /// As events of an event stream: see [`super::sse`].
    Events,
}

/// The distance that a deflated message may refer back: 2^9 to 2^15 bytes (RFC 7692, section 7.1.2.1). A client
/// with little memory requests a smaller one than the largest.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Window(u8);

impl Window {
    /// The window of all clients that request no other.
    pub const LARGEST: Self = Self(15);

    /// The windows that zlib supports: it has no raw window of 8 bits.
    pub const BITS: RangeInclusive<u8> = 9..=15;

    /// The window of 2^`bits` bytes. `None`: zlib does not support it.
    pub fn new(bits: u8) -> Option<Self> {
        Self::BITS.contains(&bits).then_some(Self(bits))
    }

    /// The number of its bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Does a message of this length fit into the window? Then it cannot refer further back, whichever window it
    /// was deflated with.
    fn holds(self, message_bytes: usize) -> bool {
        message_bytes <= 1 << self.0
    }
}

/// Payloads below this many bytes stay plain. Deflating takes 2 µs, and saves 27 % of 128 bytes of JSON, but only 7
/// % of 96 bytes.
pub const SMALLEST: usize = 128;

/// Payloads above this many bytes stay plain: the I/O thread deflates them, and serves no other client meanwhile.
/// JSON takes 2 ms for each MiB.
pub const LARGEST: usize = 4 << 20;

/// Level 1. On JSON, level 6 takes three to six times as long, and makes the result a third smaller.
const LEVEL: Compression = Compression::fast();

/// Bytes after which a payload must have begun to shrink. If it has not, as an image or an archive, it stays plain.
const PATIENCE: usize = 64 * 1024;

/// The end of the compressor's output after a flush, which is left out of the message (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

impl Encoding {
    /// Appends the frame of a whole message, whose payload is given in parts.
    pub fn append(self, kind: Kind, parts: [&[u8]; 2], out: &mut Vec<u8>) {
        let append_deflated = |payload: &[u8]| {
            out.extend_from_slice(&frame::message_header(kind, payload.len()).deflated());
            out.extend_from_slice(payload);
        };
        if let Self::Deflated(window) = self
            && with_deflated(window, parts, append_deflated).is_some()
        {
            return;
        }
        let len = parts[0].len() + parts[1].len();
        out.extend_from_slice(&frame::message_header(kind, len));
        out.extend_from_slice(parts[0]);
        out.extend_from_slice(parts[1]);
    }
}

/// Deflates the frame of a whole message, with the largest window. `None`: the frame is sent as it is.
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
    with_deflated(Window::LARGEST, [payload, &[]], |payload| {
        let header = frame::message_header(kind, payload.len()).deflated();
        Bytes::from([&header, payload].concat())
    })
}

/// May a client with this window get the result of [`deflated`] for the frame of a whole message?
pub fn is_for_window(frame: &[u8], window: Window) -> bool {
    window == Window::LARGEST
        || frame::message_of(frame).is_some_and(|(_, payload)| window.holds(payload.len()))
}

/// Deflates each of several frames, one behind the other. The result is never longer than the frames.
pub fn all_deflated(mut frames: &[u8], window: Window) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((kind, payload, rest)) = frame::first_message(frames) {
        Encoding::Deflated(window).append(kind, [payload, &[]], &mut out);
        frames = rest;
    }
    debug_assert!(frames.is_empty(), "only whole messages are sent");
    out.extend_from_slice(frames);
    out
}

thread_local! {
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// Passes the deflated payload to `take`, if it is smaller than the plain one.
fn with_deflated<R>(window: Window, parts: [&[u8]; 2], take: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let len = parts[0].len() + parts[1].len();
    if !(SMALLEST..=LARGEST).contains(&len) {
        return None;
    }
    DEFLATER.with_borrow_mut(|deflater| deflater.deflate(window, parts).map(take))
}

#[derive(Default)]
struct Deflater {
    /// One compressor for each window that clients have requested, by its bits. Between messages it is new, or has
    /// flushed all of its output. A reset in the middle of a block does not make a compressor of `zlib-rs` 0.6.8
    /// new: its next output lacks the beginning of the block.
    compressors: [Option<Compress>; Window::LARGEST.0 as usize + 1],
    /// The last result. The field retains the memory of up to [`PATIENCE`] bytes.
    out: Vec<u8>,
}

impl Deflater {
    /// The payload, deflated, if that makes it smaller.
    fn deflate(&mut self, window: Window, parts: [&[u8]; 2]) -> Option<&[u8]> {
        let len = parts[0].len() + parts[1].len();
        let place = &mut self.compressors[window.0 as usize];
        let compressor = place.get_or_insert_with(|| new_compressor(window));
        compressor.reset();
        self.out.clear();
        self.out.shrink_to(PATIENCE);
        // Enough for any data: codes that need no table take nine bits for some bytes.
        self.out.reserve(len + len / 8 + 64);
        if !take_in(compressor, parts, &mut self.out) {
            *place = None;
            return None;
        }
        let payload = self.out.strip_suffix(&TAIL)?;
        (payload.len() < len).then_some(payload)
    }
}

/// Deflates to the end. False when it stops early, because the payload does not shrink.
fn take_in(compressor: &mut Compress, parts: [&[u8]; 2], out: &mut Vec<u8>) -> bool {
    for piece in parts.iter().flat_map(|part| part.chunks(PATIENCE)) {
        if !step(compressor, piece, out, FlushCompress::None) {
            return false;
        }
        let read = compressor.total_in();
        if read >= PATIENCE as u64 && compressor.total_out() > read - read / 16 {
            return false;
        }
    }
    step(compressor, &[], out, FlushCompress::Sync)
}

/// False when there was no room for all of the output: while there is room, a flush holds nothing back.
fn step(compressor: &mut Compress, piece: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> bool {
    let before = compressor.total_in();
    let status = compressor.compress_vec(piece, out, flush);
    let taken = compressor.total_in() - before;
    matches!(status, Ok(Status::Ok)) && taken == piece.len() as u64 && out.len() < out.capacity()
}

fn new_compressor(window: Window) -> Compress {
    // Raw deflate: the message has neither header nor checksum.
    Compress::new_with_window_bits(LEVEL, false, window.0)
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(next).collect()
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        Encoding::Plain.append(Kind::Binary, [payload, &[]], &mut frame);
        frame
    }

    /// The payload that a client without any earlier message inflates from this frame, of 126 to 65,535 bytes.
    fn inflated(frame: &[u8]) -> Vec<u8> {
        let header_len = if frame[1] == 126 { 4 } else { 2 };
        let payload = [&frame[header_len..], &TAIL].concat();
        let mut out = Vec::with_capacity(1 << 16);
        let mut decompressor = Decompress::new(false);
        decompressor
            .decompress_vec(&payload, &mut out, FlushDecompress::Sync)
            .expect("it can be inflated");
        assert_eq!(decompressor.total_in(), payload.len() as u64);
        out
    }

    #[test]
    fn a_message_stands_for_itself_whatever_was_deflated_before_it() {
        let text = "grüß euch alle, ".repeat(20);
        let frame = framed(text.as_bytes());
        let check = |what: &str, len: usize| {
            let deflated = deflated(&frame).expect("it shrinks");
            assert_eq!(
                inflated(&deflated),
                text.as_bytes(),
                "behind {what} of {len}"
            );
        };
        let lines = text.repeat(10_000);
        for len in [
            128,
            1000,
            5000,
            PATIENCE - 1,
            PATIENCE,
            PATIENCE + 1,
            1 << 20,
        ] {
            assert_eq!(deflated(&framed(&noise(len))), None, "{len}");
            check("noise", len);
            let shrinks_later = framed(&[&noise(len), lines.as_bytes()].concat());
            let gives_up = len >= PATIENCE - 1;
            assert_eq!(deflated(&shrinks_later).is_none(), gives_up, "{len}");
            check("a beginning", len);
        }
    }

    #[test]
    fn what_is_too_small_or_too_large_stays_plain() {
        for (len, shrinks) in [
            (SMALLEST - 1, false),
            (SMALLEST, true),
            (LARGEST, true),
            (LARGEST + 1, false),
        ] {
            assert_eq!(deflated(&framed(&vec![7; len])).is_some(), shrinks, "{len}");
        }
        assert_eq!(deflated(b"\x82\x7Ewhat is no frame"), None);
    }

    #[test]
    fn the_parts_of_a_message_are_one_message() {
        let text = "grüß euch alle, ".repeat(20);
        let (front, back) = text.as_bytes().split_at(33);
        let mut joined = Vec::new();
        Encoding::Deflated(Window::LARGEST).append(Kind::Binary, [front, back], &mut joined);
        assert_eq!(Some(joined.into()), deflated(&framed(text.as_bytes())));
    }

    #[test]
    fn a_message_that_is_no_longer_than_a_window_fits_it_and_all_fit_the_largest() {
        for bits in Window::BITS {
            let window = Window::new(bits).expect("it can be kept");
            let len = 1 << bits;
            assert!(is_for_window(&framed(&vec![7; len]), window), "{bits} bits");
            let is_largest = window == Window::LARGEST;
            let longer = framed(&vec![7; len + 1]);
            assert_eq!(is_for_window(&longer, window), is_largest, "{bits} bits");
        }
        assert_eq!((Window::new(8), Window::new(16)), (None, None));
    }

    #[test]
    fn of_several_messages_each_is_deflated_where_that_helps() {
        let (small, large) = (framed(b"hi"), framed(&[7; 500]));
        let frames = [&small[..], &large, &small, &framed(&noise(200)), &large].concat();
        let smaller = deflated(&large).expect("it shrinks");
        let expected = [&small[..], &smaller, &small, &framed(&noise(200)), &smaller].concat();
        assert_eq!(all_deflated(&frames, Window::LARGEST), expected);
    }
}
