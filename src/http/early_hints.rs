//! The early hints (RFC 8297): headers that a client gets before its response, in an interim response with status
//! 103.

use std::cell::RefCell;

use actix_http::header::{self, HeaderName, HeaderValue};

/// Headers that an interim response never has: they belong to the connection or to the content of the final
/// response (RFC 8297, section 3).
const NEVER: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::DATE,
];

/// The headers of one interim response.
#[derive(Debug, Default)]
pub struct EarlyHints(Vec<(HeaderName, HeaderValue)>);

/// A header that an interim response cannot have.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "The header {0:?} cannot be an early hint: it belongs to the connection or to the final response. Set it on the \
     response instead."
)]
pub struct NotAHint(pub HeaderName);

impl EarlyHints {
    /// Adds a header line.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), NotAHint> {
        if NEVER.contains(&name) {
            return Err(NotAHint(name));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The header lines, in their order.
    pub(super) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0
    }
}

/// The hints that user code has sent for the running request, until its connection writes them. The connection owns
/// the queue, and empties it after each poll of the response.
#[derive(Debug, Default)]
pub(super) struct HintQueue(RefCell<Vec<EarlyHints>>);

impl HintQueue {
    pub(super) fn add(&self, hints: Vec<EarlyHints>) {
        self.0.borrow_mut().extend(hints);
    }

    /// Takes all hints. An empty queue allocates nothing.
    pub(super) fn take(&self) -> Vec<EarlyHints> {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_final_response_are_refused_as_hints() {
        let mut hints = EarlyHints::default();
        let value = HeaderValue::from_static("x");
        for name in NEVER {
            let refused = hints.add(name.clone(), value.clone());
            assert_eq!(refused, Err(NotAHint(name)));
        }
        assert!(hints.is_empty());
        assert_eq!(hints.add(header::LINK, value), Ok(()));
        assert_eq!(hints.fields().len(), 1);
    }
}
