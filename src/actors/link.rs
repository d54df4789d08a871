//! The counts that a session and its handler on another thread share, so that neither waits for the other.

use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

/// Shared by one session (I/O thread) and its handler's object (any thread).
#[derive(Debug)]
pub struct Link {
    /// Bytes that the handler has sent and the socket has not taken yet.
    queued: AtomicUsize,
    /// The handler waits until `queued` is low again.
    waits_for_room: AtomicBool,
    /// Bytes that the session has handed over and the handler has not received yet.
    unread: AtomicUsize,
    /// The session stopped reading because `unread` is high.
    paused: AtomicBool,
    /// The handler has received a message and not come back for more: it may still answer.
    answering: AtomicBool,
    /// The session will hand over no more messages, and waits until the handler owes nothing.
    ending: AtomicBool,
    /// Published messages that the overflow policy has dropped.
    dropped: AtomicU64,
    /// At this many bytes a side is over its budget.
    budget: usize,
}

/// The cost of a message besides its bytes, so that empty messages are not free.
pub const MESSAGE_OVERHEAD: usize = 64;

impl Link {
    /// Both directions have `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            queued: AtomicUsize::new(0),
            waits_for_room: AtomicBool::new(false),
            unread: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            budget,
        }
    }

    /// Handler: `bytes` are on their way to the socket. Returns the new total.
    pub fn sent(&self, bytes: usize) -> usize {
        self.queued.fetch_add(bytes, SeqCst) + bytes
    }

    /// Handler: is the socket so far behind that the sender should wait? If so, `written` returns true once there
    /// is capacity again.
    pub fn must_wait(&self) -> bool {
        if self.queued.load(SeqCst) <= self.budget {
            return false;
        }
        self.waits_for_room.store(true, SeqCst);
        // The socket may have caught up in between; then no later call would return true.
        !(self.queued.load(SeqCst) <= self.budget / 2 && self.waits_for_room.swap(false, SeqCst))
    }

    /// Session: the socket took (or the session dropped) `bytes` of the handler's frames. True when the handler
    /// waited for this and must be notified.
    pub fn written(&self, bytes: usize) -> bool {
        let left = self.queued.fetch_sub(bytes, SeqCst) - bytes;
        left <= self.budget / 2 && self.waits_for_room.swap(false, SeqCst)
    }

    /// Bytes that either side may be behind.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes on their way to the socket.
    pub fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    /// Session: a message was handed over. True when the session should stop reading; it is then
    /// resumed by [`Link::received`].
    pub fn handed_over(&self, bytes: usize) -> bool {
        let unread = self.unread.fetch_add(bytes + MESSAGE_OVERHEAD, SeqCst);
        if unread + bytes + MESSAGE_OVERHEAD <= self.budget {
            return false;
        }
        self.paused.store(true, SeqCst);
        !(self.unread.load(SeqCst) <= self.budget / 2 && self.paused.swap(false, SeqCst))
    }

    /// Handler: a message was received. True when the session waits for this and must be resumed.
    pub fn received(&self, bytes: usize) -> bool {
        // Before the message counts as read, so that `owes` sees at least one of the two.
        self.answering.store(true, SeqCst);
        let cost = bytes + MESSAGE_OVERHEAD;
        let left = self.unread.fetch_sub(cost, SeqCst) - cost;
        left <= self.budget / 2 && self.paused.load(SeqCst) && self.paused.swap(false, SeqCst)
    }

    /// Handler: it has answered what it received, as far as it wants to, and waits for more. True
    /// when the session waits for this and must be resumed.
    pub fn waits_for_message(&self) -> bool {
        self.answering.store(false, SeqCst);
        self.ending.load(SeqCst)
    }

    /// Session, which hands over no more messages: is there still a message to receive, to answer, or to write? If
    /// so, `waits_for_message` and `is_ending` return true later.
    pub fn owes(&self) -> bool {
        self.ending.store(true, SeqCst);
        // In the order in which the handler goes from one to the next.
        self.unread.load(SeqCst) > 0 || self.answering.load(SeqCst) || self.queued.load(SeqCst) > 0
    }

    /// Session: its overflow policy has dropped this many more messages.
    pub fn note_dropped(&self, messages: u64) {
        self.dropped.fetch_add(messages, Relaxed);
    }

    /// Published messages that the overflow policy has dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Has the session called `owes`?
    pub fn is_ending(&self) -> bool {
        self.ending.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_over_its_budget_is_told_when_half_of_it_is_free() {
        let link = Link::new(1000);
        link.sent(900);
        assert!(!link.must_wait());
        link.sent(200);
        assert!(link.must_wait());
        assert!(!link.written(500), "600 are still queued");
        assert!(link.written(200));
        assert!(!link.written(400), "told once");
        assert_eq!(link.queued(), 0);
    }

    #[test]
    fn a_reader_that_does_not_receive_pauses_the_session_until_it_does() {
        let link = Link::new(1000);
        assert!(!link.handed_over(500));
        assert!(link.handed_over(500));
        assert!(!link.received(500), "564 are unread");
        assert!(link.received(500));
        assert!(!link.handed_over(500), "it reads again");
    }

    #[test]
    fn a_message_is_owed_an_answer_until_the_handler_waits_and_its_bytes_are_written() {
        let link = Link::new(1000);
        assert!(!link.waits_for_message());
        link.handed_over(5);
        assert!(link.owes(), "it is unread");
        link.received(5);
        assert!(link.owes(), "it is being answered");
        link.sent(7);
        assert!(link.waits_for_message());
        assert!(link.owes(), "the answer is on its way");
        link.written(7);
        assert!(!link.owes());
    }
}
