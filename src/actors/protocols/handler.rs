//! The protocol that hands each message to user code, through the [`Inbox`](crate::actors::inbox::Inbox).
//!
//! User code runs on another thread, in Python or in Rust. It sends, subscribes and closes through the
//! [`Commands`](crate::actors::hub::Commands) of the hub.

use std::borrow::Cow;

use crate::actors::close::CloseCause;
use crate::actors::frame::Kind;
use crate::actors::link::Link;
use crate::actors::protocol::{Accept, Handshake, Protocol, SessionContext};
use crate::actors::rejection::Rejection;
use crate::actors::shared::Shared;
use crate::actors::turn_queue::Backlog;

/// Hands each message to the handler of the route. All state is the handler's.
#[derive(Clone, Debug)]
pub struct HandlerProtocol;

impl Accept for HandlerProtocol {
    fn start(&self, _handshake: &Handshake<'_>) -> Result<Box<dyn Protocol>, Rejection> {
        Ok(Box::new(Self))
    }
}

impl Protocol for HandlerProtocol {
    fn message(
        &mut self,
        kind: Kind,
        payload: Cow<'_, [u8]>,
        session: &mut SessionContext<'_>,
    ) -> Result<(), CloseCause> {
        // Counted first: a handler may receive it at once.
        if session.writer.link().handed_over(payload.len()) {
            session.pause();
        }
        session.shared.inbox.message(session.key(), kind, payload);
        session.shared.turn_queue.request();
        Ok(())
    }

    fn must_pause(&self, worker: &Shared) -> Option<Backlog> {
        if !worker.inbox.has_capacity() {
            return Some(Backlog::Mailbox);
        }
        worker.turn_queue.is_held().then_some(Backlog::Hub)
    }

    fn is_answering(&self, link: &Link) -> bool {
        link.owes()
    }

    fn closed(&mut self, cause: &CloseCause, session: &mut SessionContext<'_>) {
        session.shared.inbox.closed(session.key(), cause);
        session.shared.turn_queue.request();
    }
}
