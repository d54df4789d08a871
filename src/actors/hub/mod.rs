//! The hub that delivers messages to sessions. It owns the topics and the sessions of a worker.
//!
//! At the end of a turn it reads the bus, copies the records that its sessions want into the turn's arena, and
//! writes them out. A message of this worker takes the same way as one of another: onto the bus, and
//! from there, in the order of the bus, to the sessions. Commands of handlers come in batches
//! through a mailbox, and are carried out in their order.

mod deadlines;
mod deliver;
mod liveness;
mod messages;
mod registry;
mod requests;
mod shedding;
mod staggered_close;
mod topics;

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use actix::fut::ActorFuture;
use actix::{Actor, AsyncContext, Context};
use tokio::sync::oneshot;

pub use self::messages::{Command, Commands};
use self::registry::{Due, Registry};
pub use self::requests::{
    AskHandler, NotifyOpened, OpenEventStream, OpenWebSocket, PendingClient, Requests, SessionStart,
};
use self::staggered_close::StaggeredClose;
use self::topics::{TopicId, Topics};
use super::close::CloseCause;
use super::inbox::Inbox;
use super::mailbox::{Mailbox, TaskSignal};
use super::pace::Pace;
use super::rejection::Rejection;
use super::session_key::SessionKey;
use super::session_writer::Control;
use super::shared::Shared;
use super::sse::Position;
use super::turn::{Index, Turn};
use super::turn_queue::TurnQueue;
use super::watch::Watch;
use super::wheel::{TICK, Wheel};
use crate::ipc::{Bus, Counter, Subscriber};

/// Commands that one handler's thread has for the hub.
pub type CommandMailbox = Arc<Mailbox<Commands, TaskSignal>>;

/// Batches of commands carried out before the bus is read again.
const BATCHES_IN_A_ROW: usize = 8;

/// The part of a worker that delivers records to its sessions.
pub struct Hub {
    bus: Bus,
    subscriber: Subscriber,
    inbox: Rc<dyn Inbox>,
    turn_queue: Rc<TurnQueue>,
    orders: CommandMailbox,
    /// New clients.
    requests: Rc<Requests>,
    /// The parts that all sessions share.
    shared: Rc<Shared>,
    registry: Registry,
    topics: Topics,
    wheel: Wheel<SessionKey>,
    /// The time up to which the wheel has been turned.
    ticked: Instant,
    /// Retained between turns for its memory.
    turn: Turn,
    /// Retained between batches for its memory.
    commands: Commands,
    /// Wakes the hub when the bus has something for it.
    watch: Watch,
    /// The check whether all hubs keep pace.
    pace: Pace,
    /// Sessions that this worker may have, over all routes.
    most_sessions: usize,
    /// The next fields are empty between turns; they retain their memory. Topics that the turn has records of.
    touched_topics: Vec<TopicId>,
    /// Sessions that the turn has records for, if it has several topics.
    touched_sessions: Vec<SessionKey>,
    /// Sessions whose outbox is full, and whose route says that this closes them.
    overflowed: Vec<SessionKey>,
    scratch: Vec<u8>,
    /// The records, and their frames, of one session that does not get the same as the others.
    private_records: Vec<Index>,
    private_scratch: Vec<u8>,
    topic_name: String,
    /// Dropped with the hub, so that the worker learns of it.
    _lives: oneshot::Sender<Infallible>,
    /// Set while the worker shuts down: the schedule that closes the sessions.
    staggered_close: Option<StaggeredClose>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Hub")
            .field("offset", &self.subscriber.offset())
            .field("sessions", &self.registry.len())
            .field("topics", &self.topics.len())
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub that reads `bus` from its end on, and has room for `most_sessions`. It hands the events for handlers
    /// to `inbox`, and takes `orders` from them. `lives` is dropped with it.
    pub fn new(
        bus: Bus,
        inbox: Rc<dyn Inbox>,
        orders: CommandMailbox,
        requests: Rc<Requests>,
        watch: Watch,
        most_sessions: usize,
        lives: oneshot::Sender<Infallible>,
    ) -> Self {
        let subscriber = bus.subscriber();
        let turn_queue = Rc::clone(requests.turn_queue());
        let shared = Shared::new(bus.clone(), Rc::clone(&inbox), Rc::clone(&turn_queue));
        let turn = Turn::new(bus.epoch(), turn_queue.queues.gauge().clone());
        Self {
            pace: Pace::new(bus.clone()),
            bus,
            subscriber,
            inbox,
            turn_queue,
            orders,
            requests,
            shared,
            registry: Registry::default(),
            topics: Topics::default(),
            wheel: Wheel::default(),
            ticked: Instant::now(),
            turn,
            commands: Commands::default(),
            watch,
            most_sessions,
            touched_topics: Vec::new(),
            touched_sessions: Vec::new(),
            overflowed: Vec::new(),
            scratch: Vec::new(),
            private_records: Vec::new(),
            private_scratch: Vec::new(),
            topic_name: String::new(),
            _lives: lives,
            staggered_close: None,
        }
    }

