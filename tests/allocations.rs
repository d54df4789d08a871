//! What a worker's I/O thread takes from the allocator once it is warm. Nothing for a delivery:
//! the figures may grow with time (its timers), never with messages times sessions.
//!
//! A binary of its own, because its allocator counts.

#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]

#[path = "it/support/mod.rs"]
#[allow(dead_code, reason = "these tests use a part of it")]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use fanbus::actors::session_key::SessionKey;
use fanbus_bench::{Floor, Mode, Options, Progress};
use support::client::{Client, opcode};
use support::handler::publish;
use support::worker::{Setup, TestBus, Worker};

/// The system's allocator. It counts what threads take that have asked for it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Where this thread is counted. No destructor, and nothing to initialise: an allocator may use it.
    static COUNT: Cell<Option<&'static AtomicUsize>> = const { Cell::new(None) };
}

fn count_one() {
    if let Some(count) = COUNT.get() {
        count.fetch_add(1, Relaxed);
    }
}

// SAFETY: all of it is the system allocator's; counting touches no memory that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps the promises of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

const SESSIONS: usize = 16;
const WARM_UP: usize = 200;
const MESSAGES: usize = 1000;

/// What timers may take while [`MESSAGES`] go by, on a machine that is busy. Usually it is nothing.
const MOST: usize = 20;

/// What a message takes that is deflated, whoever gets it.
const DEFLATED: usize = 3;

/// A worker whose I/O thread is counted.
struct Scene {
    worker: Worker,
    count: &'static AtomicUsize,
    /// Dropped last: the worker is a member of it.
    _bus: TestBus,
}

impl Scene {
    fn start(compression: bool) -> Self {
        let bus = TestBus::new();
        let count: &'static AtomicUsize = Box::leak(Box::default());
        let setup = Setup {
            compression,
            on_thread: Some(Arc::new(|| COUNT.set(Some(count)))),
            ..Setup::default()
        };
        let worker = Worker::with(bus.name(), setup);
        Self {
            worker,
            count,
            _bus: bus,
        }
    }

    fn sessions(&self, path: &str) -> Vec<Client> {
        let open = |_| Client::open(self.worker.address, path);
        (0..SESSIONS).map(open).collect()
    }

    fn deflating_sessions(&self, path: &str) -> Vec<Client> {
        let open = |_| Client::open_deflating(self.worker.address, path);
        (0..SESSIONS).map(open).collect()
    }

    /// What the I/O thread takes for [`MESSAGES`] rounds, after it is warm.
    fn taken(&self, mut round: impl FnMut(usize)) -> usize {
        (0..WARM_UP).for_each(&mut round);
        let before = self.count.load(Relaxed);
        assert!(before > 0, "nothing is counted at all");
        (0..MESSAGES).for_each(&mut round);
        self.count.load(Relaxed) - before
    }
}

fn check(taken: usize, most: usize) {
    assert!(
        taken <= most,
        "{taken} allocations for {MESSAGES} messages to {SESSIONS} sessions, not {most}"
    );
}

#[test]
fn a_relayed_message_allocates_nothing_for_whom_it_is_delivered_to() {
    let scene = Scene::start(false);
    let mut sessions = scene.sessions("/relay/hall");
    let taken = scene.taken(|number| {
        let text = number.to_string();
        sessions[number % SESSIONS].text(&text);
        for session in &mut sessions {
            assert_eq!(session.message(), text);
        }
    });
    check(taken, MOST);
}

#[test]
fn a_message_that_leaves_its_sender_out_allocates_nothing_either() {
    let scene = Scene::start(false);
    let mut sessions = scene.sessions("/relay/hall");
    // The first to come in has the first place.
    let sender = SessionKey::new(0, 1).as_u64();
    let bus = &scene.worker.bus;
    let taken = scene.taken(|number| {
        let text = number.to_string();
        publish(bus, "room:hall", text.as_bytes(), sender);
        for session in &mut sessions[1..] {
            assert_eq!(session.message(), text);
        }
    });
    publish(bus, "room:hall", b"the end", 0);
    assert_eq!(sessions[0].message(), "the end", "it was left out");
    check(taken, MOST);
}

#[test]
fn messages_of_several_topics_in_one_turn_allocate_nothing() {
    let scene = Scene::start(false);
    let mut sessions = scene.sessions("/handler/accept");
    for session in &mut sessions {
        for topic in ["one", "two"] {
            session.text(&format!("subscribe {topic}"));
            session.message();
        }
    }
    let bus = &scene.worker.bus;
    let taken = scene.taken(|number| {
        let text = number.to_string();
        for topic in ["one", "two", "one"] {
            publish(bus, topic, text.as_bytes(), 0);
        }
        for session in &mut sessions {
            for _ in 0..3 {
                assert_eq!(session.message(), text);
            }
        }
    });
    check(taken, MOST);
}

#[test]
fn an_echo_allocates_nothing() {
    let scene = Scene::start(false);
    let mut sessions = scene.sessions("/echo");
    let taken = scene.taken(|number| {
        let text = number.to_string();
        for session in &mut sessions {
            session.text(&text);
            session.send(opcode::PING, b"?");
        }
        for session in &mut sessions {
            assert_eq!(session.message(), format!("Echo: {text}"));
            assert_eq!(session.frame().opcode, opcode::PONG);
        }
    });
    check(taken, MOST);
}

#[test]
fn a_deflated_message_is_paid_for_once() {
    let scene = Scene::start(true);
    let mut sessions = scene.deflating_sessions("/relay/hall");
    let bus = &scene.worker.bus;
    let taken = scene.taken(|number| {
        let text = number.to_string().repeat(200);
        publish(bus, "room:hall", text.as_bytes(), 0);
        for session in &mut sessions {
            assert_eq!(session.message(), text);
        }
    });
    assert!(sessions.iter().all(|session| session.deflated > 0));
    // For the deflated frame, for what counts it while a client has it, and for the turn's frames side by side.
    check(taken, MOST + DEFLATED * MESSAGES);
}

/// The load client is not what a server waits for, however much comes.
#[test]
fn the_load_client_takes_nothing_for_a_message() {
    let floor = Floor::listen(0, 1).expect("a free port");
    let address = format!("127.0.0.1:{}", floor.port().expect("it listens"));
    // Ends with the process: nothing else stops a server that only a signal ends.
    std::thread::spawn(move || floor.serve());
    for (mode, url) in [
        (Mode::Http, format!("http://{address}/")),
        (Mode::Echo, format!("ws://{address}/echo")),
        (Mode::Fanout, format!("ws://{address}/relay")),
    ] {
        let mut options = Options::new(mode, &url);
        options.connections = 8;
        options.warmup = Duration::from_millis(300);
        options.measure = Duration::from_secs(1);
        let count: &'static AtomicUsize = Box::leak(Box::default());
        let (mut first, mut last) = (None, (0, 0));
        COUNT.set(Some(count));
        let measured = fanbus_bench::run(&options, &mut |progress: Progress| {
            if progress.phase == "measuring" && progress.units > 0 {
                last = (progress.units, count.load(Relaxed));
                first.get_or_insert(last);
            }
            true
        });
        COUNT.set(None);
        assert!(measured.expect("the floor serves").is_complete, "{mode:?}");
        let first = first.expect("it was told of progress");
        assert!(first.1 > 0, "nothing is counted at all");
        assert!(
            last.0 - first.0 >= 200,
            "{mode:?}: {} units",
            last.0 - first.0
        );
        check(last.1 - first.1, MOST);
    }
}
