//! The inbox that receives the events of sessions for user code: the seam between the two.

use std::borrow::Cow;

use super::close::CloseCause;
use super::frame::Kind;
use super::session_key::SessionKey;

/// Receives the events of sessions for user code. Called on the I/O thread: must not block.
pub trait Inbox: 'static {
    /// A message of the client.
    fn message(&self, session: SessionKey, kind: Kind, payload: Cow<'_, [u8]>);
    /// The session is over. Called exactly once, after its last message.
    fn closed(&self, session: SessionKey, cause: &CloseCause);
    /// The handler waits until it may send, and the session has capacity again.
    fn send_ready(&self, session: SessionKey);
    /// Does it have capacity for messages? Otherwise sessions stop reading.
    fn has_capacity(&self) -> bool;
    /// The turn ends: the collected events are handed over. `stalled`: sessions wait for capacity, and must be
    /// notified of it.
    fn flush(&self, stalled: bool);
}
