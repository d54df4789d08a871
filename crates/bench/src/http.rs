//! The mode `http` that sends requests, again and again, on persistent connections. Each connection
//! may have several requests in flight: responses come in the order of their requests.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::error::{BenchError, Outcome};
use super::meter::Meter;
use super::options::Options;
use super::pace::Pace;
use super::pool::{Happening, Next, Pool};
use super::report::{Account, Report, report};
use super::response::{self, Reader};
use super::target::Target;
use super::watch::Pulse;

/// The phase of a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    Connecting,
    Open,
    /// It has ended, and must be opened again.
    Ended,
    /// It has ended without any response.
    Gone,
}

struct Slot {
    phase: Phase,
    reader: Reader,
    has_answered: bool,
    /// The requests in flight, by the times from which their latency counts.
    asked_ns: VecDeque<u64>,
    /// Whether the slot is also in `free`.
    is_free: bool,
}

struct Requests<'o> {
    options: &'o Options,
    target: Target,
    request: Vec<u8>,
    slots: Vec<Slot>,
    /// Slots that can take a request. Each slot is listed once.
    free: Vec<usize>,
    /// Slots whose connection has ended.
    ended: Vec<usize>,
    /// The number of requests in flight.
    in_flight: usize,
    responses: u64,
    missing: u64,
    statuses: BTreeMap<u16, u64>,
}

pub(super) fn run(options: &Options, pulse: &mut Pulse<'_>) -> Outcome<Report> {
    let target = Target::resolve(&options.url, ["http", "https"], options, pulse)?;
    let request = request(&target, options);
    let mut pool = Pool::new()?;
    let new = || Slot {
        phase: Phase::Connecting,
        reader: Reader::new(&options.method),
        has_answered: false,
        asked_ns: VecDeque::with_capacity(options.in_flight),
        is_free: false,
    };
    let mut requests = Requests {
        options,
        request,
        slots: std::iter::repeat_with(new)
            .take(options.connections)
            .collect(),
        free: Vec::with_capacity(options.connections),
        ended: Vec::new(),
        in_flight: 0,
        responses: 0,
        missing: 0,
        statuses: BTreeMap::new(),
        target,
    };
    let target = requests.target.clone();
    let mut meter = Meter::new(options, options.connections)?;
    pool.open(
        &target,
        options.connections,
        pulse,
        |index, happening, _| {
            if let Happening::Ended(error) = &happening
                && requests.slots[index].phase == Phase::Connecting
            {
                return Err(target.refusal(error.as_ref()));
            }
            requests.turn(index, &happening, &mut meter)
        },
    )?;
    let account = requests.measure(&mut pool, &mut meter, pulse)?;
    Ok(report(options, &account, &meter, "responses", None))
}

fn request(target: &Target, options: &Options) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", options.method, target.path);
    let has = |wanted: &str| {
        options
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    if !has("host") {
        head.extend(["Host: ", &target.host, "\r\n"]);
    }
    let takes_body = matches!(options.method.as_str(), "POST" | "PUT" | "PATCH");
    if (takes_body || !options.body.is_empty()) && !has("content-length") {
        head.extend(["Content-Length: ", &options.body.len().to_string(), "\r\n"]);
    }
    for (name, value) in &options.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head += "\r\n";
    let mut request = head.into_bytes();
    request.extend_from_slice(&options.body);
    request
}

