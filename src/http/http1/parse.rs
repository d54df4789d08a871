//! The parser of request heads, which also determines the end of the body.
//!
//! Framing decides where the next request begins, so the parser never guesses. A head that two readers could
//! understand differently is refused, and the connection closes.

use std::mem::MaybeUninit;
use std::sync::Arc;

use actix_http::{Method, StatusCode};
use httparse::{Error, Header, Status};

use super::fields::{Framing, FramingFields};
use super::head_error::{HeadError, bad};
use super::target::Target;
use super::version::{as_http11, bad_version, version_digit};
use crate::http::head::{Head, HeadWriter, Version};
use crate::http::host::is_host;
use crate::http::limits::{MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES};
use crate::http::peer::Peer;

/// The parsed head of a request.
#[derive(Debug)]
pub struct RequestStart {
    /// The method.
    pub method: Method,
    /// Target and headers. The peer is the other end of the connection.
    pub head: Arc<Head>,
    /// How the body is delimited.
    pub framing: Framing,
    /// The connection stays open for further requests.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The client requests a WebSocket.
    pub wants_websocket: bool,
    /// Length of the head, in bytes.
    pub len: usize,
}

/// Parses the first head in these bytes. None: it is incomplete. `direct` is the other end of the connection.
pub fn parse(bytes: &[u8], direct: Peer) -> Result<Option<RequestStart>, HeadError> {
    match with_httparse(bytes, direct) {
        Err(ParseFailure::Version) if version_digit(bytes).is_none() => {
            partial(bytes).map(|()| None)
        }
        Err(ParseFailure::Version) => match as_http11(bytes) {
            Some(patched) => match with_httparse(&patched, direct) {
                Err(ParseFailure::HeadError(error)) => Err(error),
                Err(ParseFailure::Version) => bad_version(bytes),
                Ok(parsed) => Ok(parsed),
            },
            None => bad_version(bytes),
        },
        Err(ParseFailure::HeadError(error)) => Err(error),
        Ok(parsed) => Ok(parsed),
    }
}

enum ParseFailure {
    /// `httparse` does not accept the version.
    Version,
    HeadError(HeadError),
}

impl From<HeadError> for ParseFailure {
    fn from(error: HeadError) -> Self {
        Self::HeadError(error)
    }
}

fn with_httparse(bytes: &[u8], direct: Peer) -> Result<Option<RequestStart>, ParseFailure> {
    let mut table = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, &mut table) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(partial(bytes).map(|()| None)?),
        Err(Error::Version) => return Err(ParseFailure::Version),
        Err(error) => return Err(malformed(error).into()),
    };
    if len > MAX_HEAD_BYTES {
        return Err(head_too_large().into());
    }
    let target = request.path.expect("a whole head has a target");
    if target.len() > MAX_TARGET_BYTES {
        return Err(target_too_long().into());
    }
    let method = request.method.expect("a whole head has a method");
    let version = match request.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    Ok(Some(request_start(
        method,
        target,
        version,
        request.headers,
        direct,
        len,
    )?))
}

/// Refuses an incomplete head that is already too large.
fn partial(bytes: &[u8]) -> Result<(), HeadError> {
    if bytes.len() < MAX_TARGET_BYTES {
        return Ok(());
    }
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte));
    let line = &bytes[start.unwrap_or(bytes.len())..];
    let end = line.iter().position(|byte| *byte == b'\n');
    // The longest registered method has 17 letters.
    if end.unwrap_or(line.len()) > MAX_TARGET_BYTES + 32 {
        return Err(target_too_long());
    }
    if bytes.len() >= MAX_HEAD_BYTES {
        return Err(head_too_large());
    }
    Ok(())
}

fn head_too_large() -> HeadError {
    HeadError {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        reason: format!("The request's head is larger than {MAX_HEAD_BYTES} bytes.").into(),
    }
}

fn target_too_long() -> HeadError {
    HeadError {
        status: StatusCode::URI_TOO_LONG,
        reason: format!("The request's target is longer than {MAX_TARGET_BYTES} bytes.").into(),
    }
}

fn malformed(error: Error) -> HeadError {
    let reason = match error {
        Error::TooManyHeaders => {
            return HeadError {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: format!("The request has more than {MAX_HEADERS} headers.").into(),
            };
        }
        Error::HeaderName => "A header's name has an invalid character.",
        Error::HeaderValue => "A header's value has a control character.",
        Error::NewLine => "A line of the request's head does not end with CR LF.",
        _ => "The request line is malformed: expected a method, a target and HTTP/1.1.",
    };
    HeadError {
        status: StatusCode::BAD_REQUEST,
        reason: reason.into(),
    }
}

