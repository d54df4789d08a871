//! The check of the opening handshake: for any headers, the request is refused or accepted, with one response.

use actix_http::Method;
use actix_http::header::{
    CONNECTION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use arbitrary::Arbitrary;
use fanbus::http::head::Version;
use fanbus::http::headers::Headers;
use fanbus::http::websocket::handshake::Upgrade;
use fanbus::http::websocket::origin::Origins;

/// A header of the handshake, with a valid value.
const KNOWN: [(HeaderName, &[u8]); 6] = [
    (UPGRADE, b"websocket"),
    (CONNECTION, b"keep-alive, Upgrade"),
    (SEC_WEBSOCKET_VERSION, b"13"),
    (SEC_WEBSOCKET_KEY, b"dGhlIHNhbXBsZSBub25jZQ=="),
    (HOST, b"example.com:5000"),
    (ORIGIN, b"http://example.com:5000"),
];

#[derive(Arbitrary, Debug)]
struct Header {
    known: u8,
    /// `None`: the valid one.
    value: Option<Vec<u8>>,
}

#[derive(Arbitrary, Debug)]
pub(crate) struct Request {
    is_get: bool,
    is_old: bool,
    origins: u8,
    /// The valid headers that are present, as a mask.
    right: u8,
    others: Vec<Header>,
}

struct Plain(Vec<(HeaderName, Vec<u8>)>);

impl Headers for Plain {
    fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        let name = name.clone();
        let of_name = self.0.iter().filter(move |(other, _)| *other == name);
        of_name.map(|(_, value)| &value[..])
    }
}

impl Request {
    /// Checks the request, and its response.
    pub(crate) fn play(self) {
        let right = |known: usize| (KNOWN[known].0.clone(), KNOWN[known].1.to_vec());
        let mut headers: Vec<_> = (0..KNOWN.len())
            .filter(|known| self.right & 1 << known != 0)
            .map(right)
            .collect();
        for header in self.others {
            let (name, value) = right(usize::from(header.known) % KNOWN.len());
            headers.push((name, header.value.unwrap_or(value)));
        }
        let headers = Plain(headers);
        let origins = match self.origins % 3 {
            0 => Origins::Same,
            1 => Origins::Any,
            _ => Origins::Listed(vec!["http://example.com:5000".into()]),
        };
        let method = if self.is_get {
            Method::GET
        } else {
            Method::POST
        };
        let version = if self.is_old {
            Version::Http10
        } else {
            Version::Http11
        };
        let mut answer = Vec::new();
        match Upgrade::check(&method, version, &headers, &origins) {
            Ok(upgrade) => {
                assert!(self.is_get && !self.is_old);
                for (name, length) in [(SEC_WEBSOCKET_VERSION, 2), (SEC_WEBSOCKET_KEY, 24)] {
                    let lengths: Vec<_> = headers.values(&name).map(<[u8]>::len).collect();
                    assert_eq!(lengths, [length], "{name} must be there once");
                }
                upgrade.write(None, [], &mut answer);
                assert!(answer.starts_with(b"HTTP/1.1 101 "));
            }
            Err(refusal) => {
                refusal.write(&mut answer);
                assert!(refusal.status.is_client_error() && answer.starts_with(b"HTTP/1.1 4"));
            }
        }
        // One head, with lines that nothing of the request has cut.
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
        assert!(head.is_some(), "the head does not end");
    }
}
