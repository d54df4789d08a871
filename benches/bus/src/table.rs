//! The tables of figures for people, in docs/benchmarks/bus.md, and the file for programs.

use std::fmt::Write;
use std::process::Command;

use serde::Serialize;

use crate::figures::{Figures, Run};
use crate::options::Options;
use crate::plan::{CONTENDED_BYTES, Case, Contender, Work};
use crate::{Outcome, clock};

/// The place and time of the measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Header {
    date: String,
    cpu: String,
    cpus: usize,
    kernel: String,
    rounds: usize,
    millis: u128,
    load_before: String,
    load_after: String,
    versions: String,
}

impl Header {
    pub(crate) fn new(
        options: &Options,
        rounds: usize,
        load_before: &str,
        load_after: &str,
    ) -> Header {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name\t: "));
        Header {
            date: said_by("date", &["+%F"]),
            cpu: model.unwrap_or("unknown CPU").to_owned(),
            cpus: clock::cpus().map_or(0, |cpus| cpus.len()),
            kernel: said_by("uname", &["-r"]),
            rounds,
            millis: options.each.as_millis(),
            load_before: load_before.to_owned(),
            load_after: load_after.to_owned(),
            versions: versions(),
        }
    }
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".to_owned())
}

/// The version of a contender, if it has one of its own.
fn versions() -> String {
    let mut lock = include_str!("../Cargo.lock").lines();
    let _ = lock.find(|line| *line == "name = \"iceoryx2\"");
    let iceoryx = lock
        .next()
        .unwrap_or_default()
        .replace("version = ", "")
        .replace('"', "");
    let redis = said_by("redis-server", &["--version"]);
    let redis = redis
        .split(' ')
        .find_map(|word| word.strip_prefix("v="))
        .unwrap_or("-");
    let nats = said_by("nats-server", &["--version"]);
    let nats = nats.rsplit(' ').next().unwrap_or("-");
    format!("iceoryx2 {iceoryx}, Redis {redis}, NATS {nats}")
}

pub(crate) fn json(header: &Header, figures: &Figures) -> Outcome<String> {
    let all = serde_json::json!({ "system": header, "runs": figures.rows() });
    Ok(serde_json::to_string_pretty(&all)?)
}

pub(crate) fn markdown(header: &Header, figures: &Figures) -> String {
    let mut text = format!(
        "{}, {} CPUs ({}), Linux {}; {}. Medians of {} rounds of {} ms each; load average {} before \
         and {} after.\n",
        header.date,
        header.cpus,
        header.cpu,
        header.kernel,
        header.versions,
        header.rounds,
        header.millis,
        header.load_before,
        header.load_after,
    );
    let (throughput, latency): (Vec<_>, Vec<_>) = figures
        .cases()
        .into_iter()
        .partition(|case| matches!(case.work, Work::Throughput { .. }));
    if !latency.is_empty() {
        text += "\n**One way, µs: p50 / p99 / p99.9 (p50 as a multiple of Fanbus's)**\n\n";
        table(&mut text, figures, &latency, |case, contender| {
            let part = |part| figures.median(case, contender, |run: &Run| run.latency_us(part));
            let (p50, p99, p999) = (part(0.5)?, part(0.99)?, part(0.999)?);
            let ratio = figures.ratio(case, contender, |run| run.latency_us(0.5));
            let times = times(contender, ratio);
            Some(format!(
                "{} / {} / {}{times}",
                digits(p50),
                digits(p99),
                digits(p999)
            ))
        });
    }
    if !throughput.is_empty() {
        text += "\n**Deliveries per second (how many times as many Fanbus makes)**\n\n";
        table(&mut text, figures, &throughput, |case, contender| {
            let rate = figures.median(case, contender, Run::per_second)?;
            let ratio = figures.ratio(case, contender, |run| 1.0 / run.per_second());
            let times = times(contender, ratio);
            Some(format!("{}{times}", amount(rate)))
        });
    }
    producers(&mut text, figures);
    bars(&mut text, figures);
    accounts(&mut text, figures);
    text
}

