//! The response that sends a file: its headers, and the part of it that the request selects.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use actix_http::Method;
use actix_http::header::{self, HeaderName, HeaderValue};
use actix_web::http::StatusCode;
use actix_web::http::header::HttpDate;
use tokio::task::spawn_blocking;

use super::compression::Compression;
use super::conditions::{self, Verdict};
use super::file_body::{FileBody, SMALL_BYTES};
use super::range::Selection;
use super::request::WireRequest;
use super::response::{Response, WireBody, WireResponse};

const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// An open file with its metadata.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    length: u64,
    changed: Option<SystemTime>,
}

impl OpenFile {
    /// None: it is not a regular file.
    pub(super) fn new(file: File) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then(|| Self {
            length: metadata.len(),
            changed: metadata.modified().ok(),
            file,
        }))
    }

    /// The `ETag`. It depends only on the size and the modification time, so copies of a file on two hosts have the
    /// same tag.
    fn tag(&self, encoding: Option<&str>) -> Option<HeaderValue> {
        let age = self.changed?.duration_since(UNIX_EPOCH).ok()?;
        let (dash, encoding) = encoding.map_or(("", ""), |encoding| ("-", encoding));
        let (seconds, nanoseconds) = (age.as_secs(), age.subsec_nanos());
        let tag = format!(
            "\"{:x}-{seconds:x}-{nanoseconds:x}{dash}{encoding}\"",
            self.length
        );
        HeaderValue::try_from(tag).ok()
    }

    /// Responds with the file. The headers of `head` take precedence over those of the file.
    pub(super) async fn respond(
        self,
        mut head: Response<()>,
        request: &WireRequest,
        compression: Option<&Compression>,
    ) -> WireResponse {
        let encoding = head.text(&header::CONTENT_ENCODING);
        let tag = self.tag(encoding);
        let is_whole = head.status == StatusCode::OK;
        let may_be_part = is_whole && !head.has(&header::CONTENT_RANGE);
        add(&mut head, header::ETAG, tag);
        add(
            &mut head,
            header::LAST_MODIFIED,
            self.changed.and_then(date),
        );
        add(
            &mut head,
            header::ACCEPT_RANGES,
            may_be_part.then_some(BYTES),
        );
        head.remove(&header::CONTENT_LENGTH); // it is that of what is sent
        if is_whole {
            match conditions::evaluate(&request.method, &request.head, &head) {
                Verdict::Proceed => {}
                Verdict::NotModified => {
                    if compression.is_some() {
                        Compression::mark(&mut head, request, Some(self.length));
                    }
                    return not_modified(head);
                }
                Verdict::Failed => {
                    let sentence = "The file has changed since the version that the request names.";
                    return Response::sentence(StatusCode::PRECONDITION_FAILED, sentence);
                }
            }
        }
        let range = request.head.get(&header::RANGE);
        let range = range.filter(|_| {
            may_be_part
                && request.method == Method::GET // RFC 9110, section 14.2
                && head.get(&header::ACCEPT_RANGES) == Some(&BYTES)
                && conditions::allows_range(&request.head, &head)
        });
        let selection = range.map_or(Selection::Whole, |range| Selection::of(range, self.length));
        let (first, count) = match selection {
            Selection::Whole => (0, self.length),
            Selection::Part { first, count } => {
                if compression.is_some() {
                    Compression::mark(&mut head, request, Some(self.length));
                }
                head.status = StatusCode::PARTIAL_CONTENT;
                let last = first + count - 1;
                let range = format!("bytes {first}-{last}/{}", self.length);
                add(
                    &mut head,
                    header::CONTENT_RANGE,
                    HeaderValue::try_from(range).ok(),
                );
                (first, count)
            }
            Selection::Unsatisfiable => {
                let sentence = format!("The file has {} bytes.", self.length);
                let range = HeaderValue::try_from(format!("bytes */{}", self.length));
                let mut response = Response::sentence(StatusCode::RANGE_NOT_SATISFIABLE, sentence);
                add(&mut response, header::CONTENT_RANGE, range.ok());
                return response;
            }
        };
        let body = FileBody::new(self.file, first, count);
        if request.method == Method::HEAD || count > SMALL_BYTES {
            return head.with_body(WireBody::File(body));
        }
        match body.read().await {
            Ok(bytes) if bytes.len() as u64 == count => head.with_body(WireBody::Bytes(bytes)),
            read => {
                let why = read.map_or_else(|error| error.to_string(), |_| "it has shrunk".into());
                log::error!("{}: cannot read the file: {why}", request.head.path());
                let sentence = "The file cannot be read.";
                Response::sentence(StatusCode::INTERNAL_SERVER_ERROR, sentence)
            }
        }
    }
}

