//! Another process of this program: started with a task, led by lines, ended at a deadline.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::task::Task;

/// A process in its role. Killed when it is dropped.
pub(crate) struct Actor {
    process: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Actor {
    pub(crate) fn start(task: &Task) -> Outcome<Actor> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--task")
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take().expect("piped");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Actor {
            process,
            stdin,
            lines,
        })
    }

    /// The next line of its output, if it comes before the deadline.
    pub(crate) fn hear(&mut self, deadline: Instant) -> Outcome<String> {
        let patience = deadline.saturating_duration_since(Instant::now());
        self.lines
            .recv_timeout(patience.max(Duration::from_millis(1)))
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => "a process of the run was not done in time".into(),
                RecvTimeoutError::Disconnected => "a process of the run ended too early".into(),
            })
    }

    /// Waits until it is ready for the next step.
    pub(crate) fn hear_ready(&mut self, deadline: Instant) -> Outcome<()> {
        match self.hear(deadline)?.as_str() {
            READY => Ok(()),
            other => Err(format!("a process of the run said {other:?} too early").into()),
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn hear_end(&mut self, deadline: Instant) -> Outcome<()> {
        let patience = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(patience) {
            Ok(line) => Err(format!("a process of the run said {line:?} too late").into()),
            Err(RecvTimeoutError::Timeout) => Err("a process of the run did not end".into()),
            Err(RecvTimeoutError::Disconnected) if self.process.wait()?.success() => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err("a process of the run failed".into()),
        }
    }

    /// Lets it take the next step.
    pub(crate) fn go(&mut self) -> io::Result<()> {
        writeln!(self.stdin, "go")
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const READY: &str = "ready";

/// In the other process: sends a line to the leader.
#[expect(
    clippy::print_stdout,
    reason = "the standard output is the way to the leader"
)]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// In the other process: reports that a step is done, and waits for the next.
pub(crate) fn ready() -> Outcome<()> {
    say(READY);
    wait()
}

/// In the other process: waits for the next step.
pub(crate) fn wait() -> Outcome<()> {
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        return Err("the leading process is gone".into());
    }
    Ok(())
}
