//! `_core.WebSocket`: the session that a handler has. The methods for Python are in `websocket_methods.rs`.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::awaitables::Waiter;
use super::connection::Connection;
use super::errors::{WebSocketClosed, value_error};
use super::message;
use super::worker_handle::WorkerHandle;
use crate::actors::close::CloseCause;
use crate::actors::frame::Kind;
use crate::actors::hub::Command;
use crate::actors::link::Link;
use crate::actors::rejection::Rejection;
use crate::actors::session_key::SessionKey;
use crate::actors::topic::Topic;
use crate::http::websocket::subprotocol::Subprotocol;

/// One client's WebSocket. Handlers get it; it is never constructed by hand.
///
/// Methods that send hand over to Rust at once. Their result need not be awaited; awaiting it waits only while the
/// client is too slow.
#[pyclass(frozen, weakref, extends = Connection, module = "fanbus._core")]
pub(super) struct WebSocket {
    pub key: SessionKey,
    pub link: Arc<Link>,
    pub worker: Arc<WorkerHandle>,
    max_topics: usize,
    event_loop: Py<PyAny>,
    /// The waiter of the task that receives.
    receiver: Mutex<Py<Waiter>>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub phase: Phase,
    /// Messages that the handler has not received yet, with their sizes for the link.
    inbox: VecDeque<(Py<PyAny>, usize)>,
    /// The waiters of tasks that wait to send.
    senders: Vec<Py<Waiter>>,
    /// The topics that the session is subscribed to, as the hub will have them: commands are sent with the lock held. At
    /// most `max_topics`.
    pub topics: HashSet<Topic>,
}

#[derive(Clone)]
pub(super) enum Phase {
    /// The client waits for the response to its handshake.
    Opening,
    Open,
    Closed {
        code: u16,
        reason: String,
    },
}

impl Phase {
    pub(super) fn closed(cause: &CloseCause) -> Self {
        Self::Closed {
            code: cause.code(),
            reason: cause.reason().into_owned(),
        }
    }
}

