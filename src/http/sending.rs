//! The last of a response that is more than bytes: files, and responses that the client has already.

use std::fs::File;
use std::path::PathBuf;

use actix_http::Method;
use actix_http::header;
use actix_web::http::StatusCode;
use tokio::task::spawn_blocking;

use super::compression::Compression;
use super::conditions;
use super::file_response::{OpenFile, content_type, not_modified};
use super::request::WireRequest;
use super::response::{Body, Response, WireBody, WireResponse};

/// Is there nothing to look at but the response itself?
fn is_plain(response: &Response) -> bool {
    let is_validator = |name: &_| *name == header::ETAG || *name == header::LAST_MODIFIED;
    let mut names = response.headers.iter().map(|(name, _)| name);
    matches!(response.body, Body::Bytes(_)) && !names.any(is_validator)
}

/// The response to this request, whose body is a file.
pub(super) async fn from_disk(
    path: PathBuf,
    head: Response<()>,
    request: &WireRequest,
    compression: Option<&Compression>,
) -> WireResponse {
    let response = file(path, head, request, compression).await;
    match compression {
        Some(compression) => compression.whole(response, request),
        None => response,
    }
}

/// The response to this request, whose body is not a file.
pub(super) fn from_memory(
    response: Response,
    request: &WireRequest,
    compression: Option<&Compression>,
) -> WireResponse {
    if compression.is_none() && is_plain(&response) {
        return response.into_wire();
    }
    let is_stream = matches!(response.body, Body::Flow(_));
    let (body, mut head) = response.split();
    let response = match body {
        body if head.status == StatusCode::OK
            && conditions::is_known(&request.method, &request.head, &head) =>
        {
            let length = match &body {
                Body::Bytes(bytes) => Some(bytes.len() as u64),
                _ => None,
            };
            if compression.is_some() {
                Compression::mark(&mut head, request, length);
            }
            return not_modified(head);
        }
        // Nobody reads the body: it would be made in vain, and without an end.
        Body::Flow(_) | Body::Events(_) if request.method == Method::HEAD => {
            head.with_body(WireBody::Nothing)
        }
        body => head.with_body(body).into_wire(),
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
    mut head: Response<()>,
    request: &WireRequest,
    compression: Option<&Compression>,
) -> WireResponse {
    if !head.has(&header::CONTENT_TYPE) {
        head.content_type = Some(content_type(&path));
    }
    let opened = spawn_blocking(move || OpenFile::new(File::open(path)?)).await;
    match opened.map_err(std::io::Error::other).flatten() {
        Ok(Some(file)) => file.answer(head, request, compression).await,
        opened => {
            let why = opened.map_or_else(|error| error.to_string(), |_| "it is not a file".into());
            log::error!("{}: cannot open the file: {why}", request.head.path());
            Response::sentence(StatusCode::NOT_FOUND, "The file does not exist.")
        }
    }
}