/// Responds with the file at this path, and compresses it if that pays. The caller has checked the path.
pub(super) async fn respond(
    path: PathBuf,
    head: Response<()>,
    request: &WireRequest,
    compression: Option<&Compression>,
) -> WireResponse {
    let response = open_and_respond(path, head, request, compression).await;
    match compression {
        Some(compression) => compression.compress_whole(response, request),
        None => response,
    }
}

async fn open_and_respond(
    path: PathBuf,
    mut head: Response<()>,
    request: &WireRequest,
    compression: Option<&Compression>,
) -> WireResponse {
    if !head.has(&header::CONTENT_TYPE) {
        head.content_type = Some(content_type(&path));
    }
    let opened = spawn_blocking(move || OpenFile::new(File::open(path)?)).await;
    match opened.map_err(io::Error::other).flatten() {
        Ok(Some(file)) => file.respond(head, request, compression).await,
        opened => {
            let why = opened.map_or_else(|error| error.to_string(), |_| "it is not a file".into());
            log::error!("{}: cannot open the file: {why}", request.head.path());
            Response::sentence(StatusCode::NOT_FOUND, "The file does not exist.")
        }
    }
}

/// 304, with the headers that the response would have, except those of its body.
pub(super) fn not_modified(mut head: Response<()>) -> WireResponse {
    head.status = StatusCode::NOT_MODIFIED;
    head.content_type = None;
    head.remove(&header::CONTENT_ENCODING);
    head.with_body(WireBody::Nothing)
}

/// Adds a header unless the response already has it.
fn add<B>(response: &mut Response<B>, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value
        && !response.has(&name)
    {
        response.append(name, value);
    }
}

/// The `Last-Modified` header, which must not be later than the response (RFC 9110, section 8.8.2.1).
fn date(changed: SystemTime) -> Option<HeaderValue> {
    let date = HttpDate::from(changed.min(SystemTime::now()));
    HeaderValue::try_from(date.to_string()).ok()
}

/// The `Content-Type` for a file name's extension. Text is UTF-8 where the content cannot declare another encoding.
pub(super) fn content_type(path: &Path) -> HeaderValue {
    let kind = mime_guess::from_path(path).first_raw();
    HeaderValue::from_static(match kind.unwrap_or("application/octet-stream") {
        "text/html" => "text/html; charset=utf-8",
        "text/css" => "text/css; charset=utf-8",
        "text/javascript" => "text/javascript; charset=utf-8",
        "application/javascript" => "application/javascript; charset=utf-8",
        "text/plain" => "text/plain; charset=utf-8",
        "text/csv" => "text/csv; charset=utf-8",
        "text/tab-separated-values" => "text/tab-separated-values; charset=utf-8",
        kind => kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_file_share_a_tag_and_versions_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let second = std::time::Duration::from_secs(1);
        let file = |name: &str, content: &str, changed| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("a file");
            let file = File::options()
                .write(true)
                .open(path)
                .expect("the file exists");
            file.set_modified(changed).expect("a time");
            OpenFile::new(file)
                .expect("metadata")
                .expect("a regular file")
        };
        let time = UNIX_EPOCH + 1_000_000_000 * second;
        let tag = file("a", "abc", time).tag(None);
        assert_eq!(tag, file("b", "xyz", time).tag(None));
        assert_ne!(tag, file("c", "abcd", time).tag(None));
        assert_ne!(tag, file("d", "abc", time + second).tag(None));
        assert_ne!(tag, file("e", "abc", time).tag(Some("br")));
    }
}
