//! The transport NATS: its protocol spoken directly, over loopback.
//!
//! The protocol consists of text lines, and a blocking client is these few functions. The crate `async-nats` would
//! bring a runtime and two hand-overs per message, and the benchmark would measure those. Producers at full rate send
//! up to 64 messages at once.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::TcpStream;

use super::{Publish, Read};
use crate::Outcome;
use crate::task::Task;

/// Most messages sent at once, and bytes after which no more are added.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 64 << 10;
/// Bytes that a reader takes at once.
const READ_BYTES: usize = 256 << 10;

/// Connects, and waits until the server has taken the `commands`.
fn connect(task: &Task, commands: &str) -> Outcome<BufReader<TcpStream>> {
    let address = task.broker.as_deref().ok_or("NATS was not started")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(READ_BYTES, stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?; // INFO
    let options = r#"{"verbose":false,"pedantic":false,"lang":"rust","version":"1"}"#;
    write!(stream, "CONNECT {options}\r\n{commands}PING\r\n")?;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.starts_with("-ERR") {
            return Err(format!("NATS refused the connection: {}", line.trim()).into());
        }
        if line == "PONG\r\n" {
            return Ok(reader);
        }
    }
}

pub(super) struct Publisher {
    stream: TcpStream,
    subject: String,
    buffer: Vec<u8>,
    messages: usize,
}

impl Publisher {
    pub(super) fn open(task: &Task) -> Outcome<Publisher> {
        Ok(Publisher {
            stream: connect(task, "")?.into_inner(),
            subject: task.name.clone(),
            buffer: Vec::new(),
            messages: 0,
        })
    }
}

impl Publish for Publisher {
    fn publish(&mut self, message: &[u8]) -> Outcome<()> {
        write!(self.buffer, "PUB {} {}\r\n", self.subject, message.len())?;
        self.buffer.extend_from_slice(message);
        self.buffer.extend_from_slice(b"\r\n");
        self.messages += 1;
        if self.messages >= BATCH || self.buffer.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        self.stream.write_all(&self.buffer)?;
        self.buffer.clear();
        self.messages = 0;
        Ok(())
    }
}

pub(super) struct Reader {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    payload: Vec<u8>,
    /// Whether the payload has not been handed over yet.
    is_full: bool,
}

impl Reader {
    pub(super) fn open(task: &Task) -> Outcome<Reader> {
        Ok(Reader {
            stream: connect(task, &format!("SUB {} 1\r\n", task.name))?,
            line: Vec::new(),
            payload: Vec::new(),
            is_full: false,
        })
    }
}

impl Read for Reader {
    fn read(&mut self, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        if !self.is_full {
            return Ok(0);
        }
        self.is_full = false;
        each(&self.payload);
        Ok(1)
    }

    fn wait(&mut self) -> Outcome<()> {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line)?;
        let line = std::str::from_utf8(&self.line)?.trim_end();
        let Some(message) = line.strip_prefix("MSG ") else {
            return match line {
                "PING" => Ok(self.stream.get_mut().write_all(b"PONG\r\n")?),
                "PONG" | "+OK" => Ok(()),
                other => Err(format!("NATS said {other:?}").into()),
            };
        };
        let bytes: usize = message.rsplit(' ').next().unwrap_or_default().parse()?;
        self.payload.resize(bytes + 2, 0);
        self.stream.read_exact(&mut self.payload)?;
        self.payload.truncate(bytes);
        self.is_full = true;
        Ok(())
    }
}
