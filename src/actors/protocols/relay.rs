//! The protocol that publishes each message to the topic that its client is subscribed to.

use std::borrow::Cow;

use crate::actors::close::CloseCause;
use crate::actors::frame::Kind;
use crate::actors::protocol::{Accept, Handshake, Protocol, SessionContext};
use crate::actors::rejection::Rejection;
use crate::actors::shared::Shared;
use crate::actors::topic::{Topic, TopicTemplate};
use crate::actors::turn_queue::Backlog;

/// A route whose sessions are relays; the values of the path make the topic.
#[derive(Clone, Debug)]
pub struct RelayRoute {
    template: TopicTemplate,
}

impl RelayRoute {
    /// Relays to the topic of this template.
    pub fn new(template: TopicTemplate) -> Self {
        Self { template }
    }
}

impl Accept for RelayRoute {
    fn start(&self, handshake: &Handshake<'_>) -> Result<Box<dyn Protocol>, Rejection> {
        let topic = self.template.fill(handshake.values);
        let topic = topic.map_err(|error| Rejection::new(400, error.to_string()))?;
        Ok(Box::new(Relay { topic }))
    }
}

/// Publishes each message to its topic, and is subscribed to it.
#[derive(Debug)]
struct Relay {
    topic: Topic,
}

impl Protocol for Relay {
    fn opened(&mut self, session: &mut SessionContext<'_>) -> Result<(), CloseCause> {
        session.subscribe(self.topic.clone());
        Ok(())
    }

    fn message(
        &mut self,
        kind: Kind,
        payload: Cow<'_, [u8]>,
        session: &mut SessionContext<'_>,
    ) -> Result<(), CloseCause> {
        session.publish(&self.topic, kind, &payload)?;
        Ok(())
    }

    fn must_pause(&self, worker: &Shared) -> Option<Backlog> {
        let most_bytes = worker.bus.max_message_bytes();
        let queue = &worker.turn_queue;
        (queue.is_held() || queue.relays_must_wait(most_bytes)).then_some(Backlog::Hub)
    }
}
