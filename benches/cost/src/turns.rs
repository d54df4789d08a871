//! Whole turns of a worker, on real sockets: what its I/O thread executes in user space from a
//! client's message to everybody's.
//!
//! Each step waits for its answers, so that every step is a turn of its own. Marks would not do here,
//! since callgrind dumps only the thread that enters one: the same is walked for two lengths, and the
//! difference is what the further steps took. What starting and ending take is in neither.

use std::time::Duration;

use fanbus::actors::limits::Limits;

use crate::support::client::Client;
use crate::support::worker::{Setup, TestBus, Worker};

/// Where a turn begins: a message of a client of so many, or a request.
enum Turn {
    Echo,
    Relay {
        clients: usize,
        deflates: bool,
    },
    Request,
    /// So many requests of a turbo route in one write.
    Pipelined(usize),
    /// A WebSocket that is opened and left.
    Handshake,
}

const TURNS: [(&str, Turn); 7] = [
    ("turn: echo, 128 B", Turn::Echo),
    ("turn: relay of 128 B to 1", relay(1, false)),
    ("turn: relay of 128 B to 100", relay(100, false)),
    (
        "turn: relay of 128 B to 100, deflated once",
        relay(100, true),
    ),
    ("turn: HTTP request, handler in Rust", Turn::Request),
    (
        "turn: 16 pipelined HTTP requests, turbo",
        Turn::Pipelined(16),
    ),
    ("turn: handshake, and its client goes", Turn::Handshake),
];

const fn relay(clients: usize, deflates: bool) -> Turn {
    Turn::Relay { clients, deflates }
}

/// Prints the names, and the two lengths that each is walked for: fewer steps where each has more to do.
#[expect(clippy::print_stdout, reason = "the names are the output")]
pub(crate) fn list() {
    for (name, turn) in TURNS {
        let (few, many) = match turn {
            Turn::Relay { clients: 100, .. } => (10, 110),
            _ => (50, 350),
        };
        println!("{name}\t{few}\t{many}");
    }
}

/// Walks the turn of that name. False: there is none.
pub(crate) fn walk(name: &str, count: usize) -> bool {
    let Some((_, turn)) = TURNS.iter().find(|(other, _)| *other == name) else {
        return false;
    };
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let text = "x1y2".repeat(32);
    match turn {
        Turn::Echo => {
            let mut client = Client::open(worker.address, "/echo");
            repeat(count, || {
                client.text(&text);
                client.message();
            });
        }
        Turn::Relay { clients, deflates } => {
            let open = |_| match deflates {
                true => Client::open_deflating(worker.address, "/relay/hall"),
                false => Client::open(worker.address, "/relay/hall"),
            };
            let mut clients: Vec<Client> = (0..*clients).map(open).collect();
            // The first says it, all hear it.
            repeat(count, || {
                clients[0].text(&text);
                for client in &mut clients {
                    client.message();
                }
            });
        }
        Turn::Request => {
            let mut client = Client::connect(worker.address);
            repeat(count, || {
                client.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
                assert_eq!(client.answer().status, 200);
            });
        }
        Turn::Pipelined(requests) => {
            let mut client = Client::connect(worker.address);
            let batch = b"GET /kept HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(*requests);
            repeat(count, || {
                client.send_bytes(&batch);
                for _ in 0..*requests {
                    assert_eq!(client.answer().status, 200);
                }
            });
        }
        Turn::Handshake => repeat(count, || drop(Client::open(worker.address, "/echo"))),
    }
    true
}

fn repeat(count: usize, mut once: impl FnMut()) {
    (0..count).for_each(|_| once());
}

fn setup() -> Setup {
    Setup {
        compression: true,
        limits: Limits {
            // Under valgrind a minute is soon over, and a ping is no part of a turn.
            heartbeat_interval: Some(Duration::from_hours(1)),
            timeout: Some(Duration::from_hours(2)),
            ..Limits::default()
        },
        ..Setup::default()
    }
}
