//! The head of a request, in one block of memory. A WebSocket holds it for its whole life.
//!
//! A hash table of headers takes kilobytes, and headers that borrow from the read buffer keep the whole buffer
//! alive. Here the headers follow each other in the order in which they came, each after the lengths of its name
//! and value. A look-up walks over the headers, which is cheaper than a table for the few that a request needs.
//! Both HTTP/1 and HTTP/2 make heads.

use std::str;

use actix_http::header::HeaderName;

use super::headers::Headers;
use super::peer::Peer;

/// Bytes before each header: the lengths of its name and its value.
const LENGTHS: usize = 4;

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// Path and query as the client sent them, with the `?` between them; then the headers.
    block: Box<[u8]>,
    /// The end of the path, which is UTF-8.
    path_end: u32,
    /// The end of the target, where the headers begin.
    target_end: u32,
    /// The client: the other end of the connection, or the address that a trusted proxy reports.
    pub peer: Peer,
    /// The version of HTTP.
    pub version: Version,
}

/// The version of HTTP of a request. It takes one byte, because a WebSocket stores it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// The version as programs write it: "1.0", "1.1" or "2".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }

    /// The version as an access log writes it: "HTTP/1.1".
    pub fn with_protocol(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// The writer that makes a head: the target first, then one header after the other.
#[derive(Debug)]
pub struct HeadWriter {
    block: Vec<u8>,
    path_end: u32,
    target_end: u32,
}

impl HeadWriter {
    /// Begins a head with this path and query, percent-encoded as the client sent them. `bytes` and `headers` are
    /// the expected size and number of the headers. Wrong values cost time only.
    pub fn new(path: &str, query: Option<&str>, bytes: usize, headers: usize) -> Self {
        let target = path.len() + query.map_or(0, |query| query.len() + 1);
        let mut block = Vec::with_capacity(target + bytes + headers * LENGTHS);
        block.extend_from_slice(path.as_bytes());
        if let Some(query) = query {
            block.push(b'?');
            block.extend_from_slice(query.as_bytes());
        }
        Self {
            block,
            path_end: path.len() as u32,
            target_end: target as u32,
        }
    }

    /// Adds a header, with its name in lower case. False if it is longer than a head may be.
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> bool {
        let lengths = (u16::try_from(name.len()), u16::try_from(value.len()));
        let (Ok(name_len), Ok(value_len)) = lengths else {
            return false;
        };
        self.block.extend_from_slice(&name_len.to_ne_bytes());
        self.block.extend_from_slice(&value_len.to_ne_bytes());
        let at = self.block.len();
        self.block.extend_from_slice(name);
        self.block[at..].make_ascii_lowercase();
        self.block.extend_from_slice(value);
        true
    }

    /// Completes the head of a request of this version from this peer.
    pub fn finish(self, version: Version, peer: Peer) -> Head {
        Head {
            block: self.block.into_boxed_slice(),
            path_end: self.path_end,
            target_end: self.target_end,
            peer,
            version,
        }
    }
}

impl Head {
    /// The path as the client sent it, percent-encoded.
    pub fn path(&self) -> &str {
        str::from_utf8(&self.block[..self.path_end as usize]).expect("the path came from a str")
    }

    /// The part after the `?`, percent-encoded. Empty if there is none.
    pub fn query(&self) -> &[u8] {
        let query = &self.block[self.path_end as usize..self.target_end as usize];
        query.strip_prefix(b"?").unwrap_or_default()
    }

    /// Path and query, as the client sent them.
    pub fn target(&self) -> &str {
        str::from_utf8(&self.block[..self.target_end as usize])
            .expect("the target came from two str")
    }

    /// The target as bytes, for comparisons.
    pub fn target_bytes(&self) -> &[u8] {
        &self.block[..self.target_end as usize]
    }

    /// Names, in lower case, and values, in the order in which they came.
    pub fn headers(&self) -> Fields<'_> {
        Fields(&self.block[self.target_end as usize..])
    }

    /// The first value of a header.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        self.headers()
            .find_map(|(other, value)| (other == name).then_some(value))
    }

    /// The first value of a header, if it is text.
    pub fn text(&self, name: &HeaderName) -> Option<&str> {
        str::from_utf8(self.get(name)?).ok()
    }

    /// Whether the head has this header.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }
}

impl Headers for Head {
    fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        let name = name.as_str().as_bytes();
        self.headers()
            .filter_map(move |(other, value)| (other == name).then_some(value))
    }
}

/// The headers of a [`Head`], one after the other.
#[derive(Clone, Debug)]
pub struct Fields<'h>(&'h [u8]);

impl<'h> Iterator for Fields<'h> {
    type Item = (&'h [u8], &'h [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (lengths, rest) = self.0.split_first_chunk::<LENGTHS>()?;
        let [a, b, c, d] = *lengths;
        let (name, rest) = rest.split_at(u16::from_ne_bytes([a, b]).into());
        let (value, rest) = rest.split_at(u16::from_ne_bytes([c, d]).into());
        self.0 = rest;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use actix_http::header::{COOKIE, HOST};

    use super::*;

    fn head(path: &str, query: Option<&str>, headers: &[(&[u8], &[u8])]) -> Head {
        let mut head = HeadWriter::new(path, query, 0, 0);
        for (name, value) in headers {
            assert!(head.add(name, value));
        }
        let peer = Peer {
            address: None,
            is_secure: false,
        };
        head.finish(Version::Http11, peer)
    }

    #[test]
    fn a_head_stores_path_and_query_unchanged() {
        let sent = head("/a%20b:c", Some("d=1?&e=%0A"), &[]);
        assert_eq!(sent.path(), "/a%20b:c");
        assert_eq!(sent.query(), b"d=1?&e=%0A");
        assert_eq!(sent.target(), "/a%20b:c?d=1?&e=%0A");
        assert_eq!(sent.headers().count(), 0);
        assert_eq!(head("/", None, &[]).query(), b"");
        assert_eq!(head("/", Some(""), &[]).target(), "/?");
    }

    #[test]
    fn a_head_stores_every_value_and_every_byte_of_it() {
        let head = head(
            "/",
            None,
            &[
                (b"Host", b"[::1]:5000"),
                (b"cookie", b"a=1"),
                (b"COOKIE", b"b=\xFC\t:"),
                (b"Cookie", b""),
            ],
        );
        let values = |name| Headers::values(&head, &name).collect::<Vec<_>>();
        assert_eq!(values(HOST), [b"[::1]:5000"]);
        assert_eq!(values(COOKIE), [&b"a=1"[..], b"b=\xFC\t:", b""]);
        let names: Vec<_> = head.headers().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"host"[..], b"cookie", b"cookie", b"cookie"]);
    }

    #[test]
    fn a_header_longer_than_any_head_is_not_added() {
        let mut head = HeadWriter::new("/", None, 0, 0);
        assert!(!head.add(b"a", &vec![b'x'; 1 << 16]));
        assert!(head.add(b"a", &vec![b'x'; (1 << 16) - 1]));
    }
}
