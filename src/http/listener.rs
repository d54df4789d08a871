//! One listener per worker slot on one port, all bound before the workers exist.
//!
//! The kernel spreads connections over them (`SO_REUSEPORT`). The supervisor keeps every one, so a
//! worker's replacement finds the connections that waited for its predecessor.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds `count` listeners to `address`; port 0 picks a free one for all of them.
///
/// The first is bound without `SO_REUSEPORT`, so that a port on which anybody listens is an error,
/// even if that is a server like this one. Only then is the port opened to the others.
pub fn bind(address: SocketAddr, count: usize, backlog: i32) -> io::Result<Vec<TcpListener>> {
    let first = socket(address)?;
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
    // Connections of an earlier run that linger in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn all_listeners_share_one_port_and_connections_spread_over_them() {
        let listeners = bind(loopback(0), 4, 64).expect("a free port");
        let address = listeners[0].local_addr().expect("it is bound");
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
        let listeners = bind(loopback(0), 2, 64).expect("a free port");
        let address = listeners[0].local_addr().expect("it is bound");
        let error = bind(address, 2, 64).expect_err("the port is in use");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        drop(listeners);
        bind(address, 2, 64).expect("the port is free again");
    }
}
