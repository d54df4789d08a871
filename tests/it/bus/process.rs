//! Other processes for the tests of the bus: this test binary again, with a role to play.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Long enough for anything here on a busy machine; nothing waits for it when all is well.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

const ROLE: &str = "FANBUS_TEST_ROLE";
const BUS: &str = "FANBUS_TEST_BUS";
/// Before each line that a child says, to tell them from the test harness's own.
const MARK: &str = "@say ";

/// A bus of a name that no other test has, removed at the end however the test ends. Nothing else is
/// to be left of it then.
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

    /// All that lies in /dev/shm and has to do with it.
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

/// A process that plays a role. Killed at the end of the test if it still runs.
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

    /// The next line that it says.
    pub(super) fn hear(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended: {:?}", self.process.wait()),
        }
    }

    /// What follows `word` in the next line.
    pub(super) fn hear_after(&mut self, word: &str) -> String {
        let line = self.hear();
        let rest = line
            .strip_prefix(word)
            .unwrap_or_else(|| panic!("{line:?}, not {word:?}"));
        rest.trim().to_string()
    }

    /// The numbers that follow `word` in the next line.
    pub(super) fn hear_numbers(&mut self, word: &str) -> Vec<u64> {
        let line = self.hear_after(word);
        line.split(' ')
            .map(|word| word.parse().expect("a number"))
            .collect()
    }

    pub(super) fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("it listens");
    }

    /// `kill -9`, and waits until it is gone.
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

/// In the other process: says a line to the test.
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