    /// One turn of the loop: carries out the commands of handlers, delivers the records of the bus, and hands over
    /// the messages that sessions received.
    fn turn(&mut self, task: &mut task::Context<'_>) {
        self.turn_queue.begin(task.waker());
        if self.turn_queue.take_has_requests() {
            self.carry_out_requests();
            for open in self.requests.take_websockets() {
                self.open_websocket(open);
            }
            for open in self.requests.take_event_streams() {
                self.open_event_stream(open);
            }
        }
        self.orders.signal().register(task.waker());
        self.watch.poll_woken(task);
        let more = self.carry_out_and_deliver();
        self.registry.shed(&self.turn_queue.queues);
        let dropped = self.turn_queue.queues.take_dropped();
        if dropped > 0 {
            self.bus.count(Counter::Dropped, dropped);
        }
        self.watch.reads_on_at(self.subscriber.offset());
        let offset = self.subscriber.offset();
        let held = self.pace.poll_must_wait(task);
        self.turn_queue.has_read(offset, held);
        for key in self.turn_queue.take_with_capacity() {
            self.inbox.send_ready(key);
        }
        let now = Instant::now();
        for key in self.turn_queue.take_closing() {
            self.look_at(key, now);
        }
        // In this order: a handler that frees capacity after the check finds the note that sessions wait.
        self.inbox.flush(self.turn_queue.has_stalled());
        if self.inbox.has_capacity() {
            self.turn_queue.resume_stalled();
        }
        self.turn_queue.set_sessions(self.registry.len());
        if more {
            task.waker().wake_by_ref();
        }
    }

    /// Carries out the commands of handlers and delivers the records of the bus. So the messages that one handler
    /// has sent and published reach a client in the order of the calls. True when there may be more.
    fn carry_out_and_deliver(&mut self) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        let mut more = false;
        for batch in 0..BATCHES_IN_A_ROW {
            // In this order: a message that was sent before a record that is on the bus by now is among the orders.
            let end = self.subscriber.end();
            let ordered = self.orders.take(&mut commands);
            if ordered {
                self.carry_out(&mut commands);
            } else if batch > 0 && self.subscriber.offset() >= end {
                more = false;
                break; // nothing has come since the last look
            }
            let rest = self.deliver(end);
            more = rest || ordered;
            if rest || !ordered {
                break;
            }
        }
        self.commands = commands;
        more
    }

    /// One tick of the wheel: pings, silences, handshakes and closes that are due.
    fn tick(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        // A thread that was busy for long, or stopped, makes up for the ticks it has missed.
        while now.duration_since(self.ticked) >= TICK {
            self.ticked += TICK;
            self.wheel.advance(&mut due);
        }
        for key in due {
            self.look_at(key, now);
        }
        for key in self.turn_queue.partials.overdue(now) {
            self.close(key, CloseCause::MessageTooSlow);
        }
        self.turn_queue.replays.sweep();
        if let Some(fate) = self.bus.fate() {
            self.close_cut_off(fate);
        }
        self.close_due_sessions(now);
    }

    /// Does everything that is due for a session, and schedules the next look.
    fn look_at(&mut self, key: SessionKey, now: Instant) {
        let position = Position {
            epoch: self.bus.epoch(),
            next: self.subscriber.offset(),
        };
        match self.registry.look_at(key, now, position) {
            Due::In(delay) => self.wheel.insert(key, delay),
            Due::Never => {}
            Due::NotAnswered => self.give_up(key),
        }
    }

    /// Rejects a client whose handler has not answered in time, and notifies the handler.
    fn give_up(&mut self, key: SessionKey) {
        if let Some(opening) = self.registry.take_opening(key) {
            let cause = CloseCause::NotAnswered;
            opening.reject(Rejection::new(504, cause.reason()));
            self.inbox.closed(key, &cause);
            self.turn_queue.request();
        }
    }

    /// Closes every session, spread over `grace`, so that the clients do not all reconnect at once.
    ///
    /// A client whose handshake is not answered yet is served: it is accepted or rejected as usual, and closed
    /// then. A refusal would only hit clients that connected a moment too early.
    fn shut_down(&mut self, grace: Duration) {
        if self.staggered_close.is_none() {
            let now = Instant::now();
            // Half of the time is for closing, the other half for the clients' answers.
            self.staggered_close = Some(StaggeredClose::new(now, grace / 2, self.registry.len()));
            self.close_due_sessions(now);
        }
    }

    /// While the worker shuts down: closes the sessions that are due in this tick.
    fn close_due_sessions(&mut self, now: Instant) {
        let Some(mut staggered_close) = self.staggered_close.take() else {
            return;
        };
        for key in staggered_close.due(now, self.registry.open_sessions()) {
            self.close(key, CloseCause::Restart);
        }
        self.staggered_close = Some(staggered_close);
    }

    /// Closes a session that opens while the worker shuts down: its client may reconnect at once, to another worker.
    fn close_if_late(&self, key: SessionKey) {
        if self.staggered_close.is_some() {
            self.close(key, CloseCause::Restart);
        }
    }

    fn close(&self, key: SessionKey, cause: CloseCause) {
        if let Some(writer) = self.registry.writer(key) {
            writer.end_deliveries();
        }
        self.registry.order(key, Control::Close(cause));
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.bus.begin_pace(self.subscriber.offset());
        context.spawn(Turns);
        context.run_interval(TICK, |hub, _| hub.tick());
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.bus.end_pace();
    }
}

/// Runs the hub's turns as part of its actor, whenever its task is woken.
struct Turns;

impl ActorFuture<Hub> for Turns {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        hub: &mut Hub,
        _context: &mut Context<Hub>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        hub.turn(task);
        Poll::Pending
    }
}
