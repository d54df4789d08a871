//! The converter that makes a head from a request of `h2`, with a `Host` header, which programs expect.

use actix_http::Method;
use http::request::Parts;
use http::uri::Authority;

use crate::http::head::{Head, HeadWriter, Version};
use crate::http::host::is_host;
use crate::http::peer::Peer;

/// Converts the head of a request. The error is the reason why it is refused.
pub(super) fn head_of(parts: &Parts, direct: Peer) -> Result<(Method, Head), &'static str> {
    let method = parts.method.as_str().as_bytes();
    let method = Method::from_bytes(method).map_err(|_| "The method has an invalid character.")?;
    let named = named_host(parts)?;
    let fields = || {
        let fields = parts.headers.iter();
        fields.filter(|(name, _)| **name != http::header::HOST)
    };
    let bytes: usize = fields()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let host = named.unwrap_or_default();
    let (path, query) = (parts.uri.path(), parts.uri.query());
    let mut head = HeadWriter::new(path, query, bytes + host.len() + 4, parts.headers.len() + 1);
    let mut fits = named.is_none() || head.add(b"host", host);
    for (name, value) in fields() {
        fits &= head.add(name.as_str().as_bytes(), value.as_bytes());
    }
    if !fits {
        return Err("A header is longer than the limit of a head.");
    }
    Ok((method, head.finish(Version::Http2, direct)))
}

/// The host that the request names in `:authority` or in `host`. It must not name two (RFC 9113, section 8.3.1).
fn named_host(parts: &Parts) -> Result<Option<&[u8]>, &'static str> {
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let host = hosts.next().map(http::HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err("The request has more than one host header.");
    }
    let authority = parts.uri.authority().map(Authority::as_str);
    let authority = authority.map(str::as_bytes);
    if let (Some(authority), Some(host)) = (authority, host)
        && !bare(authority).eq_ignore_ascii_case(bare(host))
    {
        return Err("The request names two hosts, in :authority and in host.");
    }
    let named = authority.or(host);
    if !named.is_none_or(is_host) {
        return Err("The host of the request is not a valid host.");
    }
    Ok(named)
}

/// Removes the default port of `https`.
fn bare(host: &[u8]) -> &[u8] {
    host.strip_suffix(b":443").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(uri: &str, hosts: &[&str]) -> Result<Option<String>, &'static str> {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let peer = Peer {
            address: None,
            is_secure: true,
        };
        let (_, head) = head_of(&parts, peer)?;
        let host = head.text(&actix_http::header::HOST);
        Ok(host.map(str::to_owned))
    }

    #[test]
    fn a_request_names_one_host() {
        let named = |host: &str| Ok(Some(host.to_owned()));
        assert_eq!(host("https://a/", &[]), named("a"));
        assert_eq!(host("https://a/", &["A"]), named("a"));
        assert_eq!(host("https://a:443/", &["a"]), named("a:443"));
        assert_eq!(host("/", &["a"]), named("a"));
        assert_eq!(host("/", &[]), Ok(None));
        host("https://a/", &["b"]).expect_err("two hosts");
        host("https://a/", &["a", "a"]).expect_err("two headers");
        host("https://u@a/", &[]).expect_err("a user");
        host("/", &["a/b"]).expect_err("no host");
    }
}
