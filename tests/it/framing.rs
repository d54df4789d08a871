//! The end of HTTP/1 requests as other parsers see it. A head that Fanbus accepts is accepted by hyper and by
//! actix-http, and they find the end of its request at the same byte. If a proxy or a server disagreed, it would
//! take a part of one request for another.
//!
//! The others may accept more heads than Fanbus. Requests that they refuse, although the standard allows them, are
//! named in [`may_refuse`].

#[path = "../../fuzz/fuzz_targets/scripts/chunks.rs"]
mod chunks;
#[path = "../../fuzz/fuzz_targets/scripts/head.rs"]
mod head;

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use actix_http::h1;
use bytes::{Bytes, BytesMut};
use fanbus::http::http1::chunked::Decoder;
use fanbus::http::http1::fields::Framing;
use fanbus::http::http1::parse::{RequestStart, parse};
use fanbus::http::peer::Peer;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::io::AsyncWriteExt;
use tokio::task::LocalSet;
use tokio_util::codec::Decoder as _;

use crate::codec_model::corpus::replay_bytes;

/// The bytes after the head: valid chunks, and at the same time bytes for any length.
const BEHIND: &[u8] =
    b"5\r\nGET /\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n0000000000000000000000000";

/// A reading of one request: its target, and the bytes of its body.
type Reading = (String, Vec<u8>);

/// The reading of Fanbus. None: it refuses the request, or waits for more of it.
fn of_fanbus(bytes: &[u8]) -> Option<Reading> {
    let direct = Peer {
        address: None,
        is_secure: false,
    };
    let RequestStart {
        head, framing, len, ..
    } = parse(bytes, direct).ok()??;
    let rest = &bytes[len..];
    let body = match framing {
        Framing::Empty => Vec::new(),
        Framing::Length(length) => rest.get(..usize::try_from(length).ok()?)?.to_vec(),
        Framing::Chunked => {
            let (mut decoder, mut body) = (Decoder::default(), BytesMut::new());
            decoder.decode(rest, &mut body, usize::MAX).ok()?;
            decoder.is_done().then(|| body.to_vec())?
        }
    };
    Some((head.target().to_owned(), body))
}

/// Path and query, as Fanbus stores them.
fn target(path_and_query: Option<&str>, is_options: bool) -> String {
    match path_and_query {
        Some("/") | None if is_options => "*".to_owned(),
        Some(target) => target.to_owned(),
        None => "/".to_owned(),
    }
}

/// The reading of actix-http.
fn of_actix(bytes: &[u8]) -> Option<Reading> {
    let mut codec = h1::Codec::default();
    let mut input = BytesMut::from(bytes);
    let Ok(Some(h1::Message::Item(request))) = codec.decode(&mut input) else {
        return None;
    };
    let mut body = Vec::new();
    if codec.message_type() == h1::MessageType::Payload {
        loop {
            match codec.decode(&mut input) {
                Ok(Some(h1::Message::Chunk(Some(chunk)))) => body.extend_from_slice(&chunk),
                Ok(Some(h1::Message::Chunk(None))) => break,
                _ => return None,
            }
        }
    }
    let uri = request
        .uri()
        .path_and_query()
        .map(actix_http::uri::PathAndQuery::as_str);
    Some((uri.unwrap_or("/").to_owned(), body))
}

