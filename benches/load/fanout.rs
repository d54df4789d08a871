//! Mode `fanout`: what one publishes, everybody gets: exactly once, and in one order.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::client::{Client, Template};
use crate::options::Options;
use crate::report::{Meter, Report};
use crate::stamp::Stamp;

/// How often the clock is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(10);

/// How often a first message is tried, and how long: a connection may be subscribed a little
/// after its handshake.
const PROBE_EVERY: Duration = Duration::from_millis(50);
const PROBE_PATIENCE: Duration = Duration::from_secs(20);

/// The number of the messages that are sent until everybody got one.
const PROBE: u64 = (1 << 42) - 1;

/// A connection that gets messages.
#[derive(Clone)]
struct Receiver {
    /// By publisher: how many of its messages came, or were passed over.
    next: Vec<u64>,
    /// What was passed over, if the order broke or something was lost.
    passed_over: HashSet<u64>,
    duplicates: u64,
    /// Of the numbers in the order in which they came.
    order: u64,
    is_probed: bool,
}

/// What was sent, and has not reached everybody.
#[derive(Default)]
struct Outstanding {
    /// The number of the first message in `left`.
    first: u64,
    /// For each message from `first` on: how many receivers it has still to reach.
    left: VecDeque<u32>,
    /// How many of `left` are not 0.
    in_flight: usize,
}

impl Receiver {
    fn new(publishers: usize) -> Self {
        Self {
            next: vec![0; publishers],
            passed_over: HashSet::new(),
            duplicates: 0,
            order: 0,
            is_probed: false,
        }
    }

    /// Takes a message; false if it had come before. Publishers send in turn, so the number says
    /// whose it is.
    fn take(&mut self, number: u64) -> bool {
        self.order = (self.order.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let publishers = self.next.len() as u64;
        let next = &mut self.next[(number % publishers) as usize];
        let of_publisher = number / publishers;
        if of_publisher < *next {
            let is_late = self.passed_over.remove(&number);
            self.duplicates += u64::from(!is_late);
            return is_late;
        }
        let publisher = number % publishers;
        self.passed_over
            .extend((*next..of_publisher).map(|it| it * publishers + publisher));
        *next = of_publisher + 1;
        true
    }

    fn missing(&self, sent: u64) -> u64 {
        sent + self.passed_over.len() as u64 - self.next.iter().sum::<u64>()
    }
}

impl Outstanding {
    fn send(&mut self, receivers: usize) -> u64 {
        self.left.push_back(receivers as u32);
        self.in_flight += 1;
        self.sent() - 1
    }

    fn sent(&self) -> u64 {
        self.first + self.left.len() as u64
    }

    fn take(&mut self, number: u64) {
        let at = number.checked_sub(self.first).map(|at| at as usize);
        let Some(left) = at.and_then(|at| self.left.get_mut(at)) else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.in_flight -= 1;
        }
        while self.left.front() == Some(&0) {
            self.left.pop_front();
            self.first += 1;
        }
    }
}

