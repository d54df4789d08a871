//! Event streams: who reads slowly, who goes and comes back, and what is left of them.

use std::thread;
use std::time::Duration;

use fanbus::actors::limits::Limits;
use fanbus::http::config::Config;
use fanbus::ipc::BusOptions;

use super::setup;
use crate::support::client::Client;
use crate::support::events::{Ending, Events};
use crate::support::handler::publish;
use crate::support::worker::{Setup, TestBus, Worker};
use crate::support::{DEADLINE, eventually};

/// Longer than any test waits: what ends earlier ends because nothing is left.
const LONG: Duration = DEADLINE.saturating_mul(2);

fn with(bus: &TestBus, limits: Limits) -> Worker {
    Worker::with(bus.name(), Setup { limits, ..setup() })
}

#[test]
fn a_reader_that_is_too_slow_is_cut_off_and_learns_what_it_missed() {
    const COUNT: usize = 400;
    let bus = TestBus::new();
    let limits = Limits {
        max_queue_bytes: 256 * 1024,
        ..Limits::default()
    };
    let worker = with(&bus, limits);
    let narrow = Client::connect_narrow(worker.address);
    let mut slow = Events::on(narrow, "t", None).expect("it is let in");
    let mut quick = Events::open(worker.address, "t", None);
    let text = |number: usize| format!("{number} {}", "x".repeat(50_000));
    for number in 0..COUNT {
        publish(&bus.bus, "t", text(number).as_bytes(), 0);
        assert_eq!(quick.message(), text(number), "the slow one delays nobody");
    }
    let mut got = 0;
    let ending = loop {
        match slow.next() {
            Ok(event) => assert_eq!(event.data, text(got)),
            Err(ending) => break ending,
        }
        got += 1;
    };
    assert_eq!(ending, Ending::Broken, "it must not look like all");
    assert!(got < COUNT, "20 MB cannot have waited for it");

    // It comes back, and is told where what it gets begins.
    let mut again = Events::open(worker.address, "t", Some(&slow.id));
    let gap = again.next().expect("an event");
    assert_eq!(gap.kind, "gap");
    let kept: usize = gap.data.parse().expect("a number");
    assert!((1..COUNT - got).contains(&kept), "{kept} after {got}");
    for number in COUNT - kept..COUNT {
        assert_eq!(again.message(), text(number));
    }
    publish(&bus.bus, "t", b"on", 0);
    assert_eq!(
        (again.message(), quick.message()),
        ("on".into(), "on".into())
    );
}

#[test]
fn a_client_that_has_stopped_gives_its_place_to_the_next() {
    let bus = TestBus::with(&BusOptions::default());
    let limits = Limits {
        timeout: None,
        max_connections: Some(1),
        max_queue_bytes: 1 << 30,
        ..Limits::default()
    };
    let config = Config {
        write_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let setup = Setup {
        limits,
        config,
        ..setup()
    };
    let worker = Worker::with(bus.name(), setup);
    let narrow = Client::connect_narrow(worker.address);
    let stuck = Events::on(narrow, "t", None).expect("it is let in");
    for _ in 0..100 {
        publish(&bus.bus, "t", "x".repeat(50_000).as_bytes(), 0);
    }
    let next = || Events::on(Client::connect(worker.address), "t", None);
    assert_eq!(next().err(), Some(503));
    eventually("room for another", || next().is_ok());
    drop(stuck);
}

#[test]
fn a_client_that_goes_leaves_its_place_however_it_goes() {
    let bus = TestBus::new();
    let limits = Limits {
        max_connections: Some(1),
        ..Limits::default()
    };
    let worker = with(&bus, limits);
    let open = || Events::on(Client::connect(worker.address), "t", None);
    // Nothing is published: the server must see it by itself.
    for goes in [drop::<Client>, |client: Client| client.reset()] {
        let mut stream = None;
        eventually("a place", || {
            stream = open().ok();
            stream.is_some()
        });
        assert_eq!(open().err(), Some(503), "it is taken");
        goes(stream.expect("it is let in").into_client());
    }
    eventually("a place", || open().is_ok());
}

#[test]
fn a_client_that_has_shut_down_its_sending_side_still_gets_events() {
    let bus = TestBus::new();
    let worker = with(&bus, Limits::default());
    let stream = Events::on(Client::connect(worker.address), "t", None).expect("it is let in");
    let mut stream = stream.half_closed();
    publish(&bus.bus, "t", b"still", 0);
    assert_eq!(stream.message(), "still");
}

#[test]
fn client_that_reconnects_to_any_worker_gets_each_message_once() {
    const COUNT: usize = 3000;
    let bus = TestBus::with(&BusOptions::default());
    let workers = [(); 2].map(|()| Worker::with(bus.name(), setup()));
    let mut stream = Events::open(workers[0].address, "t", None);
    let publisher = bus.bus.clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..COUNT {
                publish(&publisher, "t", number.to_string().as_bytes(), 0);
                publish(&publisher, "another", b"not for it", 0);
                if number % 50 == 0 {
                    thread::yield_now();
                }
            }
        });
        for number in 0..COUNT {
            assert_eq!(stream.message(), number.to_string());
            if number % 41 == 0 {
                let id = std::mem::take(&mut stream.id);
                stream = Events::open(workers[number % 2].address, "t", Some(&id));
            }
        }
    });
    // And nothing came twice at the end.
    publish(&bus.bus, "t", b"end", 0);
    assert_eq!(stream.message(), "end");
}

#[test]
fn a_worker_that_ends_ends_its_streams_and_they_go_on_at_another() {
    const COUNT: usize = 500;
    let bus = TestBus::new();
    let ending = with(&bus, Limits::default());
    let other = with(&bus, Limits::default());
    let mut streams = [(); 3].map(|()| Events::open(ending.address, "t", None));
    for number in 0..COUNT {
        publish(&bus.bus, "t", number.to_string().as_bytes(), 0);
    }
    for stream in &mut streams {
        assert_eq!(stream.message(), "0", "delivery has begun");
    }
    ending.shut_down(LONG);
    let mut after = streams.each_mut().map(|stream| {
        let mut next = 1;
        let ending = loop {
            match stream.next() {
                Ok(event) => assert_eq!(event.data, next.to_string()),
                Err(ending) => break ending,
            }
            next += 1;
        };
        assert_eq!(ending, Ending::Whole);
        (next, Events::open(other.address, "t", Some(&stream.id)))
    });
    drop(streams);
    eventually("the end", || ending.has_ended());
    for (next, stream) in &mut after {
        for number in *next..COUNT {
            assert_eq!(stream.message(), number.to_string());
        }
    }
}

#[test]
fn worker_does_not_end_later_because_of_an_unread_stream() {
    let bus = TestBus::new();
    let worker = with(&bus, Limits::default());
    let narrow = Client::connect_narrow(worker.address);
    let stuck = Events::on(narrow, "t", None).expect("it is let in");
    let mut quick = Events::open(worker.address, "t", None);
    for _ in 0..400 {
        publish(&bus.bus, "t", "x".repeat(50_000).as_bytes(), 0);
        quick.message();
    }
    worker.shut_down(Duration::from_millis(300));
    assert_eq!(quick.next(), Err(Ending::Whole));
    drop(quick);
    eventually("the end", || worker.has_ended());
    drop(stuck);
}
