//! The writer that is the writing half of a session: the writing end of its socket, and the outbox in front of it.
//!
//! The hub writes here at the end of a turn. The task of the session writes pongs, replies, and frames that
//! had to wait. All of this is on the I/O thread, and nothing blocks: bytes that the socket does not take wait
//! in the bounded outbox, so that a slow client delays no other client.

mod flush;
mod send;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::close::CloseCause;
use super::deflate::Encoding;
use super::limits::Limits;
use super::link::Link;
use super::outbox::{Outbox, OutboxFull, Source};
use super::session_key::SessionKey;
use super::socket_writer::{Acks, SocketWriter};
use super::stamp::Stamp;
use super::turn::{Index, Run, Turn};
use super::turn_queue::TurnQueue;

/// Frames that go into one vectored write.
const SLICES: usize = 64;

/// The orders of the hub to a session, sent through its [`SessionWriter`].
#[derive(Debug)]
pub enum Control {
    /// Close, for this cause.
    Close(CloseCause),
    /// The handler has caught up: read on.
    Resume,
    /// The client has had its time to answer the close frame.
    Abort,
}

/// Writes to one client, and queues the frames that its socket does not take at once.
pub struct SessionWriter {
    socket: Box<dyn SocketWriter>,
    state: RefCell<WriterState>,
    key: SessionKey,
    encoding: Encoding,
    link: Arc<Link>,
    turn_queue: Rc<TurnQueue>,
    /// The time of the last sign of life of the client.
    last_heard: Cell<Stamp>,
    /// The session reads from its client. If it does not, silence says nothing about the client.
    reads: Cell<bool>,
    /// Messages wait here and not in the system below, where no policy can replace them.
    shallow: bool,
    /// The time when the socket last took bytes, or the outbox began to wait.
    last_progress: Cell<Stamp>,
}

struct WriterState {
    outbox: Outbox,
    /// Orders of the hub that the task of the session has not carried out yet.
    controls: Vec<Control>,
    /// The time when a close frame was sent or queued: nothing comes behind it.
    closed: Option<Stamp>,
    /// Published messages still go to this client.
    delivers: bool,
    /// The socket refuses all further bytes.
    broken: bool,
    /// The task of the session, which flushes the outbox and carries out the orders.
    waker: Option<Waker>,
}

impl fmt::Debug for SessionWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        formatter
            .debug_struct("SessionWriter")
            .field("waiting_bytes", &state.outbox.bytes())
            .field("closed", &state.closed)
            .field("broken", &state.broken)
            .finish_non_exhaustive()
    }
}

impl SessionWriter {
    /// A writer with an empty outbox, to a client that takes messages in `encoding`. It reports the written bytes
    /// of the handler through `link`.
    pub fn new(
        socket: Box<dyn SocketWriter>,
        key: SessionKey,
        encoding: Encoding,
        limits: &Limits,
        link: Arc<Link>,
        turn_queue: Rc<TurnQueue>,
    ) -> Self {
        let now = Stamp::now();
        let outbox = Outbox::new(limits.max_queue_bytes, limits.overflow);
        let state = WriterState {
            outbox,
            controls: Vec::new(),
            closed: None,
            delivers: true,
            broken: false,
            waker: None,
        };
        Self {
            socket,
            state: RefCell::new(state),
            key,
            encoding,
            link,
            turn_queue,
            last_heard: Cell::new(now),
            reads: Cell::new(true),
            shallow: limits.overflow.replaces_older(),
            last_progress: Cell::new(now),
        }
    }

    /// The key of the session that this writer belongs to.
    pub fn key(&self) -> SessionKey {
        self.key
    }

    /// The encoding of messages to this client.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The counts that the handler and the session share.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The client gave a sign of life.
    pub fn heard(&self, now: Instant) {
        self.last_heard.set(now.into());
    }

    /// The time of the last sign of life of the client.
    pub fn last_heard(&self) -> Instant {
        self.last_heard.get().into()
    }

    /// Does the session read from its client? Silence counts from the time when it begins to.
    pub fn set_reading(&self, reads: bool) {
        if !self.reads.replace(reads) && reads {
            self.heard(Instant::now());
        }
    }

    /// Does the session read from its client?
    pub fn is_reading(&self) -> bool {
        self.reads.get()
    }

    /// The time since when the client has been silent. None: the session does not read.
    pub fn silent_since(&self) -> Option<Instant> {
        self.reads.get().then(|| self.last_heard())
    }

    /// The time when the socket last took bytes that had waited.
    pub fn last_progress(&self) -> Instant {
        self.last_progress.get().into()
    }

    /// Do frames wait for the socket?
    pub fn is_waiting(&self) -> bool {
        !self.state.borrow().outbox.is_empty()
    }

    /// Does a ping or a pong wait for the socket?
    pub fn has_control_waiting(&self) -> bool {
        self.state.borrow().outbox.has_control()
    }

    /// The bytes that the peer has acknowledged so far. None: unknown. A system call.
    pub fn acks(&self) -> Option<Acks> {
        self.socket.acks()
    }

