//! The listeners of a server: one per worker slot on one port, all bound before the workers start.
//!
//! The kernel spreads connections over them (`SO_REUSEPORT`). The supervisor holds all of them open, so the
//! replacement of a worker finds the connections that waited for its predecessor.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

use crate::actors::forks;

/// Binds `count` listeners to `address`. Port 0 selects a free port for all of them.
///
/// Unless the port is `shared` with other servers of the same user, the first listener is bound without
/// `SO_REUSEPORT`. Then a port that another process listens on is an error, even if that process is a server of
/// this kind. Afterwards the port is opened for the other listeners.
pub fn bind(
    address: SocketAddr,
    count: usize,
    backlog: i32,
    shared: bool,
) -> io::Result<Vec<TcpListener>> {
    let first = socket(address)?;
    first.set_reuse_port(shared)?;
    first.bind(&address.into())?;
    first.listen(backlog)?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![TcpListener::from(first)];
    for _ in 1..count {
        let next = socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&bound)?;
        next.listen(backlog)?;
        listeners.push(TcpListener::from(next));
    }
    Ok(listeners)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier run in TIME_WAIT do not block the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The listener of a worker on its runtime: TCP, or a Unix socket that was inherited in the same way.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Listener {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        if SockRef::from(&listener).domain()? == Domain::UNIX {
            let listener = UnixListener::from(OwnedFd::from(listener));
            return tokio::net::UnixListener::from_std(listener).map(Self::Unix);
        }
        tokio::net::TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// The next connection, and the address of its client. On a Unix socket there is no address.
    ///
    /// A stream over a Unix socket has the same type as one over TCP: reading, writing, waiting and shutting down
    /// are the same calls. Only the TCP options fail (no delay, user time-out, keep-alive), and no code depends on
    /// them.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                forks::note(stream.as_fd());
                Ok((stream, Some(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let stream = std::net::TcpStream::from(OwnedFd::from(stream.into_std()?));
                forks::note(stream.as_fd());
                Ok((TcpStream::from_std(stream)?, None))
            }
        }
    }

    /// The next connection that waits already. `WouldBlock` if there is none.
    pub(super) fn take_waiting(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => accept_from(&SockRef::from(listener)),
            Self::Unix(listener) => accept_from(&SockRef::from(listener)),
        }
    }

    /// Stops accepting. The rest is a queue that can be emptied.
    pub(super) fn into_queue(self) -> io::Result<AcceptQueue> {
        let socket = match self {
            Self::Tcp(listener) => Socket::from(listener.into_std()?),
            Self::Unix(listener) => Socket::from(OwnedFd::from(listener.into_std()?)),
        };
        Ok(AcceptQueue(socket))
    }
}

/// The accept queue of a listener that no longer accepts.
#[derive(Debug)]
pub(super) struct AcceptQueue(Socket);

impl AcceptQueue {
    /// The next connection, as from [`Listener::accept`]. `WouldBlock` if there is none.
    pub(super) fn take(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        accept_from(&self.0)
    }
}

/// The next connection of a queue.
fn accept_from(queue: &Socket) -> io::Result<(TcpStream, Option<SocketAddr>)> {
    let (stream, peer) = queue.accept()?;
    stream.set_nonblocking(true)?;
    let stream = std::net::TcpStream::from(OwnedFd::from(stream));
    forks::note(stream.as_fd());
    Ok((TcpStream::from_std(stream)?, peer.as_socket()))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use std::net::Ipv4Addr;

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn all_listeners_share_one_port_and_connections_spread_over_them() {
        let listeners = bind(loopback(0), 4, 64, false).expect("a free port");
        let address = listeners[0].local_addr().expect("a bound listener");
        assert!(
            listeners
                .iter()
                .all(|other| other.local_addr().ok() == Some(address))
        );
        let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address)).collect();
        assert!(clients.iter().all(Result::is_ok));
        let reached = listeners
            .iter()
            .filter(|listener| listener.accept().is_ok())
            .count();
        assert!(
            reached >= 2,
            "only {reached} of 4 listeners got any of 64 connections"
        );
    }

    #[test]
    fn a_port_in_use_is_refused_even_to_a_server_of_the_same_kind() {
        let listeners = bind(loopback(0), 2, 64, false).expect("a free port");
        let address = listeners[0].local_addr().expect("a bound listener");
        let error = bind(address, 2, 64, false).expect_err("the port is in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(listeners);
        bind(address, 2, 64, false).expect("the port is free again");
    }

    #[test]
    fn a_port_is_shared_if_both_servers_allow_it() {
        let listeners = bind(loopback(0), 1, 64, true).expect("a free port");
        let address = listeners[0].local_addr().expect("a bound listener");
        bind(address, 1, 64, true).expect("both servers allow it");
        let error = bind(address, 1, 64, false).expect_err("this server does not");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}
