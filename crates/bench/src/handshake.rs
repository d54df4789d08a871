//! The mode `handshake` that connects, upgrades and closes, again and again.

use std::time::Instant;

use super::error::Outcome;
use super::meter::Meter;
use super::options::Options;
use super::pace::Pace;
use super::pool::{Happening, Next, Pool, TICK};
use super::report::{Account, Report, report};
use super::sockets::Sockets;
use super::target::Target;
use super::upgrade::Upgrade;
use super::watch::Pulse;

/// The time, in ns, since which an attempt has waited for its handshake. `None`: there is no
/// attempt.
type Since = Option<u64>;

pub(super) fn run(options: &Options, pulse: &mut Pulse<'_>) -> Outcome<Report> {
    let target = Target::resolve(&options.url, ["ws", "wss"], options, pulse)?;
    // One connection first: if the address is wrong, the user gets one error and not many.
    Sockets::new(options)?.open(&target, options, 1, pulse)?;
    target.check_ports(options.connections)?;
    let upgrade = Upgrade::new(&target, options);
    let mut pool = Pool::new()?;
    let mut meter = Meter::new(options, 0)?;
    let mut pace = Pace::new(options.rate, meter.end());
    let mut attempts: Vec<Since> = vec![None; options.connections];
    let mut free: Vec<usize> = (0..options.connections).collect();
    let (mut sent, mut done, mut refused) = (0, 0, 0);
    let mut why = None;
    let mut deadline = None;
    meter.restart();
    loop {
        let goes_on = meter.goes_on(pool.slept, pulse)?;
        pace.end_at(meter.end());
        let now_ns = meter.now_ns();
        // At most as many attempts as there were free places at first. Otherwise refusals that come
        // at once would keep this loop running.
        for _ in 0..free.len() {
            let Some(since_ns) = pace.due(sent, now_ns) else {
                break;
            };
            let Some(index) = free.pop() else { break };
            sent += 1;
            match pool.connect(&target, index) {
                Ok(()) => attempts[index] = Some(since_ns),
                Err(error) => {
                    refused += 1;
                    why.get_or_insert_with(|| target.refusal(Some(&error)).to_string());
                    free.insert(0, index);
                }
            }
        }
        let wait = if free.is_empty() {
            TICK
        } else {
            pace.wait(sent, now_ns)
        };
        pool.turn(wait, |index, happening, unsent| {
            let checked = match happening {
                Happening::Connected => {
                    unsent.extend_from_slice(&upgrade.request);
                    return Ok(Next::Go(0));
                }
                Happening::Bytes(bytes) => upgrade.check(bytes),
                Happening::Ended(error) => Err(target.refusal(error.as_ref())),
            };
            match checked {
                Ok(None) => return Ok(Next::Go(0)),
                Ok(Some(_)) => {
                    done += 1;
                    if let Some(since_ns) = attempts[index] {
                        meter.count(index, since_ns, meter.now_ns());
                    }
                }
                Err(error) => {
                    refused += 1;
                    why.get_or_insert_with(|| error.to_string());
                }
            }
            attempts[index] = None;
            free.push(index);
            Ok(Next::End)
        })?;
        if !goes_on {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + options.patience);
            let is_all = pace.in_all().is_none_or(|due| sent >= due);
            if (is_all && free.len() == attempts.len()) || Instant::now() >= deadline {
                break;
            }
        }
    }
    let account = Account {
        sent,
        delivered: done,
        missing: refused + (attempts.len() - free.len()) as u64,
        unsent: pace.in_all().map_or(0, |due| due.saturating_sub(sent)),
        wire_bytes_per_unit: Some(pool.received as f64 / done.max(1) as f64),
        faults: why.into_iter().collect(),
        ..Account::default()
    };
    Ok(report(options, &account, &meter, "handshakes", None))
}
