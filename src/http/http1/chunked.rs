//! The decoder of chunked bodies (RFC 9112, section 7.1).
//!
//! Chunk extensions and trailers are skipped, and bounded: a client could send them without end. Lines must end
//! with CR LF, because lenient servers disagree with their proxies about the end of a body.

use bytes::{BufMut, BytesMut};

use crate::http::limits::{MAX_CHUNK_EXTENSION_BYTES, MAX_TRAILER_BYTES};

/// Hexadecimal digits of a chunk's size: 15 digits cannot overflow.
const MAX_SIZE_DIGITS: u8 = 15;

/// A decoder of one body.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    /// The trailers so far. Empty most of the time.
    trailers: Vec<u8>,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    /// In the digits of a chunk's size.
    Size {
        size: u64,
        digits: u8,
    },
    /// After the digits.
    Extension {
        size: u64,
    },
    /// After the CR of that line.
    SizeEnd {
        size: u64,
    },
    /// In the data of a chunk, with this many bytes to come.
    Data {
        left: u64,
    },
    /// After a chunk's data.
    DataCr,
    DataLf,
    /// In the trailers, which may be empty.
    Trailers,
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

/// The body is malformed, or its extensions or trailers are too large.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Malformed;

impl Decoder {
    /// Decodes the input until `out` has `capacity` more bytes, or the body ends. Returns the number of bytes of
    /// `input` that were used.
    pub fn decode(
        &mut self,
        input: &[u8],
        out: &mut BytesMut,
        mut capacity: usize,
    ) -> Result<usize, Malformed> {
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            if let State::Data { left } = self.state {
                if capacity == 0 {
                    break;
                }
                let data = &input[used..];
                let len = data
                    .len()
                    .min(capacity)
                    .min(usize::try_from(left).unwrap_or(usize::MAX));
                out.put_slice(&data[..len]);
                (used, capacity) = (used + len, capacity - len);
                let left = left - len as u64;
                self.state = match left {
                    0 => State::DataCr,
                    _ => State::Data { left },
                };
                continue;
            }
            if self.state == State::Done {
                break;
            }
            self.step(byte)?;
            used += 1;
        }
        Ok(used)
    }

    /// Whether the whole body is decoded.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Malformed);
                }
                let digit = char::from(byte).to_digit(16).expect("a digit");
                let (size, digits) = (size * 16 + u64::from(digit), digits + 1);
                State::Size { size, digits }
            }
            (State::Size { digits: 0, .. }, _) => return Err(Malformed),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => {
                State::SizeEnd { size }
            }
            // Whitespace before an extension is allowed, although discouraged (RFC 9112, section 7.1.1).
            (State::Size { size, .. }, b';' | b' ' | b'\t') => {
                self.count_extension()?;
                State::Extension { size }
            }
            (State::Extension { .. }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extension()?;
                self.state
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailers,
            (State::SizeEnd { size: left }, b'\n') => State::Data { left },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::default(),
            (State::Trailers, _) => self.trailer(byte)?,
            _ => return Err(Malformed),
        };
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), Malformed> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_CHUNK_EXTENSION_BYTES {
            return Err(Malformed);
        }
        Ok(())
    }

    /// Adds a byte of the trailers, including the empty line after them.
    fn trailer(&mut self, byte: u8) -> Result<State, Malformed> {
        let is_line_end = self.trailers.last() == Some(&b'\r');
        if (byte == b'\n') != is_line_end || self.trailers.len() == MAX_TRAILER_BYTES {
            return Err(Malformed);
        }
        self.trailers.push(byte);
        if self.trailers == b"\r\n" {
            self.trailers = Vec::new();
            return Ok(State::Done);
        }
        if !self.trailers.ends_with(b"\r\n\r\n") {
            return Ok(State::Trailers);
        }
        let trailers = std::mem::take(&mut self.trailers);
        let mut table = [httparse::EMPTY_HEADER; 32];
        match httparse::parse_headers(&trailers, &mut table) {
            Ok(httparse::Status::Complete(_)) => Ok(State::Done),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole body, and the rest of the input. None: it is malformed.
    fn decoded(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        let (mut decoder, mut out) = (Decoder::default(), BytesMut::new());
        let used = decoder.decode(input, &mut out, usize::MAX).ok()?;
        decoder.is_done().then(|| (out.to_vec(), &input[used..]))
    }

    #[test]
    fn chunks_are_decoded_however_they_are_cut() {
        let input =
            b"3\r\nabc\r\n0A;x=\"y\" ;z\r\n0123456789\r\n1 \r\n!\r\n0\r\nX: y\r\nZ: \r\n\r\nGET";
        let expected = b"abc0123456789!";
        assert_eq!(decoded(input), Some((expected.to_vec(), &b"GET"[..])));
        for cut in 0..input.len() {
            for capacity in [1, 3, 1000] {
                let (mut decoder, mut out) = (Decoder::default(), BytesMut::new());
                let mut rest = Vec::new();
                for part in [&input[..cut], &input[cut..]] {
                    rest.extend_from_slice(part);
                    while !decoder.is_done() {
                        let used = decoder
                            .decode(&rest, &mut out, capacity)
                            .expect("well-formed");
                        rest.drain(..used);
                        if used == 0 {
                            break;
                        }
                    }
                }
                assert_eq!(&out[..], expected, "cut at {cut}");
                assert_eq!(rest, b"GET", "cut at {cut}");
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for input in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\na\r\n",
            b"+1\r\na\r\n",
            b"0x1\r\na\r\n",
            b" 1\r\na\r\n",
            b"1\na\r\n0\r\n\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"1;a\nb\r\nc\r\n",
            b"1;\x01\r\na\r\n",
            b"1;a\rb\r\n",
            b"1000000000000000\r\n",
            b"0\r\n\n",
            b"0\r\nX\r\n\r\n",
            b"0\r\nX: y\n\r\n",
            b"0\r\n X: y\r\n\r\n",
            b"0\r\n: y\r\n\r\n",
        ] {
            let text = String::from_utf8_lossy(input);
            let mut out = BytesMut::new();
            let result = Decoder::default().decode(input, &mut out, usize::MAX);
            assert_eq!(result, Err(Malformed), "{text:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let of = |part: &[u8], times: usize, first: &[u8]| {
            let (mut decoder, mut out) = (Decoder::default(), BytesMut::new());
            decoder
                .decode(first, &mut out, usize::MAX)
                .expect("a start");
            (0..times).try_for_each(|_| decoder.decode(part, &mut out, usize::MAX).map(drop))
        };
        assert!(of(b"x", MAX_CHUNK_EXTENSION_BYTES - 1, b"1;").is_ok());
        assert!(of(b"x", MAX_CHUNK_EXTENSION_BYTES, b"1;").is_err());
        assert!(of(b"1;a\r\nb\r\n", MAX_CHUNK_EXTENSION_BYTES / 2, b"").is_ok());
        assert!(of(b"1;a\r\nb\r\n", MAX_CHUNK_EXTENSION_BYTES, b"").is_err());
        assert!(of(b"X: y\r\n", MAX_TRAILER_BYTES / 6, b"0\r\n").is_ok());
        assert!(of(b"X: y\r\n", MAX_TRAILER_BYTES, b"0\r\n").is_err());
    }
}
