//! Mode `handshake`: connect, upgrade, go.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use socket2::SockRef;

use crate::Outcome;
use crate::client::wait;
use crate::net::{Target, head_len, is_upgraded};
use crate::options::Options;
use crate::report::{Meter, Report};

const TICK: Duration = Duration::from_millis(10);

/// A handshake under way.
struct Attempt {
    stream: TcpStream,
    since_ns: u64,
    response: Vec<u8>,
}

/// Begins a connection without waiting for it.
fn begin(target: &Target, epoll: &Epoll, index: usize, since_ns: u64) -> Outcome<Attempt> {
    let socket = target.socket(0)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.address.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => {
            return Err(format!("cannot connect to {}: {error}", target.host).into());
        }
        _ => {}
    }
    let stream = TcpStream::from(socket);
    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLOUT, index as u64))?;
    Ok(Attempt {
        stream,
        since_ns,
        response: Vec::new(),
    })
}

pub(crate) fn run(options: &Options) -> Outcome<Report> {
    let target = &options.target;
    let request = target.upgrade_request();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut events = vec![EpollEvent::empty(); options.connections];
    let mut buffer = [0; 4096];
    let mut meter = Meter::new(options)?;
    meter.restart();
    let mut attempts = (0..options.connections)
        .map(|index| begin(target, &epoll, index, meter.now_ns()).map(Some))
        .collect::<Outcome<Vec<_>>>()?;
    let mut refused = 0;
    let mut deadline = None;
    while attempts.iter().any(Option::is_some) {
        let goes_on = meter.goes_on();
        if !goes_on {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + options.patience);
            if Instant::now() >= deadline {
                break;
            }
        }
        for event in wait(&epoll, &mut events, TICK)? {
            let index = event.data() as usize;
            let Some(attempt) = &mut attempts[index] else {
                continue;
            };
            if event.events() == EpollFlags::EPOLLOUT {
                // A new socket takes a request of this size whole; an error shows when reading.
                let _ = attempt.stream.write(&request);
                let mut readable = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
                epoll.modify(&attempt.stream, &mut readable)?;
                continue;
            }
            match attempt.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Ok(len) if len > 0 => {
                    attempt.response.extend_from_slice(&buffer[..len]);
                    if head_len(&attempt.response).is_none() {
                        continue;
                    }
                    if is_upgraded(&attempt.response) {
                        meter.count(attempt.since_ns, meter.now_ns());
                    } else {
                        refused += 1;
                    }
                }
                _ => refused += 1,
            }
            // A reset leaves no port waiting.
            SockRef::from(&attempt.stream).set_linger(Some(Duration::ZERO))?;
            attempts[index] = None;
            if goes_on {
                attempts[index] = Some(begin(target, &epoll, index, meter.now_ns())?);
            }
        }
    }

    let mut report = Report::default();
    report.add("connections", options.connections as f64, "");
    meter.report(&mut report, "handshakes", "us/handshake");
    report.add_fault(
        "missing",
        refused + attempts.iter().flatten().count() as u64,
    );
    Ok(report)
}
