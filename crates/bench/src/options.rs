//! The options that describe a measurement. Python parses the command line; this module checks the
//! values.

use std::time::Duration;

use super::envelope::Envelope;
use super::error::{BenchError, Outcome};
use super::stamp::STAMP_BYTES;
use super::steps::{Script, Step};

/// The largest message: for each connection, the driver and the kernel each hold a copy of it.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// More connections than one process can have open files for.
const MAX_CONNECTIONS: usize = 1_000_000;

/// A higher rate than one thread can send. A faster schedule would only show the driver's own
/// queue.
const MAX_RATE: f64 = 10_000_000.0;

/// A day: a longer time is probably a typing error.
const MAX_TIME: Duration = Duration::from_secs(24 * 3600);

/// The kind of load that the connections make.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Mode {
    /// Requests and responses.
    Http,
    /// The server returns each message to the same connection.
    Echo,
    /// Every subscriber gets each published message.
    Fanout,
    /// Connections that are opened, upgraded and closed, again and again.
    Handshake,
    /// Connections that stay open and only answer pings.
    Idle,
    /// The steps of a script, again and again.
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

    /// The mode with that name.
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

/// The settings of a measurement. Each mode reads the settings that its help lists.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own on the command line"
)]
pub struct Options {
    /// The kind of load that the connections make.
    pub mode: Mode,
    /// `http://`, `https://`, `ws://` or `wss://`, host, port, path and query.
    pub url: String,
    /// The URL of publishers, if they connect elsewhere.
    pub publish_url: Option<String>,
    /// The server's process; all its descendants count too.
    pub pid: Option<u32>,
    /// The length of the measurement.
    pub measure: Duration,
    /// The length of the warm-up before it.
    pub warmup: Duration,
    /// How long to wait for missing messages, at the end.
    pub patience: Duration,
    /// The number of connections, or of subscribers.
    pub connections: usize,
    /// The number of further connections that publish.
    pub publishers: usize,
    /// The closed loop: the number of messages in flight, of each connection or of all publishers
    /// together.
    pub in_flight: usize,
    /// The open loop: messages per second of all connections together, however fast the server
    /// answers.
    pub rate: Option<f64>,
    /// The size of a message, in bytes.
    pub bytes: usize,
    /// Whether messages are binary.
    pub binary: bool,
    /// Whether messages are JSON records, which compress like real data.
    pub records: bool,
    /// Whether WebSockets negotiate permessage-deflate.
    pub compressed: bool,
    /// The text that the server puts before a message that it echoes.
    pub prefix: String,
    /// The text around each message, in both directions.
    pub envelope: Envelope,
    /// The messages that each WebSocket sends first, in order.
    pub hello: Vec<String>,
    /// The beginning of the message by which the server says that a WebSocket is ready. Empty: it
    /// is ready as soon as it is open.
    pub greeting: String,
    /// The subprotocol that each WebSocket requests.
    pub subprotocol: Option<String>,
    /// Additional headers of every request.
    pub headers: Vec<(String, String)>,
    /// The script of each connection in the mode `script`.
    pub script: Script,
    /// The request's method.
    pub method: String,
    /// The request's body.
    pub body: Vec<u8>,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<String>,
    /// Whether to trust any certificate.
    pub insecure: bool,
}

impl Options {
    /// The defaults of a mode.
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
            // A script accepts messages of any size.
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

    /// The number of sockets that the measurement needs.
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

    /// Refuses line ends in the request's head, since a line end in a header would begin another
    /// header.
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
