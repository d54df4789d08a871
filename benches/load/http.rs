//! Mode `http`: GET, over and over, on connections that stay.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::Outcome;
use crate::client::{is_disconnect, wait};
use crate::net::head_len;
use crate::options::Options;
use crate::report::{Meter, Report};

const TICK: Duration = Duration::from_millis(10);

/// A connection with one request under way, or closed.
struct Connection {
    stream: TcpStream,
    since_ns: u64,
    response: Vec<u8>,
    awaits: bool,
}

pub(crate) fn run(options: &Options) -> Outcome<Report> {
    let target = &options.target;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
        target.path, target.host
    );
    let request = request.as_bytes();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut events = vec![EpollEvent::empty(); options.connections];
    let mut buffer = vec![0; 64 * 1024];
    let mut connections = Vec::with_capacity(options.connections);
    for index in 0..options.connections {
        let stream = target.connect(index)?;
        stream.set_nonblocking(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        connections.push(Connection {
            stream,
            since_ns: 0,
            response: Vec::new(),
            awaits: true,
        });
    }

    let mut meter = Meter::new(options)?;
    meter.restart();
    for connection in &mut connections {
        connection.since_ns = meter.now_ns();
        connection.stream.write_all(request)?;
    }
    let mut missing = 0;
    let mut deadline = None;
    while connections.iter().any(|connection| connection.awaits) {
        let goes_on = meter.goes_on();
        if !goes_on {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + options.patience);
            if Instant::now() >= deadline {
                break;
            }
        }
        for event in wait(&epoll, &mut events, TICK)? {
            let connection = &mut connections[event.data() as usize];
            let len = match connection.stream.read(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) if is_disconnect(&error) => 0,
                Err(error) => return Err(error.into()),
            };
            if len == 0 {
                missing += u64::from(connection.awaits);
                connection.awaits = false;
                epoll.delete(&connection.stream)?;
                continue;
            }
            connection.response.extend_from_slice(&buffer[..len]);
            let Some(whole) = response_len(&connection.response)? else {
                continue;
            };
            if connection.response.len() > whole {
                return Err("more than one response came to one request".into());
            }
            connection.response.clear();
            connection.awaits = false;
            let now_ns = meter.now_ns();
            meter.count(connection.since_ns, now_ns);
            if goes_on {
                connection.since_ns = now_ns;
                connection.awaits = true;
                connection.stream.write_all(request)?;
            }
        }
    }
    missing += connections
        .iter()
        .filter(|connection| connection.awaits)
        .count() as u64;

    let mut report = Report::default();
    report.add("connections", options.connections as f64, "");
    meter.report(&mut report, "responses", "us/response");
    report.add_fault("missing", missing);
    Ok(report)
}

/// The length of the response, if its head is whole and all of it has come.
fn response_len(response: &[u8]) -> Outcome<Option<usize>> {
    let Some(head_len) = head_len(response) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&response[..head_len])?;
    if !head.starts_with("HTTP/1.1 2") {
        return Err(format!("the server answered {}", head.lines().next().unwrap_or("?")).into());
    }
    let body_len = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>())
    });
    let whole = head_len + body_len.ok_or("the response has no Content-Length")??;
    Ok((response.len() >= whole).then_some(whole))
}
