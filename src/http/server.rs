//! A worker's I/O thread: its runtime, its accept loop, and its end.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use socket2::SockRef;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

use super::compression::Compression;
use super::config::Config;
use super::connections::{Accepted, Plain, Secure};
use super::handler::Handler;
use super::listener::Listener;
use super::replies::{Replies, ReplyBox};
use super::routes::Routes;
use super::service::Worker;
use super::shortage::Shortage;
use super::tls::files::Tls;
use crate::actors::crowd::{self, Crowd};
use crate::actors::end_of_turn::EndOfTurn;
use crate::actors::forks::{self, Withheld};
use crate::actors::hub::{Command, Hub, Orders};
use crate::actors::pulse::Pulse;
use crate::actors::session::Inbox;
use crate::actors::shutdown::{Ending, Shutdown};
use crate::actors::watch::{Sleeper, Watch};
use crate::actors::wheel::TICK;
use crate::ipc::Bus;

/// What a worker serves, and with what.
#[derive(Debug)]
pub struct Server {
    /// Inherited: bound and listening.
    pub listener: TcpListener,
    /// This worker's membership in the bus.
    pub bus: Bus,
    /// The application's routes.
    pub routes: Arc<Routes>,
    /// The limits of the HTTP side.
    pub config: Config,
    /// What TLS is spoken with. None: clients speak plain HTTP.
    pub tls: Option<Tls>,
    /// Commands for the hub.
    pub orders: Orders,
    /// Replies to HTTP requests.
    pub replies: ReplyBox,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Signs of life.
    pub pulse: Arc<Pulse>,
}

/// How long the accept loop rests when descriptors or memory have run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Threads that may wait for a disk at a time; what else wants to, waits for one of them.
const DISK_THREADS: usize = 8;

impl Server {
    /// Serves until shutdown, on this thread. `handler` is made here, because it never leaves.
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
        } = self;
        let connections = Arc::new(Semaphore::new(config.max_connections));
        let most_connections = config.max_connections;
        let end_of_turn = Rc::new(EndOfTurn::default());
        let replies = Replies::new(replies);
        let inbox: Rc<dyn Inbox> = Rc::clone(&handler) as _;
        let watch = Watch::new(sleeper)?;
        let (lives, hub_is_gone) = oneshot::channel();
        Hub::new(
            bus.clone(),
            inbox,
            Arc::clone(&orders),
            Rc::clone(&end_of_turn),
            watch,
            config.max_websockets,
            lives,
        )
        .start();
        let limits = routes
            .websockets
            .iter()
            .map(|endpoint| Rc::new(endpoint.limits.clone()));
        let worker = Rc::new(Worker {
            limits: limits.collect(),
            compression: routes.compression.then(Compression::default),
            routes,
            config: Arc::new(config),
            handler,
            replies: Rc::clone(&replies),
            end_of_turn: Rc::clone(&end_of_turn),
            bus,
            cache: Rc::default(),
            secure: tls.is_some(),
            shutdown: shutdown.clone(),
            pulse: Arc::clone(&pulse),
        });
        spawn_local(replies.hand_out());
        let (beating, permits) = (Arc::clone(&pulse), Arc::clone(&connections));
        let sessions = Rc::clone(&end_of_turn);
        spawn_local(async move {
            let mut crowd = Crowd::default();
            loop {
                beating.beat();
                let connected = most_connections - permits.available_permits();
                if crowd.has_gone(connected + sessions.sessions()) {
                    spawn_blocking(crowd::give_back);
                }
                sleep(TICK).await;
            }
        });
        let accepting = listen(listener, worker, tls, Arc::clone(&connections));
        let accepting = spawn_local(accepting);
        // A worker that has lost its hub or its listener serves nobody: better that it ends, and is
        // replaced.
        tokio::select! {
            biased;
            _ = hub_is_gone => return Err(io::Error::other("the hub has ended")),
            ended = accepting => ended.map_err(io::Error::other)??,
        }
        pulse.stop_listening();
        // Nobody listens here any more: who is sent away from now on does not come back to this worker.
        let Ending { grace, .. } = shutdown.wait().await;
        let deadline = Instant::now() + grace;
        orders.post(|commands| commands.push(Command::ShutDown { grace }));
        let finished = async {
            let is_open = || connections.available_permits() < most_connections;
            while end_of_turn.sessions() > 0 || is_open() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout_at(deadline, finished).await.is_err() {
            log::warn!(
                "the grace time of {} s is over: what is open is cut off",
                grace.as_secs_f32()
            );
        }
        Ok(())
    }
}

/// Serves what comes to the listener, over TLS or without it. Returns at shutdown, when it has taken
/// in what waited.
async fn listen(
    listener: TcpListener,
    worker: Rc<Worker>,
    tls: Option<Tls>,
    permits: Arc<Semaphore>,
) -> io::Result<()> {
    let socket = SockRef::from(&listener);
    // What is accepted inherits both, without a system call. A Unix socket knows neither. Every frame is
    // written at once and whole: there is nothing to wait for.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(worker.config.write_timeout));
    let listener = Listener::new(listener)?;
    let address = listener.local_addr()?;
    let shutdown = worker.shutdown.clone();
    if let Some(tls) = tls {
        let secure = Secure::new(worker, tls, address).await?;
        let serve = |accepted| secure.serve(accepted);
        accept(listener, permits, shutdown, serve).await
    } else {
        let plain = Plain::new(&worker, address).await?;
        let serve = |accepted| plain.serve(accepted);
        accept(listener, permits, shutdown, serve).await
    }
}

/// Accepts connections and serves each in a task of its own, which holds one of `permits`.
async fn accept<F: Future<Output = ()> + 'static>(
    listener: Listener,
    permits: Arc<Semaphore>,
    mut shutdown: Shutdown,
    serve: impl Fn(Accepted) -> F,
) -> io::Result<()> {
    let drive = |stream, peer, permit| {
        spawn_local(serve(Accepted {
            stream,
            peer,
            permit,
        }));
    };
    let mut shortage = Shortage::default();
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            _ = shutdown.wait() => break,
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
    // What waits in the queue has been told that it is connected: if this was the last descriptor of
    // the listener, closing it would reset them all. A client that connects in between is cut off.
    let queue = listener.into_queue()?;
    while let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
        match queue.take() {
            Ok((stream, peer)) => drive(stream, peer, permit),
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// The client went away before it was accepted; the listener is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}
