//! The pool that reads and writes bytes on many connections with one epoll. Its user decides about
//! the meaning of the bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::SockRef;

use super::error::{BenchError, Outcome};
use super::target::Target;
use super::tls::{self, TlsStream};
use super::watch::Pulse;

/// The longest wait without an event, so that the clock and the watcher are checked often.
pub(super) const TICK: Duration = Duration::from_millis(10);

const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;

/// A connection with this many unsent bytes gets no more, until the server has read some.
const MAX_UNSENT_BYTES: usize = 1024 * 1024;

/// The number of connections that wait for their first answer at once: less than a usual backlog.
const OPENING_AT_ONCE: usize = 64;

/// After this long without an answer to any new connection, the server counts as dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// An event of a connection.
pub(super) enum Happening<'b> {
    /// The connection is established.
    Connected,
    /// All bytes that have arrived, and that the handler has not taken.
    Bytes(&'b [u8]),
    /// The connection is over. It has an error if it did not end in order.
    Ended(Option<io::Error>),
}

/// The next action for a connection.
pub(super) enum Next {
    /// It continues; the handler took this many bytes.
    Go(usize),
    /// It continues likewise, and is now ready for its purpose.
    Ready(usize),
    /// The pool resets it.
    End,
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream>),
}

struct Link {
    stream: Stream,
    is_connected: bool,
    /// The beginning of an incomplete unit.
    partial: Vec<u8>,
    /// Bytes that the socket has not accepted yet.
    unsent: Vec<u8>,
    /// The events that epoll waits for.
    interest: EpollFlags,
}

/// The connections, by number.
pub(super) struct Pool {
    epoll: Epoll,
    links: Vec<Option<Link>>,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    ready: usize,
    /// The number of bytes received, on all connections.
    pub(super) received: u64,
    /// How long the driver slept: during that time it was not the bottleneck.
    pub(super) slept: Duration,
}

