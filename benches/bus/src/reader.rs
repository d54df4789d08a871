//! A process that reads.

use std::thread;

use hdrhistogram::Histogram;

use crate::clock::{cpu_ns, now_ns};
use crate::credit::Credits;
use crate::ledger::{Ledger, Stamp, touch};
use crate::task::{Pace, Patience, Received, Task};
use crate::transport::{Read, UseReader};
use crate::{Outcome, child};

/// The first messages of a latency run are not counted: caches are cold, and connections are opened.
const WARMUP: u64 = 50;
/// The slowest latency that has a value of its own.
const SLOWEST_NS: u64 = 60_000_000_000;
/// Polls without a message before a reader yields its CPU.
const LOOKS: u32 = 200;

/// The role of a reader, once it has a transport.
pub(crate) struct Reading<'a>(pub(crate) &'a Task);

impl UseReader for Reading<'_> {
    fn run<R: Read>(self, mut reader: R) -> Outcome<()> {
        let task = self.0;
        child::ready()?;
        reader.connect()?;
        let mut credits = Credits::open(task)?;
        child::ready()?;
        let cpu = cpu_ns();
        let mut ledger = Ledger::new(task.producers);
        let mut latencies = Histogram::<u64>::new_with_bounds(1, SLOWEST_NS, 3)?;
        let is_timed = !matches!(task.pace, Pace::Flat { .. });
        let mut looks = 0;
        while !ledger.is_over() {
            let mut failed = None;
            let count = reader.read(&mut |message| {
                touch(message);
                let Some(stamp) = Stamp::read(message) else {
                    failed = Some("a message is shorter than it was sent".into());
                    return;
                };
                if is_timed && stamp.number >= WARMUP && !stamp.is_end {
                    latencies.saturating_record(now_ns().saturating_sub(stamp.time_ns).max(1));
                }
                ledger.take(stamp);
                if let Err(error) = credits.grant(stamp.producer as usize, &ledger) {
                    failed = Some(error);
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            if count > 0 {
                looks = 0;
                continue;
            }
            match task.patience {
                Patience::Sleep => reader.wait()?,
                Patience::Yield if looks >= LOOKS => {
                    looks = 0;
                    thread::yield_now();
                }
                Patience::Spin | Patience::Yield => {
                    looks += 1;
                    std::hint::spin_loop();
                }
            }
        }
        let received = Received {
            messages: ledger.received(),
            missing: ledger.missing(),
            misplaced: ledger.misplaced(),
            lagged: reader.lagged(),
            end_ns: now_ns(),
            cpu_ns: cpu_ns() - cpu,
            latencies: latencies
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        };
        child::say(&serde_json::to_string(&received)?);
        Ok(())
    }
}
