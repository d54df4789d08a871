//! The queue that holds work for the end of the turn, so that it is done once for all sessions: one look at the
//! bus, one hand-over to the handler, one wake-up.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;

use super::partials::Partials;
use super::queues::Queues;
use super::replays::Replays;
use super::session_key::SessionKey;
use super::topic::Topic;

/// Queues the work of sessions for the end of the turn, when the hub does it once for all of them.
/// Shared by everything on a worker's I/O thread.
#[derive(Debug, Default)]
pub struct TurnQueue {
    /// The memory for bytes that wait for clients.
    pub queues: Queues,
    /// The memory for messages that are not whole.
    pub partials: Partials,
    /// The messages of the past that are being sent.
    pub replays: Arc<Replays>,
    wanted: Cell<bool>,
    hub: RefCell<Option<Waker>>,
    /// Sessions with capacity in the outbox again, for which their handler waits.
    with_capacity: RefCell<Vec<SessionKey>>,
    /// Sessions that wait for capacity in the handler's mailbox.
    stalled: RefCell<Vec<Waker>>,
    /// Sessions whose client has a close frame to answer.
    closing: RefCell<Vec<SessionKey>>,
    /// There are requests of sessions or of new clients.
    has_requests: Cell<bool>,
    /// Requests of sessions, in their order.
    requests: RefCell<Vec<SessionRequest>>,
    /// Sessions that the hub has.
    sessions: Cell<usize>,
    /// Records that relays have published, and that the hub has not read yet.
    ahead: Cell<Ahead>,
    /// Sessions must not publish more: a hub of the server is far behind.
    held: Cell<bool>,
    /// Sessions that wait until the hub has read those records, or until no session is held any more.
    too_fast: RefCell<Vec<Waker>>,
}

/// A queue that is too full for another message of a client. Its session does not read until the queue
/// has capacity again.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Backlog {
    /// The outboxes of all sessions together.
    Outboxes,
    /// The mailbox of the handlers.
    Mailbox,
    /// The records that a hub of the server has not read yet.
    Hub,
}

/// A request of a session to the hub.
#[derive(Debug)]
pub enum SessionRequest {
    /// Deliver the topic from offset `from` on. The interest in the topic has been added, and the hub takes
    /// it over.
    Subscribe {
        /// The session of the protocol.
        session: SessionKey,
        /// The topic.
        topic: Topic,
        /// The end of the bus when it subscribed.
        from: u64,
    },
    /// Deliver the topic up to offset `until`, and no longer.
    Unsubscribe {
        /// The session of the protocol.
        session: SessionKey,
        /// The topic.
        topic: Topic,
        /// The end of the bus when it unsubscribed.
        until: u64,
    },
    /// The session is over.
    Leave {
        /// The session.
        session: SessionKey,
    },
}

/// The records by which the relays of a worker are ahead of its hub.
#[derive(Copy, Clone, Debug, Default)]
struct Ahead {
    records: usize,
    bytes: usize,
    /// Offset of the last of them.
    last: u64,
}

/// Records that relays may be ahead of the hub: a small part of the log, so that their clients
/// cannot make their own worker miss messages.
const MOST_RECORDS_AHEAD: usize = 2048;

impl TurnQueue {
    /// With budgets, in bytes: for bytes that wait for clients, and for messages that are not whole.
    pub fn new(queue_bytes: usize, message_bytes: usize, replays: Arc<Replays>) -> Self {
        Self {
            queues: Queues::new(queue_bytes, replays.gauge().clone()),
            partials: Partials::new(message_bytes),
            replays,
            ..Self::default()
        }
    }

    /// Requests the work at the end of this turn: a message was published or handed over.
    pub fn request(&self) {
        if !self.wanted.replace(true)
            && let Some(hub) = &*self.hub.borrow()
        {
            hub.wake_by_ref();
        }
    }

    /// The handler of `session` may send again, and must be notified.
    pub fn notify_capacity(&self, session: SessionKey) {
        self.with_capacity.borrow_mut().push(session);
        self.request();
    }

    /// The task behind `waker` is woken when the backlog is so short that its session may read on.
    pub fn wait_for(&self, backlog: Backlog, waker: &Waker) {
        match backlog {
            Backlog::Outboxes => {
                // The hub frees memory before this task has its next turn.
                self.request();
                waker.wake_by_ref();
            }
            Backlog::Mailbox => {
                self.stalled.borrow_mut().push(waker.clone());
                self.request();
            }
            Backlog::Hub => {
                self.too_fast.borrow_mut().push(waker.clone());
                if !self.is_held() {
                    self.request();
                }
            }
        }
    }

    /// A session has a request for the hub.
    pub fn request_for(&self, request: SessionRequest) {
        self.requests.borrow_mut().push(request);
        self.note_request();
    }

    /// There is a request for the hub, of a session or of a new client.
    pub(super) fn note_request(&self) {
        self.has_requests.set(true);
        self.request();
    }

    /// Hub: have there been requests since the last call?
    pub(super) fn take_has_requests(&self) -> bool {
        self.has_requests.take()
    }

    /// Hub: the requests of sessions, in their order.
    pub fn take_requests(&self) -> Vec<SessionRequest> {
        self.requests.take()
    }

    /// A relay has published a record of `bytes` at `offset`.
    pub fn note_published(&self, offset: u64, bytes: usize) {
        let ahead = self.ahead.get();
        self.ahead.set(Ahead {
            records: ahead.records + 1,
            bytes: ahead.bytes + bytes,
            last: offset,
        });
        self.request();
    }

    /// Are the relays so far ahead of the hub that they should stop reading? `most_bytes`: a number of bytes that
    /// the bus can hold with ease.
    pub fn relays_must_wait(&self, most_bytes: usize) -> bool {
        let ahead = self.ahead.get();
        ahead.records >= MOST_RECORDS_AHEAD || ahead.bytes >= most_bytes
    }

    /// Must sessions not publish more? See [`super::pace`].
    pub fn is_held(&self) -> bool {
        self.held.get()
    }

    /// Hub: it has read everything before `offset`; `held`: a hub of the server is far behind.
    pub fn has_read(&self, offset: u64, held: bool) {
        self.held.set(held);
        if offset > self.ahead.get().last {
            self.ahead.set(Ahead::default());
            if !held {
                self.too_fast.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Hub: it has this many sessions.
    pub fn set_sessions(&self, sessions: usize) {
        self.sessions.set(sessions);
    }

    /// Sessions of this worker, open and opening.
    pub fn sessions(&self) -> usize {
        self.sessions.get()
    }

    /// A close frame was sent to the client of `session`, which has a limited time to answer.
    pub fn note_closing(&self, session: SessionKey) {
        self.closing.borrow_mut().push(session);
        self.request();
    }

    /// Hub: the turn's end begins; this task is woken by requests from now on.
    pub fn begin(&self, hub: &Waker) {
        let mut known = self.hub.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(hub)) {
            *known = Some(hub.clone());
        }
        self.wanted.set(false);
    }

    /// Hub: the sessions whose handlers may send again.
    pub fn take_with_capacity(&self) -> Vec<SessionKey> {
        self.with_capacity.take()
    }

    /// Hub: the sessions that have begun to close.
    pub fn take_closing(&self) -> Vec<SessionKey> {
        self.closing.take()
    }

    /// Hub: the handler's mailbox has capacity.
    pub fn resume_stalled(&self) {
        for waker in self.stalled.take() {
            waker.wake();
        }
    }

    /// Does a session wait for the handler's mailbox?
    pub fn has_stalled(&self) -> bool {
        !self.stalled.borrow().is_empty()
    }
}