    /// The cost of the frames that wait for the socket.
    pub fn waiting_cost(&self) -> usize {
        self.state.borrow().outbox.cost()
    }

    /// Delivers the records `indexes` of `turn`, whose frames are `run`.
    pub fn deliver(&self, run: Run<'_>, turn: &Turn, indexes: &[Index]) -> Result<(), OutboxFull> {
        let Run { bytes, encoding } = run;
        let mut state = self.state.borrow_mut();
        if indexes.is_empty() || !state.delivers || state.closed.is_some() || state.broken {
            return Ok(());
        }
        let mut taken = self.write_now(&mut state, bytes.len(), |it| it.try_write(bytes));
        let waits = encoding == Encoding::Events;
        if (taken == bytes.len() && !waits) || state.broken {
            return Ok(());
        }
        let before = state.outbox.own_cost();
        let (mut dropped, mut overflowed) = (0, false);
        for &index in indexes {
            let len = turn.frame_len(index, encoding);
            if taken >= len {
                taken -= len;
                continue;
            }
            let source = Source::Topic(turn.topic_hash(index));
            let frame = turn.shared(index, encoding);
            match std::mem::take(&mut taken) {
                0 => match state.outbox.push(frame, source) {
                    Ok(left_out) => dropped += left_out,
                    Err(OutboxFull) => overflowed = true,
                },
                begun => {
                    let rest = frame.slice(begun..);
                    let end = rest.len();
                    state.outbox.push_rest(rest, end, source);
                }
            }
            if overflowed {
                break;
            }
            self.note_held_back(&mut state);
        }
        self.settle(&state, before);
        if dropped > 0 {
            self.link.note_dropped(dropped);
            self.turn_queue.queues.note_dropped(dropped);
        }
        if overflowed {
            return Err(OutboxFull);
        }
        state.wake();
        Ok(())
    }

    /// Orders the session to do something, and wakes its task.
    pub fn order(&self, control: Control) {
        let mut state = self.state.borrow_mut();
        if self.encoding == Encoding::Events {
            let before = state.outbox.own_cost();
            state.end_events(&control);
            return self.settle(&state, before);
        }
        state.controls.push(control);
        state.wake();
    }

    /// Session: the orders since the last call.
    pub fn take_controls(&self) -> Vec<Control> {
        std::mem::take(&mut self.state.borrow_mut().controls)
    }

    /// Ends the delivery of published messages: the session is about to be closed, and the client must not get
    /// messages from behind a gap.
    pub fn end_deliveries(&self) {
        self.state.borrow_mut().delivers = false;
    }

    /// Sends a close frame; nothing is sent behind it. `drops_outbox`: the frames that wait are dropped first,
    /// because the client is too slow.
    pub fn close(&self, frame: &[u8], drops_outbox: bool) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        if drops_outbox {
            self.drop_outbox(&mut state);
        }
        if !state.broken {
            self.send_or_queue(&mut state, frame, Source::Session);
        }
        state.closed = Some(Stamp::now());
        state.wake();
        self.turn_queue.note_closing(self.key);
    }

    /// Drops the frames that wait, except one that has begun to go out. Their memory is needed now, and the
    /// session will be closed for it.
    pub fn drop_waiting(&self) {
        let mut state = self.state.borrow_mut();
        state.delivers = false;
        self.drop_outbox(&mut state);
    }

    /// Drops all frames that wait, and the connection: nothing more can be sent.
    pub fn cut_off(&self) {
        let mut state = self.state.borrow_mut();
        let before = state.outbox.own_cost();
        let handlers = state.outbox.clear();
        self.credit(handlers, Source::Handler);
        self.settle(&state, before);
        state.broken = true;
        state.wake();
    }

    fn drop_outbox(&self, state: &mut WriterState) {
        let before = state.outbox.own_cost();
        let handlers = state.outbox.drop_all();
        self.credit(handlers, Source::Handler);
        self.settle(state, before);
    }

    /// The time when a close frame was sent or queued.
    pub fn closed_since(&self) -> Option<Instant> {
        self.state.borrow().closed.map(Instant::from)
    }
}

impl Drop for SessionWriter {
    fn drop(&mut self) {
        let cost = self.state.get_mut().outbox.own_cost();
        self.turn_queue.queues.recount(cost, 0);
    }
}

impl WriterState {
    /// An event stream has no task that takes orders, and no close frame. To close it means that the frames that
    /// wait are sent, or dropped at once for a client that does not read.
    fn end_events(&mut self, control: &Control) {
        match control {
            Control::Close(cause) if !cause.drops_outbox() => {}
            Control::Close(_) | Control::Abort => {
                self.outbox.drop_all();
                self.broken = true;
            }
            Control::Resume => return,
        }
        self.closed.get_or_insert_with(Stamp::now);
        self.wake();
    }

    /// Wakes the session's task: there are frames to flush or orders to carry out, or the socket broke.
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
