//! The last of a response that is more than bytes: files and their ranges, and conditional requests
//! (RFC 9110, section 13).

use std::path::PathBuf;
use std::str::FromStr;

use actix_files::NamedFile;
use actix_http::Method;
use actix_http::body::{self, BoxBody};
use actix_http::header::{self, HeaderValue};
use actix_web::http::StatusCode;
use actix_web::http::header::{EntityTag, Header, HttpDate, IfModifiedSince, IfNoneMatch};
use actix_web::test::TestRequest;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::compression::Compression;
use super::response::{Body, Response};

/// Is there nothing to look at but the response itself?
pub(super) fn is_plain(response: &Response) -> bool {
    let is_validator = |name: &_| *name == header::ETAG || *name == header::LAST_MODIFIED;
    let mut names = response.headers.iter().map(|(name, _)| name);
    matches!(response.body, Body::Bytes(_)) && !names.any(is_validator)
}

/// The response to this request.
pub(super) async fn send(
    response: Response,
    request: &HttpRequest,
    compression: Option<&Compression>,
) -> HttpResponse {
    let is_stream = matches!(response.body, Body::Flow(_));
    let response = match response {
        Response {
            body: Body::File(path),
            status,
            content_type,
            headers,
        } => {
            let mut sent = file(path, status, content_type, request).await;
            for (name, value) in headers {
                sent.headers_mut().append(name, value);
            }
            sent
        }
        // Nobody reads the body: it would be made in vain, and without an end.
        Response {
            body: Body::Flow(_) | Body::Events(_),
            status,
            content_type,
            headers,
        } if *request.method() == Method::HEAD => {
            let response = Response {
                status,
                content_type,
                headers,
                body: Body::Bytes(Bytes::new()),
            };
            response
                .into_http()
                .set_body(BoxBody::new(body::None::new()))
        }
        response if is_known_already(&response, request) => not_modified(response),
        response => response.into_http(),
    };
    match compression {
        Some(compression) if is_stream => compression.stream(response, request),
        Some(compression) => compression.whole(response, request),
        None => response,
    }
}

/// A file as it is named. What it is called has been checked by whoever names it.
async fn file(
    path: PathBuf,
    status: StatusCode,
    content_type: Option<HeaderValue>,
    request: &HttpRequest,
) -> HttpResponse {
    let opened = spawn_blocking(move || NamedFile::open(path)).await;
    match opened.map_err(std::io::Error::other).flatten() {
        Ok(file) => {
            let mut response = named(file, content_type, request);
            if response.status() == StatusCode::OK {
                *response.status_mut() = status;
            }
            response
        }
        Err(error) => {
            log::error!("{}: cannot open the file: {error}", request.path());
            Response::sentence(StatusCode::NOT_FOUND, "The file is not there.").into_http()
        }
    }
}

/// An open file, or as much of it as the request asks for.
pub(super) fn named(
    file: NamedFile,
    content_type: Option<HeaderValue>,
    request: &HttpRequest,
) -> HttpResponse {
    let file = file.disable_content_disposition();
    let ranges = request.headers().get(header::RANGE);
    let are_several = ranges.is_some_and(|ranges| ranges.as_bytes().contains(&b','));
    let mut response = if are_several {
        file.into_response(&without_ranges(request))
    } else {
        file.into_response(request)
    };
    if let Some(content_type) = content_type
        && response.headers().contains_key(header::CONTENT_TYPE)
    {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    response
}

/// Of several ranges a `NamedFile` would send the first alone, and a client that does not look twice
/// would take that for all. To send the whole is always right (RFC 9110, section 14.2).
fn without_ranges(request: &HttpRequest) -> HttpRequest {
    // A request cannot be changed, and this is the one way to make one.
    let mut other = TestRequest::default().method(request.method().clone());
    for (name, value) in request.headers() {
        if *name != header::RANGE {
            other = other.append_header((name, value));
        }
    }
    other.to_http_request()
}

/// Has the client said that it has this response?
fn is_known_already(response: &Response, request: &HttpRequest) -> bool {
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    if !asks || response.status != StatusCode::OK {
        return false;
    }
    let value = |wanted| {
        let mut headers = response.headers.iter();
        let found = headers.find(|(name, _)| *name == wanted);
        found.and_then(|(_, value)| value.to_str().ok())
    };
    if request.headers().contains_key(header::IF_NONE_MATCH) {
        let tag = value(header::ETAG).and_then(|tag| EntityTag::from_str(tag).ok());
        return match (IfNoneMatch::parse(request), tag) {
            (Ok(IfNoneMatch::Any), _) => true,
            (Ok(IfNoneMatch::Items(known)), Some(tag)) => known.iter().any(|it| it.weak_eq(&tag)),
            _ => false,
        };
    }
    let changed = value(header::LAST_MODIFIED).and_then(|date| HttpDate::from_str(date).ok());
    match (IfModifiedSince::parse(request), changed) {
        (Ok(since), Some(changed)) => changed <= since.0,
        _ => false,
    }
}

/// 304, with the headers that the response would have, but for those of its body.
fn not_modified(response: Response) -> HttpResponse {
    let response = Response {
        status: StatusCode::NOT_MODIFIED,
        content_type: None,
        body: Body::Bytes(Bytes::new()),
        ..response
    };
    response.into_http()
}
