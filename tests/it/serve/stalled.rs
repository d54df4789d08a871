//! Clients that take nothing any more.

use std::thread;
use std::time::Duration;

use fanbus::actors::limits::Limits;
use fanbus::ipc::BusOptions;

use super::setup;
use crate::support::client::{Client, End, frame, opcode};
use crate::support::handler::publish;
use crate::support::worker::{Setup, TestBus, Worker};

/// A worker whose queues never overflow: what ends a session here is not that.
fn with(timeout: Option<Duration>) -> (TestBus, Worker) {
    let bus = TestBus::with(&BusOptions::default());
    let limits = Limits {
        heartbeat_interval: None,
        timeout,
        max_queue_bytes: 1 << 30,
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    (bus, worker)
}

#[test]
fn a_client_that_takes_nothing_for_the_timeout_is_closed_although_it_goes_on_speaking() {
    let (_bus, worker) = with(Some(Duration::from_millis(600)));
    let mut client = Client::connect_narrow(worker.address).opened("/handler/usual");
    client.text(&format!("say-times 100 {}", "x".repeat(10_000)));
    // It is heard all the time: silence is not what ends it.
    let mut speaker = client.sender();
    let speaks = thread::spawn(move || while speaker.try_send(&frame(true, opcode::PONG, b"")) {});
    assert_eq!(worker.saw_closed(), 1001);

    // Whoever reads after all learns why, behind the frame that it had seen the beginning of.
    let close = loop {
        let frame = client.frame();
        if frame.opcode == opcode::CLOSE {
            break frame.payload;
        }
        assert_eq!(frame.payload.len(), 10_000);
    };
    let (code, reason) = close.split_at(2);
    assert_eq!(code, 1001_u16.to_be_bytes());
    assert_eq!(reason, b"nothing could be sent for 0.6 s");
    client.close_quietly();
    client.end();
    speaks.join().expect("it ends with the connection");
}

#[test]
fn client_that_stops_in_the_middle_of_a_frame_delays_no_other_and_may_continue() {
    const COUNT: usize = 70;
    let (bus, worker) = with(None);
    let mut stops = Client::connect_narrow(worker.address).opened("/relay/room");
    let mut half = Client::open(worker.address, "/relay/room");
    let mut others = [(); 3].map(|()| Client::open(worker.address, "/relay/room"));
    let message = |number: usize| format!("{number:>60000}");

    // One takes half a frame, the other sends half a frame.
    publish(&bus.bus, "room:room", message(0).as_bytes(), 0);
    let begun = stops.bytes(30_000);
    let whole = frame(true, opcode::TEXT, b"in two halves");
    half.send_bytes(&whole[..10]);
    // Four megabytes are more than all buffers on the way take.
    for number in 1..COUNT {
        publish(&bus.bus, "room:room", message(number).as_bytes(), 0);
    }
    for client in others.iter_mut().chain([&mut half]) {
        for number in 0..COUNT {
            assert_eq!(client.message(), message(number));
        }
    }

    stops.give_back(begun);
    half.send_bytes(&whole[10..]);
    for number in 0..COUNT {
        assert_eq!(stops.message(), message(number));
    }
    assert_eq!(stops.message(), "in two halves");
    stops.close(1000);
    assert_eq!(stops.closed().1, 1000);
    assert_eq!(stops.end(), End::Finished);
}
