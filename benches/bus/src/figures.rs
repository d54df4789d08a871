//! The figures of a sitting: every run of every contender, and the medians of the rounds.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::plan::{Case, Contender, Work};
use crate::task::{Received, Sent};

/// All runs, in the order of the rounds. `None`: that one failed.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    runs: BTreeMap<(Case, Contender), Vec<Option<Run>>>,
}

/// The reports of the processes of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Run {
    pub(crate) sent: Vec<Sent>,
    pub(crate) received: Vec<Received>,
}

/// The totals of all messages of a contender.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Account {
    pub(crate) sent: u64,
    /// Each message counts once for each reader.
    pub(crate) due: u64,
    pub(crate) received: u64,
    pub(crate) missing: u64,
    pub(crate) misplaced: u64,
    pub(crate) lagged: u64,
    pub(crate) failed_runs: u64,
}

impl Account {
    pub(crate) fn is_complete(self) -> bool {
        let faults = self.missing + self.misplaced + self.lagged + self.failed_runs;
        faults == 0 && self.received == self.due
    }
}

impl Run {
    fn received(&self) -> u64 {
        self.received.iter().map(|it| it.messages).sum()
    }

    /// The latency below which this share of the messages was, in microseconds.
    pub(crate) fn latency_us(&self, part: f64) -> f64 {
        let mut steps: Vec<_> = self.received.iter().flat_map(|it| &it.latencies).collect();
        steps.sort_unstable();
        let all: u64 = steps.iter().map(|(_, count)| count).sum();
        let mut left = (all as f64 * part).ceil() as u64;
        for (latency, count) in steps {
            if left <= *count {
                return *latency as f64 / 1e3;
            }
            left -= count;
        }
        f64::NAN
    }

    /// Deliveries per second: from the first message to the last of the last reader.
    pub(crate) fn per_second(&self) -> f64 {
        let begin = self.sent.iter().map(|it| it.begin_ns).min().unwrap_or(0);
        let end = self.received.iter().map(|it| it.end_ns).max().unwrap_or(0);
        self.received() as f64 * 1e9 / end.saturating_sub(begin).max(1) as f64
    }

    /// User and system time of producers and readers per delivery. A broker's own is not included.
    pub(crate) fn cpu_us(&self) -> f64 {
        let sent = self.sent.iter().map(|it| it.cpu_ns);
        let all: u64 = sent.chain(self.received.iter().map(|it| it.cpu_ns)).sum();
        all as f64 / 1e3 / self.received().max(1) as f64
    }

    /// User and system time of the producers per message, without the time for waiting for readers.
    pub(crate) fn publish_ns(&self) -> f64 {
        let spent = |it: &Sent| it.cpu_ns.saturating_sub(it.waiting_ns);
        let messages: u64 = self.sent.iter().map(|it| it.messages).sum();
        self.sent.iter().map(spent).sum::<u64>() as f64 / messages.max(1) as f64
    }

    fn account(&self) -> Account {
        let sent = self.sent.iter().map(|it| it.messages).sum();
        let sum = |of: fn(&Received) -> u64| self.received.iter().map(of).sum();
        Account {
            sent,
            due: sent * self.received.len() as u64,
            received: self.received(),
            missing: sum(|it| it.missing),
            misplaced: sum(|it| it.misplaced),
            lagged: sum(|it| it.lagged),
            failed_runs: 0,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_timed = self.received.iter().any(|it| !it.latencies.is_empty());
        if is_timed {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| self.latency_us(part));
            write!(formatter, "{p50:.2} / {p99:.2} / {p999:.2} us")?;
        } else {
            let cpu = self.cpu_us();
            write!(
                formatter,
                "{:.0} per second, {cpu:.3} us of CPU each",
                self.per_second()
            )?;
        }
        let account = self.account();
        if account.is_complete() {
            write!(formatter, ", all {} came", account.due)
        } else {
            write!(formatter, ", NOT COMPLETE: {account:?}")
        }
    }
}

impl Figures {
    pub(crate) fn add(&mut self, case: Case, contender: Contender, run: Option<Run>) {
        self.runs.entry((case, contender)).or_default().push(run);
    }

    /// Whether no run failed, and no message was missing in any.
    pub(crate) fn are_complete(&self) -> bool {
        self.contenders()
            .iter()
            .all(|contender| self.account(*contender).is_complete())
    }

