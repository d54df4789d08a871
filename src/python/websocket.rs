//! `_core.WebSocket`: a session as its handler sees it.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::OnceLockExt;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::awaitables::{Ready, Waiter};
use super::errors::{WebSocketClosed, value_error};
use super::head::Head;
use super::history::{Replay, ReplayRequest};
use super::message::{self, Message};
use super::multidict::MultiDict;
use super::publisher::Publisher;
use super::websocket_awaitables::{Receive, Room};
use super::worker_handle::WorkerHandle;
use crate::actors::close::CloseCause;
use crate::actors::frame::{Kind, MAX_CLOSE_REASON, is_close_code};
use crate::actors::hub::Command;
use crate::actors::link::Link;
use crate::actors::rejection::Rejection;
use crate::actors::session_key::SessionKey;
use crate::actors::topic::Topic;
use crate::http::path::Value;
use crate::http::websocket::subprotocol::Subprotocol;

/// A handler that neither awaits nor stops sending is cut off at this many times its budget.
const MOST_BUDGETS: usize = 8;

/// What is sent of a topic's past when a client subscribes has this share of its budget: a client that
/// reads at all is not too slow for it.
const REPLAY_SHARE: usize = 2;

/// One client's WebSocket. Handlers get it; it is never constructed by hand.
///
/// Everything that sends hands over to Rust at once; the result need not be awaited, and awaiting
/// it waits only while the client is too slow.
#[pyclass(frozen, weakref, module = "fanbus._core")]
pub(super) struct WebSocket {
    key: SessionKey,
    link: Arc<Link>,
    worker: Arc<WorkerHandle>,
    head: Head,
    max_topics: usize,
    /// Made when the handler first asks for it.
    state: OnceLock<Py<PyDict>>,
    event_loop: Py<PyAny>,
    /// What the task that receives waits on.
    receiver: Mutex<Py<Waiter>>,
    inside: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Messages that were not received yet, with what the link counts for them.
    inbox: VecDeque<(Py<PyAny>, usize)>,
    /// Tasks that wait for room to send.
    senders: Vec<Py<Waiter>>,
    /// What it is subscribed to, as the hub will have it: orders are given with the lock held. At most
    /// `max_topics`.
    topics: HashSet<Topic>,
}

#[derive(Clone)]
enum Phase {
    /// The client waits for the answer to its handshake.
    Opening,
    Open,
    Closed {
        code: u16,
        reason: String,
    },
}

impl Phase {
    fn closed(cause: &CloseCause) -> Self {
        Self::Closed {
            code: cause.code(),
            reason: cause.reason().into_owned(),
        }
    }
}

impl WebSocket {
    pub(super) fn new(
        py: Python<'_>,
        key: SessionKey,
        link: Arc<Link>,
        worker: Arc<WorkerHandle>,
        head: Head,
        max_topics: usize,
        event_loop: &Py<PyAny>,
    ) -> PyResult<Self> {
        let inside = State {
            phase: Phase::Opening,
            inbox: VecDeque::new(),
            senders: Vec::new(),
            topics: HashSet::new(),
        };
        let receiver = Mutex::new(Py::new(py, Waiter::new(event_loop.clone_ref(py)))?);
        Ok(Self {
            key,
            link,
            worker,
            head,
            max_topics,
            state: OnceLock::new(),
            event_loop: event_loop.clone_ref(py),
            receiver,
            inside: Mutex::new(inside),
        })
    }

    pub(super) fn key(&self) -> SessionKey {
        self.key
    }

    /// The values of the path's parameters.
    pub(super) fn values(&self) -> &[Value] {
        &self.head.values
    }

