//! The response to a request that matches no route: 404 or 405.

use actix_http::StatusCode;
use actix_http::header::{self, HeaderValue};

use super::path::{Value, Values};
use super::response::{Response, WireResponse};

/// A request without a matching route. User code may respond instead (see
/// [`Routes::fallback`](super::routes::Routes::fallback)); it gets these fields as its path values.
#[derive(Debug)]
pub(super) struct NoRoute {
    status: StatusCode,
    sentence: String,
    /// The methods of the path, as in the `Allow` header. Empty: no route has the path.
    allow: String,
}

impl NoRoute {
    /// 404: no route has this path, percent-encoded as the client sent it.
    pub(super) fn for_path(path: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            sentence: format!("Nothing is served at {path}"),
            allow: String::new(),
        }
    }

    /// 405: the path has only these methods.
    pub(super) fn for_method(allow: String) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            sentence: format!("This path only supports {allow}."),
            allow,
        }
    }

    /// The path values of the fallback endpoint: status, sentence and methods.
    pub(super) fn into_values(self) -> Values {
        let status = Value::Int(self.status.as_u16().into());
        let texts = [self.sentence, self.allow].map(Value::Str);
        [status].into_iter().chain(texts).collect()
    }

    /// The built-in response.
    pub(super) fn into_response(self) -> WireResponse {
        let response = Response::sentence(self.status, self.sentence);
        if self.allow.is_empty() {
            return response;
        }
        let allow = HeaderValue::try_from(self.allow).expect("method names are header-safe");
        response.with_header(header::ALLOW, allow)
    }
}
