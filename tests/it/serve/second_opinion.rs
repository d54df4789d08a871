//! Interim responses and trailers as an independent client reads them.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use bytes::Bytes;
use fanbus::http::early_hints::EarlyHints;
use fanbus::http::replies::{Reply, ReplyKey};
use fanbus::http::response::{Response, ResponseBody};
use fanbus::http::stream_body::stream_body;
use fanbus::http::trailers::{TrailerSlot, Trailers};
use http_body_util::{BodyExt, Collected, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::ext::on_informational;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::setup;
use super::trailers::Nobody;
use crate::support::DEADLINE;
use crate::support::worker::{Seen, TestBus, Worker};

/// Interim responses (status and `Link`) and the response, as hyper parses them.
type Understood = (Vec<(u16, String)>, http::response::Parts, Collected<Bytes>);

async fn ask(address: std::net::SocketAddr) -> Understood {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let connected = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.expect("a connection");
    let driver = tokio::spawn(connection);
    let mut request = Request::get("/held")
        .header("host", "localhost")
        .header("te", "trailers")
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let early = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&early);
    on_informational(&mut request, move |interim| {
        let link = interim.headers().get("link").expect("it has a link");
        let link = link.to_str().expect("text").to_owned();
        let mut early = sees.lock().expect("nobody panics in there");
        early.push((interim.status().as_u16(), link));
    });
    let response = sender.send_request(request).await.expect("a response");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("the whole body");
    driver.abort();
    let early = early.lock().expect("nobody panics in there").clone();
    (early, parts, body)
}

#[test]
fn hyper_sees_the_hints_the_response_and_the_trailers() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let (tell, told) = mpsc::channel();
    let address = worker.address;
    let client = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime");
        let _ = tell.send(runtime.block_on(ask(address)));
    });
    let key: ReplyKey = worker.saw("a request", |seen| match seen {
        Seen::Held(key) => Some(*key),
        _ => None,
    });
    let hint = |link: &'static str| {
        let mut hints = EarlyHints::default();
        let name = "link".parse().expect("a name");
        hints
            .add(name, link.parse().expect("a value"))
            .expect("it may be a hint");
        Reply::Hints(hints)
    };
    let (sender, body) = stream_body(Box::new(Nobody));
    let slot = TrailerSlot::default();
    let mut response = Response::sentence(200.try_into().expect("a status"), "");
    response.body = ResponseBody::Stream(body);
    response.trailers = Some(Arc::clone(&slot));
    worker.answer(key, [hint("</a>"), hint("</b>"), response.into()]);
    sender.write(b"hello", || Bytes::from_static(b"hello"));
    let mut trailers = Trailers::default();
    let name = "digest".parse().expect("a name");
    trailers
        .add(name, "5d41".parse().expect("a value"))
        .expect("it may be one");
    slot.set(trailers).expect("it is set once");
    sender.end(false);

    let (early, parts, body) = told.recv_timeout(DEADLINE).expect("hyper is done in time");
    client.join().expect("it did not panic");
    let expected = [(103, "</a>".to_owned()), (103, "</b>".to_owned())];
    assert_eq!(early, expected);
    assert_eq!(parts.status, 200);
    let trailers = body.trailers().expect("there are trailers");
    assert_eq!(trailers["digest"], "5d41");
    assert_eq!(trailers.len(), 1);
    assert_eq!(body.to_bytes(), "hello");
}
