//! The header fields of a request that control its connection and frame its body (RFC 9112, sections 6 and 9.3).

use actix_http::StatusCode;
use httparse::Header;

use super::head_error::{HeadError, bad, error};
use crate::http::head::Version;

/// How a request's body is delimited.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// `Content-Length`: the number of bytes, at least one.
    Length(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked,
}

/// The header fields that frame the body and control the connection.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one word of a header"
)]
pub(super) struct FramingFields<'h> {
    pub(super) host: Option<&'h [u8]>,
    length: Option<u64>,
    transfer_encoding: Option<&'h [u8]>,
    pub(super) closes: bool,
    pub(super) keeps_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) wants_websocket: bool,
}

/// Refuses a repeated header.
fn once<T: Copy>(before: Option<T>, reason: &'static str) -> Result<(), HeadError> {
    match before {
        Some(_) => bad(reason),
        None => Ok(()),
    }
}

/// Parses a length, which must consist of digits: servers disagree about `+5` and `5, 5`.
fn length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return bad("Content-Length is not a number of bytes.");
    }
    let text = std::str::from_utf8(value).expect("digits are text");
    text.parse().or_else(|_| {
        let reason = "Content-Length is larger than any body could be.";
        error(StatusCode::PAYLOAD_TOO_LARGE, reason)
    })
}

impl<'h> FramingFields<'h> {
    /// Reads each header once.
    pub(super) fn read(headers: &[Header<'h>]) -> Result<Self, HeadError> {
        let mut fields = Self::default();
        for header in headers {
            let value = header.value.trim_ascii();
            let name = header.name;
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    once(
                        fields.host.replace(value),
                        "The request has more than one Host header.",
                    )?;
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    fields.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
                }
                7 if name.eq_ignore_ascii_case("upgrade") => {
                    fields.wants_websocket |= has_token(value, b"websocket");
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    fields.closes |= has_token(value, b"close");
                    fields.keeps_alive |= has_token(value, b"keep-alive");
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let reason = "The request has more than one Content-Length header.";
                    once(fields.length.replace(length(value)?), reason)?;
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    let reason = "The request has more than one Transfer-Encoding header.";
                    once(fields.transfer_encoding.replace(value), reason)?;
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    /// How the body is delimited.
    pub(super) fn framing(&self, version: Version) -> Result<Framing, HeadError> {
        let Some(coding) = self.transfer_encoding else {
            return Ok(match self.length {
                None | Some(0) => Framing::Empty,
                Some(length) => Framing::Length(length),
            });
        };
        if self.length.is_some() {
            return bad("The request has both Content-Length and Transfer-Encoding.");
        }
        if version == Version::Http10 {
            return bad("A request of HTTP/1.0 must not have a Transfer-Encoding.");
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            return Ok(Framing::Chunked);
        }
        let mut codings = coding.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let is_last = codings.next_back().is_some_and(is_chunked);
        if !is_last || codings.any(is_chunked) {
            // RFC 9112, section 6.3.
            return bad("Transfer-Encoding must end with \"chunked\", once.");
        }
        error(
            StatusCode::NOT_IMPLEMENTED,
            "The only Transfer-Encoding that this server supports is \"chunked\".",
        )
    }
}

fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

/// Whether a list of tokens contains this one, in any case.
fn has_token(value: &[u8], token: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}
