//! The subprotocol that client and server agree on: the meaning of their messages (RFC 6455, section 1.9).

use actix_http::header::SEC_WEBSOCKET_PROTOCOL;

use crate::http::headers::{Headers, list};

/// A subprotocol's name: a token, so it can stand in a header.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Subprotocol(String);

/// A name that cannot stand in `Sec-WebSocket-Protocol`.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error(
    "{0:?} is not the name of a subprotocol: use letters, digits and any of !#$%&'*+-.^_`|~, \
     as in \"chat.v2\"."
)]
pub struct InvalidSubprotocol(pub String);

impl Subprotocol {
    /// Checks the name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidSubprotocol> {
        let name = name.into();
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(InvalidSubprotocol(name));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Does the client offer it? A server may only answer with one that was offered.
    pub fn is_offered(&self, headers: &impl Headers) -> bool {
        list(headers, &SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == self.as_bytes())
    }

    /// The first of the server's subprotocols that the client offers. The order of the server counts, since it is
    /// the same for all clients.
    pub fn choose<'s>(supported: &'s [Self], headers: &impl Headers) -> Option<&'s Self> {
        supported
            .iter()
            .find(|subprotocol| subprotocol.is_offered(headers))
    }
}

/// Is this a byte of a token (RFC 9110, section 5.6.2)?
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
