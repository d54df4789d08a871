//! Mode `idle`: connections that do nothing.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::client::Client;
use crate::options::Options;
use crate::processes::Processes;
use crate::report::Report;

const TICK: Duration = Duration::from_millis(100);

pub(crate) fn run(options: &Options) -> Outcome<Report> {
    let processes = Processes::new(options.pid)?;
    let mut client = Client::new(options)?;
    // The first one makes the server load what it needs once.
    client.open(&options.target, 1)?;
    hold(&mut client, options.warmup)?;
    let before = processes.memory();
    client.open(&options.target, options.connections)?;
    hold(&mut client, options.warmup)?;
    let cpu_before_s = processes.cpu_s();
    let since = Instant::now();
    hold(&mut client, options.measure)?;
    let elapsed_s = since.elapsed().as_secs_f64();
    let after = processes.memory();

    let connections = options.connections as f64;
    let mut report = Report::default();
    report.add("connections", connections, "");
    if let (Some(before), Some(after)) = (before, after) {
        let per_connection = |before, after| (after as f64 - before as f64) / connections;
        report.add("server processes", after.processes as f64, "");
        report.add("RSS before", before.rss_kib as f64 / 1024.0, "MiB");
        report.add("RSS with them", after.rss_kib as f64 / 1024.0, "MiB");
        report.add("PSS before", before.pss_kib as f64 / 1024.0, "MiB");
        report.add("PSS with them", after.pss_kib as f64 / 1024.0, "MiB");
        report.add(
            "RSS per connection",
            per_connection(before.rss_kib, after.rss_kib),
            "KiB",
        );
        report.add(
            "PSS per connection",
            per_connection(before.pss_kib, after.pss_kib),
            "KiB",
        );
    }
    if let (Some(before), Some(after)) = (cpu_before_s, processes.cpu_s()) {
        let per_unit = (after - before) * 1e6 / connections / elapsed_s;
        report.add("server CPU per unit", per_unit, "us/connection/s");
    }
    report.add_closed(&client.closed);
    report.add_fault("missing", client.closed.values().sum());
    Ok(report)
}

/// Answers pings for this long.
fn hold(client: &mut Client, time: Duration) -> Outcome<()> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        client.turn(left.min(TICK), |_, _, _| {})?;
    }
    Ok(())
}
