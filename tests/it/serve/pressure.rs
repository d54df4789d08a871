//! Too much of everything: nobody pays for it but whoever does it.

use std::thread;

use fanbus::actors::limits::Limits;

use super::setup;
use crate::support::client::{Client, frame, opcode};
use crate::support::handler::publish;
use crate::support::worker::{Setup, TestBus, Worker};

#[test]
fn relays_cannot_publish_faster_than_their_own_worker_reads() {
    const EACH: usize = 60_000;
    let bus = TestBus::new();
    let limits = Limits {
        // So that nobody overflows here: it is about the worker itself.
        max_queue_bytes: 1 << 30,
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut listener = Client::open(worker.address, "/relay/all");
    let senders = [(); 3].map(|()| Client::open(worker.address, "/relay/all"));
    thread::scope(|scope| {
        for mut sender in senders {
            scope.spawn(move || {
                sender.send_bytes(&frame(true, opcode::BINARY, b"").repeat(EACH));
                // Its own messages come back behind all of that.
                sender.frame();
                sender.close(1000);
                assert_eq!(sender.closed().1, 1000);
            });
        }
        for number in 0..3 * EACH {
            assert_eq!(listener.frame().opcode, opcode::BINARY, "at {number}");
        }
    });
}

#[test]
fn large_messages_of_many_relays_do_not_overrun_their_own_worker() {
    let bus = TestBus::new();
    let largest = bus.bus.max_message_bytes();
    let limits = Limits {
        max_queue_bytes: 1 << 30,
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut listener = Client::open(worker.address, "/relay/all");
    let message = frame(true, opcode::BINARY, &vec![7; largest]);
    let mut senders = [(); 12].map(|()| Client::open(worker.address, "/relay/all"));
    for sender in &mut senders {
        sender.send_bytes(&message[..message.len() - 1]);
    }
    for sender in &mut senders {
        sender.send_bytes(&message[message.len() - 1..]);
    }
    for _ in 0..senders.len() {
        assert_eq!(listener.frame().payload.len(), largest);
    }
}

#[test]
fn a_client_that_floods_does_not_starve_the_others() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let floods = ["/echo", "/handler/deaf"].map(|path| {
        let mut reader = Client::open(worker.address, path);
        let mut sender = reader.sender();
        // The other gets no answer, however long that takes.
        let gets_answers = path == "/echo";
        let reads = thread::spawn(move || while gets_answers && reader.next().is_ok() {});
        let chunk = frame(true, opcode::BINARY, b"flood").repeat(10_000);
        let sends = thread::spawn(move || while sender.try_send(&chunk) {});
        (reads, sends)
    });
    let mut echo = Client::open(worker.address, "/echo");
    let mut relay = Client::open(worker.address, "/relay/room");
    for number in 0..200 {
        let text = number.to_string();
        echo.text(&text);
        assert_eq!(echo.message(), format!("Echo: {text}"));
        relay.text(&text);
        assert_eq!(relay.message(), text);
    }
    drop(worker);
    for (reads, sends) in floods {
        reads.join().expect("it reads to the end");
        sends.join().expect("it sends to the end");
    }
}

#[test]
fn an_echo_client_that_does_not_read_stops_being_read_from() {
    const COUNT: usize = 3000;
    let bus = TestBus::new();
    let limits = Limits {
        max_queue_bytes: 100_000,
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut client = Client::connect_narrow(worker.address).opened("/echo");
    let mut sender = client.sender();
    // Three megabytes are more than all buffers on the way take: the sender has to wait.
    let sends = thread::spawn(move || {
        for number in 0..COUNT {
            sender.text(&format!("{number:>1000}"));
        }
    });
    let mut other = Client::open(worker.address, "/echo");
    other.text("hi");
    assert_eq!(other.message(), "Echo: hi");
    assert!(!sends.is_finished());
    for number in 0..COUNT {
        assert_eq!(client.message(), format!("Echo: {number:>1000}"));
    }
    sends.join().expect("everything was taken");
}

#[test]
fn a_burst_on_the_bus_does_not_keep_sockets_from_being_read() {
    let bus = TestBus::with(&fanbus::ipc::BusOptions::default());
    let limits = Limits {
        max_queue_bytes: 1 << 30,
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut listeners = [(); 5].map(|()| Client::open(worker.address, "/relay/room"));
    let mut echo = Client::open(worker.address, "/echo");
    for number in 0..20_000 {
        publish(&bus.bus, "room:room", number.to_string().as_bytes(), 0);
    }
    echo.text("in between");
    assert_eq!(echo.message(), "Echo: in between");
    for listener in &mut listeners {
        for number in 0..20_000 {
            assert_eq!(listener.message(), number.to_string());
        }
    }
}
