//! The sending half of a session: the socket's writing end and the outbox behind it.
//!
//! The hub writes here at the end of a turn, the session's own task writes pongs, echoes and what
//! had to wait. All on the I/O thread, none ever blocks: what the socket does not take waits in the
//! outbox, bounded, and a slow client delays nobody.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use super::close::CloseCause;
use super::deflate::{self, Encoding};
use super::frame::{self, ControlFrame, Kind};
use super::limits::Limits;
use super::link::Link;
use super::outbox::{Outbox, OutboxFull, Overflow, Source};
use super::replays::Piece;
use super::session_key::SessionKey;
use super::socket_writer::{Acks, SocketWriter};
use super::sse::{self, Position};
use super::stamp::Stamp;
use super::turn::{Index, Run, Turn};
use super::turn_queue::TurnQueue;

/// Frames that go into one vectored write.
const SLICES: usize = 64;

/// What the hub orders a session to do, through its [`SessionWriter`].
#[derive(Debug)]
pub enum Control {
    /// Close, for this cause.
    Close(CloseCause),
    /// The handler has caught up: read on.
    Resume,
    /// The client has had its time to answer the close frame.
    Abort,
}

/// See the module's documentation.
pub struct SessionWriter {
    socket: Box<dyn SocketWriter>,
    sending: RefCell<Sending>,
    key: SessionKey,
    encoding: Encoding,
    link: Arc<Link>,
    turn_queue: Rc<TurnQueue>,
    /// When the session last heard of its client.
    last_heard: Cell<Stamp>,
    /// The session does not read: that nothing is heard says nothing about the client.
    deaf: Cell<bool>,
    /// What waits is to wait here and not in the system below, where no policy can replace it.
    shallow: bool,
    /// When the socket last took something, or the outbox began to wait.
    last_progress: Cell<Stamp>,
}

struct Sending {
    outbox: Outbox,
    /// What the hub has told the session, and its task has not taken up yet.
    controls: Vec<Control>,
    /// When a close frame was sent or queued: nothing comes behind it.
    closed: Option<Stamp>,
    /// Published messages still go to this client.
    delivers: bool,
    /// The socket refuses for good.
    broken: bool,
    /// The session's task, which flushes the outbox and does what it is told.
    waker: Option<Waker>,
}

impl fmt::Debug for SessionWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sending = self.sending.borrow();
        formatter
            .debug_struct("SessionWriter")
            .field("waiting_bytes", &sending.outbox.bytes())
            .field("closed", &sending.closed)
            .field("broken", &sending.broken)
            .finish_non_exhaustive()
    }
}

