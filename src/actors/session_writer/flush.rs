//! The flush that moves frames from the outbox to the socket: frames are written at once, or wait and are flushed
//! later.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use super::{SLICES, SessionWriter, WriterState};
use crate::actors::frame::{self};
use crate::actors::outbox::Source;
use crate::actors::socket_writer::SocketWriter;
use crate::actors::stamp::Stamp;

impl SessionWriter {
    /// Event stream: takes out the oldest event. None at the end of the stream; an error when events were missed.
    /// The task that polls is woken when there is more.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut state = self.state.borrow_mut();
        if state.broken {
            return Poll::Ready(Some(Err(ErrorKind::BrokenPipe.into())));
        }
        let before = state.outbox.own_cost();
        if let Some(piece) = state.outbox.pop() {
            self.settle(&state, before);
            let now = Instant::now();
            self.last_progress.set(now.into());
            self.heard(now); // a ping is not needed: the event shows that the stream is alive
            return Poll::Ready(Some(Ok(piece)));
        }
        if state.closed.is_some() {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ends the writing side: the peer reads to the end and sees it.
    pub fn finish(&self) {
        self.socket.finish();
    }

    /// Flushes the outbox. Ready when it is empty; an error when the socket is broken. The task that polls is
    /// woken when there is something to flush.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            state.waker = Some(context.waker().clone());
        }
        loop {
            if state.broken {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
            if state.outbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut slices = Vec::with_capacity(SLICES);
            state.outbox.slices(&mut slices, SLICES);
            match self.write_if_drained(|| self.socket.try_write_vectored(&slices)) {
                Ok(0) => state.broken = true,
                Ok(count) => {
                    let before = state.outbox.own_cost();
                    let handlers = state.outbox.advance(count);
                    self.settle(&state, before);
                    self.note_held_back(&mut state);
                    self.last_progress.set(Stamp::now());
                    self.credit(handlers, Source::Handler);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match self.socket.poll_writable(context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => state.broken = true,
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => state.broken = true,
            }
        }
    }

    pub(super) fn send_or_queue(&self, state: &mut WriterState, frames: &[u8], source: Source) {
        let taken = self.write_now(state, frames.len(), |it| it.try_write(frames));
        if taken == frames.len() || state.broken {
            self.credit(frames.len(), source);
            return;
        }
        let before = state.outbox.own_cost();
        let rest = Bytes::copy_from_slice(&frames[taken..]);
        // The handler's budget counts whole sends: the bytes that the socket took are credited at once.
        self.credit(taken, source);
        if taken > 0 {
            let end = frame::end_of_frame_at(frames, taken) - taken;
            state.outbox.push_rest(rest, end, source);
        } else {
            let pushed = state.outbox.push(rest, source);
            debug_assert!(pushed.is_ok(), "only published frames can overflow");
        }
        self.settle(state, before);
        self.note_held_back(state);
        state.wake();
    }

    /// Reports to the budget of the worker that the outbox has changed: alone, it cost `before`. Never needed for
    /// bytes that the socket takes at once.
    pub(super) fn settle(&self, state: &WriterState, before: usize) {
        let queues = &self.turn_queue.queues;
        queues.recount(before, state.outbox.own_cost());
        if queues.is_over() {
            self.turn_queue.request();
        }
    }

    /// The first frame that waits may have begun to go out.
    pub(super) fn note_held_back(&self, state: &mut WriterState) {
        if self.socket.holds_back() {
            state.outbox.begin();
        }
    }

    /// Writes as much as the socket takes at once: nothing, if frames wait in front of it.
    pub(super) fn write_now(
        &self,
        state: &mut WriterState,
        len: usize,
        write: impl Fn(&dyn SocketWriter) -> io::Result<usize>,
    ) -> usize {
        if !state.outbox.is_empty() {
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
                    state.broken = true;
                    state.wake();
                    return 0;
                }
            }
        }
    }

    /// Writes, unless earlier bytes still wait in the system below and this client must get only the newest
    /// messages.
    pub(super) fn write_if_drained(
        &self,
        write: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.shallow && !self.socket.is_drained() {
            return Err(ErrorKind::WouldBlock.into());
        }
        write()
    }

    pub(super) fn credit(&self, bytes: usize, source: Source) {
        if source.is_handlers() && bytes > 0 && self.link.written(bytes) {
            self.turn_queue.notify_capacity(self.key);
        }
    }
}
