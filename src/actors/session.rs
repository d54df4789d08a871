//! The session that serves one WebSocket: a task that owns the reading half, the limits and the close handshake.
//!
//! Frames come in through a [`Decode`], are counted against the limits, and go to the [`Protocol`] of the
//! session. The writing half is the [`SessionWriter`], which the hub shares. An idle session holds no buffer:
//! all sessions of the worker read through one that they share.

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
use super::limits::{Limits, TokenBucket};
use super::outbox::Source;
use super::partials::SHORT_READ;
use super::protocol::{Protocol, SessionContext};
use super::session_key::SessionKey;
use super::session_writer::{Control, SessionWriter};
use super::shared::{READ_BYTES, Shared};
use super::turn_queue::{Backlog, SessionRequest};

/// Reads of one socket before the other sockets get their turn.
const READS_IN_A_ROW: usize = 8;

/// Bytes of messages that are taken out of one read before the others get their turn. A client that does not
/// deflate can bring this many in a turn.
const MOST_TAKEN_BYTES: usize = READS_IN_A_ROW * READ_BYTES;

/// The task of one WebSocket. Spawned on the hub's thread, it is done when the session is over.
pub struct Session<R, D> {
    shared: Rc<Shared>,
    reader: R,
    decoder: D,
    protocol: Box<dyn Protocol>,
    writer: Rc<SessionWriter>,
    /// Boxed: most routes have none.
    bucket: Option<Box<TokenBucket>>,
    limits: Rc<Limits>,
    /// Input that is not decoded yet: it came with the handshake, or is more than one turn takes.
    undecoded: Box<[u8]>,
    /// The protocol has paused reading.
    paused: bool,
    phase: Phase,
    /// The client broke a rule, and earlier messages are still being answered.
    delayed_close: Option<Box<DelayedClose>>,
    /// The client has ended its side while this one still had something to send.
    ended: bool,
    /// The end is reported to user code, which does not run the session.
    is_observed: bool,
    /// The cause of the end, once it is known. Boxed: an open session has none.
    cause: Option<Box<CloseCause>>,
}

/// A close that waits for the answers to earlier messages, until its deadline.
struct DelayedClose {
    cause: CloseCause,
    deadline: Pin<Box<Sleep>>,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Phase {
    Open,
    /// A close frame is on its way; the session waits for the client's answer, or its end.
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
        protocol: Box<dyn Protocol>,
        writer: Rc<SessionWriter>,
        limits: Rc<Limits>,
        early: Vec<u8>,
    ) -> Self {
        let partials = &shared.turn_queue.partials;
        partials.changed(writer.key(), 0, early.len(), 0);
        Self {
            shared,
            reader,
            decoder,
            protocol,
            writer,
            bucket: limits
                .rate_limit
                .map(|rate| Box::new(TokenBucket::new(rate, Instant::now()))),
            limits,
            undecoded: early.into_boxed_slice(),
            paused: false,
            phase: Phase::Open,
            delayed_close: None,
            ended: false,
            is_observed: false,
            cause: None,
        }
    }

