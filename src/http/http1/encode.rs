//! The encoder that writes the heads of HTTP/1 responses, and the framing of chunked content.

use actix_http::StatusCode;
use actix_http::header;

use crate::http::date;
use crate::http::early_hints::EarlyHints;
use crate::http::response::Response;
use crate::http::trailers::Trailers;

/// How the client finds the end of the content.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Delimiter {
    /// The response ends with its head, which states no length.
    Nothing,
    /// `Content-Length`.
    Length(u64),
    /// Chunked content.
    Chunks,
    /// The end of the connection: clients of HTTP/1.0 do not support chunks.
    Close,
}

/// The `Connection` header of a response.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum ConnectionHeader {
    /// No header: HTTP/1.1 keeps the connection open.
    Absent,
    /// The connection stays open, and the client speaks HTTP/1.0.
    KeepAlive,
    /// The connection closes after the response.
    Close,
}

/// Appends the head of a response.
pub(super) fn write_head<B>(
    out: &mut Vec<u8>,
    response: &Response<B>,
    delimiter: Delimiter,
    connection: ConnectionHeader,
) {
    write_status(out, response.status);
    let (mut has_date, mut names_protocol) = (false, false);
    if let Some(value) = &response.content_type {
        write_line(out, b"content-type", value.as_bytes());
    }
    for (name, value) in &response.headers {
        match *name {
            // The server decides on the length of the content, and on the end of the connection.
            header::CONNECTION | header::TRANSFER_ENCODING | header::CONTENT_LENGTH => continue,
            header::DATE => has_date = true,
            header::UPGRADE => names_protocol = true,
            _ => {}
        }
        write_line(out, name.as_str().as_bytes(), value.as_bytes());
    }
    match delimiter {
        Delimiter::Nothing | Delimiter::Close => {}
        Delimiter::Length(length) => {
            let mut digits = itoa::Buffer::new();
            write_line(out, b"content-length", digits.format(length).as_bytes());
        }
        Delimiter::Chunks => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    // A response that names other protocols must declare the header as hop-by-hop (RFC 9110, section 7.8).
    out.extend_from_slice(match (connection, names_protocol) {
        (ConnectionHeader::Absent, false) => b"",
        (ConnectionHeader::Absent, true) => b"connection: upgrade\r\n",
        (ConnectionHeader::KeepAlive, false) => b"connection: keep-alive\r\n",
        (ConnectionHeader::KeepAlive, true) => b"connection: keep-alive, upgrade\r\n",
        (ConnectionHeader::Close, false) => b"connection: close\r\n",
        (ConnectionHeader::Close, true) => b"connection: close, upgrade\r\n",
    });
    if !has_date {
        out.extend_from_slice(&date::line());
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether the handler wants the connection to close.
pub(super) fn requests_close<B>(response: &Response<B>) -> bool {
    let value = response.get(&header::CONNECTION);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Appends an interim response without headers, such as 100.
pub(super) fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Appends an interim response with early hints (RFC 8297).
pub(super) fn write_early_hints(out: &mut Vec<u8>, hints: &EarlyHints) {
    out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
    for (name, value) in hints.fields() {
        write_line(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of chunked content, with the trailers.
pub(super) fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&Trailers>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.map(Trailers::fields).unwrap_or_default() {
        write_line(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use actix_http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_server_alone_frames_a_response() {
        let mut response: Response = Response::sentence(StatusCode::NOT_FOUND, "No.");
        for (name, value) in [
            ("content-length", "99"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("date", "today"),
            ("x", "y"),
        ] {
            let name = HeaderName::from_static(name);
            response.append(name, HeaderValue::from_static(value));
        }
        assert!(requests_close(&response));
        let mut out = Vec::new();
        write_head(
            &mut out,
            &response,
            Delimiter::Length(4),
            ConnectionHeader::Close,
        );
        let expected = "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\n\
                        date: today\r\nx: y\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(out), Ok(expected.to_owned()));
    }

    #[test]
    fn a_status_line_without_a_reason_keeps_its_space() {
        let mut out = Vec::new();
        let status = StatusCode::from_u16(299).expect("a status");
        write_status(&mut out, status);
        assert_eq!(out, b"HTTP/1.1 299 \r\n");
    }
}
