//! Pipelined requests: each gets the response that it would get alone.

use std::collections::HashMap;
use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any};
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use super::setup;
use crate::support::client::{Client, without_dates};
use crate::support::worker::{TestBus, Worker};

/// A kind of request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Kind {
    bytes: &'static str,
    then: Then,
}

/// The state of the connection after the response.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Then {
    Kept,
    Closed,
    /// Frames of a WebSocket follow.
    Upgraded,
}

const fn kind(then: Then, bytes: &'static str) -> Kind {
    Kind { bytes, then }
}

const KINDS: [Kind; 14] = [
    kind(Then::Kept, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    kind(Then::Kept, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    kind(
        Then::Kept,
        "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345",
    ),
    kind(
        Then::Kept,
        "POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;a=b\r\nabc\r\n4\r\ndefg\r\n0\r\nA: b\r\n\r\n",
    ),
    kind(
        Then::Kept,
        "POST /body HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
         Content-Length: 6\r\n\r\nabcdef",
    ),
    kind(Then::Closed, "GET / HTTP/1.0\r\n\r\n"),
    kind(
        Then::Kept,
        "GET / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
    ),
    kind(
        Then::Closed,
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ),
    kind(
        Then::Upgraded,
        "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ),
    kind(
        Then::Upgraded,
        "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
         \u{1}\u{0}",
    ),
    kind(
        Then::Kept,
        "OPTIONS /body HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    kind(Then::Closed, "\u{16}\u{3}\u{1} garbage\r\n\r\n"),
    // A body without a reader, small and large.
    kind(
        Then::Kept,
        "POST /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nGET /",
    ),
    kind(
        Then::Closed,
        "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\nGET /",
    ),
];

/// Everything that the server sends for these chunks until it closes, without the parts that vary.
fn answers(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut client = Client::connect(address);
    for piece in pieces {
        // A server that has closed the connection does not accept the rest.
        if !client.try_send(piece) {
            break;
        }
    }
    // An error: the server has closed already.
    let _ = client.try_half_close();
    // Whether the client must wait for it depends on how its request is cut.
    without_dates(&client.rest()).replace("HTTP/1.1 100 Continue\r\n\r\n", "")
}

/// A worker, and the response to each kind of single request.
struct Alone {
    _bus: TestBus,
    worker: Worker,
    answers: HashMap<Kind, String>,
}

impl Alone {
    fn new() -> Self {
        let bus = TestBus::new();
        let worker = Worker::with(bus.name(), setup());
        let answer = |kind: Kind| {
            let answer = answers(worker.address, &[kind.bytes.as_bytes()]);
            let end = answer.find("\r\n\r\n").expect("a whole head") + 4;
            let answer = match kind.then {
                Then::Upgraded => answer[..end].to_owned(),
                _ => answer,
            };
            (kind, answer)
        };
        let answers = KINDS.into_iter().map(answer).collect();
        Self {
            _bus: bus,
            worker,
            answers,
        }
    }

    /// Compares the responses to a sequence with those to its single requests.
    fn check(&self, kinds: &[Kind], cuts: &[usize]) -> Result<(), String> {
        let bytes: String = kinds.iter().map(|kind| kind.bytes).collect();
        let bytes = bytes.as_bytes();
        let mut pieces = Vec::new();
        let mut from = 0;
        for to in cuts.iter().copied().chain([bytes.len()]) {
            pieces.push(&bytes[from..to]);
            from = to;
        }
        let answers = answers(self.worker.address, &pieces);
        let mut expected = String::new();
        let mut last = Then::Kept;
        for kind in kinds {
            expected.push_str(&self.answers[kind]);
            last = kind.then;
            if last != Then::Kept {
                break;
            }
        }
        let is_right = match last {
            Then::Upgraded => answers.starts_with(&expected),
            _ => answers == expected,
        };
        if is_right {
            Ok(())
        } else {
            Err(format!(
                "{kinds:?} cut at {cuts:?}:\nexpected {expected:?}\ngot {answers:?}"
            ))
        }
    }
}

#[test]
fn single_requests_get_the_responses_of_the_standard() {
    let alone = Alone::new();
    let statuses = KINDS.map(|kind| alone.answers[&kind][9..12].to_owned());
    let expected = [
        "200", "200", "200", "200", "200", "200", "200", "200", "101", "101", "204", "400", "404",
        "413",
    ];
    assert_eq!(statuses, expected);
    for kind in KINDS {
        let answer = &alone.answers[&kind];
        let says_so = answer.contains("connection: close\r\n");
        assert_eq!(says_so, kind.then == Then::Closed, "{answer}");
    }
    let old = KINDS.iter().find(|kind| kind.bytes.contains("keep-alive"));
    let old = &alone.answers[old.expect("it is there")];
    assert!(old.contains("connection: keep-alive\r\n"), "{old}");
}

#[test]
fn every_pair_of_requests_gets_the_responses_of_its_parts() {
    let alone = Alone::new();
    let mut wrong = Vec::new();
    for first in KINDS {
        for second in KINDS {
            wrong.extend(alone.check(&[first, second], &[]).err());
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn pairs_may_be_cut_at_every_byte() {
    let alone = Alone::new();
    let get = KINDS[0];
    for other in KINDS {
        for pair in [[get, other], [other, get]] {
            let len = pair.iter().map(|kind| kind.bytes.len()).sum::<usize>();
            for cut in 0..=len {
                if let Err(wrong) = alone.check(&pair, &[cut]) {
                    panic!("{wrong}");
                }
            }
        }
    }
}

#[test]
fn longer_sequences_cut_anywhere_agree_with_the_model() {
    let alone = Alone::new();
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let sequences = (vec(select(&KINDS[..]), 3..8), vec(any::<Index>(), 0..4));
    let checked = TestRunner::new(config).run(&sequences, |(kinds, cuts)| {
        let len = kinds.iter().map(|kind| kind.bytes.len()).sum::<usize>();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(len)).collect();
        cuts.sort_unstable();
        alone
            .check(&kinds, &cuts)
            .map_err(proptest::test_runner::TestCaseError::fail)
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}