impl Pool {
    pub(super) fn new() -> Outcome<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
                .map_err(BenchError::errno("Opening an epoll"))?,
            links: Vec::new(),
            events: vec![EpollEvent::empty(); EVENTS],
            buffer: vec![0; READ_BYTES],
            ready: 0,
            received: 0,
            slept: Duration::ZERO,
        })
    }

    /// Starts connection number `index`, in the place of one that has ended. [`Pool::turn`] reports
    /// its events.
    pub(super) fn connect(&mut self, target: &Target, index: usize) -> io::Result<()> {
        let socket = TcpStream::from(target.connect(index)?);
        let stream = match &target.tls {
            None => Stream::Plain(socket),
            Some(tls) => Stream::Secure(Box::new(tls.stream(socket)?)),
        };
        let interest = EpollFlags::EPOLLOUT;
        self.epoll
            .add(stream.socket(), EpollEvent::new(interest, index as u64))?;
        if self.links.len() <= index {
            self.links.resize_with(index + 1, || None);
        }
        self.links[index] = Some(Link {
            stream,
            is_connected: false,
            partial: Vec::new(),
            unsent: Vec::new(),
            interest,
        });
        Ok(())
    }

    /// Opens further connections, some at a time, until all of them are ready.
    pub(super) fn open(
        &mut self,
        target: &Target,
        count: usize,
        pulse: &mut Pulse<'_>,
        mut handle: impl FnMut(usize, Happening<'_>, &mut Vec<u8>) -> Outcome<Next>,
    ) -> Outcome<()> {
        target.check_ports(count)?;
        let first = self.links.len();
        let (mut begun, ready_before) = (0, self.ready);
        let mut opened = 0;
        let mut heard = Instant::now();
        while opened < count {
            while begun < count && begun - opened < OPENING_AT_ONCE {
                self.connect(target, first + begun)
                    .map_err(|error| target.refusal(Some(&error)))?;
                begun += 1;
            }
            self.turn(TICK, &mut handle)?;
            if self.ready - ready_before > opened {
                opened = self.ready - ready_before;
                heard = Instant::now();
            } else if heard.elapsed() > PATIENCE {
                return Err(BenchError::Server(format!(
                    "{}: {opened} of {count} connections were answered, and no other within {} s.",
                    target.url,
                    PATIENCE.as_secs()
                )));
            }
            pulse.beat("connecting", opened as f64 / count as f64, opened as u64)?;
        }
        Ok(())
    }

    /// The buffer for the bytes that a connection must send; [`Pool::flush`] sends them. None if
    /// the connection is over, or has too many unsent bytes.
    pub(super) fn outgoing(&mut self, index: usize) -> Option<&mut Vec<u8>> {
        let link = self.links.get_mut(index)?.as_mut()?;
        (link.is_connected && link.unsent.len() < MAX_UNSENT_BYTES).then_some(&mut link.unsent)
    }

    /// Whether the connection has not ended.
    pub(super) fn is_open(&self, index: usize) -> bool {
        self.links.get(index).is_some_and(Option::is_some)
    }

    pub(super) fn flush(&mut self, index: usize) -> Outcome<()> {
        match self.links.get_mut(index).and_then(Option::as_mut) {
            Some(link) => link.flush(&self.epoll, index),
            None => Ok(()),
        }
    }

    /// Waits for events, at most for `timeout`, and passes each to `handle`.
    pub(super) fn turn(
        &mut self,
        timeout: Duration,
        mut handle: impl FnMut(usize, Happening<'_>, &mut Vec<u8>) -> Outcome<Next>,
    ) -> Outcome<()> {
        let count = self.wait(timeout)?;
        for event in &self.events[..count] {
            let index = event.data() as usize;
            let Some(link) = self.links.get_mut(index).and_then(Option::as_mut) else {
                continue;
            };
            let (next, received) =
                link.turn(index, event.events(), &mut self.buffer, &mut handle)?;
            self.received += received;
            match next {
                Turned::Goes { is_ready } => {
                    self.ready += usize::from(is_ready);
                    link.flush(&self.epoll, index)?;
                }
                Turned::Ended => self.links[index] = None,
                Turned::Reset => {
                    // With a linger time of 0 the close is a reset, and no port stays in TIME_WAIT.
                    // If the option fails, one port stays.
                    let _ = SockRef::from(link.stream.socket()).set_linger(Some(Duration::ZERO));
                    self.links[index] = None;
                }
            }
        }
        Ok(())
    }

    /// Waits for events with a resolution of a nanosecond: epoll itself only has milliseconds.
    fn wait(&mut self, timeout: Duration) -> Outcome<usize> {
        let mut count = or_none(self.epoll.wait(&mut self.events, EpollTimeout::ZERO))?;
        if count == 0 && !timeout.is_zero() {
            let since = Instant::now();
            let mut readable = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
            or_none(ppoll(&mut readable, Some(timeout.into()), None).map(|_| 0))?;
            self.slept += since.elapsed();
            count = or_none(self.epoll.wait(&mut self.events, EpollTimeout::ZERO))?;
        }
        Ok(count)
    }
}

/// The number of events. A signal that ends the wait early counts as no events, which does no harm.
fn or_none(result: nix::Result<usize>) -> Outcome<usize> {
    match result {
        Err(Errno::EINTR) => Ok(0),
        result => result.map_err(BenchError::errno("Waiting for connections")),
    }
}

enum Turned {
    Goes { is_ready: bool },
    Ended,
    Reset,
}

impl Link {
    /// Handles an event. Also returns the number of bytes that arrived with it.
    fn turn(
        &mut self,
        index: usize,
        flags: EpollFlags,
        buffer: &mut [u8],
        handle: &mut impl FnMut(usize, Happening<'_>, &mut Vec<u8>) -> Outcome<Next>,
    ) -> Outcome<(Turned, u64)> {
        let mut is_ready = false;
        if !self.is_connected {
            if let Err(error) = self.connected() {
                handle(index, Happening::Ended(Some(error)), &mut self.unsent)?;
                return Ok((Turned::Ended, 0));
            }
            match handle(index, Happening::Connected, &mut self.unsent)? {
                Next::Go(_) => {}
                Next::Ready(_) => is_ready = true,
                Next::End => return Ok((Turned::Reset, 0)),
            }
        }
        if flags == EpollFlags::EPOLLOUT {
            return Ok((Turned::Goes { is_ready }, 0));
        }
        let mut received = 0;
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => None,
                Ok(len) => Some(len),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // rustls returns this error for a stream that ends without close_notify.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
                Err(error) => {
                    handle(index, Happening::Ended(Some(error)), &mut self.unsent)?;
                    return Ok((Turned::Ended, received));
                }
            };
            let Some(len) = len else {
                handle(index, Happening::Ended(None), &mut self.unsent)?;
                return Ok((Turned::Ended, received));
            };
            received += len as u64;
            match self.take(index, &buffer[..len], handle)? {
                Next::Go(_) => {}
                Next::Ready(_) => is_ready = true,
                Next::End => return Ok((Turned::Reset, received)),
            }
            // Epoll does not know about bytes that TLS has decrypted already.
            if matches!(self.stream, Stream::Plain(_)) {
                break;
            }
        }
        Ok((Turned::Goes { is_ready }, received))
    }

    /// Checks the result of connecting.
    fn connected(&mut self) -> io::Result<()> {
        if let Some(error) = self.stream.socket().take_error()? {
            return Err(error);
        }
        self.is_connected = true;
        Ok(())
    }

    /// Passes the received bytes on, and holds those that the handler does not take.
    fn take(
        &mut self,
        index: usize,
        bytes: &[u8],
        handle: &mut impl FnMut(usize, Happening<'_>, &mut Vec<u8>) -> Outcome<Next>,
    ) -> Outcome<Next> {
        let is_whole = self.partial.is_empty();
        let next = if is_whole {
            handle(index, Happening::Bytes(bytes), &mut self.unsent)?
        } else {
            self.partial.extend_from_slice(bytes);
            handle(index, Happening::Bytes(&self.partial), &mut self.unsent)?
        };
        if let Next::Go(taken) | Next::Ready(taken) = next {
            if is_whole {
                self.partial.extend_from_slice(&bytes[taken..]);
            } else {
                self.partial.drain(..taken);
            }
        }
        Ok(next)
    }

    fn flush(&mut self, epoll: &Epoll, index: usize) -> Outcome<()> {
        if !self.is_connected {
            return Ok(());
        }
        // TLS encrypts only a part at a time.
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) if len == self.unsent.len() => self.unsent.clear(),
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if is_for_later(&error) => break,
                // The next read returns the error.
                Err(_) => self.unsent.clear(),
            }
        }
        let mut interest = EpollFlags::EPOLLIN;
        let waits = self.stream.waits_to_write(!self.unsent.is_empty());
        interest.set(EpollFlags::EPOLLOUT, waits);
        if interest != self.interest {
            self.interest = interest;
            let mut event = EpollEvent::new(interest, index as u64);
            epoll
                .modify(self.stream.socket(), &mut event)
                .map_err(BenchError::errno("Waiting for a connection"))?;
        }
        Ok(())
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(stream) => &stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Secure(stream) => stream.read(buffer).map_err(explained),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secure(stream) => stream.write(bytes),
        }
    }

    /// Whether the connection must wait until the socket accepts more, after another attempt to
    /// send the bytes that TLS has encrypted. During a TLS handshake it waits for the server's
    /// answer instead.
    fn waits_to_write(&mut self, has_unsent: bool) -> bool {
        match self {
            Self::Plain(_) => has_unsent,
            Self::Secure(stream) => {
                // The next read returns the error.
                let _ = stream.flush();
                stream.conn.wants_write() || (has_unsent && !stream.conn.is_handshaking())
            }
        }
    }
}

fn explained(error: io::Error) -> io::Error {
    match tls::explain(&error) {
        Some(told) => io::Error::other(told),
        None => error,
    }
}
