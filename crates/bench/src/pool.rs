//! Many connections on one epoll: bytes in, bytes out. What the bytes mean is its user's business.

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

/// How long nothing is waited for: the clock and the watcher want a look.
pub(super) const TICK: Duration = Duration::from_millis(10);

const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;

/// A connection that has so much to send is given no more, until the server has read some.
const MAX_UNSENT_BYTES: usize = 1024 * 1024;

/// So many connections are begun before the first has been answered: less than a usual backlog.
const OPENING_AT_ONCE: usize = 64;

/// A server that answers no connection for this long is taken for dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happens to a connection.
pub(super) enum Happening<'b> {
    /// It is there.
    Connected,
    /// All bytes that have come, and have not been taken.
    Bytes(&'b [u8]),
    /// It is over. With an error if it did not end in order.
    Ended(Option<io::Error>),
}

/// What is to happen next.
pub(super) enum Next {
    /// It goes on; so many of the bytes were taken.
    Go(usize),
    /// The same, and now it is open for what it is for.
    Ready(usize),
    /// It is reset.
    End,
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream>),
}

struct Link {
    stream: Stream,
    is_connected: bool,
    /// The beginning of something whose rest has not come.
    partial: Vec<u8>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    /// What epoll waits for.
    interest: EpollFlags,
}

/// Connections by number.
pub(super) struct Pool {
    epoll: Epoll,
    links: Vec<Option<Link>>,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    ready: usize,
    /// Bytes that came, of all connections.
    pub(super) received: u64,
    /// How long it slept: while it did, it was not what held things up.
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

    /// Begins connection number `index`, in the place of one that has ended. What comes of it is
    /// told by [`Pool::turn`].
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

    /// Where to append what a connection is to send; [`Pool::flush`] sends it. None if it is over,
    /// or has enough to send.
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

    /// Waits for what happens, at most for `timeout`, and tells it.
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
                    // A reset leaves no port waiting. If it cannot be asked for, one waits.
                    let _ = SockRef::from(link.stream.socket()).set_linger(Some(Duration::ZERO));
                    self.links[index] = None;
                }
            }
        }
        Ok(())
    }

    /// Waits for events to the nanosecond: epoll itself only knows milliseconds.
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

/// A signal ends a wait early, which does no harm.
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
    /// Does what the event says; returns how many bytes came with it, too.
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
                // rustls says so of a stream that ends without its last word.
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
            // Epoll knows nothing of what TLS has decrypted already.
            if matches!(self.stream, Stream::Plain(_)) {
                break;
            }
        }
        Ok((Turned::Goes { is_ready }, received))
    }

    /// What became of connecting.
    fn connected(&mut self) -> io::Result<()> {
        if let Some(error) = self.stream.socket().take_error()? {
            return Err(error);
        }
        self.is_connected = true;
        Ok(())
    }

    /// Hands over what has come, and keeps what is not taken.
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
        // TLS encrypts some of it at a time.
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) if len == self.unsent.len() => self.unsent.clear(),
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if is_for_later(&error) => break,
                // What there is to say about it comes with the next read.
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

    /// Whether it goes on when the socket takes more, after a last try to send what TLS has
    /// encrypted. In the middle of a TLS handshake it goes on when the server has answered.
    fn waits_to_write(&mut self, has_unsent: bool) -> bool {
        match self {
            Self::Plain(_) => has_unsent,
            Self::Secure(stream) => {
                // What there is to say about it comes with the next read.
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
