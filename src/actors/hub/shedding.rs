//! The shedding that frees memory: if more bytes wait for the clients of a worker than allowed, the sessions with
//! the largest outboxes are closed.

use super::registry::Registry;
use crate::actors::close::CloseCause;
use crate::actors::queues::Queues;
use crate::actors::session_key::SessionKey;
use crate::actors::session_writer::Control;

impl Registry {
    /// Frees memory, if too much is used: closes the sessions with the largest outboxes.
    ///
    /// It looks at every session, and frees so much memory that the next look is far away.
    pub(super) fn shed(&self, queues: &Queues) {
        if !queues.is_over() {
            return;
        }
        let mut closed = 0;
        let largest = self.with_most_waiting();
        for &key in &largest {
            if queues.has_capacity() {
                break;
            }
            if let Some(writer) = self.writer(key)
                && writer.closed_since().is_none()
            {
                writer.drop_waiting();
                self.order(key, Control::Close(CloseCause::QueuesFull));
                closed += 1;
            }
        }
        queues.log_closed(closed);
        // The rest are frames that have begun to go out, of sessions that close: megabytes each, if handlers sent
        // such frames.
        for key in largest {
            if queues.has_capacity() {
                break;
            }
            if let Some(writer) = self.writer(key) {
                writer.cut_off();
            }
        }
    }

    /// The sessions for which bytes wait, those with the most first.
    fn with_most_waiting(&self) -> Vec<SessionKey> {
        let costs = self
            .writers()
            .map(|writer| (writer.waiting_cost(), writer.key()));
        let mut costs: Vec<_> = costs.filter(|(cost, _)| *cost > 0).collect();
        costs.sort_unstable_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        costs.into_iter().map(|(_, key)| key).collect()
    }
}
