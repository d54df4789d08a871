//! The brokers Redis and NATS: started for the benchmark, without files on disk, and ended with it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::plan::Contender;

/// Deadline for a broker to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server. Killed when it is dropped.
pub(crate) struct Broker {
    process: Child,
    address: String,
}

impl Broker {
    pub(crate) fn start(contender: Contender, folder: &Path) -> Outcome<Broker> {
        match contender {
            Contender::Redis => Broker::redis(folder),
            Contender::Nats => Broker::nats(folder),
            _ => Err(format!("{} has no server", contender.name()).into()),
        }
    }

    /// The address: a path, or a host with a port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn redis(folder: &Path) -> Outcome<Broker> {
        let socket = folder.join("redis");
        let path = socket
            .to_str()
            .ok_or("the temporary folder has no UTF-8 name")?;
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
        // The window limits the messages that wait for a reader, so Redis need not close it.
        let limits = ["client-output-buffer-limit", "pubsub", "0", "0", "0"];
        command
            .arg("--unixsocket")
            .arg(path)
            .arg(format!("--{}", limits[0]));
        command.arg(limits[1..].join(" "));
        let broker = Broker::spawn(command, "redis-server", path.into(), folder)?;
        broker.wait_until(|| UnixStream::connect(&socket).is_ok())
    }

    fn nats(folder: &Path) -> Outcome<Broker> {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = folder.join("nats.conf");
        fs::write(
            &config,
            format!("listen: \"{address}\"\nmax_payload: 2MB\nmax_pending: 512MB\n"),
        )?;
        let mut command = Command::new("nats-server");
        command.arg("--config").arg(config);
        let broker = Broker::spawn(command, "nats-server", address.to_string(), folder)?;
        broker.wait_until(|| TcpStream::connect(address).is_ok())
    }

    fn spawn(mut command: Command, name: &str, address: String, folder: &Path) -> Outcome<Broker> {
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| {
            format!("Cannot start {name} ({error}). Run `make bench-bus`, which installs it.")
        })?;
        Ok(Broker { process, address })
    }

    fn wait_until(mut self, is_listening: impl Fn() -> bool) -> Outcome<Broker> {
        let deadline = Instant::now() + PATIENCE;
        while !is_listening() {
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("The server at {} ended: {status}", self.address).into());
            }
            if Instant::now() > deadline {
                return Err(format!("The server at {} does not listen", self.address).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(self)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
