//! Where to connect, and connections there.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Outcome;

/// How many connections leave from one local address, of about 28,000 that have a port.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;

/// A server that says nothing for this long is taken for dead.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A URL, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// For the `Host` header.
    pub(crate) host: String,
    /// With the query.
    pub(crate) path: String,
    /// WebSockets agree on permessage-deflate.
    pub(crate) compressed: bool,
}

impl Default for Target {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
        Self {
            address,
            host: address.to_string(),
            path: "/".to_owned(),
            compressed: false,
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url
            .strip_prefix("ws://")
            .or_else(|| url.strip_prefix("http://"));
        let rest = rest.ok_or_else(|| format!("{url:?} must begin with ws:// or http://"))?;
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let has_port = host
            .rsplit(']')
            .next()
            .is_some_and(|after| after.contains(':'));
        let with_port = if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let resolved = with_port.to_socket_addrs();
        let mut addresses = resolved.map_err(|error| format!("{host}: {error}"))?;
        let address = addresses
            .next()
            .ok_or_else(|| format!("{host} has no address"))?;
        Ok(Self {
            address,
            host: host.to_owned(),
            path: path.to_owned(),
            compressed: false,
        })
    }
}

impl Target {
    /// The request that opens a WebSocket.
    pub(crate) fn upgrade_request(&self) -> Vec<u8> {
        let offer = if self.compressed {
            "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        } else {
            ""
        };
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n",
            self.path, self.host
        )
        .into_bytes()
    }

    /// A socket for connection number `index`, not connected yet. Beyond what one local address
    /// has ports for, it leaves from the next one of 127.0.0.0/8.
    pub(crate) fn socket(&self, index: usize) -> io::Result<Socket> {
        let domain = Domain::for_address(self.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let further = index / CONNECTIONS_PER_ADDRESS;
        if further > 0 && self.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let local = Ipv4Addr::new(127, 0, 0, 1 + further as u8);
            socket.bind(&SocketAddr::from((local, 0)).into())?;
        }
        Ok(socket)
    }

    /// Connects, blocking.
    pub(crate) fn connect(&self, index: usize) -> Outcome<TcpStream> {
        let socket = self.socket(index)?;
        socket
            .connect(&self.address.into())
            .map_err(|error| format!("cannot connect to {}: {error}", self.host))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }

    /// Opens a WebSocket, blocking. Returns what the server sent behind its response, too.
    pub(crate) fn open(&self, index: usize) -> Outcome<(TcpStream, Vec<u8>)> {
        let mut stream = self.connect(index)?;
        stream.write_all(&self.upgrade_request())?;
        let mut response = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let len = stream.read(&mut buffer)?;
            response.extend_from_slice(&buffer[..len]);
            if let Some(end) = head_len(&response) {
                if !is_upgraded(&response) {
                    let response = String::from_utf8_lossy(&response);
                    return Err(format!("{}: no WebSocket: {response}", self.path).into());
                }
                let rest = response.split_off(end);
                if self.compressed && !is_compressed(&response) {
                    return Err(format!("{}: does not compress", self.path).into());
                }
                return Ok((stream, rest));
            }
            if len == 0 {
                return Err(format!("{}: closed without a response", self.path).into());
            }
        }
    }
}

/// The length of a response's head, if it is whole.
pub(crate) fn head_len(response: &[u8]) -> Option<usize> {
    response
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Whether a response's head is that of an upgrade.
pub(crate) fn is_upgraded(response: &[u8]) -> bool {
    response.starts_with(b"HTTP/1.1 101")
}

/// Raises the limit of open files to what the system allows.
pub(crate) fn allow_many_files() -> Outcome<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}

/// Whether a response's head agrees on messages that each stand for themselves.
fn is_compressed(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head).to_lowercase();
    head.contains("permessage-deflate") && head.contains("server_no_context_takeover")
}
