//! The I/O thread of a worker: its runtime, its accept loop and its shutdown.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

use super::budget::Budget;
use super::compression::Compression;
use super::config::{Config, TcpKeepAlive};
use super::connection::{NewConnection, serve_plain, serve_secure};
use super::handler::Handler;
use super::limits::RESPONSE_BYTES;
use super::listener::Listener;
use super::replies::{Replies, ReplyBox};
use super::routes::Routes;
use super::shortage::Shortage;
use super::tls::accept::Acceptor;
use super::tls::files::Tls;
use super::worker::HttpWorker;
use crate::actors::crowd::Crowd;
use crate::actors::forks::{self, Withheld};
use crate::actors::heap::{self, IdleWatch, Usage};
use crate::actors::hub::{Command, Hub, Orders, Requests};
use crate::actors::inbox::Inbox;
use crate::actors::pulse::Pulse;
use crate::actors::replays::Replays;
use crate::actors::shutdown::{Ending, Shutdown};
use crate::actors::turn_queue::TurnQueue;
use crate::actors::watch::{Sleeper, Watch};
use crate::actors::wheel::TICK;
use crate::ipc::Bus;

/// Everything that a worker needs to serve an application.
#[derive(Debug)]
pub struct Server {
    /// The inherited listener, which is bound and listens.
    pub listener: TcpListener,
    /// This worker's member of the bus.
    pub bus: Bus,
    /// The application's routes.
    pub routes: Arc<Routes>,
    /// The configuration of the HTTP side.
    pub config: Config,
    /// The TLS configuration. None: clients speak plain HTTP.
    pub tls: Option<Tls>,
    /// The mailbox of commands for the hub.
    pub orders: Orders,
    /// The mailbox of replies to HTTP requests.
    pub replies: ReplyBox,
    /// The signal to stop.
    pub shutdown: Shutdown,
    /// The counters that show that the worker is alive.
    pub pulse: Arc<Pulse>,
    /// The replays of retained messages.
    pub replays: Arc<Replays>,
}

/// Pause of the accept loop after it ran out of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Size of the read buffer that all connections share, in bytes.
const SCRATCH_BYTES: usize = 64 << 10;

/// Threads that may wait for a disk at a time. Further reads wait for one of them.
const DISK_THREADS: usize = 8;

impl Server {
    /// Serves until shutdown, on this thread. `handler` is made here, because it never leaves the thread.
    pub fn run(self, handler: impl FnOnce() -> Rc<dyn Handler>) -> io::Result<()> {
        let before = forks::open_now()?;
        let sleeper = Sleeper::new(self.bus.clone());
        let (parks, unparks) = (Arc::clone(&sleeper), Arc::clone(&sleeper));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(DISK_THREADS)
            .on_thread_park(move || parks.before_park())
            .on_thread_unpark(move || unparks.after_unpark())
            .build_local(LocalOptions::default())?;
        let _withheld = Withheld::since(&before)?;
        runtime.block_on(self.serve(handler(), sleeper))
    }