    /// The same session, whose end is reported to user code although user code does not run it.
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.is_observed = true;
        self
    }

    /// Begins the session: sends the response to the handshake, and behind it the replies with which the
    /// protocol begins.
    pub fn open(&mut self, mut response: Vec<u8>) {
        let opened = self.protocol.opened(&mut SessionContext {
            shared: &self.shared,
            writer: &self.writer,
            output: &mut response,
            is_paused: &mut self.paused,
        });
        self.writer.send(&response, Source::Session);
        if let Err(cause) = opened {
            self.close(cause);
        }
    }

    fn key(&self) -> SessionKey {
        self.writer.key()
    }

    /// Carries out the orders of the hub. False when the session must end at once.
    fn carry_out_orders(&mut self) -> bool {
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
            self.poll_delayed_close(task);
            let reads = self.phase != Phase::Open || !self.must_not_read(task);
            self.writer.set_reading(reads);
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
                // The client has ended its side, but it may still read the frames before the close frame.
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

    /// Memory for input that the protocol has not got yet.
    fn held(&self) -> usize {
        self.decoder.held() + self.undecoded.len()
    }

    /// Reports to the worker's budget how much is held now, after `bytes` were read.
    fn recount(&self, before: usize, bytes: usize) {
        let partials = &self.shared.turn_queue.partials;
        partials.changed(self.key(), before, self.held(), bytes);
    }

    /// Is the memory for incomplete messages used up, so that this message must not be read to its end?
    fn waits_for_memory(&self, task: &task::Context<'_>) -> bool {
        let partials = &self.shared.turn_queue.partials;
        partials.is_used_up()
            && self.undecoded.is_empty()
            && self.decoder.held() > 0
            && !partials.may_read_on(self.key(), Instant::now(), task.waker())
    }

    /// Is a queue so full that more input would only make it longer?
    fn must_not_read(&self, task: &mut task::Context<'_>) -> bool {
        if self.delayed_close.is_some()
            || self.paused
            || self.writer.waiting_cost() > self.limits.max_queue_bytes
            || self.waits_for_memory(task)
        {
            return true;
        }
        let turn_queue = &self.shared.turn_queue;
        let backlog = if self.writer.is_waiting() && turn_queue.queues.is_over() {
            Some(Backlog::Outboxes)
        } else {
            self.protocol.must_pause(&self.shared)
        };
        if let Some(backlog) = backlog {
            turn_queue.wait_for(backlog, task.waker());
        }
        backlog.is_some()
    }

    /// Has this input brought so many bytes that the queues must be checked first? Never for a client that does not
    /// deflate: its payloads are no longer than the input. A deflated message may be a thousand times as long.
    fn is_enough(&self, taken_bytes: usize) -> bool {
        matches!(self.writer.encoding(), Encoding::Deflated(_))
            && (taken_bytes >= MOST_TAKEN_BYTES
                || self.paused
                || self.protocol.must_pause(&self.shared).is_some())
    }

    /// Decodes `input`, and sends the replies in one write. `output` retains only its memory.
    fn take_in(&mut self, input: &mut [u8], output: &mut Vec<u8>) {
        if self.phase == Phase::Finishing {
            return;
        }
        let now = Instant::now();
        self.writer.heard(now);
        let (held, bytes) = (self.held(), input.len());
        let outcome = self.decode_all(input, output, now);
        // This comes before any close of the session, which drops the input that it holds.
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

    /// Closes because of a message of the client. The messages before it were valid: the handler, on its own
    /// thread, may answer them first. Does nothing when the session is closing already.
    fn fail(&mut self, cause: CloseCause) {
        let is_answering = self.protocol.is_answering(self.writer.link());
        if is_answering && self.phase == Phase::Open {
            let deadline = Box::pin(tokio::time::sleep(self.limits.answer_timeout));
            self.delayed_close = Some(Box::new(DelayedClose { cause, deadline }));
        } else {
            self.close(cause);
        }
    }

    /// Closes a client that broke a rule, once everything before it is answered.
    fn poll_delayed_close(&mut self, task: &mut task::Context<'_>) {
        let Some(delayed) = &mut self.delayed_close else {
            return;
        };
        let is_due = delayed.deadline.as_mut().poll(task).is_ready();
        if (is_due || !self.protocol.is_answering(self.writer.link()))
            && let Some(delayed) = self.delayed_close.take()
        {
            self.close(delayed.cause);
        }
    }

    /// Hands everything in `input` to the protocol, or stores the rest when that is too much at once. Returns the
    /// cause if the client has closed; input behind its close frame is ignored.
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
                Event::Message { kind, payload } => {
                    let mut context = SessionContext {
                        shared: &self.shared,
                        writer: &self.writer,
                        output,
                        is_paused: &mut self.paused,
                    };
                    self.protocol.message(kind, payload, &mut context)?;
                }
                // The pong stays in order with the other answers, unless it would have to wait for more than those.
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

    /// The client closes, or answers our close frame. In the second case its own frame may have crossed
    /// ours, which still waits behind other frames: the flush ends the session.
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

    /// Drops input that is not a whole message yet.
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
        let mut context = SessionContext {
            shared: &self.shared,
            writer: &self.writer,
            output: &mut Vec::new(),
            is_paused: &mut self.paused,
        };
        self.protocol.closed(&cause, &mut context);
        self.cause = Some(Box::new(cause));
    }
}

impl<R: AsyncRead + Unpin + 'static, D: Decode + Unpin> Future for Session<R, D> {
    /// The cause of the end. If both sides closed, that of the first.
    type Output = CloseCause;

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<CloseCause> {
        let session = self.get_mut();
        if session.carry_out_orders() {
            ready!(session.drive(task));
        }
        session.give_up_input();
        session.note_end(CloseCause::Lost);
        let request = SessionRequest::Leave {
            session: session.key(),
        };
        session.shared.turn_queue.request_for(request);
        let cause = session
            .cause
            .take()
            .map_or(CloseCause::Lost, |cause| *cause);
        Poll::Ready(cause)
    }
}