/// The reading of hyper. It checks neither for a single Host nor, in a request with both, for Content-Length.
fn of_hyper(bytes: &[u8]) -> Option<Reading> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let reading = Rc::new(Cell::new(None));
    let sees = Rc::clone(&reading);
    let service = service_fn(move |request: Request<Incoming>| {
        let sees = Rc::clone(&sees);
        async move {
            let uri = request
                .uri()
                .path_and_query()
                .map(hyper::http::uri::PathAndQuery::as_str);
            let uri = uri.unwrap_or("/").to_owned();
            let body = request.into_body().collect().await;
            if let (Ok(body), None) = (body, sees.take()) {
                sees.set(Some((uri, body.to_bytes().to_vec())));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let read = async {
        let (server, mut client) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.expect("there is room");
        let connection = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(server), service);
        // All bytes are there, so a pending read waits for bytes that never come.
        let mut connection = pin!(connection);
        for _ in 0..100 {
            if connection
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
            {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    runtime.block_on(read);
    reading.take()
}

const LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "POST /a?b HTTP/1.1",
    "POST /a HTTP/1.0",
    "POST http://a/b HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "OPTIONS http://a HTTP/1.1",
    "DELETE /a#b HTTP/1.1",
    "PROPFIND /\u{fc} HTTP/1.1",
    "POST  / HTTP/1.1",
    "POST / HTTP/1.1 ",
    "POST\t/ HTTP/1.1",
];

const HEADERS: &[&str] = &[
    "Host: a\r\n",
    "host:a\r\n",
    "Host: a\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 003\r\n",
    "Content-Length: 3 \r\n",
    "Content-Length:\t3\r\n",
    "Content-Length: +3\r\n",
    "Content-Length: 3, 3\r\n",
    "Content-Length: 0x3\r\n",
    "Content-Length : 3\r\n",
    "Content_Length: 3\r\n",
    "Content-Length: 3\r\n 4\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:CHUNKED\r\n",
    "Transfer-Encoding: chunked \r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    "Transfer-Encoding: chun\r\n ked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, Upgrade\r\n",
    "Expect: 100-continue\r\n",
    "X: \u{fc}\r\n",
    "X:\r\n",
    ": x\r\n",
    "X y: z\r\n",
    "X: a\rb\r\n",
    "X: a\0b\r\n",
];

/// Bytes that have broken framing before.
const NASTY: &[u8] = b"\0\t\n\r \x0b,:;0+\"\x7f\xff";

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<bool>(), select(NASTY)), 0..3);
    (select(LINES), vec(select(HEADERS), 0..5), changes).prop_map(|(line, headers, changes)| {
        let mut head = format!("{line}\r\nHost: a\r\n{}\r\n", headers.concat()).into_bytes();
        for (at, inserts, byte) in changes {
            let at = at.index(head.len());
            if inserts {
                head.insert(at, byte);
            } else {
                head[at] = byte;
            }
        }
        head.extend_from_slice(BEHIND);
        head
    })
}

/// Whether another server may refuse a request that Fanbus accepts.
fn may_refuse(name: &str, text: &str) -> bool {
    // Quotes must be encoded in a target (RFC 3986, section 2); clients that forget it are harmless.
    let line = text.lines().find(|line| !line.is_empty());
    if line.is_some_and(|line| line.contains('"')) {
        return true;
    }
    match name {
        // HTTP/1.0 had no POST without a length (RFC 1945, section 8.3); today it has an empty body (RFC 9112,
        // section 6.3, rule 7). actix-http refuses UTF-8 paths that are not encoded. Nginx accepts them, and so
        // does Fanbus.
        "actix-http" => text.contains(" HTTP/1.0") || !text.is_ascii(),
        _ => false,
    }
}

fn compare(bytes: &[u8]) {
    let Some((path, body)) = of_fanbus(bytes) else {
        return;
    };
    let is_options = path == "*";
    // The codec of actix starts a clock, which needs a task set, although it never runs here.
    let tasks = LocalSet::new();
    let _here = tasks.enter();
    let text = String::from_utf8_lossy(bytes);
    for (name, other) in [("actix-http", of_actix(bytes)), ("hyper", of_hyper(bytes))] {
        let Some((other_path, other_body)) = other else {
            assert!(may_refuse(name, &text), "{name} refuses {text:?}");
            continue;
        };
        assert_eq!(other_body, body, "{name} finds another end of {text:?}");
        let other_path = target(Some(&other_path), is_options);
        assert_eq!(other_path, path, "{name} reads another target in {text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_that_is_accepted_ends_where_hyper_and_actix_see_its_end(bytes in requests()) {
        compare(&bytes);
    }
}

#[test]
fn valid_requests_are_accepted_by_all_parsers() {
    for headers in [
        "",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\nX:\r\n",
    ] {
        let bytes = format!("POST /a?b HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes();
        let bytes = [&bytes, BEHIND].concat();
        assert!(of_fanbus(&bytes).is_some(), "{headers}");
        compare(&bytes);
    }
}

#[test]
fn the_heads_of_the_fuzzing_corpus_are_parsed_consistently() {
    replay_bytes("head", head::play);
}

#[test]
fn the_chunks_of_the_fuzzing_corpus_are_decoded_consistently() {
    replay_bytes("chunks", chunks::play);
}
