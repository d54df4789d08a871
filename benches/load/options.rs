//! The command line.

use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

use crate::Outcome;
use crate::net::Target;
use crate::stamp::STAMP_BYTES;

const HELP: &str = "\
Usage: cargo bench --bench load -- MODE [OPTIONS]

Modes (each explains itself: load MODE --help)
  echo        connections send and await the same message back
  fanout      publishers send, every connection on the path must get every message
  handshake   connections open a WebSocket and go, as fast as they can
  idle        connections do nothing: what does one cost in memory?
  http        connections ask GET, again and again

Options of all modes
  --url URL        what to connect to; ws:// or http://, host, port, path
  --pid PID        the server's supervisor: its CPU time and memory, and that of all its
                   descendants, are read from /proc
  --seconds S      how long to measure [5]
  --warmup S       how long to run before that [1]
  --json           print one JSON object instead of a table

CPU time is user plus system of the server's processes, between the end of the warm-up and the
end of the measurement, over the units of that time. It has a resolution of 10 ms, so measure for
seconds. Exit status: 0 if everything arrived; 1 if something was missing, came twice, or came in
different orders; 2 if it could not be measured.
";

const ECHO: &str = "\
Usage: load echo --url ws://127.0.0.1:5000/ws/echo [OPTIONS]

Every connection keeps a number of messages in flight (closed loop): what comes back is checked
against what was sent, and answered with the next. Latency is from the write to the read.

  --connections N  [64]
  --in-flight N    messages in flight per connection [1]
  --bytes N        size of a message [128]
  --binary         send binary messages instead of text
  --prefix TEXT    what the server puts before the message, as in \"Echo: \"

Unit: a message that came back.
";

const FANOUT: &str = "\
Usage: load fanout --url ws://127.0.0.1:5000/ws/relay/bench [OPTIONS]

Publishers and subscribers are connections on one path where the server hands each message to all
connections, the sender included (a relay, a chat room). All must get each message exactly once
and all in the same order. Measuring begins when a first message has reached everybody.

  --subscribers N  [200]
  --publishers N   further connections, that send; they get every message too [4]
  --publish-url U  publishers connect here instead, and what they get does not count
  --bytes N        size of a message [128]
  --binary         send binary messages instead of text
  --records        fill messages with JSON records, which deflate as real data do, not with dots
  --compressed     subscribers and publishers agree with the server on permessage-deflate
  --in-flight N    closed loop: at most N messages not yet received by everybody [64]
  --rate R         open loop instead: R messages per second, whatever comes back. Latency is then
                   from the moment at which a message was due, so that a server that stalls
                   cannot hide it
  --patience S     how long to wait for a first message to reach everybody, and at the end for
                   what is missing [5]

In the closed loop, a message that does not reach everybody stops the loop; after a second in
which nothing came (a stall) it counts as missing, and the loop goes on.

Unit: a delivery, which is one message at one connection.
";

const HANDSHAKE: &str = "\
Usage: load handshake --url ws://127.0.0.1:5000/ws/echo [OPTIONS]

Connects, sends the upgrade request, awaits the 101, and resets the connection (so that the
client does not run out of ports), over and over.

  --connections N  handshakes at the same time [64]

Unit: a handshake. Missing: attempts that were refused, reset, or not answered at the end.
";

const IDLE: &str = "\
Usage: load idle --url ws://127.0.0.1:5000/ws/echo --pid PID [OPTIONS]

Opens connections, holds them for the time of the measurement (pings are answered), and says what
each costs: the memory of the server's processes with them, less that before. The kernel's own
memory for sockets is not in it.

  --connections N  [10000]

Unit of the CPU time: a connection and second.
";

const HTTP: &str = "\
Usage: load http --url http://127.0.0.1:5000/ [OPTIONS]

Every connection sends GET, awaits the response (which must be 2xx with a Content-Length), and
sends the next (closed loop, keep-alive, no pipelining).

  --connections N  [64]

Unit: a response. Missing: requests without one.
";

/// What to measure.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Mode {
    Echo,
    Fanout,
    Handshake,
    Idle,
    Http,
}

/// The command line, read. Each mode looks at what its help names.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) target: Target,
    /// Where publishers connect, if elsewhere.
    pub(crate) publish_target: Option<Target>,
    pub(crate) pid: Option<u32>,
    pub(crate) measure: Duration,
    pub(crate) warmup: Duration,
    pub(crate) json: bool,
    /// Connections, or subscribers.
    pub(crate) connections: usize,
    pub(crate) publishers: usize,
    /// At least 1.
    pub(crate) in_flight: usize,
    /// Messages per second of the open loop.
    pub(crate) rate: Option<f64>,
    pub(crate) patience: Duration,
    /// At least [`STAMP_BYTES`].
    pub(crate) bytes: usize,
    pub(crate) binary: bool,
    /// Messages are JSON records.
    pub(crate) records: bool,
    pub(crate) prefix: String,
}

