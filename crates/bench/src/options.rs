//! What to measure. The command line is Python's; what it may say is checked here.

use std::time::Duration;

use super::envelope::Envelope;
use super::error::{BenchError, Outcome};
use super::stamp::STAMP_BYTES;
use super::steps::{Script, Step};

/// The largest message: it and its copy in the kernel are held for each connection.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// More than one process can have open files for.
const MAX_CONNECTIONS: usize = 1_000_000;

/// More than one thread sends. A faster schedule would only show the driver's own queue.
const MAX_RATE: f64 = 10_000_000.0;

/// A day; what is longer is a slip of the finger.
const MAX_TIME: Duration = Duration::from_secs(24 * 3600);

/// What the connections do.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Mode {
    /// Requests and responses.
    Http,
    /// What one sends comes back to the same connection.
    Echo,
    /// What one publishes, everybody gets.
    Fanout,
    /// Connect, upgrade, go.
    Handshake,
    /// Nothing, but be there.
    Idle,
    /// What a script says, over and over.
    Script,
}

impl Mode {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Echo => "echo",
            Self::Fanout => "fanout",
            Self::Handshake => "handshake",
            Self::Idle => "idle",
            Self::Script => "script",
        }
    }

    /// The mode of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Http,
            Self::Echo,
            Self::Fanout,
            Self::Handshake,
            Self::Idle,
            Self::Script,
        ];
        all.into_iter().find(|mode| mode.name() == name)
    }
}

/// All that is measured, and how. Each mode looks at what its help names.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own on the command line"
)]
pub struct Options {
    /// What the connections do.
    pub mode: Mode,
    /// `http://`, `https://`, `ws://` or `wss://`, host, port, path and query.
    pub url: String,
    /// Where publishers connect, if elsewhere.
    pub publish_url: Option<String>,
    /// The server's process; all its descendants count.
    pub pid: Option<u32>,
    /// How long is measured.
    pub measure: Duration,
    /// How long it runs before that.
    pub warmup: Duration,
    /// How long to wait for what is missing, at the end.
    pub patience: Duration,
    /// Connections, or subscribers.
    pub connections: usize,
    /// Further connections, which send.
    pub publishers: usize,
    /// The closed loop: so many messages on their way, of each connection or of all publishers.
    pub in_flight: usize,
    /// The open loop: messages per second of all connections together, whatever comes back.
    pub rate: Option<f64>,
    /// The size of a message.
    pub bytes: usize,
    /// Messages are binary.
    pub binary: bool,
    /// Messages are JSON records, which deflate as real data do.
    pub records: bool,
    /// WebSockets agree on permessage-deflate.
    pub compressed: bool,
    /// What the server puts before the message that it echoes.
    pub prefix: String,
    /// What stands around each message, in both directions.
    pub envelope: Envelope,
    /// What each WebSocket sends first, in order.
    pub hello: Vec<String>,
    /// What the message begins with that says that a WebSocket is ready. Empty: it is at once.
    pub greeting: String,
    /// What each WebSocket asks for as its subprotocol.
    pub subprotocol: Option<String>,
    /// Further headers of every request.
    pub headers: Vec<(String, String)>,
    /// What each connection of the mode `script` does.
    pub script: Script,
    /// The request's method.
    pub method: String,
    /// The request's body.
    pub body: Vec<u8>,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<String>,
    /// Trust any certificate.
    pub insecure: bool,
}

impl Options {
    /// What a mode does unless it is told otherwise.
    pub fn new(mode: Mode, url: &str) -> Self {
        Self {
            mode,
            url: url.to_owned(),
            publish_url: None,
            pid: None,
            measure: Duration::from_secs(5),
            warmup: Duration::from_secs(1),
            patience: Duration::from_secs(5),
            connections: match mode {
                Mode::Fanout => 200,
                Mode::Idle => 1000,
                Mode::Http | Mode::Echo | Mode::Handshake | Mode::Script => 64,
            },
            publishers: 4,
            in_flight: if mode == Mode::Fanout { 64 } else { 1 },
            rate: None,
            // A script expects messages of any size.
            bytes: if mode == Mode::Script { MAX_BYTES } else { 128 },
            binary: false,
            records: false,
            compressed: false,
            prefix: String::new(),
            envelope: Envelope::default(),
            hello: Vec::new(),
            greeting: String::new(),
            subprotocol: None,
            headers: Vec::new(),
            script: Script::default(),
            method: "GET".to_owned(),
            body: Vec::new(),
            ca_file: None,
            insecure: false,
        }
    }

    /// How many sockets it takes.
    pub(super) fn sockets(&self) -> usize {
        match self.mode {
            Mode::Fanout => self.connections + self.publishers,
            Mode::Idle => self.connections + 1,
            Mode::Http | Mode::Echo | Mode::Handshake | Mode::Script => self.connections,
        }
    }

    pub(super) fn check(&self) -> Outcome<()> {
        let refused = |what: String| Err(BenchError::Option(what));
        if self.bytes < STAMP_BYTES || self.bytes > MAX_BYTES {
            return refused(format!(
                "A message has {STAMP_BYTES} to {MAX_BYTES} bytes, and not {}: it begins with its \
                 number and the time.",
                self.bytes
            ));
        }
        for (what, count) in [
            ("connections", self.connections),
            ("publishers", self.publishers),
            ("messages in flight", self.in_flight),
        ] {
            if !(1..=MAX_CONNECTIONS).contains(&count) {
                return refused(format!(
                    "The number of {what} is 1 to {MAX_CONNECTIONS}, and not {count}."
                ));
            }
        }
        if let Some(rate) = self.rate
            && !(rate > 0.0 && rate <= MAX_RATE)
        {
            return refused(format!(
                "The rate is more than 0 and at most {MAX_RATE} per second, and not {rate}."
            ));
        }
        if self.measure.is_zero() {
            return refused("The time to measure is more than 0 seconds.".to_owned());
        }
        if [self.measure, self.warmup, self.patience]
            .iter()
            .any(|time| *time > MAX_TIME)
        {
            return refused("No time is longer than a day.".to_owned());
        }
        self.check_script()?;
        self.check_head()
    }

    fn check_script(&self) -> Outcome<()> {
        let steps = || self.script.first.iter().chain(&self.script.again);
        let is_empty = |step: &Step| *step == Step::Expect(String::new());
        if steps().any(is_empty) {
            let reason = "A script must expect a non-empty string: every message contains \
                          the empty one.";
            return Err(BenchError::Option(reason.to_owned()));
        }
        if self.mode == Mode::Script && !self.script.is_bounded() {
            let told = "A script has something to expect in the part that is repeated: without, it \
                        would send as fast as it can and never learn what came of it.";
            return Err(BenchError::Option(told.to_owned()));
        }
        Ok(())
    }

    /// A line's end in a header would be another header.
    fn check_head(&self) -> Outcome<()> {
        let is_token = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            !text.is_empty() && text.chars().all(allowed)
        };
        if !is_token(&self.method) {
            return Err(BenchError::Option(format!(
                "{:?} is not an HTTP method.",
                self.method
            )));
        }
        for (name, value) in &self.headers {
            if !is_token(name) || value.contains(['\r', '\n', '\0']) {
                return Err(BenchError::Option(format!(
                    "{name:?}: {value:?} is not a header. Write it as in --header 'Name: value'."
                )));
            }
        }
        let protocol = self.subprotocol.as_deref();
        if protocol.is_some_and(|protocol| !is_token(protocol)) {
            return Err(BenchError::Option(format!(
                "{protocol:?} is not a subprotocol."
            )));
        }
        Ok(())
    }
}
