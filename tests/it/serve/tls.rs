//! TLS and HTTP/2, byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fanbus::actors::limits::Limits;
use fanbus::http::config::Config;

use crate::support::client::{Client, End};
use crate::support::handler::publish;
use crate::support::worker::{Setup, TestBus, Worker};
use crate::support::{DEADLINE, certificates, eventually};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The connection preface of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

fn with(config: Config) -> (TestBus, Worker) {
    let bus = TestBus::new();
    let setup = Setup {
        config,
        tls: Some(certificates::tls()),
        ..Setup::default()
    };
    let worker = Worker::with(bus.name(), setup);
    (bus, worker)
}

/// The first TLS message of a client.
fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    let mut client = certificates::client(b"http/1.1");
    client.write_tls(&mut hello).expect("memory takes all");
    hello
}

#[test]
fn a_client_that_stops_in_the_handshake_frees_its_connection_for_the_next() {
    let (_bus, worker) = with(Config {
        max_connections: 1,
        handshake_timeout: Duration::from_millis(300),
        ..Config::default()
    });
    let hello = client_hello();
    for said in [&hello[..0], &hello[..1], &hello[..hello.len() / 2], &hello] {
        let mut stuck = TcpStream::connect(worker.address).expect("somebody listens");
        stuck.write_all(said).expect("room");
        let mut next = Client::connect(worker.address);
        next.send_bytes(GET);
        assert_eq!(next.answer().body, b"hello\n");
        drop(next);
        stuck.set_read_timeout(Some(DEADLINE)).expect("not zero");
        // The server has sent its part, and closed.
        stuck.read_to_end(&mut Vec::new()).expect("the end");
    }
}

#[test]
fn a_client_in_the_handshake_does_not_delay_the_end_of_a_worker() {
    let long = Duration::from_secs(3600);
    let (_bus, worker) = with(Config {
        handshake_timeout: long,
        ..Config::default()
    });
    let mut silent = TcpStream::connect(worker.address).expect("somebody listens");
    // It waits in the queue behind the silent client: when it gets its response, the silent one is accepted, too.
    let mut other = Client::connect(worker.address);
    other.send_bytes(GET);
    assert_eq!(other.answer().body, b"hello\n");
    worker.shut_down(long);
    eventually("the worker's end", || worker.has_ended());
    silent.set_read_timeout(Some(DEADLINE)).expect("not zero");
    silent.read_to_end(&mut Vec::new()).expect("the end");
}

#[test]
fn a_plain_request_gets_a_plain_response() {
    let (_bus, worker) = with(Config::default());
    let mut plain = TcpStream::connect(worker.address).expect("somebody listens");
    plain.set_read_timeout(Some(DEADLINE)).expect("not zero");
    plain.write_all(GET).expect("room");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).expect("all of it");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("https://"), "{answer}");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The next frame: its kind, stream and payload.
#[track_caller]
fn next(client: &mut Client) -> (u8, u32, Vec<u8>) {
    let head = client.bytes(9);
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
    (head[3], stream, client.bytes(len as usize))
}

/// Reads frames up to one of this kind, and returns its stream.
#[track_caller]
fn until(client: &mut Client, wanted: u8) -> u32 {
    loop {
        let (kind, stream, _) = next(client);
        if kind == wanted {
            return stream;
        }
    }
}

#[test]
fn an_idle_http2_connection_gets_goaway_and_is_closed() {
    let (_bus, worker) = with(Config {
        max_connections: 1,
        keep_alive: Duration::from_millis(300),
        ..Config::default()
    });
    let mut idle = Client::connect_http2(worker.address);
    idle.send_bytes(&[PREFACE, &frame(kind::SETTINGS, 0, 0, b"")].concat());
    until(&mut idle, kind::SETTINGS);
    assert_eq!(until(&mut idle, kind::GOAWAY), 0);
    // The client does not answer the ping, and its connection is free nevertheless.
    let mut next = Client::connect(worker.address);
    next.send_bytes(GET);
    assert_eq!(next.answer().body, b"hello\n");
    assert_ne!(idle.end(), End::Reset);
}

#[test]
fn a_response_whose_client_opens_no_window_is_aborted() {
    let (_bus, worker) = with(Config {
        write_timeout: Duration::from_millis(300),
        ..Config::default()
    });
    let mut stingy = Client::connect_http2(worker.address);
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let settings = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    // :method GET, :scheme https, :authority a, :path /big (RFC 7541, appendix A).
    let head = b"\x82\x87\x01\x01a\x04\x04/big";
    let request = frame(kind::HEADERS, 0x5, 1, head);
    stingy.send_bytes(&[PREFACE, &settings, &request].concat());
    assert_eq!(until(&mut stingy, kind::HEADERS), 1);
    assert_eq!(until(&mut stingy, kind::RST_STREAM), 1);
}

#[test]
fn an_event_stream_whose_client_opens_no_window_is_aborted_and_others_are_not() {
    const COUNT: usize = 100;
    const SLOW: u32 = 1;
    const QUICK: u32 = 3;
    let bus = TestBus::new();
    let limits = Limits {
        max_queue_bytes: 256 * 1024,
        ..Limits::default()
    };
    let worker = Worker::with(
        bus.name(),
        Setup {
            limits,
            tls: Some(certificates::tls()),
            ..Setup::default()
        },
    );
    let mut client = Client::connect_http2(worker.address);
    let window = |stream| frame(kind::WINDOW_UPDATE, 0, stream, &(1u32 << 30).to_be_bytes());
    // :method GET, :scheme https, :authority a, :path /events/t (RFC 7541, appendix A).
    let head = b"\x82\x87\x01\x01a\x04\x09/events/t";
    let ask = |stream| frame(kind::HEADERS, 0x5, stream, head);
    let settings = frame(kind::SETTINGS, 0, 0, b"");
    let all = [ask(SLOW), ask(QUICK), window(0), window(QUICK)].concat();
    client.send_bytes(&[PREFACE, &settings, &all].concat());
    assert_eq!(until(&mut client, kind::HEADERS), SLOW);
    assert_eq!(until(&mut client, kind::HEADERS), QUICK);

    let mut text = Vec::new();
    let mut read = |client: &mut Client, wanted: &[u8]| {
        while !text.windows(wanted.len()).any(|window| window == wanted) {
            match next(client) {
                (kind::DATA, QUICK, piece) => text.extend_from_slice(&piece),
                (kind, stream, _) => assert!(kind != kind::RST_STREAM || stream == SLOW),
            }
        }
        text.clear();
    };
    for number in 0..COUNT {
        let message = format!("{number}<{}>", "x".repeat(20_000));
        publish(&bus.bus, "t", message.as_bytes(), 0);
        read(&mut client, b"x>\n\n");
    }
    // The client reads on, and finds that the stream is incomplete.
    client.send_bytes(&window(SLOW));
    assert_eq!(until(&mut client, kind::RST_STREAM), SLOW);
    publish(&bus.bus, "t", b"still here", 0);
    read(&mut client, b"still here\n\n");
}
