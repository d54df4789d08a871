//! What is said to a request that no route answers: 404, 405, and 426.

use actix_http::StatusCode;
use actix_http::header::{self, HeaderValue};

use super::path::{Value, Values};
use super::response::Response;

/// A request that no route answers. User code may answer it instead (see
/// [`Routes::fallback`](super::routes::Routes::fallback)), and is given all of this.
#[derive(Debug)]
pub(super) struct Missed {
    status: StatusCode,
    sentence: String,
    /// The methods that the path has, as the `Allow` header lists them. Empty: it has none.
    allow: String,
}

impl Missed {
    /// Nothing is served at this path, percent-encoded as it came.
    pub(super) fn path(path: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            sentence: format!("Nothing is served at {path}"),
            allow: String::new(),
        }
    }

    /// The path has only these methods.
    pub(super) fn method(allow: String) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            sentence: format!("This path only supports {allow}."),
            allow,
        }
    }

    /// For who answers instead: status, sentence and methods.
    pub(super) fn into_values(self) -> Values {
        let status = Value::Int(self.status.as_u16().into());
        let texts = [self.sentence, self.allow].map(Value::Str);
        [status].into_iter().chain(texts).collect()
    }

    /// If nobody does.
    pub(super) fn into_response(self) -> Response {
        let response = Response::sentence(self.status, self.sentence);
        if self.allow.is_empty() {
            return response;
        }
        let allow = HeaderValue::try_from(self.allow).expect("method names are header-safe");
        response.with_header(header::ALLOW, allow)
    }
}

/// To a plain request for the path of a WebSocket.
pub(super) fn upgrade_required() -> Response {
    Response::sentence(
        StatusCode::UPGRADE_REQUIRED,
        "This is a WebSocket endpoint: connect to it with a WebSocket client.",
    )
    .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
    .with_header(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    )
}
