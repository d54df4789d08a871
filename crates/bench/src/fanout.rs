//! The mode `fanout` that measures delivery to many subscribers: each must receive every published
//! message exactly once, and all must receive the messages in one order.

use std::time::{Duration, Instant};

use super::echo::STALL;
use super::error::Outcome;
use super::frame::Template;
use super::ledger::{Outstanding, Receiver, orders};
use super::meter::Meter;
use super::options::Options;
use super::pace::Pace;
use super::pool::TICK;
use super::report::{Account, Report, report};
use super::sockets::Sockets;
use super::stamp::Stamp;
use super::target::Target;
use super::watch::Pulse;

/// The interval between probes while none arrives. A connection may be subscribed shortly after its
/// handshake, and one message takes a while to reach many connections.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// The message number of the probes that are sent until every receiver has got one.
const PROBE: u64 = (1 << 42) - 1;

/// All connections of the measurement. Subscribers come first, then publishers.
struct Crowd<'o> {
    options: &'o Options,
    sockets: Sockets,
    template: Template,
    run: u32,
    receivers: Vec<Receiver>,
    outstanding: Outstanding,
}

pub(super) fn run(options: &Options, pulse: &mut Pulse<'_>) -> Outcome<Report> {
    let schemes = ["ws", "wss"];
    let target = Target::resolve(&options.url, schemes, options, pulse)?;
    let mut sockets = Sockets::new(options)?;
    sockets.open(&target, options, options.connections, pulse)?;
    let mut receiving = options.connections;
    if let Some(url) = &options.publish_url {
        let target = Target::resolve(url, schemes, options, pulse)?;
        sockets.open(&target, options, options.publishers, pulse)?;
    } else {
        sockets.open(&target, options, options.publishers, pulse)?;
        receiving += options.publishers;
    }
    let mut crowd = Crowd {
        options,
        sockets,
        template: Template::new(options),
        run: Stamp::new_run(),
        receivers: vec![Receiver::new(options.publishers); receiving],
        outstanding: Outstanding::default(),
    };
    let unreached = crowd.probe(pulse)?;
    let mut meter = Meter::new(options, receiving)?;
    let pace = Pace::new(options.rate, meter.end());
    let mut account = crowd.measure(&mut meter, pace, pulse)?;
    if unreached > 0 {
        account.faults.insert(0, format!(
            "{unreached} of {receiving} connections got nothing in the {:?} before the measurement: \
             they are not on one topic, or in several processes without a bus, or have to ask for \
             it first (--hello).",
            options.patience
        ));
    }
    crowd.sockets.leave()?;
    Ok(report(options, &account, &meter, "deliveries", None))
}

