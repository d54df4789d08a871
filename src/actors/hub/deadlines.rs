//! What is due for an open session: pings, the end of a silence, the end of a farewell.
//!
//! It is looked at by the wheel's ticks and knows no timer. Sessions that came at once, as after a
//! restart, are not asked at once: each has an interval that is its own part shorter.

use std::time::{Duration, Instant};

use super::registry::Member;
use crate::actors::event::Position;
use crate::actors::session::{Control, SessionKey};

/// The farewell of a client that goes on reading slowly takes at most this many close time-outs.
const MOST_CLOSE_TIMEOUTS: u32 = 12;

/// The part of the interval by which pings may come early, to be spread: a tenth.
const SPREAD: u32 = 10;

/// A session's own interval between pings: never longer than the route's. Sessions side by side get
/// parts of [`SPREAD`] that are far apart, and any number of them parts that lie evenly: multiples of
/// the golden ratio do.
fn spread(interval: Duration, key: SessionKey) -> Duration {
    let golden = 0x9E37_79B9_u32.wrapping_mul(key.slot() as u32);
    let part = f64::from(golden) / f64::from(u32::MAX);
    interval.saturating_sub((interval / SPREAD).mul_f64(part))
}

impl Member {
    /// Pings, silence, and the wait for a close frame's answer. Returns when to look again. `position`:
    /// everything before it has been delivered.
    pub(super) fn look_at(&mut self, now: Instant, position: Position) -> Option<Duration> {
        let close_timeout = self.limits.close_timeout;
        if let Some((closed, progress)) = self
            .outlet
            .closed_since()
            .zip(self.outlet.closing_progress())
        {
            let patience = close_timeout.saturating_sub(now.saturating_duration_since(progress));
            let most = close_timeout * MOST_CLOSE_TIMEOUTS;
            let left = patience.min(most.saturating_sub(now.saturating_duration_since(closed)));
            if left.is_zero() {
                self.outlet.tell(Control::Abort);
                return None;
            }
            return Some(left);
        }
        let since = |then: Instant| now.saturating_duration_since(then);
        let silent = self.outlet.silent_since().map_or(Duration::ZERO, since);
        let mut next: Option<Duration> = None;
        if let Some(timeout) = self.limits.timeout {
            let stuck = self.outlet.stuck_since().map_or(Duration::ZERO, since);
            let worst = silent.max(stuck);
            if worst >= timeout {
                let reason = if silent >= timeout {
                    format!("nothing was heard for {} s", timeout.as_secs_f32())
                } else {
                    format!("nothing could be sent for {} s", timeout.as_secs_f32())
                };
                self.outlet.tell(Control::Close {
                    code: 1001,
                    reason,
                    forget: true,
                });
                return Some(close_timeout);
            }
            next = Some(timeout.saturating_sub(worst));
        }
        if let Some(interval) = self.limits.heartbeat_interval {
            let interval = spread(interval, self.outlet.key());
            let unheard = since(self.outlet.last_heard());
            let since_ping = self
                .pinged
                .map_or(unheard, |at| since(at.into()).min(unheard));
            let wait = if since_ping >= interval {
                // Behind frames that wait, a ping would only wait as well.
                if self.outlet.stuck_since().is_none() {
                    self.outlet.ping(position);
                }
                self.pinged = Some(now.into());
                interval
            } else {
                interval.saturating_sub(since_ping)
            };
            next = Some(next.map_or(wait, |other| other.min(wait)));
        }
        next
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
    use crate::actors::deflate::Encoding;
    use crate::actors::end_of_turn::EndOfTurn;
    use crate::actors::frame;
    use crate::actors::limits::Limits;
    use crate::actors::link::Link;
    use crate::actors::outlet::{Outlet, Writer};
    use crate::actors::stamp::Stamp;
    use crate::actors::wheel::{TICK, Wheel};

    const COUNT: usize = 5000;
    const NOWHERE: Position = Position { epoch: 0, next: 0 };

    /// Ticks of the default interval.
    const INTERVAL: usize = 250;

    /// Takes everything, and counts the writes.
    struct Counter(Rc<Cell<usize>>);

    impl Writer for Counter {
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
    }

    fn member(slot: u32, pings: &Rc<Cell<usize>>, start: Instant) -> Member {
        let limits = Rc::new(Limits::default());
        let outlet = Rc::new(Outlet::new(
            Box::new(Counter(Rc::clone(pings))),
            SessionKey::new(slot, 1),
            Encoding::Plain,
            &limits,
            Arc::new(Link::new(1000)),
            Rc::new(EndOfTurn::default()),
        ));
        outlet.heard(start);
        Member {
            outlet,
            limits,
            endpoint: Endpoint::WebSocket(0),
            topics: SmallVec::new(),
            touched: Vec::new(),
            pinged: None,
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
                let asked = pings.get();
                let next = members[index]
                    .look_at(now, NOWHERE)
                    .expect("it has deadlines");
                wheel.insert(index, next);
                if pings.get() > asked {
                    let waited = tick - last[index];
                    assert!((INTERVAL * 9 / 10..=INTERVAL).contains(&waited), "{waited}");
                    last[index] = tick;
                    rounds[index] += 1;
                    members[index].outlet.heard(now); // the pong
                }
            }
            let at_once = pings.get() - before;
            // They have a tenth of the interval, of which twice the even share.
            let most = 2 * COUNT / (INTERVAL / 10);
            assert!(at_once <= most, "{at_once} in tick {tick}");
        }
        assert!(rounds.iter().all(|count| *count >= 3), "all were asked");
    }
}
