//! The interface that reads the headers of a request, wherever they are stored.

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};

/// The headers of a request.
pub trait Headers {
    /// Every value of the header, in the order in which they came.
    fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]>;
}

impl Headers for HeaderMap {
    fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        self.get_all(name).map(HeaderValue::as_bytes)
    }
}

/// Whether the list of tokens in this header contains `token`, in any case.
pub(super) fn has_token(headers: &impl Headers, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// The items of a header that is a list, over all its lines (RFC 9110, section 5.6.1).
pub(super) fn list<'h>(
    headers: &'h impl Headers,
    name: &HeaderName,
) -> impl Iterator<Item = &'h [u8]> {
    headers
        .values(name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// The value of a header that came exactly once.
pub(super) fn only_value<'h>(headers: &'h impl Headers, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.values(name);
    values.next().filter(|_| values.next().is_none())
}
