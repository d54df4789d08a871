//! What a worker holds for connections that do nothing, or nothing good: little, and nothing of it afterwards.
//!
//! A binary of its own, because its allocator counts the bytes that are in use, of all threads. Clients hold none but
//! their sockets.

#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

#[path = "it/support/mod.rs"]
#[allow(dead_code, reason = "these tests use a part of it")]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fanbus::http::config::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::worker::{Setup, TestBus, Worker};
use support::{DEADLINE, eventually};

/// The system's allocator. It counts what is in use.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: isize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: all of it is the system allocator's; counting touches no memory that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the promises of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// One test at a time: they count the same bytes.
static ALONE: Mutex<()> = Mutex::new(());

const GET: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nCookie: a=b; c=d\r\n\r\n";

/// What tables, threads for disks and other tests' ends may keep or give back meanwhile.
const SLACK: isize = 128 << 10;

/// A worker whose bodies may have 4 MiB in memory together, half of it while they come.
fn worker() -> (TestBus, Worker) {
    let bus = TestBus::new();
    let config = Config {
        max_body_bytes: 1 << 20,
        body_memory_bytes: 4 << 20,
        body_timeout: Duration::from_secs(600),
        keep_alive: Duration::from_secs(600),
        ..Config::default()
    };
    let setup = Setup {
        config,
        ..Setup::default()
    };
    let worker = Worker::with(bus.name(), setup);
    (bus, worker)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("it listens");
    client.set_nodelay(true).expect("a TCP socket");
    client.set_read_timeout(Some(DEADLINE)).expect("not zero");
    client.set_write_timeout(Some(DEADLINE)).expect("not zero");
    client
}

/// Reads until this ends what came.
fn read_until(client: &mut TcpStream, end: &[u8]) {
    let (mut buffer, mut len) = ([0; 1024], 0);
    while !buffer[..len].ends_with(end) {
        let count = client.read(&mut buffer[len..]).expect("it answers in time");
        assert!(
            count > 0,
            "it ends: {:?}",
            String::from_utf8_lossy(&buffer[..len])
        );
        len += count;
    }
}

/// The status of a response whose connection ends. What follows its head is passed over.
fn status_before_the_end(client: &mut TcpStream) -> u16 {
    let mut head = [0; 12];
    client.read_exact(&mut head).expect("it answers in time");
    let mut rest = [0; 1024];
    // An error: it is reset behind its answer.
    while matches!(client.read(&mut rest), Ok(1..)) {}
    let status = str::from_utf8(&head[9..]).expect("digits");
    status.parse().expect("a status")
}

/// Does it twice, and checks that afterwards no more is in use than before. Once before that, for tables that grow. The
/// most that was in use at a time.
fn check(worker: &Worker, mut with: impl FnMut(SocketAddr)) -> isize {
    with(worker.address);
    let begin = settled();
    let mut most = 0;
    for _ in 0..2 {
        PEAK.store(LIVE.load(Relaxed), Relaxed);
        with(worker.address);
        most = most.max(PEAK.load(Relaxed) - begin);
        eventually("what was in use is given back", || {
            LIVE.load(Relaxed) <= begin + SLACK
        });
    }
    most
}

/// What is in use when nothing changes any more.
fn settled() -> isize {
    let (mut last, mut same) = (LIVE.load(Relaxed), 0);
    eventually("it comes to rest", || {
        let now = LIVE.load(Relaxed);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same >= 50
    });
    last
}

#[test]
fn an_idle_connection_costs_less_than_two_kibibytes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("each process has one");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    // Both ends are ours. Some are for the rest of the process.
    let count =
        usize::try_from(hard).map_or(10_000, |hard| (hard.saturating_sub(500) / 2).min(10_000));
    let (_bus, worker) = worker();
    let mut clients = Vec::with_capacity(count);
    let most = check(&worker, |address| {
        let begin = settled();
        for _ in 0..count {
            let mut client = connect(address);
            client.write_all(GET).expect("it takes a head");
            read_until(&mut client, b"\r\n\r\nhello\n");
            clients.push(client);
        }
        let each = (settled() - begin) / count as isize;
        eprintln!("{count} idle connections, {each} bytes each");
        assert!(each <= 2048, "{each} bytes each");
        clients.clear();
    });
    assert!(most <= 2 * 2048 * count as isize, "{most} bytes");
}

#[test]
fn slow_bodies_have_the_memory_for_bodies_and_a_little_each() {
    const COUNT: usize = 200;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_bus, worker) = worker();
    let mut clients = Vec::with_capacity(COUNT);
    let piece = vec![b'x'; 200_000];
    let most = check(&worker, |address| {
        let before = settled();
        for _ in 0..COUNT {
            let mut client = connect(address);
            let head = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
            // Together: a part of the body is read with the head.
            client
                .write_all(&[head, &piece[..]].concat())
                .expect("it takes a part of a body");
            clients.push(client);
        }
        let stalled = settled() - before;
        let bound = (2 << 20) + COUNT as isize * (32 << 10);
        eprintln!("slow bodies: {stalled} bytes");
        assert!(
            stalled <= bound,
            "{stalled} bytes for {COUNT} bodies that wait"
        );
        // Another request is answered meanwhile.
        let mut other = connect(address);
        other.write_all(GET).expect("it takes a head");
        read_until(&mut other, b"\r\n\r\nhello\n");
        clients.clear();
    });
    // While they are read, what came with each head, and a piece of each on its way to its file.
    let bound = (4 << 20) + COUNT as isize * (96 << 10);
    assert!(most <= bound, "{most} bytes for bodies of 40 MB");
}

#[test]
fn endless_bodies_are_refused_and_cost_nothing_more() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_bus, worker) = worker();
    let chunk = [&b"10000\r\n"[..], &vec![b'x'; 0x10000], b"\r\n"].concat();
    let most = check(&worker, |address| {
        for path in ["/body", "/none", "/held"] {
            for _ in 0..20 {
                let mut client = connect(address);
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                );
                client.write_all(head.as_bytes()).expect("it takes a head");
                // Until it has enough. Far more than it may have, and than the kernel takes.
                let sent = (0..1000)
                    .take_while(|_| client.write_all(&chunk).is_ok())
                    .count();
                assert!(sent < 1000, "64 MB are taken");
            }
        }
    });
    eprintln!("endless bodies: {most}");
    assert!(most <= 8 << 20, "{most} bytes");
}

#[test]
fn what_is_refused_leaves_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_bus, worker) = worker();
    let line = format!("X: {}\r\n", "y".repeat(1000));
    let large = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        line.repeat(70)
    );
    let refused: [(&[u8], u16); 5] = [
        (b"\x16\x03\x01\r\n\r\n", 400),
        (large.as_bytes(), 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (
            b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
            413,
        ),
        (
            b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx",
            400,
        ),
    ];
    let most = check(&worker, |address| {
        for (bytes, expected) in refused {
            for _ in 0..100 {
                let mut client = connect(address);
                // An error: it has refused already.
                let _ = client.write_all(bytes);
                assert_eq!(status_before_the_end(&mut client), expected);
            }
        }
    });
    eprintln!("refused: {most}");
    assert!(most <= 4 << 20, "{most} bytes");
}
