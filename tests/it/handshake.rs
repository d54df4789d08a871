//! The opening handshake, on plain data and on actix's own header map.

use actix_http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use actix_http::{Method, StatusCode};
use fanbus::http::head::Version;
use fanbus::http::headers::Headers;
use fanbus::http::websocket::handshake::{Refusal, Upgrade};
use fanbus::http::websocket::origin::Origins;
use fanbus::http::websocket::subprotocol::Subprotocol;

/// Headers as plain pairs.
struct Plain(Vec<(&'static str, &'static str)>);

impl Headers for Plain {
    fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        let name = name.clone();
        self.0
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_str()))
            .map(|(_, value)| value.as_bytes())
    }
}

/// The request of RFC 6455, section 1.2.
fn sample() -> Plain {
    Plain(vec![
        ("Host", "server.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ])
}

impl Plain {
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.0.push((name, value));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| *other != name);
        self
    }

    fn replace(self, name: &'static str, value: &'static str) -> Self {
        self.without(name).with(name, value)
    }
}

fn check(headers: &impl Headers) -> Result<Upgrade, Refusal> {
    Upgrade::check(&Method::GET, Version::Http11, headers, &Origins::Same)
}

fn status(headers: &impl Headers) -> u16 {
    check(headers).map_or_else(|refusal| refusal.status.as_u16(), |_| 101)
}

fn response(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn the_request_of_the_rfc_gets_the_response_of_the_rfc() {
    let upgrade = check(&sample()).expect("accepted");
    assert_eq!(
        response(|out| upgrade.write(None, [], out)),
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn the_response_carries_the_subprotocol_and_further_headers() {
    let upgrade = check(&sample()).expect("accepted");
    let chat = Subprotocol::new("chat").expect("a token");
    let cookie = HeaderValue::from_static("seen=1");
    let response = response(|out| upgrade.write(Some(&chat), [(&SET_COOKIE, &cookie)], out));
    assert!(
        response.ends_with("Sec-WebSocket-Protocol: chat\r\nset-cookie: seen=1\r\n\r\n"),
        "{response}"
    );
}

#[test]
fn actix_headers_are_read_alike() {
    let mut headers = HeaderMap::new();
    for (name, value) in sample().0 {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_static(value));
    }
    assert_eq!(status(&headers), 101);
    headers.remove("sec-websocket-key");
    assert_eq!(status(&headers), 400);
}

#[test]
fn tokens_are_found_in_lists_and_in_any_case() {
    let headers = sample()
        .replace("Connection", "keep-alive, UPGRADE")
        .replace("Upgrade", "h2c")
        .with("Upgrade", "WebSocket");
    assert_eq!(status(&headers), 101);
}

#[test]
fn what_is_no_websocket_request_is_refused_with_its_reason() {
    let cases = [
        (426, sample().without("Upgrade")),
        (426, sample().replace("Upgrade", "h2c")),
        (400, sample().without("Connection")),
        (400, sample().replace("Connection", "keep-alive")),
        (426, sample().without("Sec-WebSocket-Version")),
        (426, sample().replace("Sec-WebSocket-Version", "8")),
        (400, sample().without("Sec-WebSocket-Key")),
        (400, sample().replace("Sec-WebSocket-Key", "")),
        (
            400,
            sample().replace("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ"),
        ),
        (
            400,
            sample().replace("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j===="),
        ),
        (
            400,
            sample().replace("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j*Q=="),
        ),
        (
            400,
            sample().with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ),
    ];
    for (expected, headers) in cases {
        assert_eq!(status(&headers), expected, "{:?}", headers.0);
    }
    let with = |method, version| Upgrade::check(method, version, &sample(), &Origins::Same);
    let refusal = with(&Method::POST, Version::Http11).expect_err("not GET");
    assert_eq!(refusal.status, StatusCode::METHOD_NOT_ALLOWED);
    let refusal = with(&Method::GET, Version::Http10).expect_err("too old");
    assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
}

#[test]
fn a_refusal_is_a_whole_response() {
    let refusal = Refusal::new(StatusCode::NOT_FOUND, "Nobody is här.");
    assert_eq!(
        response(|out| refusal.write(out)),
        "HTTP/1.1 404 Not Found\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 15\r\n\
         Connection: close\r\n\r\n\
         Nobody is här."
    );
}

#[test]
fn a_refusal_has_further_headers_but_says_itself_how_long_it_is() {
    let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, "{}");
    for (name, value) in [
        (CONTENT_LENGTH, "7"),
        (TRANSFER_ENCODING, "chunked"),
        (CONTENT_TYPE, "application/json"),
        (WWW_AUTHENTICATE, "Bearer"),
        (CONNECTION, "keep-alive"),
    ] {
        refusal
            .headers
            .push((name, HeaderValue::from_static(value)));
    }
    assert_eq!(
        response(|out| refusal.write(out)),
        "HTTP/1.1 401 Unauthorized\r\n\
         Content-Type: application/json\r\n\
         Content-Length: 2\r\n\
         Connection: close\r\n\
         www-authenticate: Bearer\r\n\r\n\
         {}"
    );
}

#[test]
fn wrong_version_gets_the_right_one_in_the_response() {
    let refusal = check(&sample().replace("Sec-WebSocket-Version", "7")).expect_err("too old");
    let response = response(|out| refusal.write(out));
    assert!(
        response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{response}"
    );
    assert!(
        response.contains("\r\nSec-WebSocket-Version: 13\r\n"),
        "{response}"
    );
    assert!(
        response.contains("\r\nUpgrade: websocket\r\n"),
        "{response}"
    );
}

#[test]
fn by_default_a_page_of_another_host_is_refused() {
    let from = |origin| status(&sample().with("Origin", origin));
    assert_eq!(from("https://server.example.com"), 101);
    assert_eq!(from("http://SERVER.example.com"), 101);
    assert_eq!(from("https://server.example.com:443"), 101);
    assert_eq!(from("http://server.example.com:80"), 101);
    assert_eq!(from("https://server.example.com:8443"), 403);
    assert_eq!(from("https://evil.example.com"), 403);
    assert_eq!(from("https://server.example.com.evil.com"), 403);
    assert_eq!(from("null"), 403);
    assert_eq!(from(""), 403);

    let local = sample().replace("Host", "localhost:5000");
    assert_eq!(status(&local.with("Origin", "http://localhost:5000")), 101);
    let two = sample().with("Origin", "https://server.example.com");
    assert_eq!(status(&two.with("Origin", "https://evil.example.com")), 403);
    let hostless = sample()
        .without("Host")
        .with("Origin", "https://server.example.com");
    assert_eq!(status(&hostless), 403);
}

#[test]
fn listed_origins_are_admitted_exactly_and_a_star_admits_all() {
    let check = |origins: &Origins, origin| {
        let headers = sample().with("Origin", origin);
        Upgrade::check(&Method::GET, Version::Http11, &headers, origins).is_ok()
    };
    let listed = Origins::new(Some(["https://app.example.com", "http://localhost:3000"]));
    let listed = listed.expect("valid origins");
    assert!(check(&listed, "https://app.example.com"));
    assert!(check(&listed, "http://localhost:3000"));
    assert!(!check(&listed, "http://app.example.com"));
    assert!(!check(&listed, "http://localhost"));
    assert!(!check(&listed, "https://server.example.com"));
    assert!(check(&Origins::Any, "https://evil.example.com"));

    let no_browser = Upgrade::check(&Method::GET, Version::Http11, &sample(), &listed);
    assert!(
        no_browser.is_ok(),
        "a client that is no browser sends no origin"
    );
}

#[test]
fn an_origin_that_could_never_match_is_an_error_that_says_what_to_write() {
    for origin in [
        "example.com",
        "https://example.com/",
        "https://*.example.com",
        "",
        "://x",
    ] {
        let error = Origins::new(Some([origin])).expect_err(origin).to_string();
        assert!(
            error.contains(origin) && error.contains("https://example.com"),
            "{error}"
        );
    }
    assert_eq!(Origins::new(None::<[&str; 0]>), Ok(Origins::Same));
    assert_eq!(
        Origins::new(Some(["https://example.com", "*"])),
        Ok(Origins::Any)
    );
}

#[test]
fn the_server_prefers_among_the_subprotocols_that_the_client_offers() {
    let supported = ["v2.chat", "v1.chat"].map(|name| Subprotocol::new(name).expect("a token"));
    let choose = |headers: &Plain| {
        Subprotocol::choose(&supported, headers).map(|subprotocol| subprotocol.as_str().to_owned())
    };
    let offered = sample().with("Sec-WebSocket-Protocol", "soap, v1.chat,v2.chat");
    assert_eq!(choose(&offered).as_deref(), Some("v2.chat"));
    let on_two_lines = sample()
        .with("Sec-WebSocket-Protocol", "soap")
        .with("Sec-WebSocket-Protocol", "v1.chat");
    assert_eq!(choose(&on_two_lines).as_deref(), Some("v1.chat"));
    assert_eq!(
        choose(&sample().with("Sec-WebSocket-Protocol", "V1.CHAT")),
        None
    );
    assert_eq!(choose(&sample()), None);
}

#[test]
fn a_subprotocol_cannot_smuggle_a_header() {
    for name in ["", "two words", "a,b", "a\r\nSet-Cookie: x=1", "é"] {
        let error = Subprotocol::new(name).expect_err("not a token").to_string();
        assert!(error.contains("not the name of a subprotocol"), "{error}");
    }
}
