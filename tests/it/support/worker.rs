//! A worker on threads of the test's process, and the routes that all tests serve.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanbus::actors::hub::{Command, Orders};
use fanbus::actors::limits::Limits;
use fanbus::actors::mailbox::{Mailbox, TaskSignal};
use fanbus::actors::protocol::Accept;
use fanbus::actors::protocols::echo::Echo;
use fanbus::actors::protocols::handler::HandlerProtocol;
use fanbus::actors::protocols::relay::RelayRoute;
use fanbus::actors::replays::Replays;
use fanbus::actors::shutdown::{self, Ending, Trigger};
use fanbus::actors::topic::TopicTemplate;
use fanbus::http::config::Config;
use fanbus::http::listener;
use fanbus::http::replies::{Reply, ReplyBox, ReplyKey};
use fanbus::http::router::{EndpointId, Router};
use fanbus::http::routes::{HttpEndpoint, Routes, Turbo, WebSocketEndpoint};
use fanbus::http::server::Server;
use fanbus::http::tls::files::Tls;
use fanbus::http::websocket::origin::Origins;
use fanbus::ipc::{Bus, BusOptions};
use socket2::SockRef;

use super::DEADLINE;
use super::handler::Scripted;
pub use super::handler::Seen;
use super::stream;

/// The HTTP endpoints.
pub mod http {
    use super::EndpointId;

    /// `GET /`: says hello.
    pub const HELLO: EndpointId = EndpointId(0);
    /// `POST /body`: says how long the body was.
    pub const BODY: EndpointId = EndpointId(1);
    /// `GET /big`: 32 MiB.
    pub const BIG: EndpointId = EndpointId(2);
    /// `GET /held`: the test answers.
    pub const HELD: EndpointId = EndpointId(3);
    /// `GET /events/{topic}`: what is published there, as an event stream.
    pub const EVENTS: EndpointId = EndpointId(4);
    /// `GET /kept`: a turbo route.
    pub const KEPT: EndpointId = EndpointId(5);
}

/// A bus of its own for each test, removed at the end.
pub struct TestBus {
    pub bus: Bus,
}

impl TestBus {
    pub fn new() -> Self {
        Self::with(&BusOptions {
            ring_bytes: 1 << 20,
            ..BusOptions::default()
        })
    }

    pub fn with(options: &BusOptions) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, SeqCst);
        let name = format!("serve-{}-{number}", std::process::id());
        let bus = Bus::open(&name, options).expect("room in /dev/shm");
        Self { bus }
    }

    pub fn name(&self) -> &str {
        self.bus.name()
    }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        let _ = self.bus.remove();
    }
}

/// How a worker differs from the usual one.
#[derive(Clone, Default)]
pub struct Setup {
    pub limits: Limits,
    pub config: Config,
    /// Clients that offer permessage-deflate get it.
    pub compression: bool,
    /// User code is told of the sessions of turbo routes.
    pub watched: bool,
    /// Served at `/protocol/{name}`.
    pub protocol: Option<Arc<dyn Accept>>,
    /// Clients speak TLS; [`Client`](super::client::Client) knows.
    pub tls: Option<Tls>,
    /// Called first on the worker's I/O thread.
    pub on_thread: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// A worker that serves `/echo`, `/relay/{room}`, `/handler/{mode}` and the HTTP endpoints.
pub struct Worker {
    pub address: SocketAddr,
    /// Its membership.
    pub bus: Bus,
    pub orders: Orders,
    pub replies: ReplyBox,
    /// What is sent of the past. Its gauge counts what waits for clients, too.
    pub replays: Arc<Replays>,
    /// False: the handler says that its mailbox is full.
    pub has_room: Arc<AtomicBool>,
    /// False: the handler says that it watches as many sessions as it can.
    pub watches: Arc<AtomicBool>,
    /// What happened, and what of it was passed over while the test waited for something else.
    seen: Mutex<(mpsc::Receiver<Seen>, VecDeque<Seen>)>,
    trigger: Trigger,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// With the usual limits, on a bus of that name.
    pub fn start(bus: &TestBus) -> Self {
        Self::with(bus.name(), Setup::default())
    }

    pub fn with(bus: &str, setup: Setup) -> Self {
        let listener = listener::bind(([127, 0, 0, 1], 0).into(), 1, 1024, false)
            .expect("a free port")
            .remove(0);
        // Inherited by what it accepts: a client that does not read is noticed soon.
        let buffer = SockRef::from(&listener).set_send_buffer_size(64 * 1024);
        buffer.expect("a small buffer");
        let address = listener.local_addr().expect("it is bound");
        if setup.tls.is_some() {
            stream::speak_tls_to(address);
        }
        let (trigger, shutdown) = shutdown::signal();
        let orders = Arc::new(Mailbox::new(usize::MAX, TaskSignal::default()));
        let replies = Arc::new(Mailbox::new(usize::MAX, TaskSignal::default()));
        let has_room = Arc::new(AtomicBool::new(true));
        let watches = Arc::new(AtomicBool::new(true));
        let (tell, seen) = mpsc::channel();
        let bus = Bus::open(bus, &BusOptions::default()).expect("the test's bus");
        let its_bus = bus.clone();
        let replays = Arc::new(Replays::default());
        let server = Server {
            listener,
            bus: bus.clone(),
            routes: Arc::new(routes(&setup)),
            config: setup.config,
            tls: setup.tls,
            orders: Arc::clone(&orders),
            replies: Arc::clone(&replies),
            shutdown,
            pulse: Arc::default(),
            replays: Arc::clone(&replays),
        };
        let (its_orders, its_replies) = (Arc::clone(&orders), Arc::clone(&replies));
        let (room, its_watches) = (Arc::clone(&has_room), Arc::clone(&watches));
        let limits = setup.limits;
        let thread = thread::spawn(move || {
            if let Some(on_thread) = setup.on_thread {
                on_thread();
            }
            let handler = || {
                let boxes = (its_orders, its_replies);
                Scripted::start(its_bus, boxes, tell, room, its_watches, limits)
            };
            server.run(handler).expect("it serves until shutdown");
        });
        Self {
            address,
            bus,
            orders,
            replies,
            replays,
            has_room,
            watches,
            seen: Mutex::new((seen, VecDeque::new())),
            trigger,
            thread: Some(thread),
        }
    }

