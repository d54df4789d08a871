//! Mode `echo`: what one sends comes back to the same connection.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::client::{Client, Template};
use crate::options::Options;
use crate::report::{Meter, Report};
use crate::stamp::Stamp;

/// How often the clock is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(10);

#[derive(Copy, Clone, Default)]
struct Counts {
    sent: u64,
    received: u64,
}

pub(crate) fn run(options: &Options) -> Outcome<Report> {
    let mut client = Client::new(options)?;
    client.open(&options.target, options.connections)?;
    let template = Template::new(options);
    let run = std::process::id();
    let prefix = options.prefix.as_bytes();
    let len = prefix.len() + options.bytes;

    let mut meter = Meter::new(options)?;
    meter.restart();
    let mut counts = vec![Counts::default(); options.connections];
    for (index, counts) in counts.iter_mut().enumerate() {
        for _ in 0..options.in_flight {
            let stamp = Stamp {
                run,
                number: counts.sent,
                time_ns: meter.now_ns(),
            };
            template.write(stamp, client.outgoing(index));
            counts.sent += 1;
        }
        client.flush(index)?;
    }

    let mut wrong = 0;
    let mut deadline = None;
    loop {
        let goes_on = meter.goes_on();
        // Messages of one read came together, and the clock is not free.
        let mut last = (usize::MAX, 0);
        client.turn(TICK, |index, message, unsent| {
            if last.0 != index {
                last = (index, meter.now_ns());
            }
            let now_ns = last.1;
            let counts = &mut counts[index];
            let stamp = message.strip_prefix(prefix).and_then(Stamp::decode);
            match stamp {
                Some(stamp)
                    if stamp.run == run
                        && stamp.number == counts.received
                        && message.len() == len =>
                {
                    meter.count(stamp.time_ns, now_ns);
                }
                _ => wrong += 1,
            }
            counts.received += 1;
            if goes_on {
                template.write(
                    Stamp {
                        run,
                        number: counts.sent,
                        time_ns: now_ns,
                    },
                    unsent,
                );
                counts.sent += 1;
            }
        })?;
        if !goes_on {
            // What is still on its way may arrive.
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + options.patience);
            let is_complete = counts.iter().all(|counts| counts.received >= counts.sent);
            if is_complete || Instant::now() >= deadline {
                break;
            }
        }
    }

    let mut report = Report::default();
    report.add("connections", options.connections as f64, "");
    report.add("in flight each", options.in_flight as f64, "");
    report.add("bytes", options.bytes as f64, "");
    meter.report(&mut report, "echoes", "us/echo");
    let missing = counts
        .iter()
        .map(|counts| counts.sent.saturating_sub(counts.received))
        .sum();
    report.add_fault("missing", missing);
    report.add_fault("wrong", wrong);
    report.add_closed(&client.closed);
    Ok(report)
}
