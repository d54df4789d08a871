//! Many WebSocket connections on one epoll: whole messages in, whole messages out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::Outcome;
use crate::inflate::Inflater;
use crate::net::Target;
use crate::options::Options;
use crate::stamp::{STAMP_BYTES, Stamp};

/// Any key does: the server undoes it at the same cost. Not 0, which would show the payload.
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// The opcodes of messages, with RSV1.
const DEFLATED_TEXT: u8 = 0x41;
const DEFLATED_BINARY: u8 = 0x42;

const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;

/// Connections, and what they share.
pub(crate) struct Client {
    epoll: Epoll,
    connections: Vec<Connection>,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    /// Connections that the server closed, by close code; `None` without one.
    pub(crate) closed: BTreeMap<Option<u16>, u64>,
    incoming: Incoming,
}

/// What has come over all connections.
struct Incoming {
    inflater: Inflater,
    bytes: u64,
    messages: u64,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    /// Epoll waits for the socket to take more.
    waits_to_write: bool,
    is_open: bool,
}

/// A message, encoded and masked once; only the stamp changes.
pub(crate) struct Template {
    frame: Vec<u8>,
    payload_at: usize,
}

impl Template {
    pub(crate) fn new(options: &Options) -> Self {
        let mut frame = header(if options.binary { 0x2 } else { 0x1 }, options.bytes);
        let payload_at = frame.len();
        let mut payload = if options.records {
            records(options.bytes)
        } else {
            Vec::new()
        };
        payload.resize(options.bytes, b'.');
        let masked = payload.iter().zip(KEY.iter().cycle());
        frame.extend(masked.map(|(byte, key)| byte ^ key));
        Self { frame, payload_at }
    }

    /// Appends the message with this stamp.
    pub(crate) fn write(&self, stamp: Stamp, out: &mut Vec<u8>) {
        let at = out.len() + self.payload_at;
        out.extend_from_slice(&self.frame);
        let stamp = stamp.encode();
        let masked = stamp.iter().zip(KEY.iter().cycle());
        for (byte, (stamp, key)) in out[at..at + STAMP_BYTES].iter_mut().zip(masked) {
            *byte = stamp ^ key;
        }
    }
}

/// JSON as an application might send it: names that repeat, values that do not.
fn records(bytes: usize) -> Vec<u8> {
    let mut text = " ".repeat(STAMP_BYTES);
    let mut random = 1_u64;
    while text.len() < bytes {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (id, user, price) = (random >> 40, random >> 60, (random >> 44) as f64 / 100.0);
        write!(
            text,
            "{{\"id\":{id},\"user\":\"user{user}\",\"price\":{price:.2}}},"
        )
        .expect("a String takes all");
    }
    text.truncate(bytes);
    text.into_bytes()
}

fn header(opcode: u8, len: usize) -> Vec<u8> {
    let mut header = vec![0x80 | opcode];
    match len {
        0..=125 => header.push(0x80 | len as u8),
        126..=0xFFFF => {
            header.push(0x80 + 126);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 + 127);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header.extend(KEY);
    header
}

impl Client {
    pub(crate) fn new(options: &Options) -> Outcome<Self> {
        let incoming = Incoming {
            inflater: Inflater::new(options.bytes),
            bytes: 0,
            messages: 0,
        };
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            connections: Vec::new(),
            events: vec![EpollEvent::empty(); EVENTS],
            buffer: vec![0; READ_BYTES],
            closed: BTreeMap::new(),
            incoming,
        })
    }

    /// Opens further connections, one after another.
    pub(crate) fn open(&mut self, target: &Target, count: usize) -> Outcome<()> {
        for _ in 0..count {
            let index = self.connections.len();
            let (stream, partial) = target
                .open(index)
                .map_err(|error| format!("connection {} of {count}: {error}", index + 1))?;
            stream.set_nonblocking(true)?;
            self.epoll
                .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            self.connections.push(Connection {
                stream,
                partial,
                unsent: Vec::new(),
                waits_to_write: false,
                is_open: true,
            });
        }
        Ok(())
    }

    /// Bytes on the wire for each message that came, frames and all else together.
    pub(crate) fn bytes_per_message(&self) -> f64 {
        self.incoming.bytes as f64 / self.incoming.messages.max(1) as f64
    }

    /// Where to append frames for a connection; [`Client::flush`] sends them.
    pub(crate) fn outgoing(&mut self, index: usize) -> &mut Vec<u8> {
        &mut self.connections[index].unsent
    }

    pub(crate) fn flush(&mut self, index: usize) -> Outcome<()> {
        self.connections[index].flush(&self.epoll, index)
    }

    /// Waits for what comes, at most for `timeout`, and hands each message to `receive` with the
    /// connection's number and a place for frames to send in return.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut receive: impl FnMut(usize, &[u8], &mut Vec<u8>),
    ) -> Outcome<()> {
        for event in wait(&self.epoll, &mut self.events, timeout)? {
            let index = event.data() as usize;
            let connection = &mut self.connections[index];
            if event.events() != EpollFlags::EPOLLOUT {
                let incoming = &mut self.incoming;
                let taken = connection.read(&mut self.buffer, incoming, |payload, unsent| {
                    receive(index, payload, unsent);
                })?;
                if let Taken::Closed(code) = taken {
                    *self.closed.entry(code).or_default() += 1;
                    connection.is_open = false;
                    self.epoll.delete(&connection.stream)?;
                }
            }
            connection.flush(&self.epoll, index)?;
        }
        Ok(())
    }
}

