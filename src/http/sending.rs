//! The last of a response that is more than bytes: files and their ranges, and conditional requests
//! (RFC 9110, section 13).

use std::path::PathBuf;
use std::str::FromStr;

use actix_files::NamedFile;
use actix_http::Method;
use actix_http::header::{self, HeaderName, HeaderValue};
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{EntityTag, Header, HttpDate, IfModifiedSince, IfNoneMatch};
use actix_web::test::TestRequest;
use tokio::task::spawn_blocking;

use super::compression::Compression;
use super::head::Head;
use super::request::WireRequest;
use super::response::{Body, Response, WireBody, WireResponse};

/// Is there nothing to look at but the response itself?
pub(super) fn is_plain(response: &Response) -> bool {
    let is_validator = |name: &_| *name == header::ETAG || *name == header::LAST_MODIFIED;
    let mut names = response.headers.iter().map(|(name, _)| name);
    matches!(response.body, Body::Bytes(_)) && !names.any(is_validator)
}

/// The response to this request.
pub(super) async fn send(
    response: Response,
    request: &WireRequest,
    compression: Option<&Compression>,
) -> WireResponse {
    let is_stream = matches!(response.body, Body::Flow(_));
    let (body, head) = response.split();
    let response = match body {
        Body::File(path) => file(path, head, request).await,
        // Nobody reads the body: it would be made in vain, and without an end.
        Body::Flow(_) | Body::Events(_) if request.method == Method::HEAD => {
            head.with_body(WireBody::Nothing)
        }
        _ if is_known_already(&head, request) => not_modified(head),
        body => head.with_body(body).into_wire(),
    };
    match compression {
        Some(compression) if is_stream => compression.stream(response, request),
        Some(compression) => compression.whole(response, request),
        None => response,
    }
}

/// A file as it is named. What it is called has been checked by whoever names it.
async fn file(path: PathBuf, head: Response<()>, request: &WireRequest) -> WireResponse {
    let opened = spawn_blocking(move || NamedFile::open(path)).await;
    match opened.map_err(std::io::Error::other).flatten() {
        Ok(file) => {
            let mut response = named(file, head.content_type, request);
            if response.status == StatusCode::OK {
                response.status = head.status;
            }
            for (name, value) in head.headers {
                response.append(name, value);
            }
            response
        }
        Err(error) => {
            log::error!("{}: cannot open the file: {error}", request.head.path());
            Response::sentence(StatusCode::NOT_FOUND, "The file is not there.")
        }
    }
}

/// An open file, or as much of it as the request asks for.
pub(super) fn named(
    file: NamedFile,
    content_type: Option<HeaderValue>,
    request: &WireRequest,
) -> WireResponse {
    let file = file.disable_content_disposition();
    let ranges = request.head.get(&header::RANGE);
    // Of several ranges a `NamedFile` would send the first alone, and a client that does not look twice
    // would take that for all. To send the whole is always right (RFC 9110, section 14.2).
    let is_one = ranges.is_none_or(|ranges| !ranges.contains(&b','));
    let request = for_actix(&request.method, &request.head, |name| {
        is_one || *name != header::RANGE
    });
    let mut response = WireResponse::from_http(file.into_response(&request));
    if let Some(content_type) = content_type
        && response.content_type.is_some()
    {
        response.content_type = Some(content_type);
    }
    response
}

/// The request as actix-web's parts look at it, with those of its headers that are wanted. It offers no other
/// way to make one.
pub(super) fn for_actix(
    method: &Method,
    head: &Head,
    is_wanted: impl Fn(&HeaderName) -> bool,
) -> HttpRequest {
    let mut request = TestRequest::default().method(method.clone());
    for (name, value) in head.headers() {
        let name = HeaderName::from_bytes(name).ok().filter(&is_wanted);
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            request = request.append_header((name, value));
        }
    }
    request.to_http_request()
}

/// Has the client said that it has this response?
fn is_known_already(response: &Response<()>, request: &WireRequest) -> bool {
    let asks = matches!(request.method, Method::GET | Method::HEAD);
    if !asks || response.status != StatusCode::OK {
        return false;
    }
    let has_known = request.head.has(&header::IF_NONE_MATCH);
    if !has_known && !request.head.has(&header::IF_MODIFIED_SINCE) {
        return false;
    }
    let request = for_actix(&request.method, &request.head, |name| {
        matches!(*name, header::IF_NONE_MATCH | header::IF_MODIFIED_SINCE)
    });
    if has_known {
        let tag = response.text(&header::ETAG);
        let tag = tag.and_then(|tag| EntityTag::from_str(tag).ok());
        return match (IfNoneMatch::parse(&request), tag) {
            (Ok(IfNoneMatch::Any), _) => true,
            (Ok(IfNoneMatch::Items(known)), Some(tag)) => known.iter().any(|it| it.weak_eq(&tag)),
            _ => false,
        };
    }
    let changed = response.text(&header::LAST_MODIFIED);
    let changed = changed.and_then(|date| HttpDate::from_str(date).ok());
    match (IfModifiedSince::parse(&request), changed) {
        (Ok(since), Some(changed)) => changed <= since.0,
        _ => false,
    }
}

/// 304, with the headers that the response would have, but for those of its body.
fn not_modified(mut response: Response<()>) -> WireResponse {
    response.status = StatusCode::NOT_MODIFIED;
    response.content_type = None;
    response.with_body(WireBody::Nothing)
}
