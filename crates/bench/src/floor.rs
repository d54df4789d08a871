//! The floor server that answers with bare epoll: a baseline for other servers in the same run. It
//! also shows how fast the load client itself is.
//!
//! It has no framework, no Python, no bus, and no limits: if a client does not read, the server
//! holds all messages for it. Its cost per message is the cost of the kernel and of copying bytes.
//! A server with guarantees pays for them on top of that.
//!
//! `/echo`: each WebSocket message is sent back. Any other WebSocket: each message goes to all such
//! connections. Any other request: the response is a small JSON document.
//!
//! Each worker is a thread with its own sockets. The workers share a list of messages behind a
//! lock, which gives all messages one order. A worker that adds messages wakes the others, once per
//! turn.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use sha1::{Digest as _, Sha1};
use socket2::{Domain, Protocol, Socket, Type};

use super::places;

const JSON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
    Content-Length: 27\r\n\r\n{\"message\":\"Hello, World!\"}";

const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
const BACKLOG: i32 = 4096;

/// Frames that all workers have read are removed when they take this many bytes.
const LOG_BYTES: usize = 1024 * 1024;

/// The listener's event. The event of a connection is its index in the list.
const LISTENER: u64 = u64::MAX;

/// The event for messages of other workers.
const COMMON: u64 = u64::MAX - 1;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Role {
    Http,
    Echo,
    Relay,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    role: Role,
    /// The beginning of an incomplete request or frame.
    partial: Vec<u8>,
    /// Bytes that the socket has not accepted yet.
    unsent: Vec<u8>,
}

/// A bare epoll server on 127.0.0.1.
#[derive(Debug)]
pub struct Floor {
    workers: Vec<Worker>,
}

/// One thread of the server, with its own listener and connections.
#[derive(Debug)]
struct Worker {
    /// Its index among the workers.
    index: usize,
    common: Arc<Common>,
    epoll: Epoll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// The frames for all relay connections from this turn, in order.
    arena: Vec<u8>,
    /// The answer to one connection.
    answer: Vec<u8>,
}

/// The state that the workers share.
#[derive(Debug)]
struct Common {
    log: Mutex<Log>,
    /// One event per worker: the log has new frames for it.
    wakes: Vec<EventFd>,
}

/// The frames for all relay connections, in one order.
#[derive(Debug)]
struct Log {
    frames: Vec<u8>,
    /// The number of bytes that each worker has read.
    read: Vec<usize>,
}

impl Common {
    fn new(workers: usize) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wakes = (0..workers).map(|_| EventFd::from_value_and_flags(0, flags));
        Ok(Self {
            log: Mutex::new(Log {
                frames: Vec::new(),
                read: vec![0; workers],
            }),
            wakes: wakes.collect::<Result<_, _>>()?,
        })
    }

    /// Appends the frames of a worker. Then `frames` holds all frames that are new to this worker:
    /// its own and those of the others.
    fn exchange(&self, worker: usize, frames: &mut Vec<u8>) -> io::Result<()> {
        let brings = !frames.is_empty();
        {
            let mut log = self
                .log
                .lock()
                .expect("no thread panics while it holds the lock");
            log.frames.append(frames);
            let end = log.frames.len();
            let from = std::mem::replace(&mut log.read[worker], end);
            frames.extend_from_slice(&log.frames[from..]);
            let least = log.read.iter().copied().min().unwrap_or(end);
            if least == end || least >= LOG_BYTES {
                log.frames.drain(..least);
                log.read.iter_mut().for_each(|read| *read -= least);
            }
        }
        for (other, wake) in self.wakes.iter().enumerate() {
            if brings && other != worker {
                wake.write(1)?;
            }
        }
        Ok(())
    }
}

impl Floor {
    /// Listens on this port with this number of workers; port 0 selects a free port.
    pub fn listen(port: u16, workers: usize) -> io::Result<Self> {
        places::allow_most_sockets()?;
        let common = Arc::new(Common::new(workers)?);
        let first = Worker::listen(0, port, &common)?;
        let port = first.listener.local_addr()?.port();
        let others = (1..workers).map(|index| Worker::listen(index, port, &common));
        let workers = std::iter::once(Ok(first)).chain(others);
        Ok(Self {
            workers: workers.collect::<io::Result<_>>()?,
        })
    }

    /// The port of the listeners.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.workers[0].listener.local_addr()?.port())
    }

    /// Serves until a signal ends the process.
    pub fn serve(self) -> io::Result<()> {
        let threads = self.workers.into_iter().map(|worker| {
            thread::Builder::new()
                .name("floor".to_owned())
                .spawn(|| worker.serve())
        });
        let threads = threads.collect::<io::Result<Vec<_>>>()?;
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a worker does not panic"))
    }
}

