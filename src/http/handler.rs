//! The interface that connects user code to the server.
//!
//! Rust tests implement it with a few lines; `src/python` implements it by posting to the mailbox of the event
//! loop.

use std::sync::Arc;

use super::path::Values;
use super::replies::ReplyKey;
use super::request::Request;
use super::router::EndpointId;
use crate::actors::inbox::Inbox;
use crate::actors::link::Link;
use crate::actors::session_key::SessionKey;

/// The arguments of an endpoint's call.
#[derive(Debug)]
pub struct Call {
    /// The endpoint, among those of its kind (HTTP, WebSocket).
    pub endpoint: EndpointId,
    /// The values of the path's parameters, in the order of the path.
    pub values: Values,
    /// The request. None for an HTTP endpoint that does not use it.
    pub request: Option<Request>,
}

/// User code. Its methods run on the I/O thread and must not block.
pub trait Handler: Inbox {
    /// Handles an HTTP request. The response comes later, through the mailbox of replies.
    fn request(&self, call: Call, reply: ReplyKey);

    /// Whether another request for this endpoint may wait. Otherwise it is refused.
    fn has_capacity_for_request(&self, endpoint: EndpointId) -> bool;

    /// Handles the handshake of a WebSocket. The handler answers through the hub's commands, with
    /// [`Command::Accept`](crate::actors::hub::Command::Accept) or `Reject`.
    fn connect(&self, call: Call, session: SessionKey, link: Arc<Link>);

    /// Whether another client may wait for [`Handler::connect`] of this endpoint. Otherwise it is refused.
    fn has_capacity_to_connect(&self, endpoint: EndpointId) -> bool;

    /// A session of an endpoint with hooks is open. The session does not wait for this call. [`Inbox::closed`]
    /// reports its end.
    fn opened(&self, call: Call, session: SessionKey);

    /// Whether another session with hooks may open. Otherwise its client is refused.
    fn has_capacity_to_watch(&self) -> bool;
}
