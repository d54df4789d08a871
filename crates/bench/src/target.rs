//! The target that connections go to: a URL, resolved, and sockets for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::os::fd::AsFd;
use url::{Host, Url};

use super::error::{BenchError, Outcome};
use super::options::Options;
use super::places;
use super::tls::Tls;
use super::watch::Pulse;

/// How long an address may take to answer, if a name has several.
const PATIENCE: Duration = Duration::from_secs(5);

/// A URL, resolved.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The URL as given, for error messages.
    pub(super) url: String,
    pub(super) address: SocketAddr,
    /// The value of the `Host` header.
    pub(super) host: String,
    /// The path with the query.
    pub(super) path: String,
    /// None without TLS.
    pub(super) tls: Option<Tls>,
    /// The number of source ports of one local address.
    ports: usize,
}

impl Target {
    /// Resolves a URL with one of the two schemes, such as `ws` and `wss`.
    pub(super) fn resolve(
        text: &str,
        schemes: [&str; 2],
        options: &Options,
        pulse: &mut Pulse<'_>,
    ) -> Outcome<Self> {
        let [plain, secure] = schemes;
        let wrong = |why: &str| {
            BenchError::Option(format!(
                "{text:?} is not what the mode {} connects to: {why}. Write it as in \
                 {plain}://127.0.0.1:5000/.",
                options.mode.name()
            ))
        };
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !schemes.contains(&url.scheme()) {
            return Err(wrong(&format!(
                "it begins with {}, not {plain} or {secure}",
                url.scheme()
            )));
        }
        let host = url.host().ok_or_else(|| wrong("it names no host"))?;
        let port = url
            .port_or_known_default()
            .ok_or_else(|| wrong("it names no port"))?;
        let name = match &host {
            Host::Domain(name) => (*name).to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let addresses = match host {
            Host::Ipv4(address) => vec![SocketAddr::from((address, port))],
            Host::Ipv6(address) => vec![SocketAddr::from((address, port))],
            Host::Domain(name) => (name, port)
                .to_socket_addrs()
                .map_or_else(|_| vec![], Iterator::collect),
        };
        let address = match addresses.as_slice() {
            [] => {
                return Err(BenchError::Server(format!(
                    "There is no host {name}: its name has no address."
                )));
            }
            [only] => *only,
            several => first_that_answers(several, pulse)?,
        };
        let tls = (url.scheme() == secure)
            .then(|| Tls::new(&name, options))
            .transpose()?;
        let query = url
            .query()
            .map_or_else(String::new, |query| format!("?{query}"));
        Ok(Self {
            url: text.to_owned(),
            address,
            host: url[url::Position::BeforeHost..url::Position::AfterPort].to_owned(),
            path: format!("{}{query}", url.path()),
            tls,
            ports: places::source_ports(),
        })
    }

    /// Checks that there are source ports for this number of connections.
    pub(super) fn check_ports(&self, connections: usize) -> Outcome<()> {
        if self.is_local() || connections <= self.ports {
            return Ok(());
        }
        Err(BenchError::Limit(format!(
            "{connections} connections to one address need as many source ports, and this machine \
             has {}. Widen them, as in `sysctl -w net.ipv4.ip_local_port_range='1024 65535'`, or \
             run on several machines.",
            self.ports
        )))
    }

    /// Whether the server is on 127.0.0.1: then connections can leave from every address of
    /// 127.0.0.0/8, and each of these has its own source ports.
    fn is_local(&self) -> bool {
        self.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
    }

    /// Starts connection number `index`, without waiting for it.
    pub(super) fn connect(&self, index: usize) -> io::Result<Socket> {
        let socket = begin(self.address, |socket| {
            // Only two thirds, because other programs need ports too.
            let further = index / (self.ports * 2 / 3).max(1);
            if further == 0 || !self.is_local() {
                return Ok(());
            }
            let [high, low] = (further as u16).to_be_bytes();
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0)).into())
        })?;
        Ok(socket)
    }

    /// The meaning of a failed connection. Without an error, the server closed it in order.
    pub(super) fn refusal(&self, error: Option<&io::Error>) -> BenchError {
        let (url, address) = (&self.url, self.address);
        let Some(error) = error else {
            return BenchError::Server(format!(
                "{url}: the server closed the connection without an answer."
            ));
        };
        let told = match error.raw_os_error() {
            Some(nix::libc::ECONNREFUSED) => format!(
                "The connection to {address} was refused. Start the server, or \
                 look at the port in {url}."
            ),
            Some(nix::libc::EADDRNOTAVAIL) => format!(
                "This machine has no source port left for another connection to {address}. Widen \
                 net.ipv4.ip_local_port_range, or ask for fewer connections."
            ),
            Some(nix::libc::EMFILE | nix::libc::ENFILE) => {
                "This process may not open another file: see `ulimit -n`.".to_owned()
            }
            Some(nix::libc::ECONNRESET | nix::libc::EPIPE) => {
                format!("{url}: the server reset the connection before it answered.")
            }
            Some(_) => format!("{url}: cannot connect to {address}: {error}."),
            None => format!("{url}: {error}."),
        };
        BenchError::Server(told)
    }
}

fn begin(
    address: SocketAddr,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    prepare(&socket)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// The first address that accepts a connection. A name such as localhost has several addresses, and
/// a server may listen on only one of them.
fn first_that_answers(addresses: &[SocketAddr], pulse: &mut Pulse<'_>) -> Outcome<SocketAddr> {
    for address in addresses {
        let Ok(socket) = begin(*address, |_| Ok(())) else {
            continue;
        };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            pulse.beat("connecting", 0.0, 0)?;
            let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            if !matches!(poll(&mut sockets, PollTimeout::from(10_u8)), Ok(1)) {
                continue;
            }
            if matches!(socket.take_error(), Ok(None)) {
                return Ok(*address);
            }
            break;
        }
    }
    // The connection that follows returns the error.
    Ok(addresses[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Mode;

    fn target(url: &str) -> Outcome<Target> {
        let options = Options::new(Mode::Echo, url);
        let mut watch = |_| true;
        Target::resolve(url, ["ws", "wss"], &options, &mut Pulse::new(&mut watch))
    }

    #[test]
    fn a_url_is_an_address_a_host_and_a_path() {
        for (url, address, host, path) in [
            ("ws://127.0.0.1", "127.0.0.1:80", "127.0.0.1", "/"),
            ("wss://127.0.0.1/a", "127.0.0.1:443", "127.0.0.1", "/a"),
            (
                "ws://127.0.0.1:5000/a?b=c d",
                "127.0.0.1:5000",
                "127.0.0.1:5000",
                "/a?b=c%20d",
            ),
            ("ws://[::1]:5000?b", "[::1]:5000", "[::1]:5000", "/?b"),
        ] {
            let target = target(url).expect("a URL");
            assert_eq!(
                target.address,
                address.parse().expect("an address"),
                "{url}"
            );
            assert_eq!(
                (target.host.as_str(), target.path.as_str()),
                (host, path),
                "{url}"
            );
        }
    }

    #[test]
    fn another_machine_has_only_so_many_source_ports() {
        let here = target("ws://127.0.0.1").expect("a URL");
        assert!(here.check_ports(1_000_000).is_ok());
        let elsewhere = target("ws://192.0.2.1").expect("a URL");
        assert!(elsewhere.check_ports(elsewhere.ports).is_ok());
        let told = elsewhere
            .check_ports(elsewhere.ports + 1)
            .expect_err("too many");
        assert!(
            told.to_string().contains("net.ipv4.ip_local_port_range"),
            "{told}"
        );
    }
}
