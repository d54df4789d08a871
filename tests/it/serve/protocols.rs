//! A protocol in Rust with state of its own: all that the seam offers is enough to write it, and nothing but
//! this file and its registration knows it.

use std::borrow::Cow;
use std::sync::Arc;

use fanbus::actors::close::CloseCause;
use fanbus::actors::frame::Kind;
use fanbus::actors::protocol::{Accept, Handshake, Protocol, SessionContext};
use fanbus::actors::rejection::Rejection;
use fanbus::actors::topic::Topic;

use super::setup;
use crate::support::client::{Client, opcode};
use crate::support::handler::publish;

use crate::support::worker::{Setup, TestBus, Worker};

/// A route of rooms. The room "closed" rejects its clients.
#[derive(Debug)]
struct Rooms;

impl Accept for Rooms {
    fn start(&self, handshake: &Handshake<'_>) -> Result<Box<dyn Protocol>, Rejection> {
        let name = handshake.values[0].to_string();
        if name == "closed" {
            return Err(Rejection::new(403, "This room is closed."));
        }
        assert_eq!(handshake.path, format!("/protocol/{name}"));
        assert!((handshake.header)("host").is_some());
        assert_eq!(handshake.subprotocol, None);
        let topic = Topic::new(&format!("room:{name}")).expect("a topic");
        let messages = 0;
        Ok(Box::new(Room { topic, messages }))
    }
}

/// A client in a room. It counts the messages of its client.
struct Room {
    topic: Topic,
    messages: usize,
}

impl Protocol for Room {
    fn opened(&mut self, session: &mut SessionContext<'_>) -> Result<(), CloseCause> {
        session.subscribe(self.topic.clone());
        session.reply_in_parts(Kind::Text, [b"welcome to ", self.topic.as_str().as_bytes()]);
        match self.topic.as_str() {
            "room:full" => Err(close(4001, "the room is full".to_owned())),
            _ => Ok(()),
        }
    }

    fn message(
        &mut self,
        kind: Kind,
        payload: Cow<'_, [u8]>,
        session: &mut SessionContext<'_>,
    ) -> Result<(), CloseCause> {
        self.messages += 1;
        let text = String::from_utf8(payload.into_owned()).expect("tests speak text");
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("all", text) => drop(session.publish(&self.topic, kind, text.as_bytes())?),
            ("others", text) => {
                session.publish_to_others(&self.topic, kind, text.as_bytes())?;
            }
            ("count", _) => session.reply(kind, self.messages.to_string().as_bytes()),
            ("leave", _) => {
                session.unsubscribe(self.topic.clone());
                session.reply(kind, b"left");
            }
            ("join", name) => {
                let topic = Topic::new(&format!("room:{name}")).expect("a topic");
                session.subscribe(topic);
                session.reply(kind, b"joined");
            }
            ("stop", _) => session.pause(),
            ("bye", _) => {
                session.reply(kind, b"goodbye");
                return Err(close(4000, format!("after {} messages", self.messages)));
            }
            (other, _) => panic!("no such verb: {other}"),
        }
        Ok(())
    }

    fn closed(&mut self, cause: &CloseCause, session: &mut SessionContext<'_>) {
        let text = format!("gone with {}", cause.code());
        let published = session.publish(&self.topic, Kind::Text, text.as_bytes());
        published.expect("the bus takes it");
    }
}

fn close(code: u16, reason: String) -> CloseCause {
    CloseCause::Application { code, reason }
}

fn worker(bus: &TestBus) -> Worker {
    let protocol: Arc<dyn Accept> = Arc::new(Rooms);
    let setup = Setup {
        protocol: Some(protocol),
        compression: true,
        ..setup()
    };
    Worker::with(bus.name(), setup)
}

/// A client that has been welcomed.
fn welcomed(mut client: Client, name: &str) -> Client {
    assert_eq!(client.message(), format!("welcome to room:{name}"));
    client
}

fn open(worker: &Worker, name: &str) -> Client {
    let client = Client::open(worker.address, &format!("/protocol/{name}"));
    welcomed(client, name)
}

