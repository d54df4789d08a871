//! Mode `fanout`: what one publishes, everybody gets: exactly once, and in one order.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::client::{Client, Template};
use crate::ledger::{Outstanding, Receiver};
use crate::options::Options;
use crate::report::{Meter, Report};
use crate::stamp::Stamp;

/// How often the clock is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(10);

/// How often a first message is tried: a connection may be subscribed a little after its
/// handshake.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// When nothing has come for this long, what is in flight is lost, and the closed loop goes on
/// without it.
const STALL: Duration = Duration::from_secs(1);

/// The number of the messages that are sent until everybody got one.
const PROBE: u64 = (1 << 42) - 1;

pub(crate) fn run(options: &Options) -> Outcome<Report> {
    let publishers = options.publishers;
    let mut client = Client::new(options)?;
    client.open(&options.target, options.connections)?;
    let publish_target = options.publish_target.as_ref().unwrap_or(&options.target);
    client.open(publish_target, publishers)?;
    let elsewhere = options.publish_target.is_some();
    let receiving = options.connections + if elsewhere { 0 } else { publishers };
    let mut receivers = vec![Receiver::new(publishers); receiving];
    let template = Template::new(options);
    let run = std::process::id();

    let mut meter = Meter::new(options)?;
    let publisher = options.connections;
    probe(
        &mut client,
        &template,
        run,
        publisher,
        options.patience,
        &mut receivers,
    )?;
    meter.restart();

    let mut outstanding = Outstanding::default();
    let (mut foreign, mut stalls) = (0, 0);
    let mut deadline = None;
    let mut heard = Instant::now();
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
        if last.0 != usize::MAX || outstanding.in_flight == 0 {
            heard = Instant::now();
        } else if goes_on && options.rate.is_none() && heard.elapsed() >= STALL {
            outstanding.forget();
            stalls += 1;
        }
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
        Some(rate) => report.add("rate", rate, "per second"),
        None => report.add("in flight", options.in_flight as f64, ""),
    }
    report.add("bytes", options.bytes as f64, "");
    report.add("published", sent as f64, "");
    let bytes_per_message = client.bytes_per_message().round();
    report.add("wire", bytes_per_message, "bytes/delivery");
    meter.report(&mut report, "deliveries", "us/delivery");
    report.add_fault("stalls", stalls);
    account(&receivers, sent, &mut report);
    report.add("foreign messages", foreign as f64, "");
    report.add_closed(&client.closed);
    Ok(report)
}

/// What did not arrive as it should.
fn account(receivers: &[Receiver], sent: u64, report: &mut Report) {
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
}

/// Publishes until every receiver got something, or patience ends.
fn probe(
    client: &mut Client,
    template: &Template,
    run: u32,
    publisher: usize,
    patience: Duration,
    receivers: &mut [Receiver],
) -> Outcome<()> {
    let deadline = Instant::now() + patience;
    let mut next = Instant::now();
    let mut unreached = receivers.len();
    while unreached > 0 && Instant::now() < deadline {
        if Instant::now() >= next {
            template.write(
                Stamp {
                    run,
                    number: PROBE,
                    time_ns: 0,
                },
                client.outgoing(publisher),
            );
            client.flush(publisher)?;
            next = Instant::now() + PROBE_EVERY;
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
    if unreached > 0 {
        eprintln!(
            "load: {unreached} of {} connections got nothing in {patience:?}: they are not on one \
             topic, or in several processes without a bus. Measuring all the same.",
            receivers.len()
        );
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
