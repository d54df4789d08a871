//! `_core.Worker`: the object that starts and ends the Rust half of a worker.

use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use super::access::AccessLog;
use super::bus::Bus;
use super::connection;
use super::crash;
use super::dispatch::{Callbacks, HandlerRuntime};
use super::endpoint::{EndpointKinds, Endpoints};
use super::event_loop::EventLoop;
use super::events::{Event, EventBox};
use super::handler::PythonHandler;
use super::json;
use super::lane::{Lane, PyLane};
use super::lane_context::UserCode;
use super::logs;
use super::options::Settings;
use super::publisher::Publisher;
use super::router::Router;
use super::stream::Streams;
use super::threads::{PyThreads, Threads};
use super::tls::Tls;
use super::worker_handle::WorkerHandle;
use crate::actors::forks::Served;
use crate::actors::mailbox::{FdSignal, Mailbox, TaskSignal};
use crate::actors::pulse::Pulse;
use crate::actors::replays::Replays;
use crate::actors::shutdown::{self, Ending, Trigger};
use crate::http::config::Config;
use crate::http::handler::Handler;
use crate::http::listener;
use crate::http::server::Server;

/// Events that may wait for Python before sessions stop reading and requests get 503.
const MAX_EVENTS: usize = 16_384;

/// Commands and replies need no bound of their own: the numbers of sessions and requests bound them.
const UNBOUNDED: usize = usize::MAX;

/// Binds `count` `SO_REUSEPORT` listeners on one port; returns the port and the descriptors.
///
/// The descriptors are close-on-exec. Port 0 picks a free port. The first listener is bound exclusively, so that a
/// port in use is an error even if another `SO_REUSEPORT` server uses it, unless `shared`.
#[pyfunction]
#[pyo3(signature = (host, port, count, backlog, *, shared = false))]
pub(super) fn bind_listeners(
    host: &str,
    port: u16,
    count: usize,
    backlog: i32,
    shared: bool,
) -> PyResult<(u16, Vec<RawFd>)> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| PyOSError::new_err((libc::ENOENT, error.to_string())))?;
    let address = addresses
        .next()
        .ok_or_else(|| PyOSError::new_err((libc::ENOENT, format!("{host} has no address"))))?;
    let listeners = listener::bind(address, count, backlog, shared).map_err(os_error)?;
    let port = listeners[0].local_addr()?.port();
    Ok((
        port,
        listeners.into_iter().map(IntoRawFd::into_raw_fd).collect(),
    ))
}

/// `OSError` with its errno, so that the caller can tell a port in use from a forbidden one.
/// (pyo3's own conversion has only the text.)
fn os_error(error: std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}

/// The Rust half of a worker: I/O thread, hub and mailboxes.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Worker {
    events: EventBox,
    handle: Arc<WorkerHandle>,
    endpoints: Arc<Endpoints>,
    threads: Arc<Threads>,
    /// The lane of the synchronous handlers.
    handlers: Arc<Lane>,
    /// The lane of the synchronous generators of streamed responses.
    streams: Py<PyLane>,
    trigger: Trigger,
    pulse: Arc<Pulse>,
    debug: bool,
    on_error: Py<PyAny>,
    after_response: Py<PyAny>,
    state: Mutex<State>,
    /// Made before the application starts, which may fork.
    _served: Served,
}

/// `fanbus.runtime.worker.WorkerResources`: the Python objects that the Rust half uses.
#[derive(FromPyObject)]
struct Resources<'py> {
    threads: Bound<'py, PyThreads>,
    /// The threads of synchronous handlers.
    handlers: Bound<'py, PyLane>,
    /// The threads of synchronous generators of streamed responses.
    streams: Py<PyLane>,
    on_error: Py<PyAny>,
    after_response: Py<PyAny>,
    tls: Option<Bound<'py, Tls>>,
    access_log: Option<Bound<'py, AccessLog>>,
    json: Option<Bound<'py, PyAny>>,
}

#[derive(Default)]
struct State {
    /// The parts that the I/O thread is started with. None once it runs.
    io: Option<(Server, Arc<EndpointKinds>)>,
    event_loop: Option<Arc<EventLoop>>,
}

