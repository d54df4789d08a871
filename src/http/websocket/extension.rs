//! The negotiation that agrees on permessage-deflate in the opening handshake (RFC 7692, section 7.1): it reads the
//! offers of a client, and writes the answer.
//!
//! Both sides always deflate messages without context takeover. A server may require this whether or not the client
//! offered it (sections 7.1.1.1 and 7.1.1.2). The server deflates with the largest window, unless the client
//! requests a smaller one. An offer that the server cannot fulfil is declined. Then the next offer is taken, or
//! none.

use actix_http::StatusCode;
use actix_http::header::{HeaderValue, SEC_WEBSOCKET_EXTENSIONS};

use super::handshake::Refusal;
use super::subprotocol::is_token_byte;
use crate::actors::deflate::Window;
use crate::http::headers::Headers;

const NAME: &[u8] = b"permessage-deflate";

const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The agreement of client and server.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The value of `Sec-WebSocket-Extensions` that states it.
    pub answer: HeaderValue,
    /// The window that the server deflates with.
    pub window: Window,
}

/// Returns the agreement for the first offer that the server can fulfil; `None` if there is none. A header that
/// does not follow the grammar fails the handshake (RFC 6455, section 9.1).
pub fn agree_on_deflate(headers: &impl Headers) -> Result<Option<Agreement>, Refusal> {
    let mut agreed = None;
    for value in headers.values(&SEC_WEBSOCKET_EXTENSIONS) {
        let offers = parse(value).ok_or_else(malformed)?;
        agreed = agreed.or_else(|| offers.iter().find_map(Offer::agreement));
    }
    Ok(agreed)
}

fn malformed() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "Sec-WebSocket-Extensions is not a list of extensions with parameters.",
    )
}

/// An extension that the client offers.
struct Offer<'v> {
    name: &'v [u8],
    parameters: Vec<Parameter<'v>>,
}

struct Parameter<'v> {
    name: &'v [u8],
    value: Option<Vec<u8>>,
}

impl Offer<'_> {
    /// The agreement that accepts this offer, if the server can fulfil all of it.
    fn agreement(&self) -> Option<Agreement> {
        if self.name != NAME {
            return None;
        }
        let mut asked = None;
        for (at, Parameter { name, value }) in self.parameters.iter().enumerate() {
            if self.parameters[..at]
                .iter()
                .any(|other| other.name == *name)
            {
                return None;
            }
            match (*name, value.as_deref()) {
                // The first two describe how both sides deflate anyway. A window for the client needs no limit: the
                // server can read any.
                (
                    b"server_no_context_takeover"
                    | b"client_no_context_takeover"
                    | b"client_max_window_bits",
                    None,
                ) => {}
                (b"client_max_window_bits", Some(bits)) if window_bits(bits).is_some() => {}
                // This parameter must be answered. 8 bits are declined: zlib has no compressor with so small a
                // window.
                (b"server_max_window_bits", Some(bits)) => {
                    asked = Some(window_bits(bits).and_then(Window::new)?);
                }
                _ => return None,
            }
        }
        let answer = match asked {
            Some(window) => {
                let value = format!("{AGREED}; server_max_window_bits={}", window.bits());
                HeaderValue::from_maybe_shared(value).ok()?
            }
            None => HeaderValue::from_static(AGREED),
        };
        let window = asked.unwrap_or(Window::LARGEST);
        Some(Agreement { answer, window })
    }
}

/// 8 to 15, without leading zeros (RFC 7692, section 7.1.2).
fn window_bits(text: &[u8]) -> Option<u8> {
    match text {
        [bits @ (b'8' | b'9')] => Some(bits - b'0'),
        [b'1', bits @ b'0'..=b'5'] => Some(10 + bits - b'0'),
        _ => None,
    }
}

/// Reads a value of `Sec-WebSocket-Extensions` (RFC 6455, section 9.1). `None`: it is malformed.
fn parse(value: &[u8]) -> Option<Vec<Offer<'_>>> {
    let mut rest = Rest(value);
    let mut offers = Vec::new();
    loop {
        // A list may have empty items (RFC 9110, section 5.6.1).
        while rest.take(b',') {}
        if rest.is_empty() {
            return Some(offers);
        }
        let name = rest.token()?;
        let mut parameters = Vec::new();
        while rest.take(b';') {
            let name = rest.token()?;
            let value = if rest.take(b'=') {
                Some(rest.value()?)
            } else {
                None
            };
            parameters.push(Parameter { name, value });
        }
        offers.push(Offer { name, parameters });
        if !rest.is_empty() && !rest.take(b',') {
            return None;
        }
    }
}

/// The part of a header's value that has not been read yet.
struct Rest<'v>(&'v [u8]);

impl<'v> Rest<'v> {
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    fn is_empty(&mut self) -> bool {
        self.skip_blanks();
        self.0.is_empty()
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let is_there = self.0.first() == Some(&byte);
        if is_there {
            self.0 = &self.0[1..];
        }
        is_there
    }

    fn token(&mut self) -> Option<&'v [u8]> {
        self.skip_blanks();
        let len = self
            .0
            .iter()
            .take_while(|byte| is_token_byte(**byte))
            .count();
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        (len > 0).then_some(token)
    }

    /// A token, in quotes or not.
    fn value(&mut self) -> Option<Vec<u8>> {
        if !self.take(b'"') {
            return self.token().map(<[u8]>::to_vec);
        }
        let mut value = Vec::new();
        loop {
            let (byte, rest) = match self.0 {
                [b'"', rest @ ..] => {
                    self.0 = rest;
                    return (!value.is_empty()).then_some(value);
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
                [] => return None,
            };
            if !is_token_byte(byte) {
                return None;
            }
            value.push(byte);
            self.0 = rest;
        }
    }
}
