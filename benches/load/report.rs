//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::options::Options;
use crate::processes::Processes;

/// The slowest latency that is told apart.
const SLOWEST_NS: u64 = 60_000_000_000;

/// Names and figures, in the order in which they are printed.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<(String, f64, &'static str)>,
    is_incomplete: bool,
}

impl Report {
    pub(crate) fn add(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.lines.push((name.to_owned(), value, unit));
    }

    /// Adds a figure that must be 0.
    pub(crate) fn add_fault(&mut self, name: &'static str, count: u64) {
        self.is_incomplete |= count > 0;
        self.add(name, count as f64, "");
    }

    pub(crate) fn fail_if(&mut self, is_incomplete: bool) {
        self.is_incomplete |= is_incomplete;
    }

    /// Adds how many connections the server closed, and how.
    pub(crate) fn add_closed(&mut self, closed: &BTreeMap<Option<u16>, u64>) {
        for (code, count) in closed {
            self.is_incomplete = true;
            let code = code.map_or_else(|| "without a code".to_owned(), |code| code.to_string());
            self.lines
                .push((format!("closed {code}"), *count as f64, ""));
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        !self.is_incomplete
    }

    #[expect(clippy::print_stdout, reason = "the report is the output")]
    pub(crate) fn print(&self, json: bool) {
        let mut text = String::new();
        for (name, value, unit) in &self.lines {
            // Counts are whole numbers; measured values have three digits that mean something.
            let value = match value {
                value if value.fract() == 0.0 => format!("{value}"),
                value if value.abs() >= 100.0 => format!("{value:.0}"),
                value if value.abs() >= 10.0 => format!("{value:.1}"),
                value => format!("{value:.3}"),
            };
            if json {
                let words = format!("{name} {}", unit.replace('%', "percent"));
                let key = words
                    .trim_end()
                    .to_lowercase()
                    .replace([' ', '.', '/'], "_");
                write!(text, ", \"{key}\": {value}").expect("a String takes all");
            } else {
                writeln!(text, "{name:<24} {value:>12} {unit}").expect("a String takes all");
            }
        }
        if json {
            let complete = self.is_complete();
            println!("{{\"complete\": {complete}{text}}}");
        } else {
            print!("{text}");
            if !self.is_complete() {
                println!("NOT COMPLETE: see what is not 0 above");
            }
        }
    }
}

/// What a measurement counts, and when.
pub(crate) struct Meter {
    processes: Processes,
    origin: Instant,
    /// When the warm-up ends, and when the measurement does.
    begin: Duration,
    end: Duration,
    /// Set when the warm-up has ended.
    started: Option<Sample>,
    /// Set when the measurement has ended.
    stopped: Option<Sample>,
    /// Units within the measurement.
    units: u64,
    latency: Histogram<u64>,
}

#[derive(Copy, Clone)]
struct Sample {
    at: Duration,
    cpu_s: Option<f64>,
}

impl Meter {
    pub(crate) fn new(options: &Options) -> Outcome<Self> {
        Ok(Self {
            processes: Processes::new(options.pid)?,
            origin: Instant::now(),
            begin: options.warmup,
            end: options.warmup + options.measure,
            started: None,
            stopped: None,
            units: 0,
            latency: Histogram::new_with_bounds(1, SLOWEST_NS, 3)?,
        })
    }

    /// Begins the warm-up now; times are counted from here.
    pub(crate) fn restart(&mut self) {
        self.origin = Instant::now();
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// Samples the server when a phase has ended. Call it once per turn. False when it is over.
    pub(crate) fn goes_on(&mut self) -> bool {
        let at = self.origin.elapsed();
        let sample = |processes: Processes| {
            Some(Sample {
                at,
                cpu_s: processes.cpu_s(),
            })
        };
        if self.started.is_none() && at >= self.begin {
            self.started = sample(self.processes);
        }
        if self.stopped.is_none() && at >= self.end {
            self.stopped = sample(self.processes);
        }
        self.stopped.is_none()
    }

    /// Counts a unit that is complete now and began at `since_ns`.
    pub(crate) fn count(&mut self, since_ns: u64, now_ns: u64) {
        if self.started.is_some() && self.stopped.is_none() {
            self.units += 1;
            self.latency
                .saturating_record(now_ns.saturating_sub(since_ns).max(1));
        }
    }

    /// Adds what was counted: `units` names it in the plural, `per_unit` is the unit of its cost.
    pub(crate) fn report(&self, report: &mut Report, units: &'static str, per_unit: &'static str) {
        let (Some(started), Some(stopped)) = (self.started, self.stopped) else {
            return;
        };
        let elapsed_s = stopped.at.saturating_sub(started.at).as_secs_f64();
        report.add(units, self.units as f64, "");
        if self.units == 0 {
            report.fail_if(true);
            return;
        }
        report.add("per second", (self.units as f64 / elapsed_s).round(), "");
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            report.add(
                name,
                self.latency.value_at_quantile(quantile) as f64 / 1e3,
                "us",
            );
        }
        report.add("max", self.latency.max() as f64 / 1e3, "us");
        if let (Some(before), Some(after)) = (started.cpu_s, stopped.cpu_s) {
            report.add("server CPU", (after - before) / elapsed_s * 100.0, "%");
            report.add(
                "server CPU per unit",
                (after - before) * 1e6 / self.units as f64,
                per_unit,
            );
        }
        if let Some(memory) = self.processes.memory() {
            report.add("server processes", memory.processes as f64, "");
            report.add("server RSS", memory.rss_kib as f64 / 1024.0, "MiB");
            report.add("server PSS", memory.pss_kib as f64 / 1024.0, "MiB");
        }
    }
}