impl SessionWriter {
    /// A writer with an empty outbox, to a client that takes messages in `encoding`. The handler
    /// behind `link` is told of its bytes that were written.
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
        let sending = Sending {
            outbox,
            controls: Vec::new(),
            closed: None,
            delivers: true,
            broken: false,
            waker: None,
        };
        Self {
            socket,
            sending: RefCell::new(sending),
            key,
            encoding,
            link,
            turn_queue,
            last_heard: Cell::new(now),
            deaf: Cell::new(false),
            shallow: limits.overflow == Overflow::Latest,
            last_progress: Cell::new(now),
        }
    }

    /// The session that this is the sending half of.
    pub fn key(&self) -> SessionKey {
        self.key
    }

    /// How messages go to this client.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What the handler and the session both count.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The client was heard of.
    pub fn heard(&self, now: Instant) {
        self.last_heard.set(now.into());
    }

    /// When the client was last heard of.
    pub fn last_heard(&self) -> Instant {
        self.last_heard.get().into()
    }

    /// Does the session read from its client at all? Silence counts from when it began to.
    pub fn listen(&self, listens: bool) {
        if self.deaf.replace(!listens) && listens {
            self.heard(Instant::now());
        }
    }

    /// Does the session not read from its client?
    pub fn is_deaf(&self) -> bool {
        self.deaf.get()
    }

    /// Since when the client has been silent. None: nobody listens to it.
    pub fn silent_since(&self) -> Option<Instant> {
        (!self.deaf.get()).then(|| self.last_heard())
    }

    /// When the socket last took something that had waited.
    pub fn last_progress(&self) -> Instant {
        self.last_progress.get().into()
    }

    /// Does anything wait for the socket?
    pub fn is_waiting(&self) -> bool {
        !self.sending.borrow().outbox.is_empty()
    }

    /// Does a ping or a pong wait for the socket?
    pub fn has_control_waiting(&self) -> bool {
        self.sending.borrow().outbox.has_control()
    }

    /// What the peer has acknowledged so far. None: nobody knows. A system call.
    pub fn acks(&self) -> Option<Acks> {
        self.socket.acks()
    }

    /// What waits for the socket costs this much.
    pub fn waiting_cost(&self) -> usize {
        self.sending.borrow().outbox.cost()
    }

    /// Delivers the records `indexes` of `turn`, whose frames are `run`.
    pub fn deliver(&self, run: Run<'_>, turn: &Turn, indexes: &[Index]) -> Result<(), OutboxFull> {
        let Run { bytes, encoding } = run;
        let mut sending = self.sending.borrow_mut();
        if indexes.is_empty() || !sending.delivers || sending.closed.is_some() || sending.broken {
            return Ok(());
        }
        let mut taken = self.write_now(&mut sending, bytes.len(), |it| it.try_write(bytes));
        let waits = encoding == Encoding::Events;
        if (taken == bytes.len() && !waits) || sending.broken {
            return Ok(());
        }
        let before = sending.outbox.own_cost();
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
                0 => match sending.outbox.push(frame, source) {
                    Ok(left_out) => dropped += left_out,
                    Err(OutboxFull) => overflowed = true,
                },
                begun => {
                    let rest = frame.slice(begun..);
                    let end = rest.len();
                    sending.outbox.push_rest(rest, end, source);
                }
            }
            if overflowed {
                break;
            }
            self.note_held_back(&mut sending);
        }
        self.settle(&sending, before);
        if dropped > 0 {
            self.link.note_dropped(dropped);
            self.turn_queue.queues.note_dropped(dropped);
        }
        if overflowed {
            return Err(OutboxFull);
        }
        sending.wake();
        Ok(())
    }

    /// Tells the session something, and wakes its task.
    pub fn tell(&self, control: Control) {
        let mut sending = self.sending.borrow_mut();
        if self.encoding == Encoding::Events {
            let before = sending.outbox.own_cost();
            sending.end_events(&control);
            return self.settle(&sending, before);
        }
        sending.controls.push(control);
        sending.wake();
    }

    /// Session: what it was told since it last asked.
    pub fn take_controls(&self) -> Vec<Control> {
        std::mem::take(&mut self.sending.borrow_mut().controls)
    }

    /// No published message goes out any more: the session is about to be closed, and the client
    /// must not see what comes after a gap.
    pub fn end_deliveries(&self) {
        self.sending.borrow_mut().delivers = false;
    }

    /// Sends whole messages of the handler, framed as plain ones, in this client's encoding.
    pub fn send_messages(&self, frames: &[u8]) {
        let Encoding::Deflated(window) = self.encoding else {
            return self.send(frames, Source::Handler);
        };
        let deflated = deflate::all_deflated(frames, window);
        // The handler has counted the plain frames.
        self.credit(frames.len() - deflated.len(), Source::Handler);
        self.send(&deflated, Source::Handler);
    }

    /// Sends a large message of the handler, in one write with its header, from where it is.
    pub fn send_large(&self, kind: Kind, payload: Bytes) {
        let header = frame::message_header(kind, payload.len());
        if let Encoding::Deflated(_) = self.encoding {
            return self.send_messages(&[&*header, &payload].concat());
        }
        let len = header.len() + payload.len();
        let mut sending = self.sending.borrow_mut();
        if sending.closed.is_some() || sending.broken {
            drop(sending);
            return self.credit(len, Source::Handler);
        }
        let before = sending.outbox.own_cost();
        let slices = [IoSlice::new(&header), IoSlice::new(&payload)];
        let taken = self.write_now(&mut sending, len, |it| it.try_write_vectored(&slices));
        self.credit(taken, Source::Handler);
        if sending.broken {
            self.credit(len - taken, Source::Handler);
        } else if taken < len {
            sending.outbox.push_large(header, payload, taken);
            self.settle(&sending, before);
            self.note_held_back(&mut sending);
            sending.wake();
        }
        if self.link.is_ending() {
            sending.wake(); // the session waits for this answer
        }
    }

    /// Sends messages of a topic's past, framed as plain ones, which the handler has counted.
    pub fn send_past(&self, pieces: Vec<Piece>) {
        let mut sending = self.sending.borrow_mut();
        let len_of = |pieces: &[Piece]| pieces.iter().map(|it| it.bytes().len()).sum::<usize>();
        if sending.closed.is_some() || sending.broken {
            drop(sending);
            return self.credit(len_of(&pieces), Source::Past);
        }
        // Not written here: what the socket does not take stays shared, and it is one wake-up for all of it.
        let before = sending.outbox.own_cost();
        let counted = len_of(&pieces);
        let mut queued = 0;
        for piece in pieces {
            let (bytes, source) = self.encoded(piece);
            queued += bytes.len();
            let pushed = sending.outbox.push(bytes, source);
            debug_assert!(pushed.is_ok(), "only published frames can overflow");
        }
        self.settle(&sending, before);
        sending.wake();
        drop(sending);
        self.credit(counted - queued, Source::Past);
    }

    /// Messages of the past in this client's encoding, and how they wait.
    fn encoded(&self, piece: Piece) -> (Bytes, Source) {
        let Encoding::Deflated(window) = self.encoding else {
            return match piece {
                Piece::Own(bytes) => (bytes, Source::Handler),
                Piece::Shared { bytes, .. } => (bytes, Source::Past),
            };
        };
        match piece {
            Piece::Own(bytes) => (
                deflate::all_deflated(&bytes, window).into(),
                Source::Handler,
            ),
            Piece::Shared { offset, bytes } => {
                let replays = &self.turn_queue.replays;
                (replays.deflated(offset, &bytes, window), Source::Past)
            }
        }
    }

    /// Event stream: queues its first pieces.
    pub fn begin_events(&self, pieces: Vec<Piece>) {
        let mut sending = self.sending.borrow_mut();
        let before = sending.outbox.own_cost();
        for piece in pieces {
            let (bytes, source) = match piece {
                Piece::Own(bytes) => (bytes, Source::Session),
                Piece::Shared { bytes, .. } => (bytes, Source::Beginning),
            };
            let pushed = sending.outbox.push(bytes, source);
            debug_assert!(pushed.is_ok(), "only published frames can overflow");
        }
        self.settle(&sending, before);
    }

    /// Sends whole frames of the handler or of the session itself, as they are.
    pub fn send(&self, frames: &[u8], source: Source) {
        let mut sending = self.sending.borrow_mut();
        if sending.closed.is_some() || sending.broken {
            drop(sending);
            self.credit(frames.len(), source);
            return;
        }
        self.send_or_queue(&mut sending, frames, source);
        if source == Source::Handler && self.link.is_ending() {
            sending.wake(); // the session waits for this answer
        }
    }

    /// Sends a close frame; nothing is sent behind it. With `forget`, what waits goes first:
    /// the client is too slow to wait for.
    pub fn close(&self, frame: &[u8], forget: bool) {
        let mut sending = self.sending.borrow_mut();
        if sending.closed.is_some() {
            return;
        }
        if forget {
            self.forget(&mut sending);
        }
        if !sending.broken {
            self.send_or_queue(&mut sending, frame, Source::Session);
        }
        sending.closed = Some(Stamp::now());
        sending.wake();
        self.turn_queue.note_closing(self.key);
    }

    /// Drops what waits, but for a frame that has begun to go out: its memory is wanted now, and the session
    /// will be closed for it.
    pub fn drop_waiting(&self) {
        let mut sending = self.sending.borrow_mut();
        sending.delivers = false;
        self.forget(&mut sending);
    }

    /// Drops all that waits, and the connection: nothing more can be sent.
    pub fn cut_off(&self) {
        let mut sending = self.sending.borrow_mut();
        let before = sending.outbox.own_cost();
        let handlers = sending.outbox.clear();
        self.credit(handlers, Source::Handler);
        self.settle(&sending, before);
        sending.broken = true;
        sending.wake();
    }

    fn forget(&self, sending: &mut Sending) {
        let before = sending.outbox.own_cost();
        let handlers = sending.outbox.drop_all();
        self.credit(handlers, Source::Handler);
        self.settle(sending, before);
    }

    /// When a close frame was sent or queued.
    pub fn closed_since(&self) -> Option<Instant> {
        self.sending.borrow().closed.map(Instant::from)
    }

    /// Asks the client whether it is there. `position`: everything before it has been delivered.
    pub fn ping(&self, position: Position) {
        match self.encoding {
            Encoding::Events => self.send(&sse::ping(position), Source::Session),
            Encoding::Plain | Encoding::Deflated(_) => self.send_control(&frame::ping(b"")),
        }
    }

    /// Sends an empty message: a client's program sees it, as it does not see pings.
    pub fn tick(&self) {
        self.send(&frame::message_header(Kind::Text, 0), Source::Session);
    }

    /// Sends a ping or a pong, in front of what waits.
    pub fn send_control(&self, frame: &ControlFrame) {
        let mut sending = self.sending.borrow_mut();
        if sending.closed.is_some() || sending.broken {
            return;
        }
        if sending.outbox.is_empty() {
            self.send_or_queue(&mut sending, frame, Source::Control);
        } else {
            let before = sending.outbox.own_cost();
            sending.outbox.push_control(Bytes::copy_from_slice(frame));
            self.settle(&sending, before);
        }
    }

    /// Of an event stream: takes out what has waited longest. None when the stream has come to its end;
    /// an error when something was missed. The task that polls is woken when there is more.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut sending = self.sending.borrow_mut();
        if sending.broken {
            return Poll::Ready(Some(Err(ErrorKind::BrokenPipe.into())));
        }
        let before = sending.outbox.own_cost();
        if let Some(piece) = sending.outbox.pop() {
            self.settle(&sending, before);
            let now = Instant::now();
            self.last_progress.set(now.into());
            self.heard(now); // no need to say that the stream is alive
            return Poll::Ready(Some(Ok(piece)));
        }
        if sending.closed.is_some() {
            return Poll::Ready(None);
        }
        sending.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ends the writing side: the peer reads to the end and sees it.
    pub fn finish(&self) {
        self.socket.finish();
    }

    /// Flushes what waits. Ready when nothing does; an error when the socket is broken. The task
    /// that polls is woken when there is something to flush.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sending = self.sending.borrow_mut();
        if !sending
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            sending.waker = Some(context.waker().clone());
        }
        loop {
            if sending.broken {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
            if sending.outbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut slices = Vec::with_capacity(SLICES);
            sending.outbox.slices(&mut slices, SLICES);
            match self.write_if_drained(|| self.socket.try_write_vectored(&slices)) {
                Ok(0) => sending.broken = true,
                Ok(count) => {
                    let before = sending.outbox.own_cost();
                    let handlers = sending.outbox.advance(count);
                    self.settle(&sending, before);
                    self.note_held_back(&mut sending);
                    self.last_progress.set(Stamp::now());
                    self.credit(handlers, Source::Handler);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match self.socket.poll_writable(context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => sending.broken = true,
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => sending.broken = true,
            }
        }
    }

    fn send_or_queue(&self, sending: &mut Sending, frames: &[u8], source: Source) {
        let taken = self.write_now(sending, frames.len(), |it| it.try_write(frames));
        if taken == frames.len() || sending.broken {
            self.credit(frames.len(), source);
            return;
        }
        let before = sending.outbox.own_cost();
        let rest = Bytes::copy_from_slice(&frames[taken..]);
        // The handler's budget counts whole sends: what was taken is credited at once.
        self.credit(taken, source);
        if taken > 0 {
            let end = frame::end_of_frame_at(frames, taken) - taken;
            sending.outbox.push_rest(rest, end, source);
        } else {
            let pushed = sending.outbox.push(rest, source);
            debug_assert!(pushed.is_ok(), "only published frames can overflow");
        }
        self.settle(sending, before);
        self.note_held_back(sending);
        sending.wake();
    }

    /// What waits has changed, and the budget of the worker learns of it: the outbox alone cost `before`.
    /// Never needed for what the socket takes at once.
    fn settle(&self, sending: &Sending, before: usize) {
        let queues = &self.turn_queue.queues;
        queues.recount(before, sending.outbox.own_cost());
        if queues.is_over() {
            self.turn_queue.request();
        }
    }

    /// What begins to wait may have begun to go out.
    fn note_held_back(&self, sending: &mut Sending) {
        if self.socket.holds_back() {
            sending.outbox.begin();
        }
    }

    /// Writes what the socket takes at once: nothing, when something waits before it.
    fn write_now(
        &self,
        sending: &mut Sending,
        len: usize,
        write: impl Fn(&dyn SocketWriter) -> io::Result<usize>,
    ) -> usize {
        if !sending.outbox.is_empty() {
            return 0;
        }
        loop {
            match self.write_if_drained(|| write(&*self.socket)) {
                Ok(count) => {
                    if count < len {
                        self.last_progress.set(Stamp::now());
                    }
                    return count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.last_progress.set(Stamp::now());
                    return 0;
                }
                Err(_) => {
                    sending.broken = true;
                    sending.wake();
                    return 0;
                }
            }
        }
    }

    /// Writes, unless what was written before still waits in the system below and this client is to see
    /// the present.
    fn write_if_drained(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        if self.shallow && !self.socket.is_drained() {
            return Err(ErrorKind::WouldBlock.into());
        }
        write()
    }

    fn credit(&self, bytes: usize, source: Source) {
        if source.is_handlers() && bytes > 0 && self.link.written(bytes) {
            self.turn_queue.tell_room(self.key);
        }
    }
}

impl Drop for SessionWriter {
    fn drop(&mut self) {
        let cost = self.sending.get_mut().outbox.own_cost();
        self.turn_queue.queues.recount(cost, 0);
    }
}

impl Sending {
    /// An event stream has no task that could be told, and no close frame: who is to be closed gets
    /// what waits, or is cut off. What waits for a client that does not read is gone at once.
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

    /// Wakes the session's task: there is something to flush or to do, or the socket broke.
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use proptest::prelude::*;

    use super::*;
    use crate::actors::frame::{len_of_first, message_header};
    use crate::actors::outbox::Overflow;

    #[test]
    fn an_idle_client_costs_little() {
        // Each has one, in an `Rc`. An allocator rounds such sizes up to multiples of 16 bytes.
        assert!(
            size_of::<SessionWriter>() <= 200,
            "{}",
            size_of::<SessionWriter>()
        );
    }

    /// A socket that takes as much as it has room for. One with TLS has taken a byte more than it says.
    #[derive(Default)]
    struct Narrow {
        secure: bool,
        room: Cell<usize>,
        held_back: Cell<bool>,
        sent: RefCell<Vec<u8>>,
    }

    impl SocketWriter for Rc<Narrow> {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            self.try_write_vectored(&[IoSlice::new(bytes)])
        }

        fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let given: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let room = self.room.take();
            if room == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let known = usize::from(self.held_back.take());
            let taken = given.len().min(known + room);
            self.room.set(known + room - taken);
            self.sent
                .borrow_mut()
                .extend_from_slice(&given[known..taken]);
            if self.secure && taken == known + room {
                self.held_back.set(true);
                return match taken - 1 {
                    0 => Err(ErrorKind::WouldBlock.into()),
                    taken => Ok(taken),
                };
            }
            Ok(taken)
        }

        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn finish(&self) {}

        fn acks(&self) -> Option<Acks> {
            None
        }

        fn holds_back(&self) -> bool {
            self.held_back.get()
        }
    }

    fn writer(socket: &Rc<Narrow>, overflow: Overflow) -> SessionWriter {
        let limits = Limits {
            max_queue_bytes: 1000,
            overflow,
            ..Limits::default()
        };
        SessionWriter::new(
            Box::new(Rc::clone(socket)),
            SessionKey::new(0, 1),
            Encoding::Plain,
            &limits,
            Arc::new(Link::new(1000)),
            Rc::default(),
        )
    }

    fn deliver(writer: &SessionWriter, lens: &[usize]) {
        let mut turn = Turn::default();
        let mut indexes = Vec::new();
        for (offset, &len) in (0..).zip(lens) {
            let start = turn.arena.len();
            turn.arena
                .extend_from_slice(&message_header(Kind::Binary, len));
            turn.arena.resize(turn.arena.len() + len, b'm');
            let frame = start..turn.arena.len();
            indexes.push(turn.push(frame, 7, offset, 0));
        }
        let run = turn
            .run(&indexes, Encoding::Plain, &mut Vec::new())
            .bytes
            .to_vec();
        let run = Run {
            bytes: &run,
            encoding: Encoding::Plain,
        };
        writer
            .deliver(run, &turn, &indexes)
            .expect("the policy is to leave messages out");
    }

    proptest! {
        /// Whatever is left out, put in front or held back: the client sees whole frames.
        #[test]
        fn a_frame_that_has_begun_to_go_out_is_finished(
            secure in any::<bool>(),
            overflow in prop::sample::select(vec![
                Overflow::DropOldest, Overflow::DropNewest, Overflow::Latest,
            ]),
            steps in prop::collection::vec((0_u8..5, prop::collection::vec(1_usize..40, 1..5), 0_usize..80), 1..60),
        ) {
            let socket = Rc::new(Narrow { secure, ..Narrow::default() });
            let writer = writer(&socket, overflow);
            for (what, lens, room) in steps {
                socket.room.set(room);
                match what {
                    0 => deliver(&writer, &lens),
                    1 => writer.ping(Position { epoch: 0, next: 0 }),
                    2 => {
                        let whole = |len: &usize| [&*message_header(Kind::Text, *len), &vec![b'h'; *len]].concat();
                        let frames: Vec<u8> = lens.iter().flat_map(whole).collect();
                        writer.link.sent(frames.len());
                        writer.send_messages(&frames);
                    }
                    3 => {
                        let len = lens.iter().sum::<usize>().min(125);
                        writer.link.sent(message_header(Kind::Text, len).len() + len);
                        writer.send_large(Kind::Text, vec![b'h'; len].into());
                    }
                    _ => {
                        let flushed = writer.poll_flush(&mut Context::from_waker(Waker::noop()));
                        prop_assert!(!matches!(flushed, Poll::Ready(Err(_))));
                    }
                }
            }
            socket.room.set(usize::MAX / 2);
            let flushed = writer.poll_flush(&mut Context::from_waker(Waker::noop()));
            prop_assert!(matches!(flushed, Poll::Ready(Ok(()))));
            prop_assert_eq!(writer.link.queued(), 0);
            let sent = socket.sent.borrow();
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let Some(len) = len_of_first(rest) else {
                    return Err(TestCaseError::fail(format!("no frame: {rest:?}")));
                };
                let (frame, behind) = rest.split_at(len);
                let payload = match frame[0] {
                    0x81 => b'h',
                    0x82 => b'm',
                    _ => b'-',
                };
                let is_whole = frame[2..].iter().all(|&byte| byte == payload);
                prop_assert_eq!(frame[0] == 0x89, len == 2);
                prop_assert!(is_whole, "{:?}", frame);
                rest = behind;
            }
        }
    }
}