/// A table of all contenders. A cell without a figure gets a dash.
fn table(
    text: &mut String,
    figures: &Figures,
    cases: &[Case],
    cell: impl Fn(Case, Contender) -> Option<String>,
) {
    let contenders = figures.contenders();
    let names: Vec<_> = contenders.iter().map(|it| it.name()).collect();
    let _ = writeln!(text, "| | {} |", names.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(names.len() + 1));
    for case in cases {
        let cells = contenders
            .iter()
            .map(|it| cell(*case, *it).unwrap_or("–".into()));
        let _ = writeln!(
            text,
            "| {} | {} |",
            case.name(),
            cells.collect::<Vec<_>>().join(" | ")
        );
    }
}

fn times(contender: Contender, ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) if contender != Contender::Fanbus => format!(" ({}×)", digits(ratio)),
        _ => String::new(),
    }
}

/// The cost of a publish for its producer, beside others that publish to the same reader.
fn producers(text: &mut String, figures: &Figures) {
    let is_asked = |case: &Case| {
        let is_flat = matches!(case.work, Work::Throughput { .. });
        is_flat && case.work.readers() == 1 && case.bytes == CONTENDED_BYTES
    };
    let mut cases: Vec<_> = figures.cases().into_iter().filter(is_asked).collect();
    cases.sort_by_key(|case| case.work.producers());
    let mut rows = String::new();
    for case in cases {
        let median = |of: fn(&Run) -> f64| figures.median(case, Contender::Fanbus, of);
        if let (Some(cost), Some(rate)) = (median(Run::publish_ns), median(Run::per_second)) {
            let (count, cost, rate) = (case.work.producers(), digits(cost), amount(rate));
            let _ = writeln!(rows, "| {count} | {cost} | {rate} |");
        }
    }
    if !rows.is_empty() {
        *text += "\n**Fanbus, so many producers and one reader, 128 B**\n\n";
        *text += "| producers | CPU ns per publish | published per second |\n|---|---|---|\n";
        *text += &rows;
    }
}

/// Figures against the bars of docs/benchmarks/comparison.md.
fn bars(text: &mut String, figures: &Figures) {
    let busy = Case {
        work: Work::Busy,
        bytes: 128,
    };
    let p50 = |run: &Run| run.latency_us(0.5);
    let mut rows = Vec::new();
    if let Some(ours) = figures.median(busy, Contender::Fanbus, p50) {
        rows.push((
            busy.name(),
            digits(ours) + " µs",
            "0.3 µs at most".into(),
            ours <= 0.3,
        ));
    }
    for work in [Work::AsleepTogether, Work::AsleepApart] {
        let case = Case { work, bytes: 128 };
        if let Some(ours) = figures.ratio(case, Contender::Pipe, |run| 1.0 / p50(run)) {
            let figure = format!("{} × a pipe", digits(ours));
            rows.push((
                case.name(),
                figure,
                "1.1 × a pipe at most".into(),
                ours <= 1.1,
            ));
        }
    }
    for (count, bar) in [(1, 7e6), (2, 20e6)] {
        let (producers, readers) = (count, count);
        let case = Case {
            work: Work::Throughput { producers, readers },
            bytes: 64,
        };
        if let Some(rate) = figures.median(case, Contender::Fanbus, Run::per_second) {
            let at_least = format!("{} at least", amount(bar));
            rows.push((case.name(), amount(rate), at_least, rate >= bar));
        }
    }
    if rows.is_empty() {
        return;
    }
    *text += "\n**Fanbus against its bars**\n\n| | Fanbus | bar | met |\n|---|---|---|---|\n";
    for (name, figure, bar, is_met) in rows {
        let met = if is_met { "yes" } else { "no" };
        let _ = writeln!(text, "| {name} | {figure} | {bar} | {met} |");
    }
}

/// The account of all messages.
fn accounts(text: &mut String, figures: &Figures) {
    *text += "\n**Every message of every run** (due: once for each reader)\n\n";
    *text += "| | sent | due | received | missing | out of place | lagged | failed runs |\n";
    *text += "|---|---|---|---|---|---|---|---|\n";
    for contender in figures.contenders() {
        let it = figures.account(contender);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            contender.name(),
            it.sent,
            it.due,
            it.received,
            it.missing,
            it.misplaced,
            it.lagged,
            it.failed_runs,
        );
    }
}

/// A number with its significant digits.
fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A number in thousands or millions.
fn amount(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", digits(value / 1e6)),
        value if value >= 1e3 => format!("{} k", digits(value / 1e3)),
        value => digits(value),
    }
}
