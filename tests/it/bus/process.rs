//! The other processes of the bus tests: this test binary again, in a role.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Deadline for any step on a busy machine. A test that passes does not wait for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

const ROLE: &str = "FANBUS_TEST_ROLE";
const BUS: &str = "FANBUS_TEST_BUS";
/// The beginning of each line of a child, to tell it from the lines of the test harness.
const MARK: &str = "@say ";

/// A bus with a name of its own, removed at the end, however the test ends. Nothing else may be left of it then.
pub(super) struct Name(pub(super) String);

impl Name {
    pub(super) fn new(test: &str) -> Name {
        let name = Name(format!("test-{}-{test}", std::process::id()));
        let _ = fs::remove_file(name.path());
        name
    }

    pub(super) fn path(&self) -> String {
        format!("/dev/shm/fanbus.{}", self.0)
    }

    /// All files in /dev/shm that belong to it.
    pub(super) fn files(&self) -> Vec<String> {
        let files = fs::read_dir("/dev/shm").expect("a folder");
        files
            .filter_map(|file| file.ok()?.file_name().into_string().ok())
            .filter(|file| file.contains(&self.0))
            .collect()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path());
        let left = self.files();
        assert!(left.is_empty() || thread::panicking(), "{left:?} is left");
    }
}

/// A process in a role. Killed at the end of the test if it still runs.
pub(super) struct Actor {
    process: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Actor {
    pub(super) fn start(role: &str, bus: &Name) -> Actor {
        let exe = env::current_exe().expect("this test binary");
        Actor::run(Command::new(exe), role, bus)
    }

    /// With a command that runs the program and arguments appended to it.
    pub(super) fn run(mut command: Command, role: &str, bus: &Name) -> Actor {
        command.args(["--exact", "bus::actor", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(BUS, &bus.0);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test binary runs a second time");
        let stdin = process.stdin.take().expect("piped");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(MARK)
                    && sender.send(said.to_string()).is_err()
                {
                    break;
                }
            }
        });
        Actor {
            process,
            stdin,
            lines,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line of its output.
    pub(super) fn hear(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended: {:?}", self.process.wait()),
        }
    }

    /// The rest of the next line, behind `word`.
    pub(super) fn hear_after(&mut self, word: &str) -> String {
        let line = self.hear();
        let rest = line
            .strip_prefix(word)
            .unwrap_or_else(|| panic!("{line:?}, not {word:?}"));
        rest.trim().to_string()
    }

    /// The numbers behind `word` in the next line.
    pub(super) fn hear_numbers(&mut self, word: &str) -> Vec<u64> {
        let line = self.hear_after(word);
        line.split(' ')
            .map(|word| word.parse().expect("a number"))
            .collect()
    }

    pub(super) fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("it listens");
    }

    /// Sends `kill -9`, and waits until the process has ended.
    pub(super) fn kill(&mut self) {
        self.process.kill().expect("it is our child");
        self.process.wait().expect("it was killed");
    }

    pub(super) fn wait(mut self) -> ExitStatus {
        self.process.wait().expect("it is our child")
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the other process: its role and its bus. `None` in the test process itself.
pub(super) fn role() -> Option<(String, String)> {
    Some((env::var(ROLE).ok()?, env::var(BUS).ok()?))
}

/// In the other process: sends a line to the test.
pub(super) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "\n{MARK}{line}")
        .and_then(|()| stdout.flush())
        .expect("the test listens");
}

/// In the other process: waits for a line from the test.
pub(super) fn listen() -> String {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the test speaks");
    line.trim().to_string()
}

/// Waits until `condition` holds.
pub(super) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::yield_now();
    }
}
