//! The deadlines of an open session that the hub checks: pings, the end of a silence, the end of a close handshake.
//!
//! The ticks of the wheel call it; it knows no timer. Sessions that connected at once, as after a restart, are not
//! pinged at once: each has an interval that is shorter by a part of its own.

use std::time::{Duration, Instant};

use super::liveness::AckProgress;
use super::registry::Member;
use crate::actors::close::{CloseCause, Silence};
use crate::actors::deflate::Encoding;
use crate::actors::session_key::SessionKey;
use crate::actors::session_writer::Control;
use crate::actors::sse::Position;
use crate::actors::stamp::Stamp;

/// The close handshake of a client that still reads, but slowly, takes at most this many close time-outs.
const MOST_CLOSE_TIMEOUTS: u32 = 12;

/// The part of the interval by which pings may come early, so that they are spread: a tenth.
const SPREAD: u32 = 10;

/// A session's own interval between pings: never longer than the route's. Sessions side by side get parts of
/// [`SPREAD`] that are far apart. The parts of any number of sessions lie evenly: they are multiples of the golden
/// ratio.
fn spread(interval: Duration, key: SessionKey) -> Duration {
    let golden = 0x9E37_79B9_u32.wrapping_mul(key.slot() as u32);
    let part = f64::from(golden) / f64::from(u32::MAX);
    interval.saturating_sub((interval / SPREAD).mul_f64(part))
}

/// The part of a time-out after which the hub looks again at a client whose acknowledgements count: a twelfth.
const LOOKS: u32 = 12;

/// The hub looks at every session this often. Otherwise it would not notice the end of a connection that is neither
/// read from nor written to.
const REST: Duration = Duration::from_secs(20);

impl Member {
    /// Checks pings, silence, and the wait for the answer to a close frame. Returns the time until the next look.
    /// `position`: everything before it has been delivered.
    pub(super) fn look_at(&mut self, now: Instant, position: Position) -> Option<Duration> {
        if let Some(closed) = self.writer.closed_since() {
            return self.look_at_close(closed, now);
        }
        self.look_at_acks(now);
        if !self.writer.is_reading() && self.ack_progress().is_some_and(AckProgress::is_over) {
            self.writer.order(Control::Abort);
            return None;
        }
        let mut next = REST;
        if let Some(timeout) = self.limits.timeout {
            let worst = self.worst(now);
            let may_take = self.ack_progress().is_some_and(AckProgress::is_open);
            if worst.time >= timeout && !may_take {
                let silence = worst.silence;
                let cause = CloseCause::Silent { timeout, silence };
                self.writer.order(Control::Close(cause));
                return Some(self.limits.close_timeout);
            }
            next = next
                .min(timeout / 2)
                .min(timeout.saturating_sub(worst.time));
        }
        if let Some(interval) = self.limits.heartbeat_interval {
            next = next.min(self.ping_if_due(spread(interval, self.writer.key()), now, position));
        }
        if let Some(tick) = self.limits.tick {
            next = next.min(self.tick_if_due(spread(tick, self.writer.key()), now));
        }
        if let Some(timeout) = self.limits.timeout
            && self.is_under_way()
        {
            next = next.min(timeout / LOOKS);
        }
        Some(next)
    }

    /// Sends a ping to a client that was silent for `interval`. Returns the time until the next one.
    fn ping_if_due(&mut self, interval: Duration, now: Instant, position: Position) -> Duration {
        let since = |then: Instant| now.saturating_duration_since(then);
        let unheard = since(self.writer.last_heard());
        let since_ping = self
            .pinged()
            .map_or(unheard, |at| since(at.into()).min(unheard));
        if since_ping < interval {
            return interval.saturating_sub(since_ping);
        }
        // One ping on its way is enough; and events that wait show as much as a ping does.
        let waits = match self.writer.encoding() {
            Encoding::Events => self.writer.is_waiting(),
            Encoding::Plain | Encoding::Deflated(_) => self.is_ping_on_its_way(),
        };
        if !waits {
            self.writer.ping(position);
            self.liveness.get_or_insert_default().note_ping(now);
        }
        interval
    }

