//! The CORS rules that decide which pages of other origins may read responses, and which requests they may send:
//! the CORS protocol of the Fetch standard, <https://fetch.spec.whatwg.org/#http-cors-protocol>.
//!
//! They protect the users of browsers only: any other client can read all responses.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};

use super::head::Head;
use super::headers::only_value;
use super::response::{Response, WireResponse};
use super::websocket::origin::{InvalidOrigin, Origins};

/// The headers that the response to a preflight depends on.
const VARY_OF_PREFLIGHTS: HeaderValue = HeaderValue::from_static(
    "origin, access-control-request-method, access-control-request-headers",
);
const VARY: HeaderValue = HeaderValue::from_static("origin");
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The CORS rules of an application. Made once, and checked by [`Cors::new`].
#[derive(Clone, Debug)]
pub struct Cors {
    /// None: pages of every origin may read responses, without cookies.
    origins: Option<Vec<String>>,
    /// Requests may carry credentials such as cookies.
    credentials: bool,
    /// The methods that the response to a preflight allows.
    methods: HeaderValue,
    /// The headers that the response to a preflight allows. None: those that the preflight names.
    headers: Option<HeaderValue>,
    /// Headers of responses that pages may read, in addition to those that they always may.
    expose: Option<HeaderValue>,
    /// Seconds for which a browser may cache the response to a preflight.
    max_age: HeaderValue,
}

/// The options of an application, not checked yet.
#[derive(Clone, Debug, Default)]
pub struct CorsOptions {
    /// Origins as browsers write them, or only `*`.
    pub origins: Vec<String>,
    /// See [`Cors`].
    pub credentials: bool,
    /// Methods, or only `*`.
    pub methods: Vec<String>,
    /// Headers, or only `*`. None: all that a preflight names.
    pub headers: Option<Vec<String>>,
    /// Headers, or only `*`.
    pub expose: Vec<String>,
    /// Seconds.
    pub max_age: u32,
}

/// Why the options are invalid.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum CorsError {
    /// No browser would send it.
    #[error(transparent)]
    Origin(#[from] InvalidOrigin),
    /// The origin of sandboxed pages, which every site can have.
    #[error(
        "The origin \"null\" is sent by sandboxed pages of every site: allowing it allows \
         every site. Leave it out, or write origins=\"*\" without credentials."
    )]
    Null,
    /// Browsers leave out the scheme's default port.
    #[error("No browser sends the origin {0:?}: browsers leave out the scheme's default port.")]
    OwnPort(String),
    /// The Fetch standard forbids it.
    #[error(
        "{0}=\"*\" cannot be combined with credentials=True: browsers refuse the response (Fetch \
         standard, \"CORS protocol and credentials\"). List what is allowed."
    )]
    EverythingWithCredentials(&'static str),
    /// It is not a valid header value.
    #[error("{0}: {1:?} is not a valid name.")]
    Name(&'static str, String),
}

impl Cors {
    /// Checks the options.
    pub fn new(options: CorsOptions) -> Result<Self, CorsError> {
        let CorsOptions {
            origins,
            credentials,
            methods,
            headers,
            expose,
            max_age,
        } = options;
        let origins = match Origins::new(Some(origins))? {
            Origins::Any => None,
            Origins::Listed(list) => Some(list),
            Origins::Same => Some(Vec::new()),
        };
        for origin in origins.iter().flatten() {
            if origin == "null" {
                return Err(CorsError::Null);
            }
            let lower = origin.to_ascii_lowercase();
            let (http, https) = (lower.starts_with("http:"), lower.starts_with("https:"));
            if http && lower.ends_with(":80") || https && lower.ends_with(":443") {
                return Err(CorsError::OwnPort(origin.clone()));
            }
        }
        if credentials && origins.is_none() {
            return Err(CorsError::EverythingWithCredentials("origins"));
        }
        let list = |option, names: &[String]| {
            let everything = names.iter().any(|name| name == "*");
            if everything && credentials {
                return Err(CorsError::EverythingWithCredentials(option));
            }
            let wrong = names.iter().find(|name| !is_token(name));
            match wrong {
                Some(name) => Err(CorsError::Name(option, name.clone())),
                None => Ok(HeaderValue::try_from(names.join(", ")).expect("tokens are visible")),
            }
        };
        let methods = list("methods", &methods)?;
        let headers = headers.map(|names| list("headers", &names)).transpose()?;
        let expose = Some(list("expose", &expose)?).filter(|value| !value.is_empty());
        Ok(Self {
            origins,
            credentials,
            methods,
            headers,
            expose,
            max_age: HeaderValue::from(max_age),
        })
    }

    /// The rules for the origin of one request. They are applied when its response is there.
    pub(super) fn for_request(self: &Arc<Self>, head: &Head) -> CorsRequest {
        let allowed = match &self.origins {
            None => Some(ANY_ORIGIN),
            Some(list) => only_value(head, &header::ORIGIN)
                .filter(|origin| {
                    list.iter()
                        .any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin))
                })
                .and_then(|origin| HeaderValue::from_bytes(origin).ok()),
        };
        CorsRequest {
            cors: Arc::clone(self),
            allowed,
        }
    }
}

