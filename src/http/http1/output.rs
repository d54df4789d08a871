//! The output of a connection: bytes that wait for the kernel.
//!
//! Small blocks are collected in one buffer, so that responses to pipelined requests leave together. A large block
//! is never copied: one write sends it together with the bytes before and after it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// Blocks of at least this size are not copied.
const LARGE: usize = 8 << 10;

/// With this many small bytes queued, a connection writes before it reads another request.
const FULL: usize = 32 << 10;

/// The same limit with large blocks: chunks of a stream that are there together leave in one write.
const FULL_OF_BLOCKS: usize = 256 << 10;

/// Slices of one write.
const SLICES: usize = 16;

/// The queued output of a connection.
#[derive(Debug, Default)]
pub(in crate::http) struct Output {
    small: Vec<u8>,
    /// Bytes of `small` that the kernel has accepted.
    written: usize,
    /// The blocks after `small`. Most connections never have any. The queue is never empty.
    #[expect(clippy::box_collection, reason = "an idle connection is smaller so")]
    large: Option<Box<VecDeque<Large>>>,
    /// TLS may hold bytes that it has accepted.
    unflushed: bool,
}

#[derive(Debug)]
struct Large {
    /// Never empty.
    block: Bytes,
    behind: Vec<u8>,
}

impl Output {
    /// The buffer that small blocks are appended to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        match self.large.as_mut().and_then(|large| large.back_mut()) {
            Some(last) => &mut last.behind,
            None => &mut self.small,
        }
    }

    /// Appends a part of a body.
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
    pub(super) fn push_chunk(&mut self, chunk: Bytes, in_chunks: bool) {
        if in_chunks {
            write!(self.tail(), "{:X}\r\n", chunk.len()).expect("writing to a Vec cannot fail");
        }
        self.push(chunk);
        if in_chunks {
            self.tail().extend_from_slice(b"\r\n");
        }
    }

    /// Whether the output must be written before more is added.
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

    /// Whether the kernel has accepted everything.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_none() && !self.unflushed
    }

    /// Takes the queued bytes, which another part of the program sends.
    pub(in crate::http) fn take(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.small);
        rest.drain(..std::mem::take(&mut self.written));
        for Large { block, behind } in self.large.take().into_iter().flat_map(|large| *large) {
            rest.extend_from_slice(&block);
            rest.extend_from_slice(&behind);
        }
        rest
    }

    /// Writes until nothing is queued. `progress` is called whenever the kernel accepts bytes.
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

    /// Removes `count` bytes that the kernel has accepted.
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
                // An idle connection owns no buffer.
                self.small = Vec::new();
                return;
            };
            self.small.clear();
            let first = large.front_mut().expect("the queue is never empty");
            let in_block = count.min(first.block.len());
            first.block.advance(in_block);
            count -= in_block;
            if !first.block.is_empty() {
                return;
            }
            let first = large.pop_front().expect("the block above");
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

    /// A socket that accepts `width` bytes per call, for this many calls.
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
    fn output_arrives_in_order_however_little_a_socket_accepts() {
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
    fn large_blocks_are_collected_until_the_output_is_full() {
        let mut output = Output::default();
        for _ in 0..FULL_OF_BLOCKS / LARGE {
            assert!(!output.is_full());
            output.push(Bytes::from_static(&[0; LARGE]));
        }
        assert!(output.is_full());
    }

    #[test]
    fn small_responses_are_collected_until_the_output_is_full() {
        let mut output = Output::default();
        for _ in 0..FULL / 1024 {
            assert!(!output.is_full());
            output.push(Bytes::from_static(&[0; 1024]));
        }
        assert!(output.is_full());
    }
}
