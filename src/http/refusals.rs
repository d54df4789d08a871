//! The responses that refuse a request before its handler is called.

use actix_http::StatusCode;
use actix_http::header::{self, HeaderValue};

use super::response::{Response, WireResponse};

/// 503: the worker already handles as many requests as it may.
pub(super) fn too_busy() -> WireResponse {
    Response::sentence(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server is busy. Try again in a moment.",
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

/// 413: the request's body exceeds its limit.
pub(super) fn too_large(limit: usize) -> WireResponse {
    Response::sentence(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The request's body is larger than the limit of {limit} bytes."),
    )
}

/// 426: a plain request for the path of a WebSocket.
pub(super) fn upgrade_required() -> WireResponse {
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
