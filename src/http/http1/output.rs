//! The bytes of a connection that wait for the kernel.
//!
//! Small things gather in one buffer, so that the answers to pipelined requests leave together. A large
//! block is never copied: it is written from where it is, with what is before and behind it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// From so many bytes on a block is not copied.
const LARGE: usize = 8 << 10;

/// With so much waiting in small things, a connection writes before it takes another request.
const FULL: usize = 32 << 10;

/// The same with large blocks: pieces of a stream that came together leave in one write.
const FULL_OF_BLOCKS: usize = 256 << 10;

/// Slices of one write.
const SLICES: usize = 16;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(in crate::http) struct Output {
    small: Vec<u8>,
    /// Bytes of `small` that the kernel has taken.
    written: usize,
    /// Behind `small`. Most connections never have one. It is never empty.
    #[expect(clippy::box_collection, reason = "an idle connection is smaller so")]
    large: Option<Box<VecDeque<Large>>>,
    /// TLS may hold bytes that it was given.
    unflushed: bool,
}

#[derive(Debug)]
struct Large {
    /// Never empty.
    block: Bytes,
    behind: Vec<u8>,
}

impl Output {
    /// Where small things are appended.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        match self.large.as_mut().and_then(|large| large.back_mut()) {
            Some(last) => &mut last.behind,
            None => &mut self.small,
        }
    }

    /// Appends part of a body.
    pub(super) fn push(&mut self, block: Bytes) {
        if block.len() < LARGE {
            self.tail().extend_from_slice(&block);
        } else {
            let behind = Vec::new();
            let large = self.large.get_or_insert_default();
            large.push_back(Large { block, behind });
        }
    }

    /// Appends a chunk of a body, with its size line if the body is sent in chunks.
    pub(super) fn push_piece(&mut self, piece: Bytes, in_chunks: bool) {
        if in_chunks {
            write!(self.tail(), "{:X}\r\n", piece.len()).expect("writing to a Vec cannot fail");
        }
        self.push(piece);
        if in_chunks {
            self.tail().extend_from_slice(b"\r\n");
        }
    }

    /// Nothing more should be added before something was written.
    pub(super) fn is_full(&self) -> bool {
        if self.small.len() - self.written >= FULL {
            return true;
        }
        let Some(large) = &self.large else {
            return false;
        };
        let bytes = large.iter().map(|it| it.block.len() + it.behind.len());
        bytes.sum::<usize>() >= FULL_OF_BLOCKS
    }

    /// Everything is with the kernel.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_none() && !self.unflushed
    }

    /// Takes what waits, to be sent by another part.
    pub(in crate::http) fn take(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.small);
        rest.drain(..std::mem::take(&mut self.written));
        for Large { block, behind } in self.large.take().into_iter().flat_map(|large| *large) {
            rest.extend_from_slice(&block);
            rest.extend_from_slice(&behind);
        }
        rest
    }

    /// Writes until nothing waits. `progress` hears of each write that the kernel took something of.
    pub(super) fn poll_flush(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        task: &mut Context<'_>,
        mut progress: impl FnMut(),
    ) -> Poll<io::Result<()>> {
        loop {
            let first = &self.small[self.written..];
            let count = match &self.large {
                None if first.is_empty() => break,
                None => ready!(Pin::new(&mut *stream).poll_write(task, first))?,
                Some(large) => {
                    let parts = large.iter().flat_map(|it| [&it.block[..], &it.behind]);
                    let parts = std::iter::once(first).chain(parts).take(SLICES);
                    let slices: SmallVec<[IoSlice<'_>; SLICES]> = parts.map(IoSlice::new).collect();
                    ready!(Pin::new(&mut *stream).poll_write_vectored(task, &slices))?
                }
            };
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(count);
            progress();
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(task))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// So many bytes are with the kernel.
    pub(super) fn advance(&mut self, mut count: usize) {
        loop {
            let in_small = count.min(self.small.len() - self.written);
            self.written += in_small;
            count -= in_small;
            if self.written < self.small.len() {
                return;
            }
            self.written = 0;
            let Some(large) = &mut self.large else {
                // An idle connection holds no buffer.
                self.small = Vec::new();
                return;
            };
            self.small.clear();
            let first = large.front_mut().expect("it is never empty");
            let in_block = count.min(first.block.len());
            first.block.advance(in_block);
            count -= in_block;
            if !first.block.is_empty() {
                return;
            }
            let first = large.pop_front().expect("it was there above");
            self.small = first.behind;
            if large.is_empty() {
                self.large = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes at a time, and stops after so many calls.
    struct Narrow {
        taken: Vec<u8>,
        width: usize,
        calls: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            task: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.as_mut()
                .poll_write_vectored(task, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            if self.calls == 0 {
                return Poll::Pending;
            }
            self.calls -= 1;
            let all = slices.iter().flat_map(|slice| slice.iter().copied());
            let part: Vec<u8> = all.take(self.width).collect();
            self.taken.extend_from_slice(&part);
            Poll::Ready(Ok(part.len()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn everything_arrives_in_order_however_little_is_taken_at_a_time() {
        let block: Bytes = (0..LARGE * 2).map(|at| at as u8).collect();
        let mut expected = b"head".to_vec();
        for _ in 0..5 {
            expected.extend_from_slice(&block);
            expected.extend_from_slice(b"behind");
            expected.extend_from_slice(b"small");
            expected.extend_from_slice(&block);
        }
        for width in [
            1,
            3,
            5,
            LARGE - 1,
            LARGE,
            2 * LARGE + 3,
            2 * LARGE + 7,
            1 << 20,
        ] {
            for stop in [0, 1, 2, 7, usize::MAX] {
                let mut output = Output::default();
                output.tail().extend_from_slice(b"head");
                for _ in 0..5 {
                    output.push(block.clone());
                    output.tail().extend_from_slice(b"behind");
                    output.push(Bytes::from_static(b"small"));
                    output.push(block.clone());
                }
                let (taken, calls) = (Vec::new(), stop);
                let mut narrow = Narrow {
                    taken,
                    width,
                    calls,
                };
                let mut task = Context::from_waker(Waker::noop());
                let flushed = output.poll_flush(&mut narrow, &mut task, || {});
                if flushed.is_pending() {
                    narrow.taken.extend_from_slice(&output.take());
                } else {
                    assert!(output.is_empty() && output.small.capacity() == 0);
                }
                assert_eq!(narrow.taken, expected, "{width} at a time");
            }
        }
    }

    #[test]
    fn large_blocks_gather_until_they_are_many() {
        let mut output = Output::default();
        for _ in 0..FULL_OF_BLOCKS / LARGE {
            assert!(!output.is_full());
            output.push(Bytes::from_static(&[0; LARGE]));
        }
        assert!(output.is_full());
    }

    #[test]
    fn small_answers_gather_until_they_are_many() {
        let mut output = Output::default();
        for _ in 0..FULL / 1024 {
            assert!(!output.is_full());
            output.push(Bytes::from_static(&[0; 1024]));
        }
        assert!(output.is_full());
    }
}
