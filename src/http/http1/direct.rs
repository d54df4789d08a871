//! The writer by which the producer of a streamed body sends large pieces on its own thread.
//!
//! To hand a piece over to the I/O thread takes as long as to send 64 KiB, and the other core has to fetch it.
//! So a connection that has nothing left to send lends its output, and the use of its socket, to the producer,
//! which frames and writes pieces as the connection would. What the kernel does not take stays in the output. The
//! connection takes that back and writes the rest: only the I/O thread waits for sockets.

use std::fmt;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, RawFd};

use bytes::Bytes;
use nix::sys::socket::{MsgFlags, sendmsg};

use super::output::Output;

/// See the module's documentation.
pub(in crate::http) struct DirectWriter {
    /// It is open as long as it is lent: see [`StreamBody`](crate::http::stream_body::StreamBody).
    socket: RawFd,
    in_chunks: bool,
    output: Output,
}

impl DirectWriter {
    /// For a connection whose output is empty.
    pub(in crate::http) fn new(socket: &impl AsRawFd, in_chunks: bool, output: Output) -> Self {
        debug_assert!(output.is_empty(), "the order of what is sent");
        Self {
            socket: socket.as_raw_fd(),
            in_chunks,
            output,
        }
    }

    /// What the kernel has not taken.
    pub(in crate::http) fn into_output(self) -> Output {
        self.output
    }

    /// Writes a piece. False: the kernel has not taken all of it, and nothing more may be written. `hold` gives the
    /// piece as something that lasts.
    pub(in crate::http) fn write(&mut self, piece: &[u8], hold: impl FnOnce() -> Bytes) -> bool {
        debug_assert!(self.output.is_empty(), "the order of what is sent");
        let mut size = [0; 2 * size_of::<usize>() + 2];
        let mut framed = 0;
        if self.in_chunks {
            let room = size.len();
            let mut rest = &mut size[..];
            write!(rest, "{:X}\r\n", piece.len()).expect("it has room for any number");
            framed = room - rest.len();
        }
        let behind: &[u8] = if self.in_chunks { b"\r\n" } else { b"" };
        let slices = [&size[..framed], piece, behind].map(IoSlice::new);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // The connection meets an error again, and deals with it.
        let count = sendmsg::<()>(self.socket, &slices, &[], flags, None).unwrap_or(0);
        if count == framed + piece.len() + behind.len() {
            return true;
        }
        self.output.push_piece(hold(), self.in_chunks);
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
    fn what_the_kernel_does_not_take_is_left_in_its_place() {
        for in_chunks in [true, false] {
            let (served, mut client) = pair();
            let mut writer = DirectWriter::new(&served, in_chunks, Output::default());
            let mut expected = Output::default();
            let mut pieces =
                (1..).map(|number: usize| Bytes::from(vec![number as u8; 16384 + number * 77]));
            loop {
                let piece = pieces.next().expect("there is no end of them");
                expected.push_piece(piece.clone(), in_chunks);
                if !writer.write(&piece, || piece.clone()) {
                    break;
                }
            }
            drop(pieces);
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
        let piece = Bytes::from_static(&[0; 16384]);
        let mut writer = DirectWriter::new(&served, true, Output::default());
        while writer.write(&piece, || piece.clone()) {}
        let rest = writer.into_output().take();
        assert_eq!(rest.len(), "4000\r\n".len() + piece.len() + "\r\n".len());
    }
}
