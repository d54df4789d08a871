//! The last step of a response whose body is not a file: conditional requests, HEAD and compression.

use actix_http::Method;
use actix_http::header;
use actix_web::http::StatusCode;

use super::compression::Compression;
use super::conditions;
use super::file_response::not_modified;
use super::request::WireRequest;
use super::response::{WireBody, WireResponse};

/// Turns a response into the one that goes to the client of this request.
pub(super) fn respond(
    response: WireResponse,
    request: &WireRequest,
    compression: Option<&Compression>,
) -> WireResponse {
    if compression.is_none() && is_plain(&response) {
        return response;
    }
    let is_stream = matches!(response.body, WireBody::Stream(_));
    let (body, mut head) = response.split();
    let response = match body {
        body if head.status == StatusCode::OK
            && conditions::is_known(&request.method, &request.head, &head) =>
        {
            let length = match &body {
                WireBody::Bytes(bytes) => Some(bytes.len() as u64),
                _ => None,
            };
            if compression.is_some() {
                Compression::mark(&mut head, request, length);
            }
            return not_modified(head);
        }
        // The client of HEAD reads no body: its producer would work in vain, perhaps without end.
        WireBody::Stream(_) if request.method == Method::HEAD => head.with_body(WireBody::Nothing),
        body => head.with_body(body),
    };
    match compression {
        Some(compression) if is_stream => compression.compress_stream(response, request),
        Some(compression) => compression.compress_whole(response, request),
        None => response,
    }
}

/// Whether neither a condition of the request nor HEAD can change this response.
fn is_plain(response: &WireResponse) -> bool {
    let is_validator = |name: &_| *name == header::ETAG || *name == header::LAST_MODIFIED;
    let mut names = response.headers.iter().map(|(name, _)| name);
    matches!(response.body, WireBody::Bytes(_)) && !names.any(is_validator)
}