impl WebSocket {
    pub(super) fn new<'py>(
        py: Python<'py>,
        key: SessionKey,
        link: Arc<Link>,
        worker: Arc<WorkerHandle>,
        connection: Connection,
        max_topics: usize,
        event_loop: &Py<PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let state = State {
            phase: Phase::Opening,
            inbox: VecDeque::new(),
            senders: Vec::new(),
            topics: HashSet::new(),
        };
        let receiver = Mutex::new(Py::new(py, Waiter::new(event_loop.clone_ref(py)))?);
        let ws = Self {
            key,
            link,
            worker,
            max_topics,
            event_loop: event_loop.clone_ref(py),
            receiver,
            state: Mutex::new(state),
        };
        Bound::new(py, PyClassInitializer::from(connection).add_subclass(ws))
    }

    pub(super) fn key(&self) -> SessionKey {
        self.key
    }

    /// Does the client still wait for the response to its handshake?
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state().phase, Phase::Opening)
    }

    /// Is it over?
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state().phase, Phase::Closed { .. })
    }

    /// The name of the session for a log: path and client.
    pub(super) fn label(this: &Bound<'_, Self>) -> String {
        let connection = this.as_super().get();
        let (path, client) = (connection.path(), connection.client_label());
        format!("WebSocket {path} of {client}")
    }

    /// Event loop: a message came. True if it is the first that waits: then the caller must wake
    /// the task that receives, after all messages of the batch.
    pub(super) fn take_in(&self, py: Python<'_>, kind: Kind, payload: &[u8]) -> PyResult<bool> {
        let message = message::to_python(py, kind, payload)?;
        let inbox = &mut self.state().inbox;
        inbox.push_back((message, payload.len()));
        Ok(inbox.len() == 1)
    }

    /// Event loop: the task that waits for a message, if any, runs at once.
    pub(super) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let receiver = self.receiver().clone_ref(py);
        Waiter::wake(receiver.bind(py))
    }

    /// Event loop: the session is closed. All waiting tasks are resumed at once.
    pub(super) fn closed(&self, py: Python<'_>, code: u16, reason: String) -> PyResult<()> {
        let senders = {
            let mut state = self.state();
            if !matches!(state.phase, Phase::Closed { .. }) {
                state.phase = Phase::Closed { code, reason };
            }
            state.topics = HashSet::new();
            mem::take(&mut state.senders)
        };
        let receiver = self.receiver().clone_ref(py);
        Waiter::wake(receiver.bind(py))?;
        for sender in senders {
            Waiter::wake(sender.bind(py))?;
        }
        Ok(())
    }

    /// Event loop: the client has caught up, and the handler may send again.
    pub(super) fn wake_senders(&self, py: Python<'_>) -> PyResult<()> {
        let senders = mem::take(&mut self.state().senders);
        for sender in senders {
            Waiter::wake(sender.bind(py))?;
        }
        Ok(())
    }

    /// Closes what the handler left open. `rejection`: the response to a handshake that was not
    /// accepted; None: it is accepted first.
    pub(super) fn finish(&self, cause: CloseCause, rejection: Option<Rejection>) {
        let mut state = self.state();
        match state.phase {
            Phase::Closed { .. } => {}
            Phase::Open => self.close_for(&mut state, cause),
            Phase::Opening => {
                if let Some(rejection) = rejection {
                    self.refuse(&mut state, rejection);
                    return;
                }
                self.let_in(&mut state, None);
                self.close_for(&mut state, cause);
            }
        }
    }

    /// The waiter of the task that receives from now on. `RuntimeError` if another task waits already.
    pub(super) fn wait_for_message(&self, py: Python<'_>) -> PyResult<Py<Waiter>> {
        let mut receiver = self.receiver();
        if receiver.get().owes_cancellation() {
            // It belongs to a task that was cancelled and has not run since.
            *receiver = Py::new(py, Waiter::new(self.event_loop.clone_ref(py)))?;
        }
        receiver.get().begin()?;
        Ok(receiver.clone_ref(py))
    }

    /// The waiter of a task that sends. None if it need not wait.
    pub(super) fn wait_for_room(&self, py: Python<'_>) -> PyResult<Option<Py<Waiter>>> {
        let waiter = Py::new(py, Waiter::new(self.event_loop.clone_ref(py)))?;
        let mut state = self.state();
        if let Phase::Closed { code, reason } = &state.phase {
            return Err(closed_error(*code, reason));
        }
        // The order matters: a session that catches up now finds the waiter, or is found here to
        // have caught up.
        waiter.get().begin()?;
        state.senders.push(waiter.clone_ref(py));
        if self.link.must_wait() {
            return Ok(Some(waiter));
        }
        state.senders.pop();
        Ok(None)
    }

    /// Not held while Python runs.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not held while Python runs.
    pub(super) fn receiver(&self) -> MutexGuard<'_, Py<Waiter>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client fails the connection when it is answered with a subprotocol that it did not offer
    /// (RFC 6455, section 4.1).
    pub(super) fn check_offered(this: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        let subprotocol = Subprotocol::new(name).map_err(value_error)?;
        if subprotocol.is_offered(&*this.as_super().get().head) {
            return Ok(());
        }
        Err(value_error(format!(
            "The client did not offer the subprotocol {name:?}: its offer is in \
             ws.headers[\"sec-websocket-protocol\"]."
        )))
    }

    /// Accepts the client at the first use. `WebSocketClosed` if the session is closed.
    pub(super) fn open(&self) -> PyResult<()> {
        let mut state = self.state();
        match &state.phase {
            Phase::Open => Ok(()),
            Phase::Closed { code, reason } => Err(closed_error(*code, reason)),
            Phase::Opening => {
                self.let_in(&mut state, None);
                Ok(())
            }
        }
    }

    pub(super) fn let_in(&self, state: &mut State, subprotocol: Option<String>) {
        state.phase = Phase::Open;
        self.worker.command(Command::Accept {
            session: self.key,
            subprotocol,
        });
    }

    /// Adds a topic, unless the session has it. `RuntimeError` if the session has `max_topics` others.
    pub(super) fn add_topic(&self, topic: &Topic) -> PyResult<()> {
        let topics = &mut self.state().topics;
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

    pub(super) fn refuse(&self, state: &mut State, rejection: Rejection) {
        let status = rejection.status;
        state.phase = Phase::closed(&CloseCause::Rejected { status });
        self.worker.command(Command::Reject {
            session: self.key,
            rejection: Box::new(rejection),
        });
    }

    pub(super) fn close_for(&self, state: &mut State, cause: CloseCause) {
        state.phase = Phase::closed(&cause);
        let session = self.key;
        self.worker.command(Command::Close { session, cause });
    }

    /// The next message if there is one. `WebSocketClosed` if none will come.
    pub(super) fn next(&self) -> PyResult<Option<Py<PyAny>>> {
        let mut state = self.state();
        if let Some((message, len)) = state.inbox.pop_front() {
            drop(state);
            if self.link.received(len) {
                self.worker.command(Command::Resume { session: self.key });
            }
            return Ok(Some(message));
        }
        match &state.phase {
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

pub(super) fn closed_error(code: u16, reason: &str) -> PyErr {
    WebSocketClosed::new_err((code, reason.to_owned()))
}

impl WebSocket {
    /// Accepts a waiting client before it receives. A closed session may still have messages to receive.
    pub(super) fn open_to_receive(&self) -> PyResult<()> {
        let opening = matches!(self.state().phase, Phase::Opening);
        if opening { self.open() } else { Ok(()) }
    }
}
