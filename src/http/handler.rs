//! The seam where user code plugs in.
//!
//! A Rust test implements it with a closure's worth of code; the Python rim implements it by
//! posting to the mailbox of the event loop.

use std::sync::Arc;

use super::path::Values;
use super::replies::ReplyKey;
use super::request::Request;
use super::router::EndpointId;
use crate::actors::inbox::Inbox;
use crate::actors::link::Link;
use crate::actors::session_key::SessionKey;

/// What an endpoint is called with.
#[derive(Debug)]
pub struct Call {
    /// Which endpoint of its kind (HTTP, WebSocket).
    pub endpoint: EndpointId,
    /// The path's parameters, in the order of the path.
    pub values: Values,
    /// The request; None for an HTTP endpoint that does not look at it.
    pub request: Option<Request>,
}

/// User code. Called on the I/O thread: no call may block.
pub trait Handler: Inbox {
    /// Answers an HTTP request, sooner or later, through the mailbox of replies.
    fn request(&self, call: Call, reply: ReplyKey);

    /// May another request for this endpoint wait? Else it is refused.
    fn has_room_for_request(&self, endpoint: EndpointId) -> bool;

    /// A client asks for a WebSocket. The handler answers through the hub's orders, with
    /// [`Command::Accept`](crate::actors::hub::Command::Accept) or `Reject`.
    fn connect(&self, call: Call, session: SessionKey, link: Arc<Link>);

    /// May another client wait for [`Handler::connect`] of this endpoint? Else it is refused.
    fn has_room_to_connect(&self, endpoint: EndpointId) -> bool;

    /// A session of a watched endpoint is open, and does not wait for this. Its end comes by
    /// [`Inbox::closed`].
    fn opened(&self, call: Call, session: SessionKey);

    /// May another session be watched? Else its client is refused.
    fn has_room_to_watch(&self) -> bool;
}
