//! The meter that counts units and latencies in each phase: the warm-up, the measurement, and the
//! wait after it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use super::error::{BenchError, Outcome};
use super::figures::{Figures, Value};
use super::options::Options;
use super::processes::Processes;
use super::watch::Pulse;

/// The largest latency that the histogram resolves: ten minutes.
const SLOWEST_NS: u64 = 600_000_000_000;

/// The first bucket of the distribution: 1 µs. Each further bucket is a tenth larger.
const FIRST_BUCKET_NS: u64 = 1_000;
const NEXT_BUCKET: f64 = 1.1;

/// A driver that is awake for this share of the time may be the bottleneck.
const BUSY: f64 = 0.85;

const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// The counter of units, and of the time that each took.
pub(super) struct Meter {
    processes: Processes,
    origin: Instant,
    /// The end of the warm-up, and the end of the measurement.
    begin: Duration,
    end: Duration,
    measure: Duration,
    /// Whether a latency counts by its start time (the open loop), or by its end time.
    by_intent: bool,
    /// The sample at the end of the warm-up.
    started: Option<Sample>,
    /// The sample at the end of the measurement.
    stopped: Option<Sample>,
    units: u64,
    latency: Histogram<u64>,
    clients: Vec<Tally>,
}

/// The units and latencies of one client.
#[derive(Copy, Clone, Default)]
struct Tally {
    units: u64,
    waited_ns: u64,
}

#[derive(Copy, Clone)]
struct Sample {
    at: Duration,
    server_cpu_s: Option<f64>,
    own_cpu_s: f64,
    slept: Duration,
}

impl Meter {
    /// A meter for this number of clients.
    pub(super) fn new(options: &Options, clients: usize) -> Outcome<Self> {
        Ok(Self {
            processes: Processes::new(options.pid)?,
            origin: Instant::now(),
            begin: options.warmup,
            end: options.warmup + options.measure,
            measure: options.measure,
            by_intent: options.rate.is_some(),
            started: None,
            stopped: None,
            units: 0,
            latency: Histogram::new_with_bounds(1, SLOWEST_NS, 3)
                .map_err(|error| BenchError::Option(error.to_string()))?,
            clients: vec![Tally::default(); clients],
        })
    }

