//! The content of a response as both versions of HTTP send it: the decision on what follows the head.
//!
//! A client would read a body that the status or the method does not allow as the beginning of the next response.
//! So no encoder looks at a body itself: both use this type.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::Method;
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::header;
use actix_web::http::StatusCode;
use bytes::Bytes;

use super::file_body::FileBody;
use super::response::{WireBody, WireResponse};
use super::stream_body::StreamBody;

/// The content that follows the head of a response.
#[derive(Debug)]
pub(super) enum WireContent {
    /// The response ends with its head. `Content-Length` is written if it is known: for HEAD it is that of the body
    /// which GET would get.
    Nothing(Option<u64>),
    /// The complete content.
    Whole(Bytes),
    /// A part of a file.
    File(FileBody),
    /// A stream that user code produces while it is sent. Its length is not known.
    Stream(StreamBody),
    /// A body that comes in chunks, and its length if it is known.
    Chunks(BoxBody, Option<u64>),
}

impl WireContent {
    /// Converts the content for a connection that cannot send files.
    pub(super) fn without_files(self) -> Self {
        match self {
            Self::File(file) => {
                let length = file.left();
                Self::Chunks(BoxBody::new(file), Some(length))
            }
            content => content,
        }
    }

    /// Takes the body out of a response to this method.
    pub(super) fn of(method: &Method, response: &mut WireResponse) -> Self {
        let body = std::mem::replace(&mut response.body, WireBody::Nothing);
        let status = response.status;
        if status == StatusCode::RESET_CONTENT {
            return Self::Nothing(Some(0)); // RFC 9110, section 15.3.6
        }
        if !may_have_content(status) {
            return Self::Nothing(None);
        }
        let size = body.size();
        let stated = stated_length(response);
        let length = match (size, stated) {
            // A handler of HEAD can state the length of the body without making it.
            (BodySize::None | BodySize::Sized(0), Some(stated)) if *method == Method::HEAD => {
                Some(stated)
            }
            (BodySize::Sized(length), Some(stated)) if stated != length => {
                log::error!(
                    "a handler states a Content-Length of {stated} for a body of {length} bytes: \
                     {length} is sent. Leave the header out."
                );
                Some(length)
            }
            (BodySize::Sized(length), _) => Some(length),
            (BodySize::None, _) => Some(0),
            (BodySize::Stream, stated) => stated,
        };
        if *method == Method::HEAD {
            // A stream was not made for HEAD: its length is known only if the handler states it.
            let is_known = size != BodySize::None || stated.is_some();
            return Self::Nothing(length.filter(|_| is_known));
        }
        match (body, length) {
            (WireBody::Bytes(bytes), _) => Self::Whole(bytes),
            (_, Some(0)) => Self::Whole(Bytes::new()),
            (WireBody::File(file), _) => Self::File(file),
            (WireBody::Stream(stream), None) => Self::Stream(stream),
            (body, length) => {
                let body = body.boxed();
                match length {
                    Some(left) if size == BodySize::Stream => {
                        Self::Chunks(BoxBody::new(CheckedBody { body, left }), length)
                    }
                    _ => Self::Chunks(body, length),
                }
            }
        }
    }
}

/// Whether a response with this status may have content (RFC 9110, section 6.4.1).
fn may_have_content(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The length that a handler states. An invalid one is ignored.
fn stated_length(response: &WireResponse) -> Option<u64> {
    let value = response.get(&header::CONTENT_LENGTH)?.as_bytes();
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number);
    let length = text.and_then(|text| text.parse().ok());
    if length.is_none() {
        log::error!("a handler states a Content-Length that is not a number of bytes");
    }
    length
}

/// A stream whose length the handler has stated. Another length is an error that closes the connection: the client
/// would take the difference for another response.
struct CheckedBody {
    body: BoxBody,
    left: u64,
}

impl MessageBody for CheckedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.left)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = Pin::new(&mut self.body).poll_next(task);
        let wrong = match &next {
            Poll::Ready(Some(Ok(chunk))) => {
                let left = self.left.checked_sub(chunk.len() as u64);
                self.left = left.unwrap_or(0);
                left.is_none()
            }
            Poll::Ready(None) => self.left > 0,
            _ => false,
        };
        if wrong {
            let reason = "a handler's stream does not have the Content-Length that it states";
            log::error!("{reason}: the connection is closed");
            return Poll::Ready(Some(Err(io::Error::other(reason).into())));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use actix_http::header::{CONTENT_LENGTH, HeaderValue};

    use super::*;
    use crate::http::response::Response;

    fn response(status: u16, body: &'static [u8], stated: Option<&'static str>) -> WireResponse {
        let status = StatusCode::from_u16(status).expect("a status");
        let body = WireBody::Bytes(Bytes::from_static(body));
        let mut response = Response::empty(status).with_body(body);
        if let Some(stated) = stated {
            let value = HeaderValue::from_static(stated);
            response.headers.push((CONTENT_LENGTH, value));
        }
        response
    }

    #[test]
    fn head_has_the_length_that_the_handler_states_for_a_stream() {
        for (stated, expected) in [(Some("7"), Some(7)), (None, None)] {
            let mut response = response(200, b"", stated);
            response.body = WireBody::Nothing;
            match WireContent::of(&Method::HEAD, &mut response) {
                WireContent::Nothing(length) => assert_eq!(length, expected),
                content => panic!("{content:?}"),
            }
        }
    }

    #[test]
    fn only_responses_that_may_have_content_have_it() {
        let of = |method, status, body, stated| match WireContent::of(
            &method,
            &mut response(status, body, stated),
        ) {
            WireContent::Nothing(length) => (false, length),
            WireContent::Whole(bytes) => (true, Some(bytes.len() as u64)),
            WireContent::File(file) => (true, Some(file.left())),
            WireContent::Stream(_) => (true, None),
            WireContent::Chunks(_, length) => (true, length),
        };
        for method in [Method::GET, Method::HEAD, Method::POST] {
            for status in [204, 304] {
                assert_eq!(of(method.clone(), status, b"abc", Some("3")), (false, None));
            }
            assert_eq!(of(method, 205, b"abc", None), (false, Some(0)));
        }
        assert_eq!(of(Method::GET, 200, b"abc", None), (true, Some(3)));
        assert_eq!(of(Method::GET, 200, b"abc", Some("7")), (true, Some(3)));
        assert_eq!(of(Method::GET, 200, b"", Some("7")), (true, Some(0)));
        assert_eq!(of(Method::HEAD, 200, b"abc", None), (false, Some(3)));
        assert_eq!(of(Method::HEAD, 200, b"", Some("7")), (false, Some(7)));
        assert_eq!(of(Method::HEAD, 200, b"", Some("x")), (false, Some(0)));
        assert_eq!(of(Method::HEAD, 404, b"abc", Some("7")), (false, Some(3)));
    }
}