fn request_start(
    method: &str,
    target: &str,
    version: Version,
    headers: &[Header<'_>],
    direct: Peer,
    len: usize,
) -> Result<RequestStart, HeadError> {
    let method = Method::from_bytes(method.as_bytes())
        .or_else(|_| bad("The method has an invalid character."))?;
    let target = Target::of(&method, target)?;
    let fields = FramingFields::read(headers)?;
    if fields.host.is_none() && version == Version::Http11 {
        return bad("The request has no Host header.");
    }
    if !fields.host.is_none_or(is_host) || !target.host.is_none_or(|it| is_host(it.as_bytes())) {
        return bad("The Host header is not a valid host.");
    }
    let framing = fields.framing(version)?;
    let bytes = headers.iter().map(|it| it.name.len() + it.value.len());
    let mut head = HeadWriter::new(target.path, target.query, bytes.sum(), headers.len());
    for header in headers {
        let is_host = header.name.eq_ignore_ascii_case("host");
        // A host in the target takes precedence over the header (RFC 9112, section 3.2.2).
        let value = match target.host {
            Some(host) if is_host => host.as_bytes(),
            _ => header.value.trim_ascii(),
        };
        if !head.add(header.name.as_bytes(), value) {
            return Err(head_too_large());
        }
    }
    if let (Some(host), None) = (target.host, fields.host) {
        head.add(b"host", host.as_bytes());
    }
    let keep_alive = match version {
        Version::Http10 => fields.keeps_alive && !fields.closes,
        _ => !fields.closes,
    };
    Ok(RequestStart {
        method,
        head: Arc::new(head.finish(version, direct)),
        framing,
        keep_alive,
        // Clients of HTTP/1.0 do not know status 100 (RFC 9110, section 10.1.1).
        expects_continue: fields.expects_continue && version != Version::Http10,
        wants_websocket: fields.wants_websocket,
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECT: Peer = Peer {
        address: None,
        is_secure: false,
    };

    fn parsed(text: &str) -> RequestStart {
        parse(text.as_bytes(), DIRECT)
            .expect("a good head")
            .expect("a whole head")
    }

    fn status(text: &[u8]) -> u16 {
        parse(text, DIRECT).expect_err("a bad head").status.as_u16()
    }

    fn with(line: &str, headers: &str) -> String {
        format!("{line}\r\nHost: a\r\n{headers}\r\n")
    }

    #[test]
    fn a_head_is_parsed_once_it_is_complete_wherever_it_was_cut() {
        let text = with("POST /a?b HTTP/1.1", "Content-Length: 3\r\nX: y \r\n") + "abcGET";
        let head = text.find("abc").expect("it is there");
        for cut in 0..head {
            let cut = parse(&text.as_bytes()[..cut], DIRECT).expect("nothing is wrong yet");
            assert!(cut.is_none());
        }
        for cut in head..=text.len() {
            let parsed = parsed(&text[..cut]);
            assert_eq!(parsed.len, head);
            assert_eq!(parsed.method, Method::POST);
            assert_eq!(parsed.head.target(), "/a?b");
            assert_eq!(parsed.framing, Framing::Length(3));
            let headers: Vec<_> = parsed.head.headers().collect();
            assert_eq!(
                headers,
                [
                    (&b"host"[..], &b"a"[..]),
                    (b"content-length", b"3"),
                    (b"x", b"y")
                ]
            );
        }
    }

    #[test]
    fn a_higher_minor_version_is_served_as_http_1_1() {
        let text = with("GET / HTTP/1.9", "");
        assert_eq!(parsed(&text).head.version, Version::Http11);
        for cut in 0..text.len() {
            let cut = parse(&text.as_bytes()[..cut], DIRECT).expect("nothing is wrong yet");
            assert!(cut.is_none());
        }
    }

    #[test]
    fn connections_stay_open_as_each_version_defines() {
        for (version, header, keeps) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: Upgrade, CLOSE\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
            ("1.2", "", true),
            ("1.9", "Connection: close\r\n", false),
        ] {
            let text = with(&format!("GET / HTTP/{version}"), header);
            assert_eq!(parsed(&text).keep_alive, keeps, "{text}");
        }
    }

    #[test]
    fn heads_with_ambiguous_framing_are_refused() {
        let framing = |headers: &str| parsed(&with("POST / HTTP/1.1", headers)).framing;
        assert_eq!(framing(""), Framing::Empty);
        assert_eq!(framing("Content-Length: 0\r\n"), Framing::Empty);
        assert_eq!(framing("Content-Length: 007\r\n"), Framing::Length(7));
        assert_eq!(framing("transfer-ENCODING: Chunked\r\n"), Framing::Chunked);
        for (headers, expected) in [
            ("Content-Length: +1\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 1, 1\r\n", 400),
            ("Content-Length: 0x1\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 413),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                400,
            ),
            ("Transfer-Encoding: chunked, chunked\r\n", 400),
            ("Transfer-Encoding: chunked, gzip\r\n", 400),
            ("Transfer-Encoding: xchunked\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: identity\r\n", 400),
            ("Transfer-Encoding: \x0bchunked\r\n", 400),
            ("Transfer-Encoding : chunked\r\n", 400),
            (" Transfer-Encoding: chunked\r\n", 400),
            ("X: a\r\n b\r\n", 400),
        ] {
            let text = with("POST / HTTP/1.1", headers);
            assert_eq!(status(text.as_bytes()), expected, "{headers:?}");
        }
        let old = with("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n");
        assert_eq!(status(old.as_bytes()), 400);
    }

    #[test]
    fn every_form_of_a_target_has_a_path_and_a_host() {
        let of = |method: &str, target: &str| {
            let text = with(&format!("{method} {target} HTTP/1.1"), "");
            let head = parsed(&text).head;
            let host = head.text(&actix_http::header::HOST).expect("a host");
            (head.target().to_owned(), host.to_owned())
        };
        let expected = |target: &str, host: &str| (target.to_owned(), host.to_owned());
        assert_eq!(of("GET", "/?"), expected("/?", "a"));
        assert_eq!(of("GET", "/a#b"), expected("/a", "a"));
        assert_eq!(of("GET", "/a?b#c?d"), expected("/a?b", "a"));
        assert_eq!(of("GET", "/a#b?c"), expected("/a", "a"));
        assert_eq!(of("GET", "//a/b"), expected("//a/b", "a"));
        assert_eq!(of("GET", "/ü"), expected("/ü", "a"));
        assert_eq!(of("OPTIONS", "*"), expected("*", "a"));
        assert_eq!(of("OPTIONS", "http://b"), expected("*", "b"));
        assert_eq!(of("GET", "http://b:80"), expected("/", "b:80"));
        assert_eq!(of("GET", "HTTPS://b/c?d=/"), expected("/c?d=/", "b"));
        assert_eq!(of("GET", "http://b?c"), expected("/?c", "b"));
        for (line, expected) in [
            ("GET * HTTP/1.1", 400),
            ("GET a HTTP/1.1", 400),
            ("GET http:///a HTTP/1.1", 400),
            ("GET ftp://a/ HTTP/1.1", 400),
            ("GET http://u@a/ HTTP/1.1", 400),
            ("CONNECT a:443 HTTP/1.1", 501),
            ("GET / HTTP/2.0", 505),
            ("GET / HTTP/3.1", 505),
            ("GET / http/1.1", 400),
            ("GET /  HTTP/1.1", 400),
            ("GET /", 400),
            ("\x16\x03\x01", 400),
        ] {
            assert_eq!(status(with(line, "").as_bytes()), expected, "{line}");
        }
        assert_eq!(status(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
        assert_eq!(status(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    }

    #[test]
    fn a_request_has_one_possible_host() {
        assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
        assert_eq!(status(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
        parsed("GET / HTTP/1.0\r\n\r\n");
        parsed("GET / HTTP/1.1\r\nHost:\r\n\r\n");
    }

    #[test]
    fn heads_that_are_too_large_are_refused_before_they_are_complete() {
        let long = "x".repeat(MAX_TARGET_BYTES);
        let long = with(&format!("GET /{long} HTTP/1.1"), "");
        assert_eq!(status(long.as_bytes()), 414);
        let endless = format!("GET /{}", "x".repeat(MAX_TARGET_BYTES + 64));
        assert_eq!(status(endless.as_bytes()), 414);
        let header = format!("X: {}\r\n", "y".repeat(1000));
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", header.repeat(70));
        assert_eq!(status(large.as_bytes()), 431);
        let most = "X: y\r\n".repeat(MAX_HEADERS - 1);
        parsed(&with("GET / HTTP/1.1", &most));
        let many = "X: y\r\n".repeat(MAX_HEADERS);
        assert_eq!(status(with("GET / HTTP/1.1", &many).as_bytes()), 431);
    }

    #[test]
    fn bare_line_feeds_end_lines_of_a_head() {
        // RFC 9112, section 2.2, allows it, and nginx does it.
        let parsed = parsed("\r\nGET / HTTP/1.1\nHost: a\n\n");
        assert_eq!(parsed.head.headers().count(), 1);
        assert_eq!(status(b"GET / HTTP/1.1\rHost: a\r\r"), 400);
    }

    #[test]
    fn only_http_1_1_supports_expect_and_upgrade() {
        let wants = |version: &str, header: &str| {
            let parsed = parsed(&with(&format!("GET / HTTP/{version}"), header));
            (parsed.expects_continue, parsed.wants_websocket)
        };
        assert_eq!(wants("1.1", "Expect: 100-Continue\r\n"), (true, false));
        assert_eq!(wants("1.0", "Expect: 100-continue\r\n"), (false, false));
        assert_eq!(wants("1.1", "Upgrade: h2c, WebSocket\r\n"), (false, true));
        assert_eq!(wants("1.1", "Upgrade: websockets\r\n"), (false, false));
    }
}