    /// Sends a tick, which shows the client's program that the connection is alive. Returns the time until the next one.
    fn tick_if_due(&mut self, tick: Duration, now: Instant) -> Duration {
        let ticked = &mut self.liveness.get_or_insert_default().ticked;
        let last = ticked.get_or_insert(now.into());
        let left = tick.saturating_sub(now.saturating_duration_since((*last).into()));
        if !left.is_zero() {
            return left;
        }
        *last = now.into();
        // Messages that wait show it as well.
        if !self.writer.is_waiting() {
            self.writer.tick();
        }
        tick
    }

    /// The end of a session whose close frame was sent or queued.
    fn look_at_close(&mut self, closed: Instant, now: Instant) -> Option<Duration> {
        let close_timeout = self.limits.close_timeout;
        self.note_acks(now);
        let ack_progress = self.ack_progress();
        let progress = self.writer.last_progress().max(closed);
        let progress = ack_progress
            .and_then(AckProgress::grew)
            .map_or(progress, |at| at.max(progress));
        let since = |then: Instant| now.saturating_duration_since(then);
        let most = close_timeout * MOST_CLOSE_TIMEOUTS;
        let left = close_timeout
            .saturating_sub(since(progress))
            .min(most.saturating_sub(since(closed)));
        if left.is_zero() {
            self.writer.order(Control::Abort);
            return None;
        }
        let takes = ack_progress.is_some_and(|it| it.owing().is_some());
        Some(if takes {
            left.min(close_timeout / LOOKS)
        } else {
            left
        })
    }

    /// Gets the acknowledgements of the client from the system, if nothing else is a sign of life.
    fn look_at_acks(&mut self, now: Instant) {
        let writer = &self.writer;
        let heard = writer.last_heard();
        let owes = self.owes_an_answer();
        let silent = now.saturating_duration_since(heard);
        let is_quiet = self
            .limits
            .timeout
            .is_some_and(|timeout| silent >= timeout / 2);
        if writer.is_waiting() || !writer.is_reading() || owes || is_quiet {
            self.note_acks(now);
        } else if self.limits.tick.is_none() {
            self.liveness = None;
        } else if let Some(liveness) = &mut self.liveness {
            (liveness.pinged, liveness.ack_progress) = (None, None);
        }
    }

    fn note_acks(&mut self, now: Instant) {
        let Some(acks) = self.writer.acks() else {
            return;
        };
        let ping_waits = self.writer.has_control_waiting();
        match &mut self.liveness.get_or_insert_default().ack_progress {
            Some(ack_progress) => ack_progress.look(acks, now, ping_waits),
            unknown => *unknown = Some(AckProgress::new(acks, now, ping_waits)),
        }
    }

    fn pinged(&self) -> Option<Stamp> {
        self.liveness.as_ref()?.pinged
    }

    fn ack_progress(&self) -> Option<&AckProgress> {
        self.liveness.as_ref()?.ack_progress.as_ref()
    }

    /// Was a ping sent, and has nothing come from the client since?
    fn owes_an_answer(&self) -> bool {
        let heard = self.writer.last_heard();
        self.pinged().is_some_and(|at| Instant::from(at) > heard)
    }

    /// The time since the client's last sign of life, of the kind that is expected now.
    fn worst(&self, now: Instant) -> Worst {
        let since = |then: Instant| now.saturating_duration_since(then);
        let ack_progress = self.ack_progress();
        let progress = self.writer.last_progress();
        if self.writer.is_waiting() {
            let taken = ack_progress
                .and_then(AckProgress::grew)
                .map_or(progress, |at| at.max(progress));
            return Worst::sent(since(taken));
        }
        let owing = ack_progress
            .and_then(AckProgress::owing)
            .map_or(Duration::ZERO, since);
        let silent = match self.writer.silent_since() {
            // Acknowledgements count like frames of the client, as long as it had no time for an answer.
            Some(heard) => {
                let alive = ack_progress.and_then(AckProgress::alive).unwrap_or(heard);
                since(heard.max(progress).max(alive))
            }
            None => Duration::ZERO,
        };
        if silent >= owing {
            Worst::heard(silent)
        } else {
            Worst::sent(owing)
        }
    }

    /// Has a ping been sent that has not arrived?
    fn is_ping_on_its_way(&self) -> bool {
        let on_its_way = |ack_progress: &AckProgress| !ack_progress.has_arrived();
        self.owes_an_answer()
            && (self.writer.has_control_waiting() || self.ack_progress().is_some_and(on_its_way))
    }

