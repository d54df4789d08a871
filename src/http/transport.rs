//! What an HTTP connection runs on, and what a session needs of it: plain TCP, or TLS over it.
//!
//! A session on plain TCP writes to its socket directly, as if TLS did not exist: which transport it
//! has is decided at compile time for its reading half, and by the [`SocketWriter`] that any writer has.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::tcp;
use crate::actors::socket_writer::{Acks, SocketWriter};

/// A connection that HTTP is spoken on, and that may become a session.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {
    /// What a session reads from.
    type Reader: AsyncRead + Unpin + 'static;
    /// What its writer writes to.
    type Writer: SocketWriter;

    /// The socket below.
    fn socket(&self) -> &TcpStream;

    /// The socket, if what is written to it is what the client reads: the kernel can send files to it.
    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    /// A session's halves.
    fn split(self) -> (Self::Reader, Self::Writer);
}

impl Transport for TcpStream {
    type Reader = OwnedReadHalf;
    type Writer = TcpWriter;

    fn socket(&self) -> &TcpStream {
        self
    }

    fn plain(&self) -> Option<&TcpStream> {
        cfg!(target_os = "linux").then_some(self)
    }

    fn split(self) -> (OwnedReadHalf, TcpWriter) {
        let (reader, writer) = self.into_split();
        (reader, TcpWriter(Some(writer)))
    }
}

/// The writing half of a TCP connection. Dropped without [`SocketWriter::finish`], it says nothing to the
/// peer: the reading half goes with it, and the kernel's close is farewell enough.
#[derive(Debug)]
pub struct TcpWriter(Option<OwnedWriteHalf>);

impl TcpWriter {
    fn half(&self) -> &OwnedWriteHalf {
        self.0.as_ref().expect("it is taken when it is dropped")
    }
}

impl Drop for TcpWriter {
    fn drop(&mut self) {
        if let Some(half) = self.0.take() {
            half.forget();
        }
    }
}

impl SocketWriter for TcpWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.half().try_write(bytes)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.half().try_write_vectored(slices)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half().as_ref().poll_write_ready(context)
    }

    fn finish(&self) {
        end_writing(self.half().as_ref());
    }

    fn acks(&self) -> Option<Acks> {
        tcp::acks(self.half().as_ref())
    }

    fn is_drained(&self) -> bool {
        tcp::is_drained(self.half().as_ref())
    }
}

/// Says to the peer that nothing more comes.
pub(super) fn end_writing(socket: &TcpStream) {
    // A connection that is gone already needs no farewell.
    let _ = SockRef::from(socket).shutdown(Shutdown::Write);
}

/// A peer that takes nothing of what is sent for this long is cut off by the kernel.
pub(super) fn limit_writes(socket: &TcpStream, timeout: Option<Duration>) {
    // A connection that is gone already needs no limit.
    let _ = SockRef::from(socket).set_tcp_user_timeout(timeout);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::session::Session;
    use crate::http::tls::socket::TlsReader;
    use crate::http::websocket::codec::Decoder;

    #[test]
    fn a_session_and_its_task_are_four_cache_lines() {
        // Tokio aligns a task to two cache lines, and adds about a hundred bytes to what it runs.
        type Open = Session<OwnedReadHalf, Decoder>;
        type Secure = Session<TlsReader, Decoder>;
        assert!(size_of::<Open>() <= 144, "{}", size_of::<Open>());
        assert!(size_of::<Secure>() <= 144, "{}", size_of::<Secure>());
    }
}
