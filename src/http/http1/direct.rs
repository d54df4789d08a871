//! The writer by which the producer of a stream sends large chunks on its own thread.
//!
//! The handover of a chunk to the I/O thread takes as long as sending 64 KiB, and the other core must fetch the
//! bytes. So a connection that has sent everything lends its output and its socket to the producer. The producer
//! frames and writes chunks as the connection would. Bytes that the kernel does not accept stay in the output. The
//! connection reclaims it and writes the rest: only the I/O thread waits for sockets.

use std::fmt;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, RawFd};

use bytes::Bytes;
use nix::sys::socket::{MsgFlags, sendmsg};

use super::output::Output;

/// A borrowed output with its socket.
pub(in crate::http) struct DirectWriter {
    /// The socket is open while it is lent: see [`StreamBody`](crate::http::stream_body::StreamBody).
    socket: RawFd,
    in_chunks: bool,
    output: Output,
}

impl DirectWriter {
    /// Borrows an empty output.
    pub(in crate::http) fn new(socket: &impl AsRawFd, in_chunks: bool, output: Output) -> Self {
        debug_assert!(
            output.is_empty(),
            "the output must be empty, for the order of the bytes"
        );
        Self {
            socket: socket.as_raw_fd(),
            in_chunks,
            output,
        }
    }

    /// The output, with the bytes that the kernel has not accepted.
    pub(in crate::http) fn into_output(self) -> Output {
        self.output
    }

    /// Writes a chunk. False: the kernel has not accepted all of it, and no further write is allowed. `hold` makes
    /// an owned copy of the chunk.
    pub(in crate::http) fn write(&mut self, chunk: &[u8], hold: impl FnOnce() -> Bytes) -> bool {
        debug_assert!(
            self.output.is_empty(),
            "the output must be empty, for the order of the bytes"
        );
        let mut size = [0; 2 * size_of::<usize>() + 2];
        let mut framed = 0;
        if self.in_chunks {
            let capacity = size.len();
            let mut rest = &mut size[..];
            write!(rest, "{:X}\r\n", chunk.len()).expect("the buffer fits any number");
            framed = capacity - rest.len();
        }
        let behind: &[u8] = if self.in_chunks { b"\r\n" } else { b"" };
        let slices = [&size[..framed], chunk, behind].map(IoSlice::new);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // The connection will get the same error, and handle it.
        let count = sendmsg::<()>(self.socket, &slices, &[], flags, None).unwrap_or(0);
        if count == framed + chunk.len() + behind.len() {
            return true;
        }
        self.output.push_chunk(hold(), self.in_chunks);
        self.output.advance(count);
        false
    }
}

impl fmt::Debug for DirectWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DirectWriter")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::http::tcp::tests::pair;

    #[test]
    fn bytes_that_the_kernel_refuses_stay_in_the_output() {
        for in_chunks in [true, false] {
            let (served, mut client) = pair();
            let mut writer = DirectWriter::new(&served, in_chunks, Output::default());
            let mut expected = Output::default();
            let mut chunks =
                (1..).map(|number: usize| Bytes::from(vec![number as u8; 16384 + number * 77]));
            loop {
                let chunk = chunks.next().expect("there is no end of them");
                expected.push_chunk(chunk.clone(), in_chunks);
                if !writer.write(&chunk, || chunk.clone()) {
                    break;
                }
            }
            drop(chunks);
            let rest = writer.into_output().take();
            assert!(!rest.is_empty());
            drop(served);
            let mut received = Vec::new();
            client
                .read_to_end(&mut received)
                .expect("all of it has been sent");
            received.extend_from_slice(&rest);
            assert!(received == expected.take(), "in chunks: {in_chunks}");
        }
    }

    #[test]
    fn an_error_is_left_to_the_connection() {
        let (served, client) = pair();
        drop(client);
        let chunk = Bytes::from_static(&[0; 16384]);
        let mut writer = DirectWriter::new(&served, true, Output::default());
        while writer.write(&chunk, || chunk.clone()) {}
        let rest = writer.into_output().take();
        assert_eq!(rest.len(), "4000\r\n".len() + chunk.len() + "\r\n".len());
    }
}
