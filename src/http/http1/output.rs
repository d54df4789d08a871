//! The bytes of a connection that wait for the kernel.
//!
//! Small things gather in one buffer, so that the answers to pipelined requests leave together. A large
//! block is never copied: it is written from where it is, with what is before and behind it.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// From so many bytes on a block is not copied.
const LARGE: usize = 8 << 10;

/// With so much waiting, a connection writes before it takes another request.
const FULL: usize = 32 << 10;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Output {
    small: Vec<u8>,
    /// Bytes of `small` that the kernel has taken.
    written: usize,
    /// Most connections never have one.
    large: Option<Box<Large>>,
    /// TLS may hold bytes that it was given.
    unflushed: bool,
}

#[derive(Debug)]
struct Large {
    block: Bytes,
    behind: Vec<u8>,
}

impl Output {
    /// Where small things are appended.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        match &mut self.large {
            Some(large) => &mut large.behind,
            None => &mut self.small,
        }
    }

    /// Appends part of a body.
    pub(super) fn push(&mut self, block: Bytes) {
        if block.len() < LARGE || self.large.is_some() {
            self.tail().extend_from_slice(&block);
        } else {
            let behind = Vec::new();
            self.large = Some(Box::new(Large { block, behind }));
        }
    }

    /// Nothing more should be added before something was written.
    pub(super) fn is_full(&self) -> bool {
        self.large.is_some() || self.small.len() - self.written >= FULL
    }

    /// Everything is with the kernel.
    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_none() && !self.unflushed
    }

    /// Takes what waits, to be sent by another part.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.small);
        rest.drain(..std::mem::take(&mut self.written));
        if let Some(large) = self.large.take() {
            rest.extend_from_slice(&large.block);
            rest.extend_from_slice(&large.behind);
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
                    let slices = [first, &large.block, &large.behind].map(IoSlice::new);
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

    fn advance(&mut self, count: usize) {
        let in_small = count.min(self.small.len() - self.written);
        self.written += in_small;
        let mut count = count - in_small;
        if self.written < self.small.len() {
            return;
        }
        self.written = 0;
        let Some(mut large) = self.large.take() else {
            // An idle connection holds no buffer.
            self.small = Vec::new();
            return;
        };
        self.small.clear();
        let in_block = count.min(large.block.len());
        large.block.advance(in_block);
        count -= in_block;
        if large.block.is_empty() {
            self.small = large.behind;
            self.advance_small(count);
        } else {
            self.large = Some(large);
        }
    }

    fn advance_small(&mut self, count: usize) {
        self.written = count;
        if self.written == self.small.len() {
            (self.small, self.written) = (Vec::new(), 0);
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
        expected.extend_from_slice(&block);
        expected.extend_from_slice(b"behind");
        expected.extend_from_slice(b"small");
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
                output.push(block.clone());
                assert!(output.is_full());
                output.tail().extend_from_slice(b"behind");
                output.push(Bytes::from_static(b"small"));
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
    fn small_answers_gather_until_they_are_many() {
        let mut output = Output::default();
        for _ in 0..FULL / 1024 {
            assert!(!output.is_full());
            output.push(Bytes::from_static(&[0; 1024]));
        }
        assert!(output.is_full());
    }
}