    /// Does the client still wait for the answer to its handshake?
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.inside().phase, Phase::Opening)
    }

    /// Is it over?
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.inside().phase, Phase::Closed { .. })
    }

    /// As a log names it: path and client.
    pub(super) fn label(&self) -> String {
        format!(
            "WebSocket {} of {}",
            self.head.path(),
            self.head.client_text()
        )
    }

    /// Event loop: a message came. True if it is the first that waits: then the task that
    /// receives is to be woken, once all messages of the batch have been taken in.
    pub(super) fn take_in(&self, py: Python<'_>, kind: Kind, payload: &[u8]) -> PyResult<bool> {
        let message = message::to_python(py, kind, payload)?;
        let inbox = &mut self.inside().inbox;
        inbox.push_back((message, payload.len()));
        Ok(inbox.len() == 1)
    }

    /// Event loop: the task that waits for a message, if any, runs at once.
    pub(super) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let receiver = self.receiver().clone_ref(py);
        Waiter::wake(receiver.bind(py))
    }

    /// Event loop: the session is over. Everybody who waits learns of it, here and now.
    pub(super) fn closed(&self, py: Python<'_>, code: u16, reason: String) -> PyResult<()> {
        let senders = {
            let mut inside = self.inside();
            if !matches!(inside.phase, Phase::Closed { .. }) {
                inside.phase = Phase::Closed { code, reason };
            }
            inside.topics = HashSet::new();
            mem::take(&mut inside.senders)
        };
        let receiver = self.receiver().clone_ref(py);
        Waiter::wake(receiver.bind(py))?;
        for sender in senders {
            Waiter::wake(sender.bind(py))?;
        }
        Ok(())
    }

    /// Event loop: there is room to send again.
    pub(super) fn room(&self, py: Python<'_>) -> PyResult<()> {
        let senders = mem::take(&mut self.inside().senders);
        for sender in senders {
            Waiter::wake(sender.bind(py))?;
        }
        Ok(())
    }

    /// Closes what the handler left open. `rejection`: the response to a handshake that was not
    /// accepted; None: it is accepted first.
    pub(super) fn finish(&self, cause: CloseCause, rejection: Option<Rejection>) {
        let mut inside = self.inside();
        match inside.phase {
            Phase::Closed { .. } => {}
            Phase::Open => self.close_for(&mut inside, cause),
            Phase::Opening => {
                if let Some(rejection) = rejection {
                    self.refuse(&mut inside, rejection);
                    return;
                }
                self.let_in(&mut inside, None);
                self.close_for(&mut inside, cause);
            }
        }
    }

    /// What the task that receives waits on from now on. An error when another one waits already.
    pub(super) fn wait_for_message(&self, py: Python<'_>) -> PyResult<Py<Waiter>> {
        let mut receiver = self.receiver();
        if receiver.get().owes_cancellation() {
            // It belongs to a task that was cancelled and has not run since.
            *receiver = Py::new(py, Waiter::new(self.event_loop.clone_ref(py)))?;
        }
        receiver.get().begin()?;
        Ok(receiver.clone_ref(py))
    }

    /// What a task that sends waits on from now on. None when it need not wait.
    pub(super) fn wait_for_room(&self, py: Python<'_>) -> PyResult<Option<Py<Waiter>>> {
        let waiter = Py::new(py, Waiter::new(self.event_loop.clone_ref(py)))?;
        let mut inside = self.inside();
        if let Phase::Closed { code, reason } = &inside.phase {
            return Err(closed_error(*code, reason));
        }
        // The order matters: a session that catches up now finds the waiter, or is found here to
        // have caught up.
        waiter.get().begin()?;
        inside.senders.push(waiter.clone_ref(py));
        if self.link.must_wait() {
            return Ok(Some(waiter));
        }
        inside.senders.pop();
        Ok(None)
    }

    /// Not held while Python runs.
    fn inside(&self) -> MutexGuard<'_, State> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not held while Python runs.
    fn receiver(&self) -> MutexGuard<'_, Py<Waiter>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client fails the connection when it is answered with a subprotocol that it did not offer
    /// (RFC 6455, section 4.1).
    fn check_offered(&self, name: &str) -> PyResult<()> {
        let subprotocol = Subprotocol::new(name).map_err(value_error)?;
        if subprotocol.is_offered(&*self.head.http) {
            return Ok(());
        }
        Err(value_error(format!(
            "The client did not offer the subprotocol {name:?}: its offer is in \
             ws.headers[\"sec-websocket-protocol\"]."
        )))
    }

    /// The first use accepts. An error when the session is over.
    fn open(&self) -> PyResult<()> {
        let mut inside = self.inside();
        match &inside.phase {
            Phase::Open => Ok(()),
            Phase::Closed { code, reason } => Err(closed_error(*code, reason)),
            Phase::Opening => {
                self.let_in(&mut inside, None);
                Ok(())
            }
        }
    }

    fn let_in(&self, inside: &mut State, subprotocol: Option<String>) {
        inside.phase = Phase::Open;
        self.worker.command(Command::Accept {
            session: self.key,
            subprotocol,
        });
    }

    /// Counts a topic, unless it is counted already. An error when there is no room for it.
    fn add_topic(&self, topic: &Topic) -> PyResult<()> {
        let topics = &mut self.inside().topics;
        if topics.len() >= self.max_topics && !topics.contains(topic) {
            return Err(PyRuntimeError::new_err(format!(
                "This WebSocket cannot subscribe to {:?}: it is subscribed to {} topics, as many as its \
                 route allows. Unsubscribe from one, or raise WebSocketConfig(max_topics=...).",
                topic.as_str(),
                topics.len()
            )));
        }
        topics.insert(topic.clone());
        Ok(())
    }

    fn refuse(&self, inside: &mut State, rejection: Rejection) {
        let status = rejection.status;
        inside.phase = Phase::closed(&CloseCause::Rejected { status });
        self.worker.command(Command::Reject {
            session: self.key,
            rejection: Box::new(rejection),
        });
    }

    fn close_for(&self, inside: &mut State, cause: CloseCause) {
        inside.phase = Phase::closed(&cause);
        let session = self.key;
        self.worker.command(Command::Close { session, cause });
    }

    /// The next message if one waits, or why none will come.
    pub(super) fn next(&self) -> PyResult<Option<Py<PyAny>>> {
        let mut inside = self.inside();
        if let Some((message, len)) = inside.inbox.pop_front() {
            drop(inside);
            if self.link.received(len) {
                self.worker.command(Command::Resume { session: self.key });
            }
            return Ok(Some(message));
        }
        match &inside.phase {
            Phase::Closed { code, reason } => Err(closed_error(*code, reason)),
            Phase::Opening | Phase::Open => {
                if self.link.waits_for_message() {
                    self.worker.command(Command::Resume { session: self.key });
                }
                Ok(None)
            }
        }
    }
}

