//! The mode `echo` that sends messages and counts those that return on the same connection.

use std::time::{Duration, Instant};

use super::envelope::without_prefix;
use super::error::Outcome;
use super::frame::Template;
use super::ledger::Receiver;
use super::meter::Meter;
use super::options::Options;
use super::pace::Pace;
use super::report::{Account, Report, report};
use super::sockets::Sockets;
use super::stamp::Stamp;
use super::target::Target;
use super::watch::Pulse;

/// After this long without any message, those in flight count as lost, and the closed loop goes on
/// without them.
pub(super) const STALL: Duration = Duration::from_secs(1);

/// The messages of a connection.
#[derive(Clone)]
struct Line {
    sent: u64,
    /// The number of messages that were given up in stalls.
    lost: u64,
    receiver: Receiver,
}

impl Line {
    fn in_flight(&self) -> u64 {
        let done = self.lost + self.receiver.arrived();
        self.sent.saturating_sub(done)
    }

    /// Appends the next message to the unsent bytes.
    fn write(&mut self, run: u32, time_ns: u64, template: &Template, unsent: &mut Vec<u8>) {
        let number = self.sent;
        let stamp = Stamp {
            run,
            number,
            time_ns,
        };
        template.write(stamp, unsent);
        self.sent += 1;
    }
}

struct Echo<'o> {
    options: &'o Options,
    sockets: Sockets,
    template: Template,
    run: u32,
    pace: Pace,
    lines: Vec<Line>,
    /// The number of messages sent on all lines.
    sent: u64,
    arrived: u64,
    wrong: u64,
    foreign: u64,
    stalls: u64,
    /// The line that sends next in the open loop.
    next: usize,
}

pub(super) fn run(options: &Options, pulse: &mut Pulse<'_>) -> Outcome<Report> {
    let target = Target::resolve(&options.url, ["ws", "wss"], options, pulse)?;
    let mut sockets = Sockets::new(options)?;
    sockets.open(&target, options, options.connections, pulse)?;
    let mut meter = Meter::new(options, options.connections)?;
    let line = Line {
        sent: 0,
        lost: 0,
        receiver: Receiver::new(1),
    };
    let mut echo = Echo {
        options,
        sockets,
        template: Template::new(options),
        run: Stamp::new_run(),
        pace: Pace::new(options.rate, meter.end()),
        lines: vec![line; options.connections],
        sent: 0,
        arrived: 0,
        wrong: 0,
        foreign: 0,
        stalls: 0,
        next: 0,
    };
    echo.measure(&mut meter, pulse)?;
    let account = echo.account();
    echo.sockets.leave()?;
    Ok(report(options, &account, &meter, "echoes", None))
}

