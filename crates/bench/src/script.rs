//! The mode `script` that runs a script on each connection, again and again: it sends messages and
//! waits for answers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::error::Outcome;
use super::frame::{self, TEXT};
use super::meter::Meter;
use super::options::Options;
use super::pool::TICK;
use super::report::{Account, Report, report};
use super::sockets::Sockets;
use super::steps::{Script, Step};
use super::target::Target;
use super::watch::Pulse;

/// The limit, per connection, for messages that arrive while connections are opened. They are held
/// for the script.
const MAX_EARLY_BYTES: usize = 64 * 1024;

/// Placeholders in a script, for the number of the connection and for the number of its turn.
const CLIENT: &str = "$CLIENT";
const TURN: &str = "$TURN";

/// The progress of a connection in its script.
#[derive(Default)]
struct Walker {
    /// The index of the next step, counted through both parts of the script.
    at: usize,
    turns: u64,
    /// The start of its turn.
    since_ns: u64,
    /// The text that it waits for. Empty: it has reached the end of its last turn.
    expected: String,
    /// The messages that arrived before it started.
    early: VecDeque<Vec<u8>>,
    early_bytes: usize,
}

/// The things that a connection uses while it goes on.
struct Stage<'s> {
    /// The number of the connection.
    index: usize,
    script: &'s Script,
    tally: &'s mut Tally,
    meter: &'s mut Meter,
    /// The buffer that its messages are appended to.
    unsent: &'s mut Vec<u8>,
}

/// The counts of all connections together.
#[derive(Default)]
struct Tally {
    sent: u64,
    came: u64,
    passed_over: u64,
}

pub(super) fn run(options: &Options, pulse: &mut Pulse<'_>) -> Outcome<Report> {
    let target = Target::resolve(&options.url, ["ws", "wss"], options, pulse)?;
    let mut sockets = Sockets::new(options)?;
    let mut walkers: Vec<Walker> = Vec::new();
    walkers.resize_with(options.connections, Walker::default);
    sockets.open_hearing(
        &target,
        options,
        options.connections,
        pulse,
        |index, message| {
            walkers[index].keep(message);
        },
    )?;
    let mut meter = Meter::new(options, options.connections)?;
    let mut crowd = Crowd {
        script: &options.script,
        walkers,
        tally: Tally::default(),
    };
    crowd.measure(&mut sockets, &mut meter, options.patience, pulse)?;
    let account = crowd.account(&sockets, options.patience);
    sockets.leave()?;
    Ok(report(options, &account, &meter, "turns", None))
}

struct Crowd<'o> {
    script: &'o Script,
    walkers: Vec<Walker>,
    tally: Tally,
}

impl Crowd<'_> {
    fn measure(
        &mut self,
        sockets: &mut Sockets,
        meter: &mut Meter,
        patience: Duration,
        pulse: &mut Pulse<'_>,
    ) -> Outcome<()> {
        let Self {
            script,
            walkers,
            tally,
        } = self;
        meter.restart();
        for (index, walker) in walkers.iter_mut().enumerate() {
            if let Some(unsent) = sockets.outgoing(index) {
                walker.begin(&mut Stage {
                    index,
                    script,
                    tally,
                    meter,
                    unsent,
                });
            }
            sockets.flush(index)?;
        }
        let mut deadline = None;
        loop {
            let goes_on = meter.goes_on(sockets.pool.slept, pulse)?;
            sockets.turn(TICK, |index, message, unsent| {
                let mut stage = Stage {
                    index,
                    script,
                    tally,
                    meter,
                    unsent,
                };
                walkers[index].hear(message, &mut stage);
            })?;
            if !goes_on {
                let now = Instant::now();
                let is_over = |(index, walker): (usize, &Walker)| {
                    walker.expected.is_empty() || !sockets.pool.is_open(index)
                };
                let all = walkers.iter().enumerate().all(is_over);
                if all || now >= *deadline.get_or_insert(now + patience) {
                    return Ok(());
                }
            }
        }
    }

    fn account(&self, sockets: &Sockets, patience: Duration) -> Account {
        let waiting = || self.walkers.iter().filter(|it| !it.expected.is_empty());
        let incoming = &sockets.incoming;
        let mut faults = Vec::new();
        if let Some(walker) = waiting().next() {
            faults.push(format!(
                "{} connections waited for a message that did not come in the {patience:?} after \
                 the measurement: one that contains {:?}, for example.",
                waiting().count(),
                walker.expected
            ));
        }
        Account {
            sent: self.tally.sent,
            delivered: self.tally.came,
            missing: waiting().count() as u64,
            foreign: Some(self.tally.passed_over),
            closed: incoming.closed.clone(),
            wire_bytes_per_unit: Some(
                sockets.pool.received as f64 / incoming.messages.max(1) as f64,
            ),
            faults,
            ..Account::default()
        }
    }
}