    /// Starts the warm-up now; all times count from here.
    pub(super) fn restart(&mut self) {
        self.origin = Instant::now();
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// The end of the measurement. In the closed loop it is later if the driver started the
    /// measurement late, so that the measurement has its full length. In the open loop the end is
    /// fixed.
    pub(super) fn end(&self) -> Duration {
        self.end
    }

    pub(super) fn units(&self) -> u64 {
        self.units
    }

    pub(super) fn processes(&self) -> Processes {
        self.processes
    }

    /// Takes a sample at the end of each phase. The caller calls it once per turn, with the time
    /// that the driver has slept. Returns false when the measurement is over.
    pub(super) fn goes_on(&mut self, slept: Duration, pulse: &mut Pulse<'_>) -> Outcome<bool> {
        let at = self.origin.elapsed();
        let share = |from: Duration, to: Duration| {
            let whole = to.saturating_sub(from).as_secs_f64();
            at.saturating_sub(from).as_secs_f64() / whole.max(1e-9)
        };
        if self.started.is_none() {
            if !self.begin.is_zero() {
                pulse.beat("warming up", share(Duration::ZERO, self.begin), self.units)?;
            }
            if at >= self.begin {
                self.started = Some(self.sample(at, slept)?);
                if !self.by_intent {
                    self.end = at + self.measure;
                }
            }
        } else if self.stopped.is_none() {
            pulse.beat("measuring", share(self.begin, self.end), self.units)?;
            if at >= self.end {
                self.stopped = Some(self.sample(at, slept)?);
            }
        } else {
            pulse.beat("waiting", 0.0, self.units)?;
        }
        Ok(self.stopped.is_none())
    }

    fn sample(&self, at: Duration, slept: Duration) -> Outcome<Sample> {
        let own = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
            .map_err(BenchError::errno("Reading the driver's own CPU time"))?;
        Ok(Sample {
            at,
            server_cpu_s: self.processes.cpu_s(),
            own_cpu_s: Duration::from(own).as_secs_f64(),
            slept,
        })
    }

    /// Counts a unit of this client, which is complete now. It began, or was due, at `since_ns`.
    pub(super) fn count(&mut self, client: usize, since_ns: u64, now_ns: u64) {
        let waited_ns = now_ns.saturating_sub(since_ns).max(1);
        let is_within = self.started.is_some() && self.stopped.is_none();
        if is_within {
            self.units += 1;
        }
        // A unit that was due in time counts, however late it is complete: a stall shows in such
        // units.
        let due = Duration::from_nanos(since_ns);
        let is_told = if self.by_intent {
            due >= self.begin && due < self.end
        } else {
            is_within
        };
        if is_told {
            self.latency.saturating_record(waited_ns);
            if let Some(tally) = self.clients.get_mut(client) {
                tally.units += 1;
                tally.waited_ns += waited_ns;
            }
        }
    }

    /// The length of the measurement.
    fn elapsed_s(&self) -> f64 {
        match (self.started, self.stopped) {
            (Some(started), Some(stopped)) => stopped.at.saturating_sub(started.at).as_secs_f64(),
            _ => 0.0,
        }
    }

    /// Adds the counts to the figures.
    pub(super) fn report(&self, unit: &str, figures: &mut Figures) {
        let elapsed_s = self.elapsed_s();
        let per_second = self.units as f64 / elapsed_s.max(1e-9);
        figures.add("unit", unit);
        figures.add("seconds", elapsed_s);
        figures.add("units", self.units);
        figures.add("per_second", per_second);
        figures.add("latency_us", self.latency());
        figures.add("distribution_us", self.distribution());
        figures.add("fairness", self.fairness());
        figures.add("server", self.server(elapsed_s));
        figures.add("driver", self.driver(elapsed_s, per_second));
    }

    fn latency(&self) -> Option<Figures> {
        if self.latency.is_empty() {
            return None;
        }
        let mut latency = Figures::default();
        latency.add("mean", self.latency.mean() / 1e3);
        for (name, quantile) in QUANTILES {
            latency.add(name, self.latency.value_at_quantile(quantile) as f64 / 1e3);
        }
        latency.add("max", self.latency.max() as f64 / 1e3);
        Some(latency)
    }

    fn distribution(&self) -> Value {
        let buckets = self.latency.iter_log(FIRST_BUCKET_NS, NEXT_BUCKET);
        let counted = buckets.map(|bucket| {
            (
                bucket.value_iterated_to() as f64 / 1e3,
                bucket.count_since_last_iteration(),
            )
        });
        Value::Buckets(counted.filter(|(_, count)| *count > 0).collect())
    }

    /// The fairness among the clients: Jain's index (1: all equal; 1/n: one client got everything),
    /// and the figures of the best and the worst served client.
    fn fairness(&self) -> Option<Figures> {
        if self.clients.is_empty() || self.latency.is_empty() {
            return None;
        }
        let counts = || self.clients.iter().map(|tally| tally.units);
        let sum: f64 = counts().map(|count| count as f64).sum();
        let squares: f64 = counts().map(|count| (count as f64).powi(2)).sum();
        let served = self.clients.iter().filter(|tally| tally.units > 0);
        let means = || {
            served
                .clone()
                .map(|tally| tally.waited_ns as f64 / tally.units as f64 / 1e3)
        };
        let mut fairness = Figures::default();
        fairness.add("clients", self.clients.len());
        fairness.add("jain", sum.powi(2) / (self.clients.len() as f64 * squares));
        fairness.add("least_units", counts().min());
        fairness.add("most_units", counts().max());
        fairness.add(
            "quickest_client_mean_us",
            means().fold(f64::INFINITY, f64::min),
        );
        fairness.add("slowest_client_mean_us", means().fold(0.0, f64::max));
        Some(fairness)
    }

    /// The number of CPUs that the server used on average.
    pub(super) fn server_cpu(&self) -> Option<f64> {
        let before = self.started?.server_cpu_s?;
        Some((self.stopped?.server_cpu_s? - before) / self.elapsed_s().max(1e-9))
    }

    fn server(&self, elapsed_s: f64) -> Option<Figures> {
        let cpu = self.server_cpu()?;
        let memory = self.processes.memory()?;
        let mut server = Figures::default();
        server.add("processes", memory.processes);
        server.add("cpu_percent", cpu * 100.0);
        let per_unit = cpu * elapsed_s * 1e6 / self.units as f64;
        server.add("cpu_us_per_unit", (self.units > 0).then_some(per_unit));
        server.add("memory_mib", memory.footprint_kib as f64 / 1024.0);
        server.add("pss_mib", memory.pss_kib as f64 / 1024.0);
        server.add("rss_mib", memory.rss_kib as f64 / 1024.0);
        Some(server)
    }

    /// The driver's own cost, and its rate if it used a whole core.
    fn driver(&self, elapsed_s: f64, per_second: f64) -> Option<Figures> {
        let (started, stopped) = (self.started?, self.stopped?);
        let slept_s = stopped.slept.saturating_sub(started.slept).as_secs_f64();
        let busy = (1.0 - slept_s / elapsed_s.max(1e-9)).clamp(0.0, 1.0);
        let mut driver = Figures::default();
        let own_cpu_s = stopped.own_cpu_s - started.own_cpu_s;
        let share = (own_cpu_s / elapsed_s.max(1e-9)).clamp(1e-6, 1.0);
        driver.add("cpu_percent", share * 100.0);
        driver.add("busy_percent", busy * 100.0);
        // The basis is CPU time, not the time awake: a driver that waits for a core does not work.
        let has_units = self.units > 0;
        let per_unit = own_cpu_s * 1e6 / self.units as f64;
        driver.add("cpu_us_per_unit", has_units.then_some(per_unit));
        driver.add(
            "ceiling_per_second",
            has_units.then_some(per_second / share),
        );
        driver.add("is_the_limit", busy >= BUSY);
        Some(driver)
    }
}