    /// Is it too early to judge the client's acknowledgements?
    fn is_under_way(&self) -> bool {
        match self.ack_progress() {
            Some(ack_progress) => {
                self.writer.is_waiting() || ack_progress.is_open() || !ack_progress.has_arrived()
            }
            None => self.writer.encoding() != Encoding::Events && self.owes_an_answer(),
        }
    }
}

/// The longest time without a sign of life, and the kind of that sign.
struct Worst {
    time: Duration,
    /// The sign of life that is missing.
    silence: Silence,
}

impl Worst {
    fn sent(time: Duration) -> Self {
        let silence = Silence::Sent;
        Self { time, silence }
    }

    fn heard(time: Duration) -> Self {
        let silence = Silence::Heard;
        Self { time, silence }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{self, IoSlice};
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use smallvec::SmallVec;

    use super::super::registry::Endpoint;
    use super::*;
    use crate::actors::frame;
    use crate::actors::limits::Limits;
    use crate::actors::link::Link;
    use crate::actors::session_writer::SessionWriter;
    use crate::actors::socket_writer::{Acks, SocketWriter};
    use crate::actors::turn_queue::TurnQueue;
    use crate::actors::wheel::{TICK, Wheel};

    const COUNT: usize = 5000;
    const NOWHERE: Position = Position { epoch: 0, next: 0 };

    /// Ticks of the default interval.
    const INTERVAL: usize = 250;

    /// Takes everything, and counts the writes.
    struct Counter(Rc<Cell<usize>>);

    impl SocketWriter for Counter {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            assert_eq!(bytes, &*frame::ping(b""));
            self.0.set(self.0.get() + 1);
            Ok(bytes.len())
        }

        fn try_write_vectored(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            unreachable!("nothing ever waits")
        }

        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            unreachable!("nothing ever waits")
        }

        fn finish(&self) {}

        fn acks(&self) -> Option<Acks> {
            None
        }
    }

    fn member(slot: u32, pings: &Rc<Cell<usize>>, start: Instant) -> Member {
        let limits = Rc::new(Limits::default());
        let writer = Rc::new(SessionWriter::new(
            Box::new(Counter(Rc::clone(pings))),
            SessionKey::new(slot, 1),
            Encoding::Plain,
            &limits,
            Arc::new(Link::new(1000)),
            Rc::new(TurnQueue::default()),
        ));
        writer.heard(start);
        Member {
            writer,
            limits,
            endpoint: Endpoint::WebSocket(0),
            topics: SmallVec::new(),
            touched: Vec::new(),
            liveness: None,
        }
    }

    #[test]
    fn thousands_that_came_at_once_are_pinged_apart_and_none_too_late() {
        let (start, pings) = (Stamp::now().into(), Rc::new(Cell::new(0)));
        let mut members: Vec<_> = (0..COUNT as u32)
            .map(|slot| member(slot, &pings, start))
            .collect();
        let mut wheel = Wheel::default();
        for (index, member) in members.iter_mut().enumerate() {
            wheel.insert(
                index,
                member.look_at(start, NOWHERE).expect("it has deadlines"),
            );
        }
        let mut last = vec![0; COUNT];
        let mut rounds = vec![0; COUNT];
        let mut due = Vec::new();
        for tick in 1..=3 * INTERVAL {
            let now = start + TICK * tick as u32;
            let before = pings.get();
            wheel.advance(&mut due);
            for index in due.drain(..) {
                let liveness = pings.get();
                let next = members[index]
                    .look_at(now, NOWHERE)
                    .expect("it has deadlines");
                wheel.insert(index, next);
                if pings.get() > liveness {
                    let waited = tick - last[index];
                    assert!((INTERVAL * 9 / 10..=INTERVAL).contains(&waited), "{waited}");
                    last[index] = tick;
                    rounds[index] += 1;
                    members[index].writer.heard(now); // the pong
                }
            }
            let at_once = pings.get() - before;
            // They have a tenth of the interval, of which twice the even share.
            let most = 2 * COUNT / (INTERVAL / 10);
            assert!(at_once <= most, "{at_once} in tick {tick}");
        }
        assert!(rounds.iter().all(|count| *count >= 3), "all were liveness");
    }
}
