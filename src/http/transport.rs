//! The transport of an HTTP connection and of a session: plain TCP, or TLS over it.
//!
//! A session on plain TCP writes to its socket directly, as if TLS did not exist. The compiler selects the
//! transport of the reading half; the writing half is a [`SocketWriter`].

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

/// A connection that speaks HTTP, and may become a session.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The half that a session reads from.
    type Reader: AsyncRead + Unpin + 'static;
    /// The half that a session writes to.
    type Writer: SocketWriter;

    /// The TCP socket.
    fn socket(&self) -> &TcpStream;

    /// The socket, if the client reads its bytes unchanged: then the kernel can send files to it.
    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    /// Splits the connection into the halves of a session.
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

/// The writing half of a TCP connection. Dropped without [`SocketWriter::finish`], it sends nothing: the reading
/// half is dropped, too, and the kernel closes the connection.
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

/// Shuts down the writing side of the connection.
pub(super) fn end_writing(socket: &TcpStream) {
    // A connection that is closed already needs no shutdown.
    let _ = SockRef::from(socket).shutdown(Shutdown::Write);
}

/// Lets the kernel close the connection if its peer takes no sent bytes for this long.
pub(super) fn limit_writes(socket: &TcpStream, timeout: Option<Duration>) {
    // A connection that is closed already needs no limit.
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
        // Tokio aligns a task to two cache lines, and adds about a hundred bytes to its future.
        type Open = Session<OwnedReadHalf, Decoder>;
        type Secure = Session<TlsReader, Decoder>;
        assert!(size_of::<Open>() <= 144, "{}", size_of::<Open>());
        assert!(size_of::<Secure>() <= 144, "{}", size_of::<Secure>());
    }
}
