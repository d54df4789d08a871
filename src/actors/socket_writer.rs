//! A socket's writing end, as a writer sees it: the seam behind which TCP and TLS are.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

/// A socket's writing end. Dropping it ends the writing side of the connection.
pub trait SocketWriter: 'static {
    /// Writes what the socket takes at once; `WouldBlock` when that is nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// The same for several slices.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ready when a write may succeed again.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Says to the peer that nothing more comes; it may still send.
    fn finish(&self);
    /// What the peer has acknowledged so far. None: nobody knows. A system call.
    fn acks(&self) -> Option<Acks>;
    /// Has the system below sent what it was given, but for a little? False: writing is no use yet, and
    /// `poll_writable` is ready when it is. A system call, and only for clients that are to see the present.
    fn is_drained(&self) -> bool {
        true
    }
    /// Has the first byte that is to be given next gone out already? See `TlsWriter`.
    fn holds_back(&self) -> bool {
        false
    }
}

/// What the system below knows of a connection's peer: its system has the bytes, although the program
/// may not have read them yet.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Acks {
    /// Bytes that were acknowledged since the connection began.
    pub acknowledged: u64,
    /// Bytes that were written and are not acknowledged yet.
    pub outstanding: u64,
    /// The connection has ended, whether anybody has noticed or not.
    pub is_over: bool,
}
