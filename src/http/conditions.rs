//! The conditions that a request states with `If-Match`, `If-None-Match`, `If-Range` and the like (RFC 9110,
//! section 13).

use std::str::FromStr;
use std::time::SystemTime;

use actix_http::Method;
use actix_http::header::{self, HeaderName};
use actix_web::http::header::HttpDate;

use super::head::Head;
use super::headers::Headers;
use super::response::Response;

/// The result of a request's conditions.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// The response is sent.
    Proceed,
    /// 304: the client has this response already.
    NotModified,
    /// 412: the resource is not in the state that the client expects.
    Failed,
}

/// Evaluates the conditions in the standard's order (section 13.2.2). `response` is the response to the same
/// request without conditions.
pub(super) fn evaluate<B>(method: &Method, head: &Head, response: &Response<B>) -> Verdict {
    if head.has(&header::IF_MATCH) {
        if !names_tag(head, &header::IF_MATCH, response, strongly_equal) {
            return Verdict::Failed;
        }
    } else if let Some(limit) = date_of(head, &header::IF_UNMODIFIED_SINCE)
        && last_modified(response).is_some_and(|changed| changed > limit)
    {
        return Verdict::Failed;
    }
    if is_known(method, head, response) {
        return Verdict::NotModified;
    }
    let names = || names_tag(head, &header::IF_NONE_MATCH, response, weakly_equal);
    if !is_read(method) && head.has(&header::IF_NONE_MATCH) && names() {
        return Verdict::Failed;
    }
    Verdict::Proceed
}

/// Whether the client of a GET or HEAD has this response already.
pub(super) fn is_known<B>(method: &Method, head: &Head, response: &Response<B>) -> bool {
    if !is_read(method) {
        return false;
    }
    if head.has(&header::IF_NONE_MATCH) {
        return names_tag(head, &header::IF_NONE_MATCH, response, weakly_equal);
    }
    date_of(head, &header::IF_MODIFIED_SINCE)
        .zip(last_modified(response))
        .is_some_and(|(since, changed)| changed <= since)
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a range may be sent. A client that has a part of another version gets the whole response (section
/// 13.1.5).
pub(super) fn allows_range<B>(head: &Head, response: &Response<B>) -> bool {
    let Some(wanted) = head.text(&header::IF_RANGE) else {
        return !head.has(&header::IF_RANGE);
    };
    if wanted.contains('"') {
        return response
            .text(&header::ETAG)
            .is_some_and(|tag| strongly_equal(wanted.trim(), tag));
    }
    let wanted = HttpDate::from_str(wanted).ok().map(SystemTime::from);
    wanted.is_some() && wanted == last_modified(response)
}

/// Whether the lines of this header name the response's tag, or any tag.
fn names_tag<B>(
    head: &Head,
    name: &HeaderName,
    response: &Response<B>,
    is_equal: fn(&str, &str) -> bool,
) -> bool {
    let tag = response.text(&header::ETAG);
    let mut lines = head
        .values(name)
        .filter_map(|it| std::str::from_utf8(it).ok());
    lines.any(|text| match (text.trim(), tag) {
        ("*", _) => true,
        (text, Some(tag)) => tags(text).any(|it| is_equal(it, tag)),
        _ => false,
    })
}

/// The tags of a list. A tag may contain a comma. The list ends at anything that is not a tag.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let opening = if rest.starts_with("W/\"") { 3 } else { 1 };
        if !rest.starts_with('"') && opening == 1 {
            return None;
        }
        let closing = rest[opening..].find('"')?;
        let (tag, behind) = rest.split_at(opening + closing + 1);
        rest = behind;
        Some(tag)
    })
}

fn strongly_equal(one: &str, other: &str) -> bool {
    one == other && !one.starts_with("W/")
}

fn weakly_equal(one: &str, other: &str) -> bool {
    one.trim_start_matches("W/") == other.trim_start_matches("W/")
}

/// The date in a header. An invalid date is ignored.
fn date_of(head: &Head, name: &HeaderName) -> Option<SystemTime> {
    let date = HttpDate::from_str(head.text(name)?).ok()?;
    Some(date.into())
}

fn last_modified<B>(response: &Response<B>) -> Option<SystemTime> {
    let date = HttpDate::from_str(response.text(&header::LAST_MODIFIED)?).ok()?;
    Some(date.into())
}

#[cfg(test)]
mod tests {
    use actix_http::header::HeaderValue;
    use actix_web::http::StatusCode;

    use super::*;
    use crate::http::head::{HeadWriter, Version};
    use crate::http::peer::Peer;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn head(lines: &[(&str, &str)]) -> Head {
        let mut writer = HeadWriter::new("/", None, 512, lines.len());
        for (name, value) in lines {
            assert!(writer.add(name.as_bytes(), value.as_bytes()));
        }
        let peer = Peer {
            address: None,
            is_secure: false,
        };
        writer.finish(Version::Http11, peer)
    }

    fn response(tag: &'static str) -> Response<()> {
        Response::empty(StatusCode::OK)
            .with_header(header::ETAG, HeaderValue::from_static(tag))
            .with_header(header::LAST_MODIFIED, HeaderValue::from_static(OLD))
    }

    #[test]
    fn conditions_are_evaluated_in_their_order() {
        use Verdict::{Failed, NotModified, Proceed};
        for (lines, strong, weak) in [
            (&[][..], Proceed, Proceed),
            (
                &[("if-none-match", "\"b\", W/\"a\"")][..],
                NotModified,
                NotModified,
            ),
            (&[("if-none-match", "*")], NotModified, NotModified),
            (
                &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")],
                NotModified,
                NotModified,
            ),
            (
                &[("if-none-match", "\"b\""), ("if-modified-since", NEW)],
                Proceed,
                Proceed,
            ),
            (&[("if-none-match", "a")], Proceed, Proceed),
            (&[("if-modified-since", OLD)], NotModified, NotModified),
            (&[("if-modified-since", "yesterday")], Proceed, Proceed),
            (&[("if-match", "\"a\"")], Proceed, Failed),
            (&[("if-match", "W/\"a\"")], Failed, Failed),
            (
                &[("if-match", "\"a\""), ("if-none-match", "\"a\"")],
                NotModified,
                Failed,
            ),
            (&[("if-unmodified-since", NEW)], Proceed, Proceed),
            (
                &[("if-unmodified-since", "Sat, 05 Nov 1994 08:49:37 GMT")],
                Failed,
                Failed,
            ),
        ] {
            let head = head(lines);
            assert_eq!(
                evaluate(&Method::GET, &head, &response("\"a\"")),
                strong,
                "{lines:?}"
            );
            assert_eq!(
                evaluate(&Method::GET, &head, &response("W/\"a\"")),
                weak,
                "{lines:?}"
            );
        }
        let known = head(&[("if-none-match", "\"a\"")]);
        assert_eq!(evaluate(&Method::PUT, &known, &response("\"a\"")), Failed);
    }

    #[test]
    fn a_range_is_sent_only_of_the_version_that_the_client_has() {
        for (value, allows) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            (OLD, true),
            (NEW, false),
            ("yesterday", false),
        ] {
            let head = head(&[("if-range", value)]);
            assert_eq!(allows_range(&head, &response("\"a\"")), allows, "{value}");
            assert!(!value.contains('"') || !allows_range(&head, &response("W/\"a\"")));
        }
        assert!(allows_range(&head(&[]), &response("\"a\"")));
    }
}
