//! Several workers on one bus: exactly once, in one order, whoever dies.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fanbus::ipc::{BusOptions, Next};

use crate::support::client::Client;
use crate::support::handler::publish;
use crate::support::worker::{Setup, TestBus, Worker};
use crate::support::{DEADLINE, eventually};

/// Clients on all workers, publishers on all workers and beside them.
fn everybody_gets_everything_once_in_one_order(workers: usize) {
    const EACH: usize = 500;
    let bus = TestBus::new();
    let workers: Vec<_> = (0..workers).map(|_| Worker::start(&bus)).collect();
    let addresses: Vec<_> = workers.iter().map(|worker| worker.address).collect();
    let mut clients: Vec<_> = (0..40)
        .map(|number| Client::open(addresses[number % addresses.len()], "/relay/all"))
        .collect();
    let publishers = 2 * workers.len() + 1;
    thread::scope(|scope| {
        for number in 1..publishers {
            let address = addresses[number % addresses.len()];
            scope.spawn(move || {
                let mut client = Client::open(address, "/relay/all");
                for message in 0..EACH {
                    client.text(&format!("{number} {message}"));
                }
                // It leaves when it has seen that the last one arrived.
                while client.message() != format!("{number} {}", EACH - 1) {}
            });
        }
        for message in 0..EACH {
            publish(&bus.bus, "room:all", format!("0 {message}").as_bytes(), 0);
        }
    });

    let mut orders = clients.iter_mut().map(|client| {
        let count = publishers * EACH;
        (0..count).map(|_| client.message()).collect::<Vec<_>>()
    });
    let first = orders.next().expect("40 clients");
    assert!(orders.all(|order| order == first), "one order for all");
    for publisher in 0..publishers {
        let prefix = format!("{publisher} ");
        let own = first.iter().filter_map(|text| text.strip_prefix(&prefix));
        assert!(
            own.eq((0..EACH).map(|message| message.to_string())),
            "{publisher}: each once"
        );
    }
    // And nothing came twice at the end.
    publish(&bus.bus, "room:all", b"end", 0);
    assert!(clients.iter_mut().all(|client| client.message() == "end"));
}

#[test]
fn two_workers_deliver_each_message_once_in_one_order() {
    everybody_gets_everything_once_in_one_order(2);
}

#[test]
fn four_workers_deliver_each_message_once_in_one_order() {
    everybody_gets_everything_once_in_one_order(4);
}

#[test]
fn large_messages_of_all_workers_reach_all_clients() {
    let bus = TestBus::with(&BusOptions::default());
    let workers = [(); 2].map(|()| Worker::start(&bus));
    let mut clients = [0, 0, 1, 1].map(|at: usize| Client::open(workers[at].address, "/relay/all"));
    let sizes = [1, 128, 64 * 1024, 1 << 20];
    for size in sizes {
        for sender in 0..clients.len() {
            clients[sender].text(&sender.to_string().repeat(size));
            for client in &mut clients {
                assert!(client.message() == sender.to_string().repeat(size));
            }
        }
    }
}

/// Not a test: what [`Process::start`] runs.
#[test]
#[ignore = "the body of a worker process"]
fn a_process_of_its_own() {
    let Ok(bus) = std::env::var("FANBUS_TEST_BUS") else {
        return;
    };
    let worker = Worker::with(&bus, Setup::default());
    eprintln!("serving at {}", worker.address);
    // Until the test closes the other end, by dying if need be.
    let _ = std::io::stdin().lines().count();
}

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(bus: &TestBus) -> Self {
        let program = std::env::current_exe().expect("this program");
        let body = "serve::workers::a_process_of_its_own";
        let mut child = Command::new(program)
            .args(["--exact", body, "--ignored", "--nocapture"])
            .env("FANBUS_TEST_BUS", bus.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("serving at ")?.to_owned()));
        let address = address.expect("it says where it serves");
        Self {
            child,
            address: address.parse().expect("an address"),
        }
    }

    /// SIGKILL: it gets no chance to clean up.
    fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn when_a_worker_is_killed_the_clients_of_the_other_miss_nothing_that_was_committed() {
    let bus = TestBus::new();
    let survivor = Process::start(&bus);
    // They read all the time: a load that waits for a slow machine is more than an outbox holds.
    let clients = [(); 4].map(|()| {
        let mut client = Client::open(survivor.address, "/relay/all");
        let (tell, messages) = mpsc::channel();
        thread::spawn(move || while tell.send(client.message()).is_ok() {});
        messages
    });
    let mut log = bus.bus.subscriber();
    for round in 0..4 {
        let mut victim = Process::start(&bus);
        let senders = [victim.address, victim.address, survivor.address].map(|address| {
            let mut reader = Client::open(address, "/relay/all");
            let mut sender = reader.sender();
            // Its reader keeps the session from overflowing.
            thread::spawn(move || while reader.next().is_ok() {});
            thread::spawn(move || {
                // The one on the survivor stops by itself; the others when their worker is dead.
                let sent = (0..3000).take_while(|number| {
                    let text = format!("{round} {number} {}", "x".repeat(number % 300));
                    let frame = crate::support::client::frame(true, 1, text.as_bytes());
                    sender.try_send(&frame)
                });
                let sent = sent.count();
                sender.close_quietly();
                sent
            })
        });
        // It dies in the middle of the load.
        let begun = bus.bus.end() + 200 * (round + 1);
        eventually("load", || bus.bus.end() >= begun);
        victim.kill();
        let sent = senders.map(|sender| sender.join().expect("no panic in there"));
        assert!(sent.iter().any(|&count| count < 3000) || sent[2] == 3000);
        eventually("the survivor's own publisher", || {
            bus.bus.reap();
            let before = bus.bus.end();
            thread::sleep(Duration::from_millis(20));
            bus.bus.end() == before
        });
        publish(
            &bus.bus,
            "room:all",
            format!("end of {round}").as_bytes(),
            0,
        );

        let mut committed = Vec::new();
        loop {
            let mut frame = Vec::new();
            match log.next(|_| true, &mut frame) {
                Next::Record(_) => committed.push(payload(&frame)),
                Next::Skipped => {}
                Next::Empty => break,
                Next::Lagged(missed) => panic!("the test itself missed {missed}"),
            }
        }
        assert!(committed.len() > 200);
        for client in &clients {
            for expected in &committed {
                let message = client.recv_timeout(DEADLINE).expect("another message");
                assert_eq!(&message, expected);
            }
        }
    }
}

/// The text in a server's frame.
fn payload(frame: &[u8]) -> String {
    let header = if frame[1] < 126 { 2 } else { 4 };
    String::from_utf8(frame[header..].to_vec()).expect("text")
}
