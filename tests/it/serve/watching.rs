//! Sessions of turbo routes of which user code is told.

use std::sync::atomic::Ordering::SeqCst;

use fanbus::actors::session_key::SessionKey;

use crate::support::client::Client;
use crate::support::worker::{Seen, Setup, TestBus, Worker};

fn with(bus: &TestBus, watched: bool) -> Worker {
    let setup = Setup {
        watched,
        ..Setup::default()
    };
    Worker::with(bus.name(), setup)
}

fn opened(worker: &Worker) -> SessionKey {
    worker.saw("a session that is open", |seen| match seen {
        Seen::Opened(session) => Some(*session),
        _ => None,
    })
}

fn closed(worker: &Worker) -> (SessionKey, u16) {
    worker.saw("a session that is over", |seen| match seen {
        Seen::Closed(session, code) => Some((*session, *code)),
        _ => None,
    })
}

#[test]
fn a_watched_session_is_told_of_when_it_opens_and_ends_and_others_are_not() {
    let bus = TestBus::new();
    let unwatched = with(&bus, false);
    let mut nobody = Client::open(unwatched.address, "/echo");
    nobody.close(1000);
    assert_eq!(nobody.closed().1, 1000);
    nobody.end();

    let worker = with(&bus, true);
    for path in ["/echo", "/relay/room"] {
        let mut client = Client::open(worker.address, path);
        let session = opened(&worker);
        client.text("hello");
        assert!(client.message().ends_with("hello"));
        client.reset();
        assert_eq!(closed(&worker), (session, 1006), "{path}");
        let mut client = Client::open(worker.address, path);
        let session = opened(&worker);
        client.close(3000);
        assert_eq!(closed(&worker), (session, 3000), "{path}");
    }

    // What would have been told of the first one is told before this.
    let last = Client::open(unwatched.address, "/handler/usual");
    last.reset();
    assert_eq!(closed(&unwatched).1, 1006);
}

#[test]
fn a_client_is_refused_when_too_many_are_watched_or_the_mailbox_is_full() {
    let bus = TestBus::new();
    let worker = with(&bus, true);
    for limit in [&worker.has_room, &worker.watches] {
        limit.store(false, SeqCst);
        assert_eq!(Client::refused(worker.address, "/echo").status, 503);
        limit.store(true, SeqCst);
    }
    let mut client = Client::open(worker.address, "/echo");
    client.text("in");
    assert_eq!(client.message(), "Echo: in");
}