impl Walker {
    /// Holds a message that arrives before the script starts.
    fn keep(&mut self, message: &[u8]) {
        if self.early_bytes + message.len() <= MAX_EARLY_BYTES {
            self.early_bytes += message.len();
            self.early.push_back(message.to_vec());
        }
    }

    /// Goes to the first step that waits for a message, which may have arrived already.
    fn begin(&mut self, stage: &mut Stage<'_>) {
        self.go(stage);
        while let Some(message) = self.early.pop_front() {
            self.hear(&message, stage);
        }
    }

    fn hear(&mut self, message: &[u8], stage: &mut Stage<'_>) {
        if self.expected.is_empty() || !contains(message, self.expected.as_bytes()) {
            stage.tally.passed_over += 1;
            return;
        }
        stage.tally.came += 1;
        self.at += 1;
        self.go(stage);
    }

    /// Sends until the next step waits for a message. After the measurement it starts no turn.
    fn go(&mut self, stage: &mut Stage<'_>) {
        self.expected.clear();
        loop {
            let now_ns = stage.meter.now_ns();
            if self.at == stage.script.first.len() {
                self.since_ns = now_ns;
            }
            match stage.script.step(self.at) {
                None => {
                    stage.meter.count(stage.index, self.since_ns, now_ns);
                    self.turns += 1;
                    self.at = stage.script.first.len();
                    if now_ns >= stage.meter.end().as_nanos() as u64 {
                        return;
                    }
                }
                Some(Step::Send(text)) => {
                    let text = self.told(text, stage.index);
                    frame::write(TEXT, text.as_bytes(), stage.unsent);
                    stage.tally.sent += 1;
                    self.at += 1;
                }
                Some(Step::Expect(text)) => {
                    self.expected = self.told(text, stage.index);
                    return;
                }
            }
        }
    }

    /// The text, with its placeholders replaced.
    fn told(&self, text: &str, index: usize) -> String {
        text.replace(CLIENT, &index.to_string())
            .replace(TURN, &self.turns.to_string())
    }
}

/// Whether a message contains this text, which is not empty.
fn contains(message: &[u8], text: &[u8]) -> bool {
    message.windows(text.len()).any(|part| part == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_stands() {
        for (message, text, is_there) in [
            ("hello", "hello", true),
            ("hello", "lo", true),
            ("hello", "hello!", false),
            ("", "a", false),
        ] {
            assert_eq!(contains(message.as_bytes(), text.as_bytes()), is_there);
        }
    }

    #[test]
    fn a_script_whose_turns_wait_for_nothing_has_no_bound() {
        let expect = || Step::Expect("a".to_owned());
        let script = |first, again| Script { first, again };
        assert!(script(vec![], vec![expect()]).is_bounded());
        assert!(!script(vec![expect()], vec![Step::Send("b".to_owned())]).is_bounded());
        assert!(!script(vec![expect()], vec![]).is_bounded());
        assert!(!script(vec![], vec![Step::Expect(String::new())]).is_bounded());
    }
}