    pub fn order(&self, command: Command) {
        self.orders.post(|commands| commands.push(command));
    }

    /// Answers a request that is held, with all of this at once.
    pub fn answer(&self, key: ReplyKey, answers: impl IntoIterator<Item = Reply>) {
        let answers = answers.into_iter().map(|answer| (key, answer));
        self.replies.post(|replies| replies.extend(answers));
    }

    /// Waits until `pick` takes something of what happened; the rest stays for later questions.
    #[track_caller]
    pub fn saw<T>(&self, what: &str, pick: impl Fn(&Seen) -> Option<T>) -> T {
        let (coming, passed) = &mut *self.seen.lock().expect("nobody panics in there");
        let known = passed.iter().position(|seen| pick(seen).is_some());
        if let Some(picked) = known.and_then(|at| pick(&passed.remove(at)?)) {
            return picked;
        }
        loop {
            let Ok(seen) = coming.recv_timeout(DEADLINE) else {
                panic!("{what}: not in time; seen: {passed:?}");
            };
            match pick(&seen) {
                Some(picked) => return picked,
                None => passed.push_back(seen),
            }
        }
    }

    /// How many further messages wait for handlers that do not receive.
    pub fn count_unreceived(&self) -> usize {
        let (coming, passed) = &mut *self.seen.lock().expect("nobody panics in there");
        passed.extend(coming.try_iter());
        let unreceived = |seen: &&Seen| matches!(seen, Seen::Unreceived(..));
        passed.iter().filter(unreceived).count()
    }

    /// The code of the next session that is over.
    #[track_caller]
    pub fn saw_closed(&self) -> u16 {
        self.saw("a session is over", |seen| match seen {
            Seen::Closed(_, code) => Some(*code),
            _ => None,
        })
    }

    /// As a server does that ends: it does not wait long for what clients may still send.
    pub fn shut_down(&self, grace: Duration) {
        self.end(Ending {
            grace,
            linger: Duration::from_millis(500),
        });
    }

    pub fn end(&self, ending: Ending) {
        self.trigger.pull(ending);
    }

    /// Has its thread ended?
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        stream::speak_plainly_to(self.address);
        self.shut_down(Duration::from_millis(100));
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.expect("joined once").expect("it did not panic");
        }
    }
}

/// The path of the handler's sessions.
const HANDLER: &str = "/handler/{mode}";

fn routes(setup: &Setup) -> Routes {
    let mut router = Router::new();
    let methods = [
        ("/", http::HELLO, "GET"),
        ("/body", http::BODY, "POST"),
        ("/big", http::BIG, "GET"),
        ("/held", http::HELD, "GET"),
        ("/events/{topic}", http::EVENTS, "GET"),
        ("/kept", http::KEPT, "GET"),
    ];
    for (path, endpoint, method) in methods {
        let method = method.parse().expect("a method");
        router
            .add_http(&[method], path, endpoint)
            .expect("no conflict");
    }
    let relay = TopicTemplate::parse("room:{room}", &["room"]).expect("it fits the path");
    let mut websockets: Vec<(&str, Arc<dyn Accept>)> = vec![
        ("/echo", Arc::new(Echo::new("Echo: "))),
        ("/relay/{room}", Arc::new(RelayRoute::new(relay))),
        (HANDLER, Arc::new(HandlerProtocol)),
    ];
    if let Some(protocol) = &setup.protocol {
        websockets.push(("/protocol/{name}", Arc::clone(protocol)));
    }
    let mut endpoints = Vec::new();
    for (number, (path, accept)) in (0..).zip(websockets) {
        router
            .add_websocket(path, EndpointId(number))
            .expect("no conflict");
        endpoints.push(WebSocketEndpoint {
            accept,
            needs_admission: path == HANDLER,
            has_hooks: setup.watched && path != HANDLER,
            limits: setup.limits.clone(),
            origins: Origins::Same,
            subprotocols: Vec::new(),
            compression: setup.compression,
        });
    }
    let endpoint = HttpEndpoint {
        wants_request: true,
        max_body_bytes: None,
        streams_body: false,
        folder: None,
        turbo: None,
    };
    let mut http = vec![endpoint; methods.len()];
    http[http::KEPT.0 as usize].turbo = Some(Turbo { ttl: None });
    Routes {
        router,
        http,
        websockets: endpoints,
        redirect_slashes: true,
        compression: None,
        cors: None,
        hosts: None,
        max_body_bytes: None,
        fallback: None,
    }
}
