//! The socket writer that a session sends through: the seam between sessions and TCP or TLS.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

/// A socket's writing end. Dropping it ends the writing side of the connection.
pub trait SocketWriter: 'static {
    /// Writes as many bytes as the socket takes at once; `WouldBlock` when it takes none.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// The same for several slices.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ready when a write may succeed again.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends the writing side: the peer sees the end, and may still send.
    fn finish(&self);
    /// The bytes that the peer has acknowledged so far. None: unknown. A system call.
    fn acks(&self) -> Option<Acks>;
    /// Has the system below sent almost all that was written? False: writing is not useful yet, and
    /// `poll_writable` is ready when it is. A system call, only for clients that get only the newest messages.
    fn is_drained(&self) -> bool {
        true
    }
    /// Has the first byte of the next write gone out already? See `TlsWriter`.
    fn holds_back(&self) -> bool {
        false
    }
}

/// The acknowledgements of a peer: its system has the bytes, although its program may not have read them yet.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Acks {
    /// Bytes that were acknowledged since the connection began.
    pub acknowledged: u64,
    /// Bytes that were written and are not acknowledged yet.
    pub outstanding: u64,
    /// The connection has ended, even if the session has not noticed it yet.
    pub is_over: bool,
}