#[pymethods]
impl Worker {
    #[new]
    fn new(
        py: Python<'_>,
        router: &Router,
        bus: &Bus,
        listener: RawFd,
        settings: Settings,
        resources: Resources<'_>,
    ) -> PyResult<Self> {
        let config = Config {
            access: resources.access_log.map(|log| log.get().put.clone()),
            ..settings.config()?
        };
        let json = resources.json.as_ref();
        connection::set_root_path(settings.root_path);
        json::set_codec(json)?;
        let bus = bus.get()?;
        let commands = Arc::new(Mailbox::new(UNBOUNDED, TaskSignal::default()));
        let replies = Arc::new(Mailbox::new(UNBOUNDED, TaskSignal::default()));
        let (http_routes, endpoints, kinds) = router.parts(py);
        let (trigger, shutdown) = shutdown::signal();
        let pulse = Arc::new(Pulse::default());
        let replays = Arc::new(Replays::default());
        let listener = duplicate(listener)?;
        let address = Served::new(listener.as_fd())?;
        let server = Server {
            listener,
            bus: bus.clone(),
            routes: http_routes,
            config,
            tls: resources.tls.map(|tls| tls.get().0.clone()),
            orders: Arc::clone(&commands),
            replies: Arc::clone(&replies),
            shutdown,
            pulse: Arc::clone(&pulse),
            replays: Arc::clone(&replays),
        };
        let events: EventBox = Arc::new(Mailbox::new(MAX_EVENTS, FdSignal::new()?));
        let state = State {
            io: Some((server, kinds)),
            event_loop: None,
        };
        Ok(Self {
            handle: WorkerHandle::new(bus, commands, replies, replays, Arc::clone(&events))?,
            events,
            endpoints,
            threads: Arc::clone(&resources.threads.get().0),
            handlers: Arc::clone(&resources.handlers.get().0),
            streams: resources.streams,
            trigger,
            pulse,
            debug: settings.debug,
            on_error: resources.on_error,
            after_response: resources.after_response,
            state: Mutex::new(state),
            _served: address,
        })
    }

    /// Starts the I/O thread. Handlers run as tasks of `loop`, which calls [`Worker::drain`].
    fn start(&self, py: Python<'_>, r#loop: Py<PyAny>) -> PyResult<()> {
        let Some((server, kinds)) = self.state().io.take() else {
            return Err(PyRuntimeError::new_err(
                "This worker has been started already.",
            ));
        };
        let (worker, endpoints) = (Arc::clone(&self.handle), Arc::clone(&self.endpoints));
        let on_error = self.on_error.clone_ref(py);
        let events = Arc::clone(&self.events);
        let callbacks = Callbacks {
            on_error,
            after_response: self.after_response.clone_ref(py),
        };
        let streams = Streams::new(events, self.streams.clone_ref(py));
        let runtime = HandlerRuntime::new(
            py, worker, endpoints, r#loop, callbacks, self.debug, streams,
        )?;
        let (runs, waits) = (Arc::clone(&runtime), Arc::clone(&self.events));
        self.threads.run_with(UserCode {
            run: Box::new(move |py, job| runs.run(py, job)),
            loop_wants_lock: Box::new(move || waits.signal().is_raised()),
        });
        let events = Arc::clone(&self.events);
        let event_loop = Arc::new(EventLoop::new(runtime, Arc::clone(&events)));
        self.state().event_loop = Some(event_loop);
        let (threads, lane) = (Arc::clone(&self.threads), Arc::clone(&self.handlers));
        let worker = Arc::clone(&self.handle);
        let io = move || {
            // Python is notified, however the thread ends.
            let _notify = NotifyOnDrop(Arc::clone(&events), Arc::clone(&threads));
            let make = || {
                let events = Arc::clone(&events);
                PythonHandler::new(kinds, events, threads, lane, worker) as std::rc::Rc<dyn Handler>
            };
            if let Err(error) = server.run(make) {
                crash::abort(&error);
            }
        };
        crash::abort_on_panic();
        logs::hand_over(py, Arc::clone(&self.events))?;
        thread::Builder::new()
            .name(crash::IO_THREAD.to_owned())
            .spawn(io)?;
        Ok(())
    }

    /// Readable when `drain` has work: `loop.add_reader(worker.fileno(), worker.drain)`.
    fn fileno(&self) -> RawFd {
        self.events.signal().as_fd().as_raw_fd()
    }

