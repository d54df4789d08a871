//! One WebSocket: a task that owns the reading half, the limits and the way to the end.
//!
//! Frames come in through a [`Decode`], are counted against the limits and handed on: echoed,
//! published, or given to the [`Inbox`](super::shared::Inbox) of the handler. The sending half is the [`SessionWriter`], which
//! the hub shares. An idle session holds no buffer: reading goes through one that all sessions of
//! the worker share.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use super::close::CloseCause;
use super::deflate::Encoding;
use super::frame::{self, Decode, Event, is_close_code};
use super::hub::Leave;
use super::limits::{Limits, TokenBucket};
use super::outbox::Source;
use super::partials::SHORT_READ;
use super::publish::publish;
use super::session_writer::SessionWriter;
use super::shared::Shared;
use super::topic::Topic;
use crate::ipc::PublishError;

/// Names a session within its worker for as long as the worker lives. Never 0.
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
pub struct SessionKey(u64);

impl SessionKey {
    /// The key of place `slot` in its `generation`-th use, counted from 1: a late message for the
    /// session that had the place before is recognised.
    pub fn new(slot: u32, generation: u32) -> Self {
        debug_assert!(generation > 0, "key 0 means no session");
        Self(u64::from(generation) << 32 | u64::from(slot))
    }

    /// Place in the hub.
    pub fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    /// As it stands in a record's `origin`.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// What a session does with the messages of its client.
#[derive(Clone, Debug)]
pub enum Route {
    /// Send them back, with this in front.
    Echo(Rc<[u8]>),
    /// Publish them to the topic, which the session is subscribed to.
    Relay(Box<Topic>),
    /// Give them to the handler.
    Handler,
}

/// Bytes read from one socket at a time.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// Reads of one socket before the others get their turn.
const READS_IN_A_ROW: usize = 8;

/// Bytes of messages that are taken out of one read before the others get their turn: what a client
/// that does not deflate may bring in a turn.
const MOST_TAKEN_BYTES: usize = READS_IN_A_ROW * READ_BYTES;

/// What the hub tells a session, through its [`SessionWriter`].
#[derive(Debug)]
pub enum Control {
    /// Close, for this cause.
    Close(CloseCause),
    /// The handler has caught up: read on.
    Resume,
    /// The client has had its time to answer the close frame.
    Abort,
}

/// See the module's documentation. Spawned on the hub's thread, it is done when the session is over.
pub struct Session<R, D> {
    shared: Rc<Shared>,
    reader: R,
    decoder: D,
    route: Route,
    writer: Rc<SessionWriter>,
    /// Boxed: most routes have none.
    bucket: Option<Box<TokenBucket>>,
    limits: Rc<Limits>,
    /// What came and was not decoded yet: together with the handshake, or more than one turn is for.
    undecoded: Box<[u8]>,
    /// The handler has enough to do.
    paused: bool,
    phase: Phase,
    /// The client broke a rule, and the handler still answers what came before.
    failing: Option<Box<Failing>>,
    /// The client has ended its side while this one still had something to send.
    ended: bool,
    /// The end is reported to the [`Inbox`](super::shared::Inbox).
    is_observed: bool,
    /// The cause of the end, once it is known. Boxed: an open session has none.
    cause: Option<Box<CloseCause>>,
}

/// Why the session is to be closed, and when at the latest.
struct Failing {
    cause: CloseCause,
    deadline: Pin<Box<Sleep>>,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Phase {
    Open,
    /// A close frame is on its way; the client's answer, or its end, is awaited.
    Closing,
    /// The close frame was written and the writing side ended. Input is read to its end, because a
    /// socket dropped with unread input is reset, and takes the close frame with it.
    Finishing,
}

impl<R, D> fmt::Debug for Session<R, D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("key", &self.writer.key())
            .field("route", &self.route)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl<R: AsyncRead + Unpin + 'static, D: Decode + Unpin> Session<R, D> {
    /// A session that reads from `reader` and sends through `writer`. `early` came together with
    /// the handshake.
    pub fn new(
        shared: Rc<Shared>,
        reader: R,
        decoder: D,
        route: Route,
        writer: Rc<SessionWriter>,
        limits: Rc<Limits>,
        early: Vec<u8>,
    ) -> Self {
        let is_observed = matches!(route, Route::Handler);
        let partials = &shared.turn_queue.partials;
        partials.changed(writer.key(), 0, early.len(), 0);
        Self {
            shared,
            reader,
            decoder,
            route,
            writer,
            bucket: limits
                .rate_limit
                .map(|rate| Box::new(TokenBucket::new(rate, Instant::now()))),
            limits,
            undecoded: early.into_boxed_slice(),
            paused: false,
            phase: Phase::Open,
            failing: None,
            ended: false,
            is_observed,
            cause: None,
        }
    }

