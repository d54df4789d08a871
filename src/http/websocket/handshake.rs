//! The opening handshake that turns a request into a WebSocket (RFC 6455, section 4.2): it checks the request, and
//! writes the answer.
//!
//! It is pure: parts of a request in, a verdict or bytes out. Other modules decide which clients are admitted
//! beyond this (by path, by Python, by number); they refuse with the same [`Refusal`].

use std::borrow::Cow;
use std::io::Write;

use actix_http::header::{self, HeaderName, HeaderValue};
use actix_http::{Method, StatusCode, ws};

use super::origin::Origins;
use super::subprotocol::Subprotocol;
use crate::http::head::Version;
use crate::http::headers::{Headers, has_token, only_value};

/// The only version of the protocol that exists.
const VERSION: &[u8] = b"13";

/// A request that may become a WebSocket.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// The value of `Sec-WebSocket-Accept`: the proof that the server has read the key.
    accept: [u8; 28],
}

impl Upgrade {
    /// Checks a request as section 4.2.1 says, and its origin.
    pub fn check(
        method: &Method,
        version: Version,
        headers: &impl Headers,
        origins: &Origins,
    ) -> Result<Self, Refusal> {
        if method != Method::GET {
            return Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "A WebSocket is opened with GET.",
            ));
        }
        if version == Version::Http10 {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "A WebSocket needs HTTP/1.1; a proxy in between may speak HTTP/1.0.",
            ));
        }
        if !has_token(headers, &header::UPGRADE, "websocket") {
            return Err(Refusal::new(
                StatusCode::UPGRADE_REQUIRED,
                "This is a WebSocket endpoint: the request lacks \"Upgrade: websocket\".",
            ));
        }
        if !has_token(headers, &header::CONNECTION, "upgrade") {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "The request lacks \"Connection: Upgrade\"; a proxy in between may drop it.",
            ));
        }
        if only_value(headers, &header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
            return Err(Refusal::new(
                StatusCode::UPGRADE_REQUIRED,
                "This server speaks version 13 of the WebSocket protocol (RFC 6455).",
            ));
        }
        let key = only_value(headers, &header::SEC_WEBSOCKET_KEY);
        let Some(key) = key.filter(|key| is_key(key)) else {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "Sec-WebSocket-Key must be 16 bytes in base64, once.",
            ));
        };
        if !origins.admit(headers) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "Pages of this origin may not open a WebSocket here.",
            ));
        }
        Ok(Self {
            accept: ws::hash_key(key),
        })
    }

    /// Appends the `101 Switching Protocols` response. Frames follow it directly.
    pub fn write<'a>(
        &self,
        subprotocol: Option<&Subprotocol>,
        extra_headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              Upgrade: websocket\r\n\
              Connection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        out.extend_from_slice(b"\r\n");
        if let Some(subprotocol) = subprotocol {
            out.extend_from_slice(b"Sec-WebSocket-Protocol: ");
            out.extend_from_slice(subprotocol.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in extra_headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The reason why a handshake is refused: an HTTP response instead of a WebSocket. The connection closes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Refusal {
    /// The response's status.
    pub status: StatusCode,
    /// The response's body: a sentence for people who read the browser's network log.
    pub reason: Cow<'static, str>,
    /// Further headers. If there is a Content-Type among them, it replaces the one of a sentence.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with this status and sentence.
    pub fn new(status: StatusCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            reason: reason.into(),
            headers: Vec::new(),
        }
    }

    /// Appends the whole response.
    pub fn write(&self, out: &mut Vec<u8>) {
        let status = self.status;
        let phrase = status.canonical_reason().unwrap_or_default();
        let (connection, specific) = match status {
            // The headers that a client needs for a better request (RFC 9110, section 15.5.22; RFC 6455, 4.4).
            StatusCode::UPGRADE_REQUIRED => (
                "Upgrade, close",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            ),
            StatusCode::METHOD_NOT_ALLOWED => ("close", "Allow: GET\r\n"),
            _ => ("close", ""),
        };
        let given = self
            .headers
            .iter()
            .find(|(name, _)| name == header::CONTENT_TYPE);
        let kind = given.map_or(&b"text/plain; charset=utf-8"[..], |(_, kind)| {
            kind.as_bytes()
        });
        write!(
            out,
            "HTTP/1.1 {} {phrase}\r\nContent-Type: ",
            status.as_u16()
        )
        .expect("writing to a Vec cannot fail");
        out.extend_from_slice(kind);
        write!(
            out,
            "\r\nContent-Length: {}\r\nConnection: {connection}\r\n{specific}",
            self.reason.len(),
        )
        .expect("writing to a Vec cannot fail");
        // Further headers must not set the length of the response, or the state of the connection.
        let said = [
            header::CONTENT_TYPE,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
        ];
        for (name, value) in self.headers.iter().filter(|(name, _)| !said.contains(name)) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.reason.as_bytes());
    }
}

/// Are these 16 bytes in base64: 22 digits and the padding?
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(is_digit) && key[22..] == *b"=="
}