    async fn serve(self, handler: Rc<dyn Handler>, sleeper: Arc<Sleeper>) -> io::Result<()> {
        let Self {
            listener,
            bus,
            routes,
            config,
            tls,
            orders,
            replies,
            mut shutdown,
            pulse,
            replays,
        } = self;
        let connections = Arc::new(Semaphore::new(config.max_connections));
        let most_connections = config.max_connections;
        let (queues, messages) = (config.queue_memory_bytes, config.message_memory_bytes);
        let turn_queue = Rc::new(TurnQueue::new(queues, messages, replays));
        let requests = Requests::new(Rc::clone(&turn_queue));
        let replies = Replies::new(replies);
        let inbox: Rc<dyn Inbox> = Rc::clone(&handler) as _;
        let watch = Watch::new(sleeper)?;
        let (lives, hub_has_ended) = oneshot::channel();
        let _hub = Hub::new(
            bus.clone(),
            inbox,
            Arc::clone(&orders),
            Rc::clone(&requests),
            watch,
            config.max_websockets,
            lives,
        )
        .start();
        let limits = routes
            .websockets
            .iter()
            .map(|endpoint| Rc::new(endpoint.limits.clone()));
        let bodies = Budget::of_requests(config.body_memory_bytes);
        let worker = Rc::new(HttpWorker {
            limits: limits.collect(),
            compression: routes.compression.map(Compression::new),
            routes,
            config: Arc::new(config),
            handler,
            replies: Rc::clone(&replies),
            requests: Rc::clone(&requests),
            turn_queue: Rc::clone(&turn_queue),
            bus,
            cache: Rc::default(),
            is_secure: tls.is_some(),
            shutdown: shutdown.clone(),
            pulse: Arc::clone(&pulse),
            deadlines: Rc::default(),
            keepalive_drain: Rc::default(),
            bodies,
            responses: Budget::of_responses(RESPONSE_BYTES),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
        });
        spawn_local(replies.deliver());
        let (beating, permits) = (Arc::clone(&pulse), Arc::clone(&connections));
        let (sessions, deadlines) = (Rc::clone(&requests), Rc::clone(&worker.deadlines));
        spawn_local(async move {
            let mut memory = MemoryTrim::new();
            loop {
                beating.beat();
                let connected = most_connections - permits.available_permits();
                let waiting = turn_queue.queues.gauge().held();
                memory.check(connected + sessions.sessions(), waiting);
                sleep(TICK).await;
                deadlines.tick(Instant::now());
            }
        });
        let drain = Rc::clone(&worker.keepalive_drain);
        spawn_local(drain.run(shutdown.clone(), Rc::clone(&worker.deadlines)));
        let accepting = listen(listener, worker, tls, Arc::clone(&connections));
        let accepting = spawn_local(accepting);
        // A worker without hub or listener serves no client, so it ends, and the supervisor replaces it.
        tokio::select! {
            biased;
            _ = hub_has_ended => return Err(io::Error::other("the hub has ended")),
            ended = accepting => ended.map_err(io::Error::other)??,
        }
        pulse.stop_listening();
        // The listener is closed: a client that reconnects from now on does not reach this worker.
        let Ending { grace, .. } = shutdown.wait().await;
        let deadline = Instant::now() + grace;
        orders.post(|commands| commands.push(Command::ShutDown { grace }));
        let finished = async {
            let is_open = || connections.available_permits() < most_connections;
            while requests.sessions() > 0 || is_open() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout_at(deadline, finished).await.is_err() {
            log::warn!(
                "the grace time of {} s is over: open connections are closed",
                grace.as_secs_f32()
            );
        }
        Ok(())
    }
}

/// Decides in each tick whether free memory is returned to the system.
struct MemoryTrim {
    crowd: Crowd,
    idle: IdleWatch,
    last_check: Instant,
}

impl MemoryTrim {
    fn new() -> Self {
        Self {
            crowd: Crowd::default(),
            idle: IdleWatch::new(Usage::now()),
            last_check: Instant::now(),
        }
    }

    /// `present`: the number of clients. `waiting`: the bytes that wait for them.
    fn check(&mut self, present: usize, waiting: usize) {
        let mut is_time = self.crowd.has_gone(present, waiting);
        if self.last_check.elapsed() >= heap::LOOK {
            self.last_check = Instant::now();
            is_time |= self.idle.is_time(Usage::now());
        }
        if is_time {
            heap::give_back_top();
            spawn_blocking(heap::give_back);
        }
    }
}

/// Serves the connections of the listener, with TLS or without. Returns at shutdown, when it has served the accept
/// queue.
async fn listen(
    listener: TcpListener,
    worker: Rc<HttpWorker>,
    tls: Option<Tls>,
    permits: Arc<Semaphore>,
) -> io::Result<()> {
    let options = SocketOptions::of(&worker.config);
    // Connections inherit the options from now on, without a system call.
    options.set(&listener);
    let listener = Listener::new(listener)?;
    let shutdown = worker.shutdown.clone();
    if let Some(tls) = tls {
        let acceptor = Rc::new(Acceptor::new(tls, worker.config.handshake_timeout));
        let serve = |accepted| serve_secure(Rc::clone(&worker), Rc::clone(&acceptor), accepted);
        accept(listener, options, permits, shutdown, serve).await
    } else {
        let serve = |accepted| serve_plain(Rc::clone(&worker), accepted);
        accept(listener, options, permits, shutdown, serve).await
    }
}

/// The socket options of each connection. A Unix socket has none of them.
#[derive(Copy, Clone, Debug)]
struct SocketOptions {
    write_timeout: Duration,
    keepalive: Option<TcpKeepAlive>,
}

impl SocketOptions {
    fn of(config: &Config) -> Self {
        Self {
            write_timeout: config.write_timeout,
            keepalive: config.keepalive,
        }
    }