fn closed_error(code: u16, reason: &str) -> PyErr {
    WebSocketClosed::new_err((code, reason.to_owned()))
}

#[pymethods]
impl WebSocket {
    /// Unique among all connections of this server, in all workers.
    #[getter]
    fn id(&self) -> String {
        format!("{:x}-{:x}", std::process::id(), self.key.as_u64())
    }

    /// The path of the handshake, percent-decoded.
    #[getter]
    fn path(&self) -> Cow<'_, str> {
        self.head.path()
    }

    /// The path's parameters by name.
    #[getter]
    fn path_params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.head.path_params(py)
    }

    /// The query's parameters.
    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, MultiDict>> {
        self.head.query(py)
    }

    /// Of the handshake; names without regard to case.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, MultiDict>> {
        self.head.headers(py)
    }

    /// The cookies by name.
    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.head.cookies(py)
    }

    /// Address and port of the other end of the connection.
    #[getter]
    fn client(&self) -> (String, u16) {
        self.head.client()
    }

    /// "wss" if the client speaks TLS, to the server or to a trusted proxy; else "ws".
    #[getter]
    fn scheme(&self) -> &'static str {
        if self.head.http.peer.is_secure {
            "wss"
        } else {
            "ws"
        }
    }

    /// Where a proxy shows the application, as `--root-path` says: it goes before every link.
    #[getter]
    #[expect(clippy::unused_self, reason = "Python asks an object")]
    fn root_path(&self) -> String {
        super::request::root_path()
    }

    /// Yours: kept as long as the connection.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        let make = || PyDict::new(py).unbind();
        let state = self.state.get_or_init_py_attached(py, make);
        state.bind(py).clone()
    }

    /// None while open; else the code of the close (RFC 6455 section 7.4).
    #[getter]
    fn close_code(&self) -> Option<u16> {
        match &self.inside().phase {
            Phase::Closed { code, .. } => Some(*code),
            Phase::Opening | Phase::Open => None,
        }
    }

    /// None while open; else the reason of the close, which may be empty.
    #[getter]
    fn close_reason(&self) -> Option<String> {
        match &self.inside().phase {
            Phase::Closed { reason, .. } => Some(reason.clone()),
            Phase::Opening | Phase::Open => None,
        }
    }

    /// Published messages that the route's `overflow` has dropped for this client so far.
    #[getter]
    fn dropped(&self) -> u64 {
        self.link.dropped()
    }

    /// Answers the handshake. The first use of the WebSocket implies it.
    #[pyo3(signature = (subprotocol=None))]
    fn accept(&self, py: Python<'_>, subprotocol: Option<String>) -> PyResult<Py<Ready>> {
        if let Some(name) = &subprotocol {
            self.check_offered(name)?;
        }
        let done = Ready::nothing(py)?;
        let mut inside = self.inside();
        match &inside.phase {
            Phase::Opening => {
                self.let_in(&mut inside, subprotocol);
                Ok(done)
            }
            Phase::Open if subprotocol.is_none() => Ok(done),
            Phase::Open => Err(PyRuntimeError::new_err(
                "Too late to choose a subprotocol: this WebSocket has been accepted. \
                 Call accept(subprotocol) before anything else.",
            )),
            Phase::Closed { code, reason } => Err(closed_error(*code, reason)),
        }
    }

    /// Refuses the handshake with an HTTP status, instead of accepting it.
    #[pyo3(signature = (status=403, reason=None))]
    fn reject(&self, py: Python<'_>, status: u16, reason: Option<String>) -> PyResult<Py<Ready>> {
        if !(400..600).contains(&status) {
            return Err(PyValueError::new_err(format!(
                "reject expects an HTTP status from 400 to 599, got {status}."
            )));
        }
        let mut inside = self.inside();
        if !matches!(inside.phase, Phase::Opening) {
            return Err(PyRuntimeError::new_err(
                "Too late to reject: this WebSocket has been accepted. Use close() instead.",
            ));
        }
        let reason = reason.unwrap_or_else(|| "The application refused the connection.".to_owned());
        self.refuse(&mut inside, Rejection::new(status, reason));
        drop(inside);
        Ready::nothing(py)
    }

    /// Sends one message to this client. WebSocketClosed if it is gone.
    fn send<'py>(
        this: &Bound<'py, Self>,
        message: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let ws = this.get();
        let (object, message) = (message, Message::new(message, "send")?);
        ws.open()?;
        if ws.link.queued() > MOST_BUDGETS * ws.link.budget() {
            let mut inside = ws.inside();
            let cause = CloseCause::ClientTooSlow;
            let error = closed_error(cause.code(), &cause.reason());
            ws.close_for(&mut inside, cause);
            return Err(error);
        }
        ws.worker.send(ws.key, &ws.link, message, object)?;
        if ws.link.must_wait() {
            return Ok(Bound::new(py, Room::new(this.clone().unbind()))?.into_any());
        }
        Ok(Ready::nothing(py)?.into_bound(py).into_any())
    }

    /// The next message. WebSocketClosed when there is none any more.
    fn receive(this: Bound<'_, Self>) -> PyResult<Receive> {
        this.get().open_to_receive()?;
        Ok(Receive::new(this.unbind(), false))
    }

    fn __aiter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __anext__(this: Bound<'_, Self>) -> PyResult<Receive> {
        this.get().open_to_receive()?;
        Ok(Receive::new(this.unbind(), true))
    }

    /// Closes with a code and a reason of at most 123 bytes (RFC 6455 section 5.5.1). Closing twice
    /// is allowed; the first one counts.
    #[pyo3(signature = (code=1000, reason=""))]
    fn close(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<Py<Ready>> {
        if !is_close_code(code) {
            return Err(PyValueError::new_err(format!(
                "{code} cannot be sent as a close code: use 1000, or 3000 to 4999 for your own."
            )));
        }
        if reason.len() > MAX_CLOSE_REASON {
            return Err(PyValueError::new_err(format!(
                "A close reason must have at most {MAX_CLOSE_REASON} bytes of UTF-8, got {}.",
                reason.len()
            )));
        }
        let reason = reason.to_owned();
        self.finish(CloseCause::Application { code, reason }, None);
        Ready::nothing(py)
    }

    /// From here on this client gets what is published to the topic, in any worker; before that, as
    /// much of what was published as is asked for. `RuntimeError` when it has `max_topics` others.
    #[pyo3(signature = (topic, *, last=None, since=None, epoch=None))]
    fn subscribe(
        &self,
        py: Python<'_>,
        topic: &str,
        last: Option<i64>,
        since: Option<i64>,
        epoch: Option<u64>,
    ) -> PyResult<Replay> {
        let topic = Topic::new(topic).map_err(value_error)?;
        let bus = &self.worker.bus;
        let reach = ReplayRequest { last, since, epoch }.reach(bus)?;
        // First the interest, then the end of the bus: whatever is published from here on either
        // lies behind `from` or wakes us. Both before the client is let in: once it is, it is
        // subscribed.
        let hash = topic.hash();
        bus.add_interest(hash);
        let from = bus.end();
        if let Err(refused) = self.open().and_then(|()| self.add_topic(&topic)) {
            bus.remove_interest(hash);
            return Err(refused);
        }
        let replay = match reach {
            None => Replay::nothing(bus, from),
            Some(reach) => {
                let most = self.link.budget() / REPLAY_SHARE;
                let past = py.detach(|| bus.replay(topic.as_str(), reach, from, most));
                self.worker.send_frames(self.key, &self.link, &past);
                Replay::new(&past, bus, from)
            }
        };
        let inside = self.inside();
        if inside.topics.contains(&topic) {
            self.worker.command(Command::Subscribe {
                session: self.key,
                topic,
                from,
            });
        } else {
            // It was closed, or another thread has unsubscribed it in the meantime.
            bus.remove_interest(hash);
        }
        Ok(replay)
    }

    /// From here on this client no longer gets what is published to the topic.
    fn unsubscribe(&self, topic: &str) -> PyResult<()> {
        let topic = Topic::new(topic).map_err(value_error)?;
        let mut inside = self.inside();
        inside.topics.remove(&topic);
        self.worker.command(Command::Unsubscribe {
            session: self.key,
            topic,
        });
        Ok(())
    }

    /// To everybody on the topic except this client. Returns the offset on the bus. May wait for hubs,
    /// without Python's lock.
    fn publish(&self, topic: &str, message: &Bound<'_, PyAny>) -> PyResult<u64> {
        self.worker
            .publish_message(topic, message, self.key.as_u64())
    }

    /// A `state` that knows its WebSocket would else never be freed.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.state.get())
    }

    fn __repr__(&self) -> String {
        let state = match &self.inside().phase {
            Phase::Opening => "opening".to_owned(),
            Phase::Open => "open".to_owned(),
            Phase::Closed { code, .. } => format!("closed with {code}"),
        };
        format!("<WebSocket {} {state}>", self.head.path())
    }
}

impl WebSocket {
    /// Receiving accepts a client that waits, and is allowed after the end: messages may be left.
    fn open_to_receive(&self) -> PyResult<()> {
        let opening = matches!(self.inside().phase, Phase::Opening);
        if opening { self.open() } else { Ok(()) }
    }
}