impl Crowd<'_> {
    /// Publishes probes until every receiver has got one, or until `patience` ends. Returns the
    /// number of receivers that got none.
    fn probe(&mut self, pulse: &mut Pulse<'_>) -> Outcome<usize> {
        let publisher = self.options.connections;
        let (run, all) = (self.run, self.receivers.len());
        let mut is_reached = vec![false; all];
        let mut reached = 0;
        let deadline = Instant::now() + self.options.patience;
        let mut next = Instant::now();
        while reached < all && Instant::now() < deadline {
            if Instant::now() >= next {
                if let Some(unsent) = self.sockets.outgoing(publisher) {
                    self.template.write(
                        Stamp {
                            run,
                            number: PROBE,
                            time_ns: 0,
                        },
                        unsent,
                    );
                }
                self.sockets.flush(publisher)?;
                next = Instant::now() + PROBE_EVERY;
            }
            let before = reached;
            let envelope = &self.options.envelope;
            self.sockets.turn(TICK, |index, message, _| {
                let is_probe = envelope
                    .open(message)
                    .and_then(Stamp::decode)
                    .is_some_and(|stamp| stamp.run == run && stamp.number == PROBE);
                if let Some(is_reached) = is_reached.get_mut(index).filter(|_| is_probe) {
                    reached += usize::from(!*is_reached);
                    *is_reached = true;
                }
            })?;
            if reached > before {
                next = Instant::now() + PROBE_EVERY;
            }
            pulse.beat("probing", reached as f64 / all as f64, reached as u64)?;
        }
        Ok(all - reached)
    }

    fn measure(
        &mut self,
        meter: &mut Meter,
        mut pace: Pace,
        pulse: &mut Pulse<'_>,
    ) -> Outcome<Account> {
        let (mut foreign, mut wrong, mut stalls) = (0, 0, 0);
        let mut deadline = None;
        meter.restart();
        let mut heard = Instant::now();
        loop {
            let goes_on = meter.goes_on(self.sockets.pool.slept, pulse)?;
            pace.end_at(meter.end());
            let timeout = self.send(pace, meter)?;
            // Messages of one read arrived together, so they share one timestamp: reading the clock
            // costs time.
            let mut last = (usize::MAX, 0);
            let (run, bytes) = (self.run, self.options.bytes);
            let envelope = &self.options.envelope;
            let (receivers, outstanding) = (&mut self.receivers, &mut self.outstanding);
            self.sockets.turn(timeout, |index, message, _| {
                let Some(receiver) = receivers.get_mut(index) else {
                    return;
                };
                let Some(message) = envelope.open(message) else {
                    return;
                };
                let stamp = Stamp::decode(message).filter(|stamp| stamp.run == run);
                if stamp.is_some_and(|stamp| stamp.number == PROBE) {
                    return;
                }
                let Some(stamp) = stamp.filter(|stamp| stamp.number < outstanding.sent()) else {
                    foreign += 1;
                    return;
                };
                wrong += u64::from(message.len() != bytes);
                if last.0 != index {
                    last = (index, meter.now_ns());
                }
                if receiver.take(stamp.number) {
                    outstanding.take(stamp.number);
                    meter.count(index, stamp.time_ns, last.1);
                }
            })?;
            if last.0 != usize::MAX || self.outstanding.in_flight() == 0 {
                heard = Instant::now();
            } else if goes_on && !pace.is_open() && heard.elapsed() >= STALL {
                self.outstanding.forget();
                stalls += 1;
            }
            if !goes_on {
                let now = Instant::now();
                let deadline = *deadline.get_or_insert(now + self.options.patience);
                let is_all = pace
                    .in_all()
                    .is_none_or(|due| self.outstanding.sent() >= due);
                if (is_all && self.outstanding.in_flight() == 0 && self.missing() == 0)
                    || self.is_over()
                    || now >= deadline
                {
                    break;
                }
            }
        }
        let sent = self.outstanding.sent();
        let sum = |what: fn(&Receiver) -> u64| self.receivers.iter().map(what).sum::<u64>();
        let incoming = &self.sockets.incoming;
        let wire = self.sockets.pool.received as f64 / incoming.messages.max(1) as f64;
        Ok(Account {
            sent,
            delivered: sum(Receiver::arrived),
            missing: self.missing(),
            gaps: Some(sum(|receiver| receiver.gaps)),
            late: Some(sum(|receiver| receiver.late)),
            duplicates: Some(sum(|receiver| receiver.duplicates)),
            wrong,
            unsent: pace.in_all().map_or(0, |due| due.saturating_sub(sent)),
            foreign: Some(foreign),
            orders: Some(orders(&self.receivers, sent)),
            stalls: Some(stalls),
            closed: incoming.closed.clone(),
            wire_bytes_per_unit: Some(wire),
            ..Account::default()
        })
    }

    fn missing(&self) -> u64 {
        let sent = self.outstanding.sent();
        self.receivers
            .iter()
            .map(|receiver| receiver.missing(sent))
            .sum()
    }

    /// Whether no receiver is left.
    fn is_over(&self) -> bool {
        (0..self.receivers.len()).all(|index| !self.sockets.pool.is_open(index))
    }

    /// Publishes the messages that may be sent now. Returns how long to wait for the next one.
    fn send(&mut self, pace: Pace, meter: &Meter) -> Outcome<Duration> {
        let now_ns = meter.now_ns();
        let first = self.outstanding.sent();
        while let Some(time_ns) = pace.due(self.outstanding.sent(), now_ns) {
            if !pace.is_open() && self.outstanding.in_flight() >= self.options.in_flight {
                break;
            }
            let number = self.outstanding.sent();
            let publisher = self.publisher(number);
            let Some(unsent) = self.sockets.outgoing(publisher) else {
                break;
            };
            self.template.write(
                Stamp {
                    run: self.run,
                    number,
                    time_ns,
                },
                unsent,
            );
            self.outstanding.send(self.receivers.len());
        }
        let written = (self.outstanding.sent() - first).min(self.options.publishers as u64);
        for number in first..first + written {
            self.sockets.flush(self.publisher(number))?;
        }
        Ok(pace.wait(self.outstanding.sent(), now_ns))
    }

    /// The connection that sends this message.
    fn publisher(&self, number: u64) -> usize {
        self.options.connections + (number % self.options.publishers as u64) as usize
    }
}