impl Requests<'_> {
    fn measure(
        &mut self,
        pool: &mut Pool,
        meter: &mut Meter,
        pulse: &mut Pulse<'_>,
    ) -> Outcome<Account> {
        let mut pace = Pace::new(self.options.rate, meter.end());
        let mut sent = 0;
        let mut deadline = None;
        meter.restart();
        loop {
            let goes_on = meter.goes_on(pool.slept, pulse)?;
            pace.end_at(meter.end());
            let now_ns = meter.now_ns();
            while let Some(&index) = self.free.last() {
                if pace.due(sent, now_ns).is_none() {
                    break;
                }
                sent += self.ask(pool, index, |more| pace.due(sent + more, now_ns))?;
            }
            let wait = if self.free.is_empty() {
                super::pool::TICK
            } else {
                pace.wait(sent, now_ns)
            };
            pool.turn(wait, |index, happening, _| {
                self.turn(index, &happening, meter)
            })?;
            while let Some(index) = self.ended.pop() {
                self.reopen(pool, index);
            }
            if !goes_on {
                let deadline =
                    *deadline.get_or_insert_with(|| Instant::now() + self.options.patience);
                let is_all = pace.in_all().is_none_or(|due| sent >= due);
                if (is_all && self.in_flight == 0) || Instant::now() >= deadline {
                    break;
                }
            }
            if self.slots.iter().all(|slot| slot.phase == Phase::Gone) {
                return Err(BenchError::Server(format!(
                    "{}: the server closed every connection without a response.",
                    self.target.url
                )));
            }
        }
        let gone = self
            .slots
            .iter()
            .filter(|slot| slot.phase == Phase::Gone)
            .count() as u64;
        let mut faults = Vec::new();
        if gone > 0 {
            faults.push(format!(
                "{gone} connections were closed without any response."
            ));
        }
        let failed = |status: u16| !(200..400).contains(&status);
        for (status, count) in self.statuses.iter().filter(|(status, _)| failed(**status)) {
            faults.push(format!(
                "The server answered {count} requests with {status}."
            ));
        }
        let wrong = self
            .statuses
            .iter()
            .filter(|(status, _)| failed(**status))
            .map(|(_, count)| count)
            .sum();
        Ok(Account {
            sent,
            delivered: self.responses,
            missing: self.missing + self.in_flight as u64,
            wrong,
            unsent: pace.in_all().map_or(0, |due| due.saturating_sub(sent)),
            statuses: self.statuses.clone(),
            wire_bytes_per_unit: Some(pool.received as f64 / self.responses.max(1) as f64),
            faults,
            ..Account::default()
        })
    }

    /// Sends requests on the last of the free connections: as many as are due and as may be in
    /// flight. Returns their number.
    fn ask(
        &mut self,
        pool: &mut Pool,
        index: usize,
        due: impl Fn(u64) -> Option<u64>,
    ) -> Outcome<u64> {
        let slot = &mut self.slots[index];
        let mut sent = 0;
        let takes_more = loop {
            if slot.asked_ns.len() == self.options.in_flight {
                break false;
            }
            let Some(since_ns) = due(sent) else {
                break true;
            };
            let Some(unsent) = pool.outgoing(index) else {
                break false;
            };
            unsent.extend_from_slice(&self.request);
            slot.asked_ns.push_back(since_ns);
            sent += 1;
        };
        if !takes_more {
            slot.is_free = false;
            self.free.pop();
        }
        self.in_flight += sent as usize;
        pool.flush(index)?;
        Ok(sent)
    }

    fn set_free(&mut self, index: usize) {
        if !std::mem::replace(&mut self.slots[index].is_free, true) {
            self.free.push(index);
        }
    }

    /// Handles an event of a connection.
    fn turn(
        &mut self,
        index: usize,
        happening: &Happening<'_>,
        meter: &mut Meter,
    ) -> Outcome<Next> {
        let slot = &mut self.slots[index];
        let bytes = match happening {
            Happening::Connected => {
                slot.phase = Phase::Open;
                self.set_free(index);
                return Ok(Next::Ready(0));
            }
            // A server that never answered has no figures. The caller gets an error with the
            // reason.
            Happening::Ended(Some(error)) if self.responses == 0 => {
                return Err(self.target.refusal(Some(error)));
            }
            Happening::Ended(_) => {
                if let Some(outcome) = slot.reader.end() {
                    self.answered(index, outcome, meter);
                }
                self.end(index);
                return Ok(Next::End);
            }
            Happening::Bytes(bytes) => bytes,
        };
        let mut taken = 0;
        while taken < bytes.len() {
            let slot = &mut self.slots[index];
            if slot.asked_ns.is_empty() {
                return Err(self.broken("a response without a request"));
            }
            let (len, outcome) = slot
                .reader
                .take(&bytes[taken..])
                .map_err(|what| self.broken(what))?;
            taken += len;
            let Some(outcome) = outcome else {
                break;
            };
            self.answered(index, outcome, meter);
            if !outcome.stays {
                self.end(index);
                return Ok(Next::End);
            }
        }
        Ok(Next::Go(taken))
    }

    fn broken(&self, what: &str) -> BenchError {
        BenchError::Server(format!("{}: the server sent {what}.", self.target.url))
    }

    fn answered(&mut self, index: usize, outcome: response::Outcome, meter: &mut Meter) {
        let slot = &mut self.slots[index];
        slot.has_answered = true;
        let Some(since_ns) = slot.asked_ns.pop_front() else {
            return;
        };
        self.in_flight -= 1;
        self.responses += 1;
        *self.statuses.entry(outcome.status).or_default() += 1;
        meter.count(index, since_ns, meter.now_ns());
        self.set_free(index);
    }

    /// Ends a connection. Its requests in flight count as missing.
    fn end(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        self.in_flight -= slot.asked_ns.len();
        self.missing += slot.asked_ns.len() as u64;
        slot.asked_ns.clear();
        slot.is_free = false;
        self.free.retain(|free| *free != index);
        slot.phase = if slot.has_answered {
            Phase::Ended
        } else {
            Phase::Gone
        };
        if slot.has_answered {
            self.ended.push(index);
        }
    }

    /// Opens another connection: a server may close one after a response.
    fn reopen(&mut self, pool: &mut Pool, index: usize) {
        let slot = &mut self.slots[index];
        slot.reader = Reader::new(&self.options.method);
        slot.has_answered = false;
        slot.phase = match pool.connect(&self.target, index) {
            Ok(()) => Phase::Connecting,
            Err(_) => Phase::Gone,
        };
    }
}
