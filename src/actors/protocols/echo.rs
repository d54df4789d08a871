//! The protocol that sends each message back to its client.

use std::borrow::Cow;
use std::sync::Arc;

use crate::actors::close::CloseCause;
use crate::actors::frame::Kind;
use crate::actors::protocol::{Accept, Handshake, Protocol, SessionContext};
use crate::actors::rejection::Rejection;
use crate::actors::shared::Shared;
use crate::actors::turn_queue::Backlog;

/// Sends each message back, with a prefix in front.
#[derive(Clone, Debug)]
pub struct Echo {
    prefix: Arc<str>,
}

impl Echo {
    /// An echo with this prefix, which may be empty.
    pub fn new(prefix: &str) -> Self {
        let prefix = prefix.into();
        Self { prefix }
    }
}

impl Accept for Echo {
    fn start(&self, _handshake: &Handshake<'_>) -> Result<Box<dyn Protocol>, Rejection> {
        Ok(Box::new(self.clone()))
    }
}

impl Protocol for Echo {
    fn message(
        &mut self,
        kind: Kind,
        payload: Cow<'_, [u8]>,
        session: &mut SessionContext<'_>,
    ) -> Result<(), CloseCause> {
        session.reply_in_parts(kind, [self.prefix.as_bytes(), &payload]);
        Ok(())
    }

    /// Each message makes the outbox of its client longer.
    fn must_pause(&self, worker: &Shared) -> Option<Backlog> {
        let is_over = worker.turn_queue.queues.is_over();
        is_over.then_some(Backlog::Outboxes)
    }
}
