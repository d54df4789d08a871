//! The liveness of a client whose acknowledgements are the only sign of life.
//!
//! A client on a narrow link may read without a pause and still send nothing for minutes: the ping waits in the
//! system below, behind the bytes that were written before. While it waits, each acknowledged byte is a sign of
//! life. Once the ping itself is acknowledged, the client's system has it, and only an answer counts: the system of
//! a program that has stopped still acknowledges bytes.
//!
//! The system call is made when the hub looks at a session, and never for a message. Only sessions that owe an
//! answer, have frames that wait, or do not read need it.

use std::time::Instant;

use crate::actors::socket_writer::Acks;
use crate::actors::stamp::Stamp;

/// The state of a client that was sent a ping, whose session does not read, or that gets ticks.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The time when it was last sent a ping.
    pub(super) pinged: Option<Stamp>,
    /// The time when it was last sent a tick, or would have been. None: its route has none.
    pub(super) ticked: Option<Stamp>,
    /// The bytes that it has acknowledged. None: unknown.
    pub(super) ack_progress: Option<AckProgress>,
}

impl Liveness {
    /// A ping was sent, or waits to be sent.
    pub(super) fn note_ping(&mut self, now: Instant) {
        self.pinged = Some(now.into());
        if let Some(ack_progress) = &mut self.ack_progress {
            ack_progress.arrival = None;
        }
    }
}

/// The acknowledgements of a client at the last look.
#[derive(Debug)]
pub(super) struct AckProgress {
    acknowledged: u64,
    /// The time of the last look that found more acknowledged than the look before.
    grew: Option<Stamp>,
    /// The same, while the ping had not arrived.
    alive: Option<Stamp>,
    /// The time since when written bytes wait for an acknowledgement, and none came. None: all are acknowledged.
    owing: Option<Stamp>,
    /// At this number of acknowledged bytes the last ping has arrived. Without a ping: the bytes that were on their
    /// way before there was one. None: the ping has not been written, or was written just now.
    arrival: Option<u64>,
    /// The connection has ended, whether or not its session knows.
    is_over: bool,
    /// There was a look before this one, so that growth could be seen.
    compared: bool,
}

impl AckProgress {
    /// The first look.
    pub(super) fn new(acks: Acks, now: Instant, ping_waits: bool) -> Self {
        let reach = acks.acknowledged + acks.outstanding;
        Self {
            acknowledged: acks.acknowledged,
            grew: None,
            alive: None,
            owing: (acks.outstanding > 0).then(|| now.into()),
            arrival: (!ping_waits).then_some(reach),
            is_over: acks.is_over,
            compared: false,
        }
    }

    /// One more look. `ping_waits`: the ping has not been written yet.
    pub(super) fn look(&mut self, acks: Acks, now: Instant, ping_waits: bool) {
        let grows = acks.acknowledged > self.acknowledged;
        self.acknowledged = acks.acknowledged;
        self.is_over = acks.is_over;
        self.compared = true;
        if ping_waits {
            self.arrival = None;
        } else if self.arrival.is_none() {
            self.arrival = Some(acks.acknowledged + acks.outstanding);
        }
        if grows {
            self.grew = Some(now.into());
            if !self.has_arrived() {
                self.alive = Some(now.into());
            }
        }
        if acks.outstanding == 0 {
            self.owing = None;
        } else if grows || self.owing.is_none() {
            self.owing = Some(now.into());
        }
    }

    /// Has the last ping arrived at the client's system?
    pub(super) fn has_arrived(&self) -> bool {
        self.arrival.is_some_and(|end| self.acknowledged >= end)
    }

    /// Has the connection ended? A session that does not read would not notice it.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The last sign of life.
    pub(super) fn alive(&self) -> Option<Instant> {
        self.alive.map(Instant::from)
    }

    /// The time of the last look that found more acknowledged.
    pub(super) fn grew(&self) -> Option<Instant> {
        self.grew.map(Instant::from)
    }

    /// The time since when the client's system has acknowledged nothing although it should.
    pub(super) fn owing(&self) -> Option<Instant> {
        self.owing.map(Instant::from)
    }

    /// May the client be reading something that no look has shown yet?
    pub(super) fn is_open(&self) -> bool {
        !self.compared && self.owing.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The acknowledgements of a client that has acknowledged so many of `written` bytes.
    fn acks(acknowledged: u64, written: u64) -> Acks {
        Acks {
            acknowledged,
            outstanding: written - acknowledged,
            is_over: false,
        }
    }

    /// A moment so many seconds after the start.
    struct Clock(Instant);

    impl Clock {
        fn new() -> Self {
            Self(Stamp::now().into())
        }

        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }
    }

    #[test]
    fn bytes_in_front_of_a_ping_are_life_and_bytes_behind_it_are_not() {
        let clock = Clock::new();
        let mut ack_progress = AckProgress::new(acks(0, 1000), clock.at(0), false);
        assert!(ack_progress.is_open() && ack_progress.alive().is_none());
        ack_progress.look(acks(400, 1000), clock.at(1), false);
        ack_progress.look(acks(900, 1500), clock.at(2), false);
        assert!(!ack_progress.has_arrived());
        assert_eq!(ack_progress.alive(), Some(clock.at(2)));
        // Later bytes are acknowledged too, by a system whose program has the ping and is silent.
        for second in 3..10 {
            ack_progress.look(
                acks(second * 1000, second * 1000 + 500),
                clock.at(second),
                false,
            );
        }
        assert!(ack_progress.has_arrived() && !ack_progress.is_open());
        assert_eq!(ack_progress.alive(), Some(clock.at(2)));
        assert_eq!(ack_progress.grew(), Some(clock.at(9)));
    }

    #[test]
    fn a_ping_that_waits_in_the_outbox_has_not_arrived_whatever_is_acknowledged() {
        let clock = Clock::new();
        let mut ack_progress = AckProgress::new(acks(0, 1000), clock.at(0), true);
        ack_progress.look(acks(5000, 6000), clock.at(1), true);
        assert_eq!(ack_progress.alive(), Some(clock.at(1)));
        ack_progress.look(acks(9000, 10_000), clock.at(2), false);
        assert!(
            !ack_progress.has_arrived(),
            "it is among the last thousand bytes"
        );
        ack_progress.look(acks(10_000, 20_000), clock.at(3), false);
        assert!(ack_progress.has_arrived());
        assert_eq!(ack_progress.alive(), Some(clock.at(2)));
    }

    #[test]
    fn a_client_owes_an_acknowledgement_since_the_last_one_or_since_there_is_something() {
        let clock = Clock::new();
        let mut ack_progress = AckProgress::new(acks(10, 10), clock.at(0), false);
        assert_eq!(ack_progress.owing(), None);
        ack_progress.look(acks(10, 20), clock.at(1), false);
        ack_progress.look(acks(10, 30), clock.at(2), false);
        assert_eq!(ack_progress.owing(), Some(clock.at(1)));
        ack_progress.look(acks(15, 30), clock.at(3), false);
        assert_eq!(ack_progress.owing(), Some(clock.at(3)));
        ack_progress.look(acks(30, 30), clock.at(4), false);
        assert_eq!(ack_progress.owing(), None);
    }
}