impl Options {
    /// Reads the command line. `None` if only help was asked for, which is printed.
    pub(crate) fn parse() -> Outcome<Option<Self>> {
        let mut parser = lexopt::Parser::from_env();
        let mut mode = None;
        let (mut target, mut publish_target) = (None, None);
        let (mut connections, mut in_flight) = (None, None);
        let mut compressed = false;
        let mut options = Self {
            mode: Mode::Echo,
            target: Target::default(),
            publish_target: None,
            pid: None,
            measure: Duration::from_secs(5),
            warmup: Duration::from_secs(1),
            json: false,
            connections: 0,
            publishers: 4,
            in_flight: 0,
            rate: None,
            patience: Duration::from_secs(5),
            bytes: 128,
            binary: false,
            records: false,
            prefix: String::new(),
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("help") | Short('h') => {
                    print(help(mode));
                    return Ok(None);
                }
                // Cargo says this to every benchmark.
                Long("bench") => {}
                Long("url") => target = Some(parser.value()?.parse()?),
                Long("publish-url") => publish_target = Some(parser.value()?.parse()?),
                Long("pid") => options.pid = Some(parser.value()?.parse()?),
                Long("seconds") => options.measure = seconds(&mut parser)?,
                Long("warmup") => options.warmup = seconds(&mut parser)?,
                Long("patience") => options.patience = seconds(&mut parser)?,
                Long("json") => options.json = true,
                Long("connections" | "subscribers") => connections = Some(parser.value()?.parse()?),
                Long("publishers") => options.publishers = parser.value()?.parse()?,
                Long("in-flight") => in_flight = Some(parser.value()?.parse()?),
                Long("rate") => options.rate = Some(parser.value()?.parse()?),
                Long("bytes") => options.bytes = parser.value()?.parse()?,
                Long("binary") => options.binary = true,
                Long("records") => options.records = true,
                Long("compressed") => compressed = true,
                Long("prefix") => options.prefix = parser.value()?.string()?,
                Value(value) if mode.is_none() => mode = Some(value.parse()?),
                other => return Err(other.unexpected().into()),
            }
        }
        let Some(mode) = mode else {
            print(HELP);
            return Ok(None);
        };
        options.mode = mode;
        options.target = target.ok_or("--url is missing: say what to connect to")?;
        options.publish_target = publish_target;
        let targets = [&mut options.target].into_iter();
        for target in targets.chain(&mut options.publish_target) {
            target.compressed = compressed;
        }
        options.connections = connections.unwrap_or(match mode {
            Mode::Fanout => 200,
            Mode::Idle => 10_000,
            Mode::Echo | Mode::Handshake | Mode::Http => 64,
        });
        options.in_flight = in_flight.unwrap_or(if mode == Mode::Fanout { 64 } else { 1 });
        options.check()?;
        Ok(Some(options))
    }

    fn check(&self) -> Outcome<()> {
        if self.bytes < STAMP_BYTES {
            return Err(
                format!("--bytes must be at least {STAMP_BYTES}: a message is numbered").into(),
            );
        }
        if self.connections == 0 || self.in_flight == 0 || self.publishers == 0 {
            return Err("connections, publishers and messages in flight must be at least 1".into());
        }
        if self
            .rate
            .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
        {
            return Err("--rate must be more than 0".into());
        }
        if self.measure.is_zero() {
            return Err("--seconds must be more than 0".into());
        }
        Ok(())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "echo" => Ok(Self::Echo),
            "fanout" => Ok(Self::Fanout),
            "handshake" => Ok(Self::Handshake),
            "idle" => Ok(Self::Idle),
            "http" => Ok(Self::Http),
            _ => Err(format!(
                "there is no mode {name:?}: use echo, fanout, handshake, idle, http"
            )),
        }
    }
}

fn help(mode: Option<Mode>) -> &'static str {
    match mode {
        None => HELP,
        Some(Mode::Echo) => ECHO,
        Some(Mode::Fanout) => FANOUT,
        Some(Mode::Handshake) => HANDSHAKE,
        Some(Mode::Idle) => IDLE,
        Some(Mode::Http) => HTTP,
    }
}

#[expect(clippy::print_stdout, reason = "help is the output that was asked for")]
fn print(help: &str) {
    print!("{help}");
}

fn seconds(parser: &mut lexopt::Parser) -> Outcome<Duration> {
    Ok(Duration::try_from_secs_f64(parser.value()?.parse()?)?)
}