    /// The number of rounds.
    pub(crate) fn rounds(&self) -> usize {
        self.runs.values().map(Vec::len).max().unwrap_or(0)
    }

    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut cases: Vec<_> = self.runs.keys().map(|(case, _)| *case).collect();
        cases.dedup();
        cases
    }

    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let has = |it: &Contender| self.runs.keys().any(|(_, contender)| contender == it);
        Contender::ALL.into_iter().filter(has).collect()
    }

    /// The median of the rounds that did not fail.
    pub(crate) fn median(
        &self,
        case: Case,
        contender: Contender,
        of: impl Fn(&Run) -> f64,
    ) -> Option<f64> {
        let runs = self.runs.get(&(case, contender))?;
        median(runs.iter().flatten().map(of).collect())
    }

    /// The median, over the rounds, of the ratio between the contender's figure and Fanbus's of the same round.
    pub(crate) fn ratio(
        &self,
        case: Case,
        contender: Contender,
        of: impl Fn(&Run) -> f64,
    ) -> Option<f64> {
        let ours = self.runs.get(&(case, Contender::Fanbus))?;
        let theirs = self.runs.get(&(case, contender))?;
        let pairs = ours.iter().zip(theirs);
        let ratio = |(ours, theirs): (&Option<Run>, &Option<Run>)| {
            Some(of(theirs.as_ref()?) / of(ours.as_ref()?))
        };
        median(pairs.filter_map(ratio).collect())
    }

    pub(crate) fn account(&self, contender: Contender) -> Account {
        let mine = self.runs.iter().filter(|((_, it), _)| *it == contender);
        let mut all = Account::default();
        for run in mine.flat_map(|(_, runs)| runs) {
            let Some(run) = run else {
                all.failed_runs += 1;
                continue;
            };
            let one = run.account();
            all.sent += one.sent;
            all.due += one.due;
            all.received += one.received;
            all.missing += one.missing;
            all.misplaced += one.misplaced;
            all.lagged += one.lagged;
        }
        all
    }

    /// Every run, for programs.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |((case, contender), runs): (&(Case, Contender), &Vec<Option<Run>>)| Row {
            case: case.name(),
            contender: contender.name(),
            rounds: runs
                .iter()
                .map(|run| run.as_ref().map(|run| round(*case, run)))
                .collect(),
        };
        self.runs.iter().map(row).collect()
    }
}

/// One line of the file for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    case: String,
    contender: &'static str,
    rounds: Vec<Option<Round>>,
}

/// One run in that file.
#[derive(Debug, Serialize)]
struct Round {
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    per_second: f64,
    cpu_us: f64,
    publish_ns: f64,
    #[serde(flatten)]
    account: Account,
}

fn round(case: Case, run: &Run) -> Round {
    let is_timed = !matches!(case.work, Work::Throughput { .. });
    let latency = |part| is_timed.then(|| run.latency_us(part));
    Round {
        p50_us: latency(0.5),
        p99_us: latency(0.99),
        p999_us: latency(0.999),
        per_second: run.per_second(),
        cpu_us: run.cpu_us(),
        publish_ns: run.publish_ns(),
        account: run.account(),
    }
}

/// The median of the values that are numbers: a run on a busy machine may end before its warm-up.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(latencies: &[(u64, u64)]) -> Run {
        Run {
            sent: vec![Sent::default()],
            received: vec![Received {
                latencies: latencies.to_vec(),
                ..Received::default()
            }],
        }
    }

    #[test]
    fn a_percentile_is_the_latency_of_the_message_at_that_place() {
        let run = run(&[(1000, 50), (2000, 49), (9000, 1)]);
        let at = |part| format!("{}", run.latency_us(part));
        assert_eq!([0.5, 0.51, 0.99, 0.999].map(at), ["1", "2", "2", "9"]);
    }

    #[test]
    fn waiting_for_readers_is_no_part_of_a_publish() {
        let sent = |messages, cpu_ns, waiting_ns| Sent {
            messages,
            begin_ns: 0,
            cpu_ns,
            waiting_ns,
        };
        let run = Run {
            sent: vec![sent(10, 1000, 500), sent(30, 700, 0)],
            received: Vec::new(),
        };
        assert_eq!(format!("{}", run.publish_ns()), "30");
    }

    #[test]
    fn a_run_that_failed_or_lost_something_is_not_complete() {
        let case = Case {
            work: Work::Busy,
            bytes: 64,
        };
        let mut figures = Figures::default();
        figures.add(case, Contender::Fanbus, Some(run(&[(1, 1)])));
        assert!(figures.are_complete());
        let mut lossy = run(&[(1, 1)]);
        lossy.received[0].missing = 1;
        figures.add(case, Contender::Pipe, Some(lossy));
        assert!(!figures.are_complete());
        let mut figures = Figures::default();
        figures.add(case, Contender::Fanbus, None);
        assert!(!figures.are_complete());
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![f64::NAN, 1.0]), Some(1.0));
        assert_eq!(median(vec![]), None);
    }
}
