//! The origin check that decides which web pages may open a WebSocket here.
//!
//! A browser lets any page open a WebSocket to any host, and sends the host's cookies along; only the `Origin`
//! header names the page (RFC 6455, section 10.2). The check protects the users of browsers. Any other client can
//! send any header, so a client that sends no origin is admitted.

use actix_http::header;

use crate::http::headers::{Headers, only_value};

/// The origins that are admitted.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub enum Origins {
    /// Pages that were served under the host that the request names. The default.
    #[default]
    Same,
    /// All pages.
    Any,
    /// Pages of these origins, written as browsers do: `https://example.com`.
    Listed(Vec<String>),
}

/// An origin that no browser would send.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error(
    "{0:?} is not an origin: write scheme, host and, if it is not the scheme's own, port, as in \
     \"https://example.com\" or \"http://localhost:3000\"; or \"*\" to admit every page."
)]
pub struct InvalidOrigin(pub String);

impl Origins {
    /// Reads the option `origins`: none given is [`Origins::Same`], a list with `"*"` is
    /// [`Origins::Any`].
    ///
    /// ```
    /// use fanbus::http::websocket::origin::Origins;
    ///
    /// assert_eq!(Origins::new(Some(["*"])), Ok(Origins::Any));
    /// let error = Origins::new(Some(["example.com"])).unwrap_err();
    /// assert!(error.to_string().contains("https://example.com"));
    /// ```
    pub fn new<S: Into<String>>(
        list: Option<impl IntoIterator<Item = S>>,
    ) -> Result<Self, InvalidOrigin> {
        let Some(list) = list else {
            return Ok(Self::Same);
        };
        let list: Vec<String> = list.into_iter().map(Into::into).collect();
        if list.iter().any(|origin| origin == "*") {
            return Ok(Self::Any);
        }
        match list.iter().find(|origin| !is_origin(origin)) {
            Some(origin) => Err(InvalidOrigin(origin.clone())),
            None => Ok(Self::Listed(list)),
        }
    }

    /// Is a request with these headers admitted?
    pub(super) fn admit(&self, headers: &impl Headers) -> bool {
        if *self == Self::Any || headers.values(&header::ORIGIN).next().is_none() {
            return true;
        }
        let Some(origin) = only_value(headers, &header::ORIGIN) else {
            return false;
        };
        match self {
            Self::Any => true,
            Self::Listed(list) => list
                .iter()
                .any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin)),
            Self::Same => {
                only_value(headers, &header::HOST).is_some_and(|host| is_same_host(origin, host))
            }
        }
    }
}

/// Are the origin's host and port those of the `Host` header? The scheme is not compared: behind a proxy that ends
/// TLS, the server does not know it. `null` has no host.
fn is_same_host(origin: &[u8], host: &[u8]) -> bool {
    let Some((scheme, authority)) = split_origin(origin) else {
        return false;
    };
    let default_port: &[u8] = if scheme.eq_ignore_ascii_case(b"https") {
        b":443"
    } else {
        b":80"
    };
    let bare = |authority| <[u8]>::strip_suffix(authority, default_port).unwrap_or(authority);
    bare(authority).eq_ignore_ascii_case(bare(host))
}

fn split_origin(origin: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = origin.iter().position(|byte| *byte == b':')?;
    let authority = origin[colon..].strip_prefix(b"://")?;
    Some((&origin[..colon], authority)).filter(|_| colon > 0 && !authority.is_empty())
}

fn is_origin(origin: &str) -> bool {
    origin == "null"
        || split_origin(origin.as_bytes()).is_some_and(|(_, authority)| {
            authority
                .iter()
                .all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(byte))
        })
}