    /// The same session, whose end is reported to user code although user code does not run it.
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.is_observed = true;
        self
    }

    fn key(&self) -> SessionKey {
        self.writer.key()
    }

    /// Does what the hub says. False when the session is to end at once.
    fn obey(&mut self) -> bool {
        for control in self.writer.take_controls() {
            match control {
                Control::Close(cause) => self.close(cause),
                Control::Resume => self.paused = false,
                Control::Abort => return false,
            }
        }
        true
    }

    /// Drives the session. Ready when it is over.
    fn drive(&mut self, task: &mut task::Context<'_>) -> Poll<()> {
        let flushed = match self.writer.poll_flush(task) {
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        if flushed && self.phase == Phase::Closing {
            self.writer.finish();
            self.phase = Phase::Finishing;
        }
        if self.ended {
            return if flushed {
                Poll::Ready(())
            } else {
                Poll::Pending
            };
        }
        let shared = Rc::clone(&self.shared);
        for _ in 0..READS_IN_A_ROW {
            self.poll_failing(task);
            let reads = self.phase != Phase::Open || !self.must_not_read(task);
            self.writer.listen(reads);
            if !reads {
                return Poll::Pending;
            }
            let scratch = &mut *shared.scratch.borrow_mut();
            if !self.undecoded.is_empty() {
                let held = self.held();
                let mut undecoded = std::mem::take(&mut self.undecoded);
                self.recount(held, 0);
                self.take_in(&mut undecoded, &mut scratch.output);
                break;
            }
            let is_short = shared.turn_queue.partials.is_used_up() && self.decoder.held() == 0;
            let most = if is_short { SHORT_READ } else { READ_BYTES };
            let mut input = ReadBuf::new(&mut scratch.input[..most]);
            match ready!(Pin::new(&mut self.reader).poll_read(task, &mut input)) {
                Ok(()) if !input.filled().is_empty() => {}
                // It has said goodbye and hears no further questions, but it may still read what
                // was sent before the close frame.
                Ok(()) if self.phase == Phase::Closing => {
                    self.ended = true;
                    break;
                }
                _ => return Poll::Ready(()),
            }
            self.take_in(input.filled_mut(), &mut scratch.output);
            if !self.undecoded.is_empty() {
                break;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    /// Memory for what has come and could not be handed on yet.
    fn held(&self) -> usize {
        self.decoder.held() + self.undecoded.len()
    }

    /// The worker's budget learns what is held now, after `bytes` were read.
    fn recount(&self, before: usize, bytes: usize) {
        let partials = &self.shared.turn_queue.partials;
        partials.changed(self.key(), before, self.held(), bytes);
    }

    /// Is the memory for incomplete messages used up, and this one not among those that come to their end?
    fn waits_for_memory(&self, task: &task::Context<'_>) -> bool {
        let partials = &self.shared.turn_queue.partials;
        partials.is_used_up()
            && self.undecoded.is_empty()
            && self.decoder.held() > 0
            && !partials.may_read_on(self.key(), Instant::now(), task.waker())
    }

    /// Is somebody so far behind that reading more would only fill queues?
    fn must_not_read(&self, task: &mut task::Context<'_>) -> bool {
        if self.failing.is_some()
            || self.paused
            || self.writer.waiting_cost() > self.limits.max_queue_bytes
            || self.waits_for_memory(task)
        {
            return true;
        }
        let turn_queue = &self.shared.turn_queue;
        let answers = matches!(self.route, Route::Echo(_)) || self.writer.is_waiting();
        if answers && turn_queue.queues.is_over() {
            // The hub makes room before this task has its next turn.
            turn_queue.request();
            task.waker().wake_by_ref();
            return true;
        }
        let is_behind = self.receiver_is_behind();
        if is_behind {
            let turn_queue = &self.shared.turn_queue;
            match self.route {
                Route::Handler if !self.shared.inbox.has_room() => {
                    turn_queue.wait_for_mailbox(task.waker().clone());
                }
                Route::Handler | Route::Relay(_) => {
                    turn_queue.wait_for_hub(task.waker().clone());
                }
                Route::Echo(_) => unreachable!("an echo is for its sender only"),
            }
        }
        is_behind
    }

    /// Is a hub, or the handler's mailbox, so far behind that it should get nothing more?
    fn receiver_is_behind(&self) -> bool {
        let turn_queue = &self.shared.turn_queue;
        match self.route {
            Route::Echo(_) => false,
            Route::Relay(_) => {
                let most_bytes = self.shared.bus.max_message_bytes();
                turn_queue.is_held() || turn_queue.relays_must_wait(most_bytes)
            }
            Route::Handler => turn_queue.is_held() || !self.shared.inbox.has_room(),
        }
    }

    /// Has this input brought as much as may be taken in before the queues are looked at again?
    /// A plain client's never has: its payloads are no longer than the input. A deflated message
    /// may be a thousand times as long.
    fn is_enough(&self, taken_bytes: usize) -> bool {
        matches!(self.writer.encoding(), Encoding::Deflated(_))
            && (taken_bytes >= MOST_TAKEN_BYTES || self.paused || self.receiver_is_behind())
    }

    /// Decodes `input`, hands it on, and sends what is to be answered in one write. `output` keeps
    /// only its memory.
    fn take_in(&mut self, input: &mut [u8], output: &mut Vec<u8>) {
        if self.phase == Phase::Finishing {
            return;
        }
        let now = Instant::now();
        self.writer.heard(now);
        let (held, bytes) = (self.held(), input.len());
        let outcome = self.decode_all(input, output, now);
        // Before anything closes the session, which gives up what it holds.
        self.recount(held, bytes);
        if !output.is_empty() {
            self.writer.send(output, Source::Session);
        }
        output.clear();
        output.shrink_to(READ_BYTES);
        match outcome {
            Ok(None) => {}
            Ok(Some(cause)) => self.close_answered(cause),
            Err(cause) => self.fail(cause),
        }
    }

    /// The client broke a rule. What came before it was in order: the handler, on its own thread,
    /// may answer that first. Nothing to do when it is closing already.
    fn fail(&mut self, cause: CloseCause) {
        let answers = matches!(self.route, Route::Handler) && self.writer.link().owes();
        if answers && self.phase == Phase::Open {
            let deadline = Box::pin(tokio::time::sleep(self.limits.answer_timeout));
            self.failing = Some(Box::new(Failing { cause, deadline }));
        } else {
            self.close(cause);
        }
    }

    /// Closes a client that broke a rule once everything before it is answered.
    fn poll_failing(&mut self, task: &mut task::Context<'_>) {
        let Some(failing) = &mut self.failing else {
            return;
        };
        if (failing.deadline.as_mut().poll(task).is_ready() || !self.writer.link().owes())
            && let Some(failing) = self.failing.take()
        {
            self.close(failing.cause);
        }
    }

    /// Hands on everything in `input`, or keeps the rest when that is too much at once. Returns the
    /// client's close frame if one came; nothing behind it counts.
    fn decode_all(
        &mut self,
        mut input: &mut [u8],
        output: &mut Vec<u8>,
        now: Instant,
    ) -> Result<Option<CloseCause>, CloseCause> {
        let mut taken_bytes = 0;
        while let Some(event) = self.decoder.decode(&mut input)? {
            if let Event::Close { code, reason } = event {
                let reason = reason.to_owned();
                return Ok(Some(CloseCause::Client { code, reason }));
            }
            if self.phase != Phase::Open {
                continue;
            }
            if self.bucket.as_mut().is_some_and(|bucket| !bucket.take(now)) {
                return Err(CloseCause::TooManyMessages);
            }
            if let Event::Message { payload, .. } = &event {
                taken_bytes += payload.len();
            }
            match event {
                Event::Message { kind, payload } => match &self.route {
                    Route::Echo(prefix) => {
                        let encoding = self.writer.encoding();
                        encoding.append(kind, [prefix, &payload], output);
                    }
                    Route::Relay(topic) => {
                        let header = frame::message_header(kind, payload.len());
                        let bus = &self.shared.bus;
                        let offset = publish(bus, topic, kind, &payload, 0).map_err(refused)?;
                        let bytes = header.len() + payload.len();
                        self.shared.turn_queue.note_published(offset, bytes);
                    }
                    Route::Handler => {
                        // Counted first: a handler may receive it at once.
                        self.paused |= self.writer.link().handed_over(payload.len());
                        self.shared.inbox.message(self.writer.key(), kind, payload);
                        self.shared.turn_queue.request();
                    }
                },
                // In order with what else is answered, unless it would have to wait for more than that.
                Event::Ping(payload) if self.writer.is_waiting() => {
                    self.writer.send_control(&frame::pong(payload));
                }
                Event::Ping(payload) => output.extend_from_slice(&frame::pong(payload)),
                Event::Pong(_) => {}
                Event::Close { .. } => unreachable!("a close frame has returned above"),
            }
            if !input.is_empty() && self.is_enough(taken_bytes) {
                self.undecoded = (&*input).into();
                break;
            }
        }
        Ok(None)
    }

    /// The client closes, or answers our close frame. In the second case its own may have crossed
    /// ours, which still waits behind other frames: the flush is what ends the session.
    fn close_answered(&mut self, cause: CloseCause) {
        if self.phase == Phase::Open {
            let code = cause.code();
            let answer = if is_close_code(code) {
                frame::close(code, "")
            } else {
                frame::close_without_code()
            };
            self.begin_close(cause, &answer);
        }
    }

    /// Closes from this side.
    fn close(&mut self, cause: CloseCause) {
        if self.phase == Phase::Open {
            let close_frame = frame::close(cause.code(), &cause.reason());
            self.begin_close(cause, &close_frame);
        }
    }

    fn begin_close(&mut self, cause: CloseCause, close_frame: &[u8]) {
        let drops_outbox = cause.drops_outbox();
        self.note_end(cause);
        self.writer.close(close_frame, drops_outbox);
        self.phase = Phase::Closing;
        self.give_up_input();
    }

    /// What is not whole yet will never be handed on.
    fn give_up_input(&mut self) {
        let held = self.held();
        self.decoder.end();
        self.undecoded = Box::default();
        self.recount(held, 0);
    }

    /// Notes the cause of the end, and reports it. The first cause counts.
    fn note_end(&mut self, cause: CloseCause) {
        if self.cause.is_some() {
            return;
        }
        if self.is_observed {
            self.shared.inbox.closed(self.key(), &cause);
            self.shared.turn_queue.request();
        }
        self.cause = Some(Box::new(cause));
    }
}

/// The cause for which a client is closed whose message the bus refuses.
fn refused(error: PublishError) -> CloseCause {
    match error {
        PublishError::TooLarge { .. } => CloseCause::TooLargeForBus,
        _ => CloseCause::BusRefuses,
    }
}

impl<R: AsyncRead + Unpin + 'static, D: Decode + Unpin> Future for Session<R, D> {
    /// The cause of the end. If both sides closed, that of the first.
    type Output = CloseCause;

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<CloseCause> {
        let session = self.get_mut();
        if session.obey() {
            ready!(session.drive(task));
        }
        session.give_up_input();
        session.note_end(CloseCause::Lost);
        session.shared.hub.do_send(Leave(session.key()));
        let cause = session
            .cause
            .take()
            .map_or(CloseCause::Lost, |cause| *cause);
        Poll::Ready(cause)
    }
}
