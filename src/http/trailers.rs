//! The trailers of a response: header lines after its content (RFC 9110, section 6.5).
//!
//! Only clients that send `TE: trailers` get them, over HTTP/1.1 and HTTP/2. Other clients may drop or misread
//! them, and an intermediary may merge them into the head. They follow chunked content, or content over HTTP/2.
//! Other responses have neither trailers nor their announcement in `Trailer`.

use std::sync::{Arc, OnceLock};

use actix_http::header::{self, HeaderName, HeaderValue};

use super::head::{Head, Version};
use super::headers::Headers;

/// Fields that control the framing, routing, authentication, caching or decoding of a message. A recipient needs
/// them before the content, and one that merges them afterwards could be misled (RFC 9110, section 6.5.1).
const NEVER: [&str; 41] = [
    "accept-encoding",
    "age",
    "authentication-info",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// The trailers of one response.
#[derive(Debug, Default)]
pub struct Trailers(Vec<(HeaderName, HeaderValue)>);

/// The slot for the trailers of a response. Its producer fills it before the content ends.
pub type TrailerSlot = Arc<OnceLock<Trailers>>;

/// A field that cannot be a trailer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "The field {0:?} cannot be a trailer: clients need it before the content (RFC 9110, section 6.5.1). Set it as a \
     header of the response instead."
)]
pub struct NotATrailer(pub HeaderName);

/// Checks the name of a trailer.
pub fn check_name(name: &HeaderName) -> Result<(), NotATrailer> {
    let is_conditional = name.as_str().starts_with("if-");
    if is_conditional || NEVER.contains(&name.as_str()) {
        return Err(NotATrailer(name.clone()));
    }
    Ok(())
}

impl Trailers {
    /// Adds a line.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), NotATrailer> {
        check_name(&name)?;
        self.0.push((name, value));
        Ok(())
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, in their order.
    pub(super) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0
    }
}

/// Whether the client of this request accepts trailers. This keyword has no weight (RFC 9110, section 10.1.4).
pub(super) fn are_accepted(head: &Head) -> bool {
    let mut lines = head.values(&header::TE);
    head.version != Version::Http10
        && lines.any(|line| {
            let mut items = line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            items.any(|item| item.eq_ignore_ascii_case(b"trailers"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::HeadWriter;
    use crate::http::peer::Peer;

    #[test]
    fn only_clients_that_send_te_trailers_accept_trailers() {
        for (version, line, expected) in [
            (Version::Http11, Some("trailers"), true),
            (Version::Http11, Some("gzip;q=0.5 , Trailers"), true),
            (Version::Http2, Some("trailers"), true),
            (Version::Http10, Some("trailers"), false),
            (Version::Http11, Some("trailers;q=1"), false),
            (Version::Http11, Some("deflate"), false),
            (Version::Http11, Some(""), false),
            (Version::Http11, None, false),
        ] {
            let mut writer = HeadWriter::new("/", None, 64, 1);
            if let Some(line) = line {
                assert!(writer.add(b"te", line.as_bytes()));
            }
            let peer = Peer {
                address: None,
                is_secure: false,
            };
            let head = writer.finish(version, peer);
            assert_eq!(are_accepted(&head), expected, "{version:?} {line:?}");
        }
    }

    #[test]
    fn fields_that_are_needed_before_the_content_are_refused_as_trailers() {
        let mut trailers = Trailers::default();
        let value = HeaderValue::from_static("x");
        for name in NEVER.into_iter().chain(["if-match", "if-none-match"]) {
            let name = HeaderName::from_static(name);
            let refused = trailers.add(name.clone(), value.clone());
            assert_eq!(refused, Err(NotATrailer(name)));
        }
        assert!(trailers.is_empty());
        for name in ["etag", "server-timing", "content-digest", "grpc-status"] {
            let added = trailers.add(HeaderName::from_static(name), value.clone());
            assert_eq!(added, Ok(()));
        }
        assert_eq!(trailers.fields().len(), 4);
    }
}