    fn set(self, socket: &impl AsFd) {
        let socket = SockRef::from(socket);
        // Every frame is written at once and whole: delaying it has no use.
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_user_timeout(Some(self.write_timeout));
        // A vanished peer sends nothing. While nothing is sent to it either, only TCP can detect that.
        let _ = match self.keepalive {
            Some(keepalive) => socket.set_tcp_keepalive(
                &TcpKeepalive::new()
                    .with_time(keepalive.idle)
                    .with_interval(keepalive.interval)
                    .with_retries(keepalive.probes),
            ),
            None => socket.set_keepalive(false), // an inherited listener may have it
        };
    }
}

/// Accepts connections, and serves each in a task of its own, which holds one of `permits`.
async fn accept<F: Future<Output = ()> + 'static>(
    listener: Listener,
    options: SocketOptions,
    permits: Arc<Semaphore>,
    mut shutdown: Shutdown,
    serve: impl Fn(NewConnection) -> F,
) -> io::Result<()> {
    let drive = |stream: TcpStream, peer: Option<SocketAddr>, permit| {
        let peer = peer.map(canonical);
        spawn_local(serve(NewConnection {
            stream,
            peer,
            permit,
        }));
    };
    let mut shortage = Shortage::default();
    // Clients that connected before the listener had its options wait in the queue.
    let waits = || listener.take_waiting();
    empty(&permits, waits, |stream, peer, permit| {
        options.set(&stream);
        drive(stream, peer, permit);
    });
    // One future for all connections: creating it costs more than polling it again.
    let mut ending = pin!(shutdown.wait());
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            _ = &mut ending => break,
            accepted = accepted => accepted,
        };
        let permit = permit.map_err(io::Error::other)?;
        match accepted {
            Ok((stream, peer)) => {
                shortage.succeeded();
                drive(stream, peer, permit);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                shortage.failed(&error);
                sleep(ACCEPT_REST).await;
            }
        }
    }
    // The clients in the queue believe that they are connected. Closing the last descriptor of the listener would
    // reset them. A client that connects in between is disconnected.
    let queue = listener.into_queue()?;
    empty(&permits, || queue.take(), drive);
    Ok(())
}

/// Serves the connections in the accept queue, as far as there are permits.
fn empty(
    permits: &Arc<Semaphore>,
    take: impl Fn() -> io::Result<(TcpStream, Option<SocketAddr>)>,
    serve: impl Fn(TcpStream, Option<SocketAddr>, OwnedSemaphorePermit),
) {
    while let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        match take() {
            Ok((stream, peer)) => serve(stream, peer, permit),
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => break,
        }
    }
}

/// An IPv4 client of an IPv6 listener gets its IPv4 address, as it would on an IPv4 listener.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, peer.port()),
        _ => peer, // with its scope
    }
}

/// Whether the client disconnected before it was accepted. The listener still works.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn an_ipv4_client_has_its_ipv4_address() {
        for (peer, known) in [
            ("[::ffff:192.0.2.7]:9", "192.0.2.7:9"),
            ("192.0.2.7:9", "192.0.2.7:9"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            ("[fe80::1%3]:9", "[fe80::1%3]:9"),
        ] {
            let peer = canonical(peer.parse().expect("an address"));
            assert_eq!(peer.to_string(), known);
        }
    }
}
