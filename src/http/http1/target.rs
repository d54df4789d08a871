//! The target of a request, split into path, query and host.

use actix_http::{Method, StatusCode};
use memchr::{memchr, memchr2};

use super::head_error::{HeadError, bad, error};

/// A target in any of the four forms (RFC 9112, section 3.2).
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Target<'t> {
    pub(super) path: &'t str,
    pub(super) query: Option<&'t str>,
    /// The host that the target itself names.
    pub(super) host: Option<&'t str>,
}

impl<'t> Target<'t> {
    pub(super) fn of(method: &Method, target: &'t str) -> Result<Self, HeadError> {
        if *method == Method::CONNECT {
            return error(
                StatusCode::NOT_IMPLEMENTED,
                "This server is not a proxy: it does not support CONNECT.",
            );
        }
        if target.starts_with('/') {
            let (path, query) = split(target);
            let host = None;
            return Ok(Self { path, query, host });
        }
        // A fragment is not meant for servers. Clients that send one mean the URL before it.
        let target = target.split('#').next().unwrap_or_default();
        let is_asterisk = target == "*" && *method == Method::OPTIONS;
        let (host, rest) = if is_asterisk {
            (None, target)
        } else {
            let Some(rest) = after_scheme(target) else {
                return bad("The target must be a path, or a URL that begins with http://.");
            };
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            if end == 0 {
                return bad("The target is a URL without a host.");
            }
            (Some(&rest[..end]), &rest[end..])
        };
        let (path, query) = split(rest);
        let path = match path {
            // RFC 9112, section 3.2.4.
            "" if *method == Method::OPTIONS && query.is_none() => "*",
            "" => "/",
            path => path,
        };
        Ok(Self { path, query, host })
    }
}

/// Splits a target into path and query, without its fragment.
fn split(target: &str) -> (&str, Option<&str>) {
    let bytes = target.as_bytes();
    let Some(end) = memchr2(b'?', b'#', bytes) else {
        return (target, None);
    };
    let path = &target[..end];
    if bytes[end] == b'#' {
        return (path, None);
    }
    let query = &target[end + 1..];
    let end = memchr(b'#', query.as_bytes()).unwrap_or(query.len());
    (path, Some(&query[..end]))
}

/// The rest of a URL after `http://` or `https://`, in any case.
fn after_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
        .then_some(rest)
}