#[test]
fn each_session_has_its_own_state_and_replies_in_order() {
    let bus = TestBus::new();
    let worker = worker(&bus);
    let (mut one, mut other) = (open(&worker, "a"), open(&worker, "a"));
    for expected in ["1", "2", "3"] {
        one.text("count");
        assert_eq!(one.message(), expected);
    }
    other.text("count");
    assert_eq!(other.message(), "1");
}

#[test]
fn a_session_is_subscribed_before_its_client_is_connected() {
    let bus = TestBus::new();
    let worker = worker(&bus);
    for round in 0..50 {
        let mut client = Client::open(worker.address, "/protocol/a");
        let text = round.to_string();
        publish(&bus.bus, "room:a", text.as_bytes(), 0);
        assert_eq!(client.message(), "welcome to room:a");
        assert_eq!(client.message(), text);
        client.close(1000);
        assert_eq!(client.closed().1, 1000);
    }
}

#[test]
fn a_session_publishes_to_all_and_to_others() {
    let bus = TestBus::new();
    let workers = [worker(&bus), worker(&bus)];
    let (mut one, mut other) = (open(&workers[0], "a"), open(&workers[1], "a"));
    one.text("others first");
    one.text("all second");
    assert_eq!(one.message(), "second");
    assert_eq!(other.message(), "first");
    assert_eq!(other.message(), "second");
}

#[test]
fn a_session_subscribes_and_unsubscribes_at_the_offset_of_the_call() {
    let bus = TestBus::new();
    let worker = worker(&bus);
    let mut client = open(&worker, "a");
    // In one write: the published message comes before the end of the subscription, the last one after it.
    for _ in 0..50 {
        for text in ["all before", "leave", "all after", "join a", "all again"] {
            client.text(text);
        }
        let mut messages: Vec<String> = (0..4).map(|_| client.message()).collect();
        messages.sort_unstable();
        assert_eq!(messages, ["again", "before", "joined", "left"]);
    }
    client.text("join b");
    assert_eq!(client.message(), "joined");
    publish(&bus.bus, "room:b", b"from b", 0);
    assert_eq!(client.message(), "from b");
}

#[test]
fn a_session_closes_with_its_code_behind_its_replies_and_reports_the_end() {
    let bus = TestBus::new();
    let worker = worker(&bus);
    let (mut one, mut other) = (open(&worker, "a"), open(&worker, "a"));
    one.text("count");
    assert_eq!(one.message(), "1");
    one.text("bye");
    assert_eq!(one.message(), "goodbye");
    let frame = one.frame();
    assert_eq!(frame.opcode, opcode::CLOSE);
    assert_eq!(frame.payload[..2], 4000_u16.to_be_bytes());
    assert_eq!(frame.payload[2..], *b"after 2 messages");
    assert_eq!(other.message(), "gone with 4000");
    one.reset();
    open(&worker, "a").reset();
    assert_eq!(other.message(), "gone with 1006");
}

#[test]
fn a_session_closes_when_it_opens() {
    let bus = TestBus::new();
    let worker = worker(&bus);
    let (_, code) = open(&worker, "full").closed();
    assert_eq!(code, 4001);
}

#[test]
fn a_route_rejects_a_client_with_a_status() {
    let bus = TestBus::new();
    let worker = worker(&bus);
    let answer = Client::refused(worker.address, "/protocol/closed");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.body, b"This room is closed.");
}

#[test]
fn replies_are_compressed_for_a_client_that_wants_it() {
    let bus = TestBus::new();
    let worker = worker(&bus);
    let name = "x".repeat(200);
    let client = Client::open_deflating(worker.address, &format!("/protocol/{name}"));
    let mut client = welcomed(client, &name);
    client.text("count");
    assert_eq!(client.message(), "1");
}

#[test]
fn a_paused_session_reads_nothing() {
    let bus = TestBus::new();
    let worker = worker(&bus);
    let mut client = open(&worker, "a");
    client.text("stop");
    publish(&bus.bus, "room:a", b"published", 0);
    assert_eq!(client.message(), "published", "it still gets messages");
    client.text("all unread");
    publish(&bus.bus, "room:a", b"more", 0);
    assert_eq!(client.message(), "more");
}