pub(crate) fn run(options: &Options) -> Outcome<Report> {
    let publishers = options.publishers;
    let mut client = Client::new()?;
    client.open(&options.target, options.connections)?;
    let publish_target = options.publish_target.as_ref().unwrap_or(&options.target);
    client.open(publish_target, publishers)?;
    let elsewhere = options.publish_target.is_some();
    let receiving = options.connections + if elsewhere { 0 } else { publishers };
    let mut receivers = vec![Receiver::new(publishers); receiving];
    let template = Template::new(options.bytes, options.binary);
    let run = std::process::id();

    let mut meter = Meter::new(options)?;
    probe(
        &mut client,
        &template,
        run,
        options.connections,
        &mut receivers,
    )?;
    meter.restart();

    let mut outstanding = Outstanding::default();
    let mut foreign = 0;
    let mut deadline = None;
    loop {
        let goes_on = meter.goes_on();
        let mut timeout = TICK;
        if goes_on {
            timeout = send(
                &mut client,
                &template,
                run,
                options,
                &mut outstanding,
                &meter,
                receiving,
            )?;
        }
        // Messages of one read came together, and the clock is not free.
        let mut last = (usize::MAX, 0);
        client.turn(timeout, |index, message, _| {
            let Some(receiver) = receivers.get_mut(index) else {
                return;
            };
            let Some(stamp) = Stamp::decode(message).filter(|stamp| stamp.run == run) else {
                foreign += 1;
                return;
            };
            if stamp.number == PROBE {
                return;
            }
            if last.0 != index {
                last = (index, meter.now_ns());
            }
            if receiver.take(stamp.number) {
                outstanding.take(stamp.number);
                meter.count(stamp.time_ns, last.1);
            }
        })?;
        if !goes_on {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + options.patience);
            if outstanding.in_flight == 0 || Instant::now() >= deadline {
                break;
            }
        }
    }

    let sent = outstanding.sent();
    let mut report = Report::default();
    report.add("receivers", receiving as f64, "");
    report.add("publishers", publishers as f64, "");
    match options.rate {
        Some(rate) => report.add("rate", rate, "/s"),
        None => report.add("in flight", options.in_flight as f64, ""),
    }
    report.add("bytes", options.bytes as f64, "");
    report.add("published", sent as f64, "");
    meter.report(&mut report, "deliveries", "us/delivery");
    report.add_fault(
        "missing",
        receivers
            .iter()
            .map(|receiver| receiver.missing(sent))
            .sum(),
    );
    report.add_fault(
        "duplicates",
        receivers.iter().map(|receiver| receiver.duplicates).sum(),
    );
    let orders = receivers
        .iter()
        .map(|receiver| receiver.order)
        .collect::<HashSet<_>>()
        .len();
    report.add("orders", orders as f64, "");
    report.fail_if(orders > 1);
    report.add("foreign messages", foreign as f64, "");
    report.add_closed(&client.closed);
    Ok(report)
}

/// Publishes until every receiver got something.
fn probe(
    client: &mut Client,
    template: &Template,
    run: u32,
    publisher: usize,
    receivers: &mut [Receiver],
) -> Outcome<()> {
    let deadline = Instant::now() + PROBE_PATIENCE;
    let mut next = Instant::now();
    let mut unreached = receivers.len();
    while unreached > 0 {
        let now = Instant::now();
        if now >= deadline {
            let all = receivers.len();
            return Err(format!(
                "after {PROBE_PATIENCE:?}, {unreached} of {all} connections had got no message: \
                 they are not on one topic, or not in one process without a bus"
            )
            .into());
        }
        if now >= next {
            template.write(
                Stamp {
                    run,
                    number: PROBE,
                    time_ns: 0,
                },
                client.outgoing(publisher),
            );
            client.flush(publisher)?;
            next = now + PROBE_EVERY;
        }
        client.turn(TICK, |index, message, _| {
            let is_probe = Stamp::decode(message)
                .is_some_and(|stamp| stamp.run == run && stamp.number == PROBE);
            if let Some(receiver) = receivers.get_mut(index).filter(|_| is_probe) {
                unreached -= usize::from(!receiver.is_probed);
                receiver.is_probed = true;
            }
        })?;
    }
    Ok(())
}

/// Publishes what may be published now, and returns how long to wait for the next.
fn send(
    client: &mut Client,
    template: &Template,
    run: u32,
    options: &Options,
    outstanding: &mut Outstanding,
    meter: &Meter,
    receiving: usize,
) -> Outcome<Duration> {
    let now_ns = meter.now_ns();
    let first = outstanding.sent();
    let mut timeout = TICK;
    loop {
        let time_ns = match options.rate {
            None if outstanding.in_flight >= options.in_flight => break,
            None => now_ns,
            Some(rate) => {
                let due_ns = (outstanding.sent() as f64 / rate * 1e9) as u64;
                if due_ns > now_ns {
                    timeout = timeout.min(Duration::from_nanos(due_ns - now_ns));
                    break;
                }
                due_ns
            }
        };
        let number = outstanding.send(receiving);
        let publisher = options.connections + (number % options.publishers as u64) as usize;
        template.write(
            Stamp {
                run,
                number,
                time_ns,
            },
            client.outgoing(publisher),
        );
    }
    let written = (outstanding.sent() - first).min(options.publishers as u64);
    for number in first..first + written {
        client.flush(options.connections + (number % options.publishers as u64) as usize)?;
    }
    Ok(timeout)
}