impl Worker {
    fn listen(index: usize, port: u16, common: &Arc<Common>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(common.wakes.len() > 1)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit the option.
        socket.set_tcp_nodelay(true)?;
        let listener = TcpListener::from(socket);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let wake = &common.wakes[index];
        epoll.add(wake, EpollEvent::new(EpollFlags::EPOLLIN, COMMON))?;
        Ok(Self {
            index,
            common: Arc::clone(common),
            epoll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            arena: Vec::new(),
            answer: Vec::new(),
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                count => count?,
            };
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.accept()?,
                    COMMON => {
                        // The value of the counter is not used: the event alone is the signal.
                        let _ = self.common.wakes[self.index].read();
                    }
                    place => self.turn(place as usize, event.events(), &mut buffer),
                }
            }
            if self.common.wakes.len() > 1 {
                self.common.exchange(self.index, &mut self.arena)?;
            }
            self.relay();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll
                .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, place as u64))?;
            let (partial, unsent) = (Vec::new(), Vec::new());
            self.connections[place] = Some(Connection {
                stream,
                role: Role::Http,
                partial,
                unsent,
            });
        }
    }

    fn turn(&mut self, place: usize, flags: EpollFlags, buffer: &mut Vec<u8>) {
        let Some(connection) = &mut self.connections[place] else {
            return;
        };
        let mut is_open = true;
        self.answer.clear();
        if flags != EpollFlags::EPOLLOUT {
            is_open = connection.read(buffer, &mut self.answer, &mut self.arena);
        }
        is_open &= connection.write(&self.answer, &self.epoll, place);
        if !is_open {
            self.close(place);
        }
    }

    /// Sends the frames of this turn to all relay connections, with one write each.
    fn relay(&mut self) {
        if self.arena.is_empty() {
            return;
        }
        for place in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[place] else {
                continue;
            };
            if connection.role == Role::Relay && !connection.write(&self.arena, &self.epoll, place)
            {
                self.close(place);
            }
        }
        self.arena.clear();
    }

    fn close(&mut self, place: usize) {
        self.connections[place] = None;
        self.free.push(place);
    }
}

impl Connection {
    /// Reads once and handles the complete requests and frames. False: the connection is over.
    fn read(&mut self, buffer: &mut Vec<u8>, answer: &mut Vec<u8>, arena: &mut Vec<u8>) -> bool {
        let kept = self.partial.len();
        if buffer.len() < 2 * kept {
            buffer.resize(2 * kept, 0);
        }
        buffer[..kept].copy_from_slice(&self.partial);
        let len = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => return false,
            Ok(len) => kept + len,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let mut rest = &mut buffer[..len];
        loop {
            let taken = match self.role {
                Role::Http => self.request(rest, answer),
                Role::Echo => frame(rest, answer, None),
                Role::Relay => frame(rest, answer, Some(arena)),
            };
            match taken {
                Some(0) => break,
                Some(taken) => rest = &mut rest[taken..],
                None => {
                    // The client gets the pending answers before the connection is closed.
                    let _ = self.stream.write(answer);
                    return false;
                }
            }
        }
        self.partial = rest.to_vec();
        true
    }

    /// Handles the request at the front. `Some(0)`: it is incomplete.
    fn request(&mut self, bytes: &[u8], answer: &mut Vec<u8>) -> Option<usize> {
        let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
            return Some(0);
        };
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key")
                .then_some(value.trim())
        });
        match key {
            None => answer.extend_from_slice(JSON),
            Some(key) => {
                let is_echo = head.starts_with("GET /echo");
                self.role = if is_echo { Role::Echo } else { Role::Relay };
                answer.extend_from_slice(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                      Connection: Upgrade\r\nSec-WebSocket-Accept: ",
                );
                answer.extend_from_slice(accept_of(key).as_bytes());
                answer.extend_from_slice(b"\r\n\r\n");
            }
        }
        Some(end + 4)
    }

    /// Writes as many bytes as the socket accepts now, and holds the rest. False: the connection is
    /// over.
    fn write(&mut self, bytes: &[u8], epoll: &Epoll, place: usize) -> bool {
        let waited = !self.unsent.is_empty();
        let mut rest = bytes;
        if waited {
            self.unsent.extend_from_slice(bytes);
            rest = &self.unsent;
        }
        let mut written = 0;
        if !rest.is_empty() {
            written = match self.stream.write(rest) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return false,
            };
        }
        if waited {
            self.unsent.drain(..written);
        } else if written < bytes.len() {
            self.unsent.extend_from_slice(&bytes[written..]);
        }
        let waits = !self.unsent.is_empty();
        if !waits && waited {
            self.unsent = Vec::new();
        }
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, waits);
        waits == waited
            || epoll
                .modify(&self.stream, &mut EpollEvent::new(flags, place as u64))
                .is_ok()
    }
}

/// Handles the frame at the front: its message goes to all relay connections, or back to its
/// sender. `Some(0)`: it is incomplete. `None`: the caller must close the connection.
fn frame(bytes: &mut [u8], answer: &mut Vec<u8>, arena: Option<&mut Vec<u8>>) -> Option<usize> {
    let [first, second, ..] = *bytes else {
        return Some(0);
    };
    let extended = |range: std::ops::Range<usize>| {
        let bytes = bytes.get(range)?;
        Some(bytes.iter().fold(0, |len, byte| len << 8 | *byte as usize))
    };
    let (len, key_at) = match second & 0x7F {
        126 => (extended(2..4), 4),
        127 => (extended(2..10), 10),
        len => (Some(len as usize), 2),
    };
    let Some(len) = len else { return Some(0) };
    let payload_at = key_at + 4;
    if bytes.len() < payload_at + len {
        return Some(0);
    }
    let key: [u8; 4] = bytes[key_at..payload_at].try_into().ok()?;
    let payload = &mut bytes[payload_at..payload_at + len];
    unmask(payload, key);
    match (first & 0x0F, arena) {
        (0x1 | 0x2, Some(arena)) => append(first, payload, arena),
        (0x1 | 0x2, None) => append(first, payload, answer),
        (0x9, _) => append(0x8A, payload, answer),
        (0x8, _) => {
            append(first, payload, answer);
            return None;
        }
        _ => {}
    }
    Some(payload_at + len)
}

/// The value of Sec-WebSocket-Accept for a key (RFC 6455, section 4.2.2).
fn accept_of(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

fn append(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    let len = payload.len();
    match len {
        0..=125 => out.extend_from_slice(&[first, len as u8]),
        126..=0xFFFF => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, 126, high, low]);
        }
        _ => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let word = u32::from_ne_bytes(key);
    let (words, rest) = payload.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}
