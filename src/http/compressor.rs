//! The compressors that encode bodies with zstd, brotli or gzip, behind one interface and one scale of levels.
//!
//! They work on plain bytes, and know no response and no connection.

use std::fmt;
use std::io::{self, Write as _};
use std::mem;

use brotli::CompressorWriter as BrotliEncoder;
use bytes::Bytes;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

/// A content coding (RFC 9110, section 8.4.1).
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// The compression level: 1 is the fastest, 9 gives the fewest bytes. The scale is that of zlib.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Level(u8);

/// The levels of the codings. The three of a row cost about the same time, except zstd up to level 4: it gives the
/// size of gzip for a third of the time or less.
struct Levels {
    gzip: u32,
    zstd: i32,
    brotli: u32,
}

const fn levels(gzip: u32, zstd: i32, brotli: u32) -> Levels {
    Levels { gzip, zstd, brotli }
}

const LEVELS: [Levels; Level::HIGHEST as usize] = [
    levels(1, 1, 0),
    levels(2, 2, 1),
    levels(3, 2, 1),
    levels(4, 3, 2),
    levels(5, 5, 3),
    levels(6, 6, 4),
    levels(7, 7, 5),
    levels(8, 8, 5),
    levels(9, 9, 6),
];

impl Level {
    /// The largest level.
    pub const HIGHEST: u8 = 9;

    /// None: the level does not exist.
    pub fn new(level: u8) -> Option<Self> {
        (1..=Self::HIGHEST).contains(&level).then_some(Self(level))
    }

    fn of_codings(self) -> &'static Levels {
        &LEVELS[usize::from(self.0) - 1]
    }
}

impl Default for Level {
    /// Higher levels cost half as much time again for each two percent of the size.
    fn default() -> Self {
        Self(4)
    }
}

/// The window of brotli, as a power of two: 256 KiB. The largest window takes four times the memory for one percent
/// of the size.
const BROTLI_WINDOW: u32 = 18;

/// Bytes that the brotli encoder writes at a time.
const BROTLI_BUFFER: usize = 8 << 10;

/// Compresses one body.
pub(super) enum Compressor {
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Brotli(Box<BrotliEncoder<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl fmt::Debug for Compressor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor for a body of exactly `len` bytes, if that is known: a small body takes less memory.
    pub(super) fn new(coding: Coding, level: Level, len: Option<usize>) -> io::Result<Self> {
        let levels = level.of_codings();
        let out = Vec::new();
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(out, levels.zstd)?;
                encoder.set_pledged_src_size(len.map(|len| len as u64))?;
                Self::Zstd(encoder)
            }
            Coding::Brotli => {
                let encoder = BrotliEncoder::new(out, BROTLI_BUFFER, levels.brotli, BROTLI_WINDOW);
                Self::Brotli(Box::new(encoder))
            }
            Coding::Gzip => {
                let level = flate2::Compression::new(levels.gzip);
                Self::Gzip(GzEncoder::new(out, level))
            }
        })
    }

    /// Compresses a part of the body.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Brotli(encoder) => encoder.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    /// Writes everything that was compressed so far to the output, so that a client can read it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }

    /// Takes the output so far.
    pub(super) fn take(&mut self) -> Bytes {
        let out = match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        };
        mem::take(out).into()
    }

    /// Finishes the body, and returns the rest of the output.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// The beginning of a compressed body, as a client decodes it.
    fn read_some(coding: Coding, bytes: &[u8], len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let read = match coding {
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .expect("a decoder")
                .read_exact(&mut out),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_exact(&mut out),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_exact(&mut out),
        };
        read.expect("all bytes that were written");
        out
    }

    /// Lines that resemble each other, as those of JSON do.
    fn text(lines: usize) -> Vec<u8> {
        let line = |number: usize| {
            let hash = number.wrapping_mul(0x9E37_79B9) % 1_000_003;
            format!(
                "{{\"id\": {number}, \"name\": \"item {hash}\", \"stock\": {}}}\n",
                hash % 97
            )
        };
        (0..lines).map(line).collect::<String>().into_bytes()
    }

    fn compressed(coding: Coding, level: u8, body: &[u8], len: Option<usize>) -> Bytes {
        let level = Level::new(level).expect("a level");
        let mut compressor = Compressor::new(coding, level, len).expect("a compressor");
        compressor.write(body).expect("a vector never fails");
        compressor.finish().expect("a vector never fails")
    }

    #[test]
    fn every_level_of_every_coding_gives_the_body_back() {
        let body = text(500);
        for coding in CODINGS {
            for level in 1..=Level::HIGHEST {
                for len in [None, Some(body.len())] {
                    let small = compressed(coding, level, &body, len);
                    assert!(small.len() < body.len() / 2, "{coding:?} {level}");
                    assert_eq!(read_some(coding, &small, body.len()), body);
                }
            }
        }
    }

    #[test]
    fn the_highest_level_gives_fewer_bytes_than_the_lowest() {
        let body = text(5_000);
        for coding in CODINGS {
            let [quick, small] = [1, 9].map(|level| compressed(coding, level, &body, None).len());
            assert!(quick > small, "{coding:?}: {quick} {small}");
        }
        let default = compressed(Coding::Gzip, Level::default().0, &body, None).len();
        let quick = compressed(Coding::Gzip, 1, &body, None).len();
        assert!(default < quick * 3 / 4, "{default} {quick}");
    }

    #[test]
    fn a_client_can_read_the_output_after_a_flush() {
        let body = text(100);
        for coding in CODINGS {
            let compressor = Compressor::new(coding, Level::default(), None);
            let mut compressor = compressor.expect("a compressor");
            let mut sent = Vec::new();
            for (number, line) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
                compressor.write(line).expect("a vector never fails");
                compressor.flush().expect("a vector never fails");
                sent.extend_from_slice(&compressor.take());
                let so_far: usize = text(number + 1).len();
                assert_eq!(read_some(coding, &sent, so_far), body[..so_far]);
            }
        }
    }

    #[test]
    fn there_are_nine_levels() {
        assert_eq!(Level::new(0), None);
        assert_eq!(Level::new(10), None);
        assert!(Level::new(1).is_some() && Level::new(9).is_some());
    }
}
