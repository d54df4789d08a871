//! The head of a request, in one block of memory: a WebSocket keeps it as long as it lives.
//!
//! A table of headers takes kilobytes, and headers that borrow from what was read keep all of that.
//! Here they are text again, as they came, and are looked through when somebody asks.

use std::net::SocketAddr;

use actix_http::RequestHead;
use actix_http::header::HeaderName;

use super::proxies::Origin;
use super::websocket::handshake::Headers;

/// See the module's documentation.
#[derive(Debug)]
pub struct Head {
    /// A line for path and query, and one for each header, as in `name:value`. No part of them can
    /// hold the end of a line.
    lines: Box<[u8]>,
    /// Who asks: the other end of the connection, or whom a trusted proxy names.
    pub peer: Option<SocketAddr>,
    /// It came over TLS.
    pub secure: bool,
    /// As HTTP counts them.
    pub version: Version,
}

/// The version of HTTP that a request came in. One byte: a WebSocket keeps it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.0, or older.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As programs write it: "1.0", "1.1" or "2".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

impl From<actix_http::Version> for Version {
    fn from(version: actix_http::Version) -> Self {
        match version {
            actix_http::Version::HTTP_2 => Self::Http2,
            actix_http::Version::HTTP_11 => Self::Http11,
            _ => Self::Http10,
        }
    }
}

impl Head {
    /// Copies what user code may ask for.
    pub fn new(head: &RequestHead, origin: Origin) -> Self {
        let path = head.uri.path();
        let query = head.uri.query().unwrap_or_default();
        let header_lens = head.headers().iter();
        let header_lens = header_lens.map(|(name, value)| name.as_str().len() + value.len() + 2);
        let len = path.len() + query.len() + 2 + header_lens.sum::<usize>();
        let mut lines = Vec::with_capacity(len);
        lines.extend_from_slice(path.as_bytes());
        lines.push(b'?');
        lines.extend_from_slice(query.as_bytes());
        lines.push(b'\n');
        for (name, value) in head.headers() {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        debug_assert_eq!(lines.len(), len, "nothing is copied again, or left over");
        Self {
            lines: lines.into_boxed_slice(),
            peer: origin.peer,
            secure: origin.secure,
            version: head.version.into(),
        }
    }

    /// The path as it was sent, percent-encoded.
    pub fn path(&self) -> &[u8] {
        split_at(self.first_line(), b'?').0
    }

    /// What follows the `?`, percent-encoded, without it. Empty when there is none.
    pub fn query(&self) -> &[u8] {
        split_at(self.first_line(), b'?').1
    }

    /// Names, in lower case, and values. Several values of one name are in the order in which they
    /// came.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.lines.split(|byte| *byte == b'\n').skip(1);
        let lines = lines.filter(|line| !line.is_empty());
        lines.map(|line| split_at(line, b':'))
    }

    fn first_line(&self) -> &[u8] {
        split_at(&self.lines, b'\n').0
    }
}

impl Headers for Head {
    fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        let name = name.clone();
        self.headers()
            .filter(move |(other, _)| *other == name.as_str().as_bytes())
            .map(|(_, value)| value)
    }
}

/// What stands before the first `mark` and what behind it.
fn split_at(text: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let at = text.iter().position(|byte| *byte == mark);
    let at = at.expect("a head is written with its marks");
    (&text[..at], &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use actix_http::header::{COOKIE, HOST, HeaderMap, HeaderValue};

    use super::*;

    fn head(target: &'static str, headers: &[(HeaderName, &'static [u8])]) -> Head {
        let mut head = RequestHead::default();
        head.uri = target.parse().expect("a good target");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value).expect("a good value");
            map.append(name.clone(), value);
        }
        *head.headers_mut() = map;
        let origin = Origin {
            peer: None,
            secure: false,
        };
        Head::new(&head, origin)
    }

    #[test]
    fn path_and_query_are_as_they_were_sent() {
        let asked = head("/a%20b:c?d=1?&e=%0A", &[]);
        assert_eq!(asked.path(), b"/a%20b:c");
        assert_eq!(asked.query(), b"d=1?&e=%0A");
        assert_eq!(asked.headers().count(), 0);
        assert_eq!(head("/", &[]).query(), b"");
    }

    #[test]
    fn headers_keep_every_value_and_every_byte_of_it() {
        let sent: &[(HeaderName, &[u8])] = &[
            (HOST, b"[::1]:5000"),
            (COOKIE, b"a=1"),
            (COOKIE, b"b=\xFC\t:"),
            (COOKIE, b""),
        ];
        let head = head("/", sent);
        let values = |name| Headers::values(&head, &name).collect::<Vec<_>>();
        assert_eq!(values(HOST), [b"[::1]:5000"]);
        assert_eq!(values(COOKIE), [&b"a=1"[..], b"b=\xFC\t:", b""]);
        assert_eq!(head.headers().count(), 4);
    }
}