/// Waits for events to the nanosecond: epoll itself only knows milliseconds.
pub(crate) fn wait<'e>(
    epoll: &Epoll,
    events: &'e mut [EpollEvent],
    timeout: Duration,
) -> Outcome<&'e [EpollEvent]> {
    let mut count = ignore_interrupts(epoll.wait(events, EpollTimeout::ZERO))?;
    if count == 0 && !timeout.is_zero() {
        let mut readable = [PollFd::new(epoll.0.as_fd(), PollFlags::POLLIN)];
        ignore_interrupts(ppoll(&mut readable, Some(timeout.into()), None).map(|_| 0))?;
        count = ignore_interrupts(epoll.wait(events, EpollTimeout::ZERO))?;
    }
    Ok(&events[..count])
}

fn ignore_interrupts(result: nix::Result<usize>) -> nix::Result<usize> {
    if result == Err(Errno::EINTR) {
        Ok(0)
    } else {
        result
    }
}

enum Taken {
    Open,
    Closed(Option<u16>),
}

impl Connection {
    /// Reads once, and hands out the messages that are whole.
    fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        incoming: &mut Incoming,
        mut receive: impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Outcome<Taken> {
        let kept = self.partial.len();
        if buffer.len() < 2 * kept {
            buffer.resize(2 * kept, 0);
        }
        buffer[..kept].copy_from_slice(&self.partial);
        let len = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(Taken::Closed(None)),
            Ok(len) => kept + len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Taken::Open),
            Err(error) if is_disconnect(&error) => return Ok(Taken::Closed(None)),
            Err(error) => return Err(error.into()),
        };
        incoming.bytes += (len - kept) as u64;
        self.partial.clear();
        let mut rest = &buffer[..len];
        while let Some((opcode, payload, after)) = parse(rest) {
            match opcode {
                0x1 | 0x2 => {
                    incoming.messages += 1;
                    receive(payload, &mut self.unsent);
                }
                DEFLATED_TEXT | DEFLATED_BINARY => {
                    incoming.messages += 1;
                    receive(incoming.inflater.inflate(payload)?, &mut self.unsent);
                }
                0x8 => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Ok(Taken::Closed(code));
                }
                0x9 => {
                    self.unsent.extend(header(0xA, payload.len()));
                    let masked = payload.iter().zip(KEY.iter().cycle());
                    self.unsent.extend(masked.map(|(byte, key)| byte ^ key));
                }
                0xA => {}
                _ => return Err(format!("the server sent a frame of opcode {opcode}").into()),
            }
            rest = after;
        }
        self.partial.extend_from_slice(rest);
        Ok(Taken::Open)
    }

    fn flush(&mut self, epoll: &Epoll, index: usize) -> Outcome<()> {
        if !self.is_open {
            self.unsent.clear();
            return Ok(());
        }
        if !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) if len == self.unsent.len() => self.unsent.clear(),
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // What there is to say about it comes with the next read.
                Err(error) if is_disconnect(&error) => self.unsent.clear(),
                Err(error) => return Err(error.into()),
            }
        }
        let waits_to_write = !self.unsent.is_empty();
        if waits_to_write != self.waits_to_write {
            self.waits_to_write = waits_to_write;
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, waits_to_write);
            epoll.modify(&self.stream, &mut EpollEvent::new(flags, index as u64))?;
        }
        Ok(())
    }
}

pub(crate) fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// The first frame: its opcode with the reserved bits, its payload, and what follows it. `None` if it is not whole.
/// A server's frames are not masked, and none that we talk to cuts a message into several.
fn parse(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (len, rest) = match second {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u16::from_be_bytes(*len) as usize, rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*len) as usize, rest)
        }
        len => (len as usize, rest),
    };
    let (payload, after) = rest.split_at_checked(len)?;
    // A fragment has no FIN: then the opcode is made one that nobody knows.
    let opcode = if first & 0x80 == 0 { 0xF } else { first & 0x7F };
    Some((opcode, payload, after))
}
