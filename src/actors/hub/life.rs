//! What a client's acknowledgements say of it, while nothing else does.
//!
//! A client on a narrow link may take what is sent without pause and still say nothing for minutes: the
//! ping waits in the system below, behind what was written before. As long as it does, each byte that is
//! acknowledged is a sign of life. Once the ping itself is acknowledged, the client's system has it, and
//! only an answer counts: the system of a program that has stopped goes on to acknowledge.
//!
//! The system is asked when a session is looked at, and only of those that owe an answer, for which
//! something waits, or that nobody reads from; never for a message.

use std::time::Instant;

use crate::actors::socket_writer::Acks;
use crate::actors::stamp::Stamp;

/// What is known of a client that was asked whether it is there, that nobody listens to, or that gets
/// ticks.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// When it was last sent a ping.
    pub(super) pinged: Option<Stamp>,
    /// When it was last sent a tick, or would have been. None: its route has none.
    pub(super) ticked: Option<Stamp>,
    /// How it takes what is sent. None: nobody knows.
    pub(super) taking: Option<Taking>,
}

impl Asked {
    /// A ping was sent, or waits to be.
    pub(super) fn note_ping(&mut self, now: Instant) {
        self.pinged = Some(now.into());
        if let Some(taking) = &mut self.taking {
            taking.arrival = None;
        }
    }
}

/// How far a client was when it was last looked at.
#[derive(Debug)]
pub(super) struct Taking {
    acknowledged: u64,
    /// When more was acknowledged than at the look before.
    grew: Option<Stamp>,
    /// The same, while the ping had not arrived.
    alive: Option<Stamp>,
    /// Something was written that is not acknowledged, since when nothing was. None: there is nothing.
    owing: Option<Stamp>,
    /// With so many bytes acknowledged, the last ping has arrived, or what was on its way before there
    /// was one. None: it has not been written, or just now.
    arrival: Option<u64>,
    /// The connection has ended, whether its session knows or not.
    is_over: bool,
    /// There was a look before this one, so that growth could be seen.
    compared: bool,
}

impl Taking {
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

    /// Has the client's system the last ping?
    pub(super) fn has_arrived(&self) -> bool {
        self.arrival.is_some_and(|end| self.acknowledged >= end)
    }

    /// Has the connection ended? A session that does not read would not learn of it.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The last sign of life.
    pub(super) fn alive(&self) -> Option<Instant> {
        self.alive.map(Instant::from)
    }

    /// When anything was last seen to be taken.
    pub(super) fn grew(&self) -> Option<Instant> {
        self.grew.map(Instant::from)
    }

    /// Since when the client's system has acknowledged nothing although it should.
    pub(super) fn owing(&self) -> Option<Instant> {
        self.owing.map(Instant::from)
    }

    /// May the client be taking something that no look has shown yet?
    pub(super) fn is_open(&self) -> bool {
        !self.compared && self.owing.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What a client has acknowledged of `written` bytes.
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
        let mut taking = Taking::new(acks(0, 1000), clock.at(0), false);
        assert!(taking.is_open() && taking.alive().is_none());
        taking.look(acks(400, 1000), clock.at(1), false);
        taking.look(acks(900, 1500), clock.at(2), false);
        assert!(!taking.has_arrived());
        assert_eq!(taking.alive(), Some(clock.at(2)));
        // What was written later is taken too, by a system whose program has the ping and is silent.
        for second in 3..10 {
            taking.look(
                acks(second * 1000, second * 1000 + 500),
                clock.at(second),
                false,
            );
        }
        assert!(taking.has_arrived() && !taking.is_open());
        assert_eq!(taking.alive(), Some(clock.at(2)));
        assert_eq!(taking.grew(), Some(clock.at(9)));
    }

    #[test]
    fn a_ping_that_waits_in_the_outbox_has_not_arrived_whatever_is_acknowledged() {
        let clock = Clock::new();
        let mut taking = Taking::new(acks(0, 1000), clock.at(0), true);
        taking.look(acks(5000, 6000), clock.at(1), true);
        assert_eq!(taking.alive(), Some(clock.at(1)));
        taking.look(acks(9000, 10_000), clock.at(2), false);
        assert!(!taking.has_arrived(), "it is among the last thousand bytes");
        taking.look(acks(10_000, 20_000), clock.at(3), false);
        assert!(taking.has_arrived());
        assert_eq!(taking.alive(), Some(clock.at(2)));
    }

    #[test]
    fn a_client_owes_an_acknowledgement_since_the_last_one_or_since_there_is_something() {
        let clock = Clock::new();
        let mut taking = Taking::new(acks(10, 10), clock.at(0), false);
        assert_eq!(taking.owing(), None);
        taking.look(acks(10, 20), clock.at(1), false);
        taking.look(acks(10, 30), clock.at(2), false);
        assert_eq!(taking.owing(), Some(clock.at(1)));
        taking.look(acks(15, 30), clock.at(3), false);
        assert_eq!(taking.owing(), Some(clock.at(3)));
        taking.look(acks(30, 30), clock.at(4), false);
        assert_eq!(taking.owing(), None);
    }
}
