//! The trusted proxies, which report the address and the scheme of the client in `X-Forwarded-` headers.
//!
//! Each proxy appends to `X-Forwarded-For`, and clients can send anything in it. So the header is read from its
//! end, where the connected proxy has written, for as long as each writer is trusted.

use std::net::{IpAddr, SocketAddr};

use actix_http::header::HeaderName;

use super::head::Head;
use super::headers::Headers;
use super::peer::Peer;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The proxies that are trusted. A peer on a Unix socket always is: the mode of the socket file controls access.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    trusts_all: bool,
    networks: Vec<(IpAddr, u8)>,
}

impl Proxies {
    /// Parses addresses and networks, such as `10.0.0.0/8`; `*` trusts every peer. The error is the invalid string.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, String> {
        let mut proxies = Self::default();
        for text in texts.iter().map(AsRef::as_ref) {
            if text == "*" {
                proxies.trusts_all = true;
            } else {
                let network = network(text).ok_or_else(|| text.to_owned())?;
                proxies.networks.push(network);
            }
        }
        Ok(proxies)
    }

    /// The client of a request, which may have come through a trusted proxy.
    pub fn peer(&self, head: &Head) -> Peer {
        let direct = head.peer;
        if direct.address.is_some_and(|it| !self.trust(it.ip())) {
            return direct;
        }
        Peer {
            address: self.client(head).or(direct.address),
            is_secure: scheme(head).unwrap_or(direct.is_secure),
        }
    }

    fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusts_all
            || self
                .networks
                .iter()
                .any(|(network, prefix)| contains(*network, *prefix, address))
    }

    /// The first address from the end that is not a trusted proxy, or else the farthest one. Addresses before an
    /// invalid one are not trusted.
    fn client(&self, headers: &Head) -> Option<SocketAddr> {
        let lines: Vec<_> = headers.values(&FORWARDED_FOR).collect();
        let mut farthest = None;
        for line in lines.iter().rev() {
            for text in str::from_utf8(line).ok()?.rsplit(',') {
                let Some(address) = address(text.trim()) else {
                    return farthest;
                };
                farthest = Some(address);
                if !self.trust(address.ip()) {
                    return farthest;
                }
            }
        }
        farthest
    }
}

/// The scheme that the nearest proxy reports. True: it is secure.
fn scheme(headers: &Head) -> Option<bool> {
    let line = str::from_utf8(headers.values(&FORWARDED_PROTO).last()?).ok()?;
    let last = line.rsplit(',').next()?.trim();
    match () {
        () if ["https", "wss"]
            .iter()
            .any(|it| last.eq_ignore_ascii_case(it)) =>
        {
            Some(true)
        }
        () if ["http", "ws"]
            .iter()
            .any(|it| last.eq_ignore_ascii_case(it)) =>
        {
            Some(false)
        }
        () => None,
    }
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let bare = bare.unwrap_or(text).parse::<IpAddr>();
    let address = bare.map(|ip| SocketAddr::new(ip, 0)).ok();
    address.or_else(|| text.parse().ok())
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = if text.contains('/') {
        prefix.parse().ok().filter(|prefix| *prefix <= most)?
    } else {
        most
    };
    Some((address, prefix))
}

fn contains(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let other = network.to_bits() ^ address.to_bits();
            other.checked_shr(32 - u32::from(prefix)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let other = network.to_bits() ^ address.to_bits();
            other.checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadWriter, Version};

    fn head(peer: Option<&str>, name: &HeaderName, lines: &[&str]) -> Head {
        let mut head = HeadWriter::new("/", None, 0, 0);
        for line in lines {
            head.add(name.as_str().as_bytes(), line.as_bytes());
        }
        let direct = Peer {
            address: peer.map(|peer| SocketAddr::new(peer.parse().expect("an address"), 9)),
            is_secure: false,
        };
        head.finish(Version::Http11, direct)
    }

    fn client(peer: Option<&str>, lines: &[&'static str], trusted: &[&str]) -> String {
        let proxies = Proxies::parse(trusted).expect("good networks");
        let found = proxies.peer(&head(peer, &FORWARDED_FOR, lines)).address;
        found.map_or_else(String::new, |found| found.to_string())
    }

    #[test]
    fn only_addresses_of_trusted_proxies_are_used() {
        let local = &["127.0.0.1", "10.0.0.0/8"];
        let from = |peer, lines: &[&'static str]| client(Some(peer), lines, local);
        assert_eq!(from("192.0.2.9", &["198.51.100.1"]), "192.0.2.9:9");
        assert_eq!(from("127.0.0.1", &["198.51.100.1"]), "198.51.100.1:0");
        assert_eq!(
            from("::ffff:127.0.0.1", &["198.51.100.1"]),
            "198.51.100.1:0"
        );
        assert_eq!(
            from("127.0.0.1", &["6.6.6.6, 198.51.100.1"]),
            "198.51.100.1:0"
        );
        assert_eq!(
            from("127.0.0.1", &["6.6.6.6, 198.51.100.1, 10.1.2.3"]),
            "198.51.100.1:0"
        );
        assert_eq!(
            from("127.0.0.1", &["6.6.6.6", "198.51.100.1"]),
            "198.51.100.1:0"
        );
        assert_eq!(from("127.0.0.1", &["10.1.2.3"]), "10.1.2.3:0");
        assert_eq!(from("127.0.0.1", &[]), "127.0.0.1:9");
    }

    #[test]
    fn addresses_before_an_invalid_one_are_ignored() {
        let from = |line| client(Some("127.0.0.1"), &[line], &["127.0.0.1", "10.0.0.0/8"]);
        assert_eq!(from("6.6.6.6, what?"), "127.0.0.1:9");
        assert_eq!(from("6.6.6.6, what?, 10.0.0.1"), "10.0.0.1:0");
        assert_eq!(from(",,,"), "127.0.0.1:9");
        assert_eq!(from("[2001:db8::1]:80"), "[2001:db8::1]:80");
        assert_eq!(from("[2001:db8::1]"), "[2001:db8::1]:0");
        assert_eq!(from("198.51.100.1:4711"), "198.51.100.1:4711");
    }

    #[test]
    fn every_peer_and_unix_sockets_can_be_trusted() {
        assert_eq!(
            client(Some("192.0.2.9"), &["1.1.1.1, 2.2.2.2"], &["*"]),
            "1.1.1.1:0"
        );
        assert_eq!(client(None, &["1.1.1.1"], &[]), "1.1.1.1:0");
        assert_eq!(client(None, &[], &[]), "");
    }

    #[test]
    fn networks_contain_exactly_their_addresses() {
        assert!(Proxies::parse(&["10.0.0.0/33"]).is_err());
        assert!(Proxies::parse(&["ten"]).is_err());
        assert!(Proxies::parse(&["10.0.0.1/"]).is_err());
        let all = Proxies::parse(&["0.0.0.0/0", "2001:db8::/32"]).expect("good");
        assert!(all.trust([9, 9, 9, 9].into()));
        assert!(all.trust("2001:db8:1::1".parse().expect("good")));
        assert!(!all.trust("2001:db9::1".parse().expect("good")));
    }

    #[test]
    fn the_scheme_is_that_of_the_nearest_proxy() {
        let of = |line| scheme(&head(None, &FORWARDED_PROTO, &[line]));
        assert_eq!(of("https"), Some(true));
        assert_eq!(of("http, HTTPS"), Some(true));
        assert_eq!(of("ws"), Some(false));
        assert_eq!(of("gopher"), None);
    }
}