/// A request under the rules of [`Cors`].
pub(super) struct CorsRequest {
    cors: Arc<Cors>,
    /// The value of `Access-Control-Allow-Origin`. None: the page may not read the response.
    allowed: Option<HeaderValue>,
}

impl CorsRequest {
    /// The response, if the request is a preflight.
    pub(super) fn preflight(&self, method: &Method, head: &Head) -> Option<WireResponse> {
        if *method != Method::OPTIONS
            || !head.has(&header::ORIGIN)
            || !head.has(&header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        if self.allowed.is_none() {
            let sentence = "Pages of this origin may not send this request (CORS).";
            return Some(Response::sentence(StatusCode::FORBIDDEN, sentence));
        }
        let mut response = Response::without_content(StatusCode::NO_CONTENT);
        let cors = &self.cors;
        response.append(header::ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
        let wanted = || {
            let wanted = head.text(&header::ACCESS_CONTROL_REQUEST_HEADERS)?;
            let is_list = wanted.split(',').all(|name| is_token(name.trim()));
            HeaderValue::from_str(wanted).ok().filter(|_| is_list)
        };
        if let Some(allowed) = cors.headers.clone().or_else(wanted) {
            response.append(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        response.append(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
        response.append(header::VARY, VARY_OF_PREFLIGHTS);
        Some(response)
    }

    /// Adds the headers that allow the page to read the response. Headers that the application has set take
    /// precedence.
    pub(super) fn mark(self, response: &mut WireResponse) {
        if response.has(&header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        let is_preflight = response.has(&header::ACCESS_CONTROL_MAX_AGE);
        if self.cors.origins.is_some() && !is_preflight {
            response.append(header::VARY, VARY);
        }
        let Some(allowed) = self.allowed else {
            return;
        };
        let mut set = |name: HeaderName, value: HeaderValue| response.insert(name, value);
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.cors.credentials {
            set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(expose) = self.cors.expose.clone().filter(|_| !is_preflight) {
            set(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
    }
}

/// Whether the name is a token (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(origins: &[&str]) -> CorsOptions {
        CorsOptions {
            origins: origins.iter().map(ToString::to_string).collect(),
            ..CorsOptions::default()
        }
    }

    #[test]
    fn origins_that_no_browser_sends_are_refused() {
        for (wrong, why) in [
            ("null", "sandboxed"),
            ("https://example.com:443", "default port"),
            ("http://example.com:80", "default port"),
            ("https://example.com/", "is not an origin"),
            ("example.com", "is not an origin"),
        ] {
            let error = Cors::new(options(&[wrong])).expect_err(wrong).to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
        assert!(Cors::new(options(&["http://localhost:3000", "https://example.com"])).is_ok());
    }

    #[test]
    fn wildcards_with_credentials_are_refused() {
        let star = || vec!["*".to_owned()];
        let listed = CorsOptions {
            credentials: true,
            ..options(&["https://example.com"])
        };
        assert!(Cors::new(listed.clone()).is_ok());
        let all = [
            CorsOptions {
                origins: star(),
                ..listed.clone()
            },
            CorsOptions {
                methods: star(),
                ..listed.clone()
            },
            CorsOptions {
                headers: Some(star()),
                ..listed.clone()
            },
            CorsOptions {
                expose: star(),
                ..listed
            },
        ];
        for wrong in all {
            let error = Cors::new(wrong).expect_err("browsers would refuse it");
            assert!(matches!(error, CorsError::EverythingWithCredentials(_)));
        }
    }

    #[test]
    fn a_method_with_a_line_break_is_refused() {
        let wrong = CorsOptions {
            methods: vec!["GET\r\nX: y".to_owned()],
            ..options(&["*"])
        };
        assert!(matches!(
            Cors::new(wrong),
            Err(CorsError::Name("methods", _))
        ));
    }
}