    /// Handles the events in the mailbox. Called by the event loop.
    fn drain(this: &Bound<'_, Self>) -> PyResult<()> {
        let event_loop = this.get().state().event_loop.clone();
        if let Some(event_loop) = event_loop
            && event_loop.drain(this.py(), || this.get().threads.contend_for_lock())
        {
            // After the first steps of the handlers that were started.
            let linger = this.getattr(intern!(this.py(), "linger"))?;
            let call_soon = intern!(this.py(), "call_soon");
            event_loop
                .runtime
                .event_loop
                .call_method1(this.py(), call_soon, (linger,))?;
        }
        Ok(())
    }

    /// Waits for the next event while holding Python's lock, where the loop waits long for that lock, and handles the
    /// event. Called by the event loop.
    fn linger(this: &Bound<'_, Self>) -> PyResult<()> {
        let event_loop = this.get().state().event_loop.clone();
        if event_loop.is_some_and(|it| it.linger()) {
            Self::drain(this)?;
        }
        Ok(())
    }

    /// Publishes to every session of every worker that is subscribed to the topic. Any thread.
    /// Returns the offset on the bus. May wait for hubs, without Python's lock.
    fn publish(&self, topic: &str, message: &Bound<'_, PyAny>) -> PyResult<u64> {
        self.handle.publish_message(topic, message, 0)
    }

    /// The number of turns of the I/O thread's timer, ten per second if it is healthy; and the number of requests so
    /// far, including handshakes.
    fn pulse(&self) -> (u64, u64) {
        (self.pulse.beats(), self.pulse.requests())
    }

    /// Has this worker closed its descriptor of the listener? It does so after it has emptied the accept queue.
    fn has_stopped_listening(&self) -> bool {
        self.pulse.has_stopped_listening()
    }

    /// The least number of handlers that run or wait for a thread, whether or not their clients are connected.
    fn busy(&self) -> usize {
        let event_loop = self.state().event_loop.clone();
        let running = event_loop.map_or(0, |it| it.runtime.handlers.count());
        running.max(usize::from(self.handlers.is_busy()))
    }

    /// The running handlers: for each route the number, and for how many seconds the oldest one has run.
    fn running_handlers(&self) -> Vec<(String, usize, f64)> {
        let Some(event_loop) = self.state().event_loop.clone() else {
            return Vec::new();
        };
        let all = event_loop.runtime.handlers.by_route().into_iter();
        all.map(|it| (it.route.to_string(), it.count, it.oldest.as_secs_f64()))
            .collect()
    }

    /// Stops accepting, closes WebSockets with 1012, finishes requests for `grace` seconds, and keeps
    /// connections without a request for `linger` seconds, at most half of `grace`. `on_stopped` is
    /// called from `drain` when nothing is left.
    fn shut_down(&self, grace: f64, linger: f64, on_stopped: Py<PyAny>) -> PyResult<()> {
        let [grace, linger] = [seconds("grace", grace)?, seconds("linger", linger)?];
        let Some(event_loop) = self.state().event_loop.clone() else {
            return Err(PyRuntimeError::new_err("This worker has not been started."));
        };
        event_loop.on_stopped(on_stopped);
        self.trigger.pull(Ending { grace, linger });
        Ok(())
    }
}

impl Worker {
    /// The lock is not held while Python runs.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| {
        PyValueError::new_err(format!("{name} must be a number of seconds, 0 or more."))
    })
}

/// Notifies Python, when it is dropped, that the I/O thread has ended.
struct NotifyOnDrop(EventBox, Arc<Threads>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.1.lift_limits();
        self.0.post(|batch| batch.push(Event::Stopped));
    }
}

/// The worker's own descriptor of a listener that the supervisor has open.
#[expect(
    unsafe_code,
    reason = "the supervisor hands over a descriptor as a number"
)]
fn duplicate(listener: RawFd) -> PyResult<TcpListener> {
    if listener < 0 {
        return Err(PyValueError::new_err(format!(
            "{listener} is not a descriptor."
        )));
    }
    // SAFETY: it is borrowed only for the call, during which the caller keeps it open; if it is not
    // open at all, duplicating it fails with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(listener) };
    Ok(TcpListener::from(borrowed.try_clone_to_owned()?))
}
