//! The mode `idle` that opens connections and only answers their pings.

use std::time::{Duration, Instant};

use super::error::Outcome;
use super::figures::Figures;
use super::meter::Meter;
use super::options::Options;
use super::pool::TICK;
use super::processes::Memory;
use super::report::{Account, Report, report};
use super::sockets::Sockets;
use super::target::Target;
use super::watch::Pulse;

pub(super) fn run(options: &Options, pulse: &mut Pulse<'_>) -> Outcome<Report> {
    let target = Target::resolve(&options.url, ["ws", "wss"], options, pulse)?;
    let mut meter = Meter::new(options, 0)?;
    let mut sockets = Sockets::new(options)?;
    // The first connection makes the server load code and data that it needs only once.
    sockets.open(&target, options, 1, pulse)?;
    hold(&mut sockets, options.warmup, "warming up", pulse)?;
    let before = meter.processes().memory();
    sockets.open(&target, options, options.connections, pulse)?;
    let mut foreign = 0;
    meter.restart();
    while meter.goes_on(sockets.pool.slept, pulse)? {
        sockets.turn(TICK, |_, _, _| foreign += 1)?;
    }
    let after = meter.processes().memory();
    let lost = (0..=options.connections)
        .filter(|index| !sockets.pool.is_open(*index))
        .count();
    let account = Account {
        sent: options.connections as u64 + 1,
        delivered: (options.connections + 1 - lost) as u64,
        missing: lost as u64,
        foreign: Some(foreign),
        closed: sockets.incoming.closed.clone(),
        ..Account::default()
    };
    sockets.leave()?;
    let mut idle = before
        .zip(after)
        .map(|(before, after)| cost(before, after, options.connections));
    if let (Some(idle), Some(cpu)) = (&mut idle, meter.server_cpu()) {
        let each = cpu * 1e6 / options.connections as f64;
        idle.add("cpu_us_per_connection_second", each);
    }
    Ok(report(options, &account, &meter, "connections", idle))
}

/// The cost of all connections, and of each. The kernel's own memory for sockets is not included.
fn cost(before: Memory, after: Memory, connections: usize) -> Figures {
    let each = |before: u64, after: u64| (after as f64 - before as f64) / connections as f64;
    let mut memory = Figures::default();
    memory.add("pss_before_mib", before.pss_kib as f64 / 1024.0);
    memory.add("pss_after_mib", after.pss_kib as f64 / 1024.0);
    memory.add(
        "pss_per_connection_kib",
        each(before.pss_kib, after.pss_kib),
    );
    memory.add("rss_before_mib", before.rss_kib as f64 / 1024.0);
    memory.add("rss_after_mib", after.rss_kib as f64 / 1024.0);
    memory.add(
        "rss_per_connection_kib",
        each(before.rss_kib, after.rss_kib),
    );
    memory
}

/// Answers pings for this long.
fn hold(
    sockets: &mut Sockets,
    time: Duration,
    phase: &'static str,
    pulse: &mut Pulse<'_>,
) -> Outcome<()> {
    let since = Instant::now();
    while since.elapsed() < time {
        sockets.turn(TICK, |_, _, _| {})?;
        let done = since.elapsed().as_secs_f64() / time.as_secs_f64();
        pulse.beat(phase, done, 0)?;
    }
    Ok(())
}