impl Echo<'_> {
    fn measure(&mut self, meter: &mut Meter, pulse: &mut Pulse<'_>) -> Outcome<()> {
        let mut end = None;
        meter.restart();
        self.refill(meter)?;
        let mut heard = Instant::now();
        loop {
            let goes_on = meter.goes_on(self.sockets.pool.slept, pulse)?;
            self.pace.end_at(meter.end());
            let timeout = self.send_due(meter)?;
            if self.turn(timeout, meter)? {
                heard = Instant::now();
            } else if goes_on && !self.pace.is_open() && heard.elapsed() >= STALL {
                self.stalls += 1;
                heard = Instant::now();
                for line in &mut self.lines {
                    line.lost += line.in_flight();
                }
                self.refill(meter)?;
            }
            if !goes_on {
                // Messages that are still in flight may arrive.
                let end = *end.get_or_insert_with(|| Instant::now() + self.options.patience);
                let has_sent_all = self.pace.in_all().is_none_or(|due| self.sent >= due);
                let has_all = has_sent_all && self.arrived >= self.sent;
                if has_all || self.is_over() || Instant::now() >= end {
                    return Ok(());
                }
            }
        }
    }

    /// Whether no connection is left.
    fn is_over(&self) -> bool {
        (0..self.lines.len()).all(|index| !self.sockets.pool.is_open(index))
    }

    /// Handles the messages that arrive. In the closed loop, it answers each with the next message.
    /// Returns whether a message arrived.
    fn turn(&mut self, timeout: Duration, meter: &mut Meter) -> Outcome<bool> {
        let prefix = &self.options.prefix;
        let envelope = &self.options.envelope;
        // Messages of one read arrived together, so they share one timestamp: reading the clock
        // costs time.
        let mut last = (usize::MAX, 0);
        self.sockets.turn(timeout, |index, message, unsent| {
            if last.0 != index {
                last = (index, meter.now_ns());
            }
            let line = &mut self.lines[index];
            let told = without_prefix(message, prefix);
            let inner = told.map(|told| envelope.open(told));
            if inner == Some(None) {
                return;
            }
            let inner = inner.flatten();
            let stamp = inner.and_then(Stamp::decode);
            let is_ours = |stamp: &Stamp| stamp.run == self.run && stamp.number < line.sent;
            let Some(stamp) = stamp.filter(is_ours) else {
                self.foreign += 1;
                return;
            };
            self.wrong += u64::from(inner.map(<[u8]>::len) != Some(self.options.bytes));
            if !line.receiver.take(stamp.number) {
                return;
            }
            self.arrived += 1;
            meter.count(index, stamp.time_ns, last.1);
            if !self.pace.is_open()
                && line.in_flight() < self.options.in_flight as u64
                && let Some(time_ns) = self.pace.due(self.sent, last.1)
            {
                line.write(self.run, time_ns, &self.template, unsent);
                self.sent += 1;
            }
        })?;
        Ok(last.0 != usize::MAX)
    }

    /// Sends the messages that are due in the open loop. Returns how long to wait for the next one.
    fn send_due(&mut self, meter: &Meter) -> Outcome<Duration> {
        let mut now_ns = meter.now_ns();
        while self.pace.is_open()
            && let Some(time_ns) = self.pace.due(self.sent, now_ns)
            && let Some(index) = self.next_with_room()
        {
            self.write(index, time_ns);
            self.sockets.flush(index)?;
            now_ns = meter.now_ns();
        }
        Ok(self.pace.wait(self.sent, now_ns))
    }

    /// The next connection that can take a message, in turn.
    fn next_with_room(&mut self) -> Option<usize> {
        for _ in 0..self.lines.len() {
            let index = self.next;
            self.next = (index + 1) % self.lines.len();
            if self.sockets.outgoing(index).is_some() {
                return Some(index);
            }
        }
        None
    }

    /// In the closed loop: sends until each connection has its number of messages in flight.
    fn refill(&mut self, meter: &Meter) -> Outcome<()> {
        if self.pace.is_open() {
            return Ok(());
        }
        for index in 0..self.lines.len() {
            while self.lines[index].in_flight() < self.options.in_flight as u64
                && self.write(index, meter.now_ns())
            {}
            self.sockets.flush(index)?;
        }
        Ok(())
    }

    /// Writes a message to a connection. False if the connection accepts no more messages.
    fn write(&mut self, index: usize, time_ns: u64) -> bool {
        let Some(unsent) = self.sockets.outgoing(index) else {
            return false;
        };
        self.lines[index].write(self.run, time_ns, &self.template, unsent);
        self.sent += 1;
        true
    }

    fn account(&self) -> Account {
        let sum = |what: fn(&Line) -> u64| self.lines.iter().map(what).sum::<u64>();
        let incoming = &self.sockets.incoming;
        let wire = self.sockets.pool.received as f64 / incoming.messages.max(1) as f64;
        let in_all = self.pace.in_all();
        Account {
            sent: self.sent,
            delivered: self.arrived,
            missing: sum(|line| line.receiver.missing(line.sent)),
            gaps: Some(sum(|line| line.receiver.gaps)),
            late: Some(sum(|line| line.receiver.late)),
            duplicates: Some(sum(|line| line.receiver.duplicates)),
            wrong: self.wrong,
            unsent: in_all.map_or(0, |due| due.saturating_sub(self.sent)),
            foreign: Some(self.foreign),
            stalls: Some(self.stalls),
            closed: incoming.closed.clone(),
            wire_bytes_per_unit: Some(wire),
            ..Account::default()
        }
    }
}
