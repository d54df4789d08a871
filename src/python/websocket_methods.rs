//! The methods of `_core.WebSocket`.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::awaitables::Ready;
use super::errors::value_error;
use super::history::{Replay, ReplayRequest};
use super::message::Message;
use super::publisher::Publisher;
use super::websocket::{Phase, WebSocket, closed_error};
use super::websocket_awaitables::{Receive, SendReady};
use crate::actors::close::CloseCause;
use crate::actors::frame::{MAX_CLOSE_REASON, is_close_code};
use crate::actors::hub::Command;
use crate::actors::rejection::Rejection;
use crate::actors::topic::Topic;
/// The multiple of its budget at which a session is closed whose handler neither awaits nor stops sending.
const MAX_BUDGETS: usize = 8;

/// The part of the budget that a replay may have, as a divisor: no client that reads is too slow for a replay.
const REPLAY_SHARE: usize = 2;

#[pymethods]
impl WebSocket {
    /// Unique among all connections of this server, in all workers.
    #[getter]
    fn id(&self) -> String {
        format!("{:x}-{:x}", std::process::id(), self.key.as_u64())
    }

    /// None while open; else the code of the close (RFC 6455 section 7.4).
    #[getter]
    fn close_code(&self) -> Option<u16> {
        match &self.state().phase {
            Phase::Closed { code, .. } => Some(*code),
            Phase::Opening | Phase::Open => None,
        }
    }

    /// None while open; else the reason of the close, which may be empty.
    #[getter]
    fn close_reason(&self) -> Option<String> {
        match &self.state().phase {
            Phase::Closed { reason, .. } => Some(reason.clone()),
            Phase::Opening | Phase::Open => None,
        }
    }

    /// The number of published messages that the route's `overflow` has dropped for this client.
    #[getter]
    fn dropped(&self) -> u64 {
        self.link.dropped()
    }

    /// Accepts the handshake. The first use of the WebSocket does so, too.
    #[pyo3(signature = (subprotocol=None))]
    fn accept(this: &Bound<'_, Self>, subprotocol: Option<String>) -> PyResult<Py<Ready>> {
        if let Some(name) = &subprotocol {
            Self::check_offered(this, name)?;
        }
        let done = Ready::nothing(this.py())?;
        let ws = this.get();
        let mut state = ws.state();
        match &state.phase {
            Phase::Opening => {
                ws.let_in(&mut state, subprotocol);
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
        let mut state = self.state();
        if !matches!(state.phase, Phase::Opening) {
            return Err(PyRuntimeError::new_err(
                "Too late to reject: this WebSocket has been accepted. Use close() instead.",
            ));
        }
        let reason = reason.unwrap_or_else(|| "The application refused the connection.".to_owned());
        self.refuse(&mut state, Rejection::new(status, reason));
        drop(state);
        Ready::nothing(py)
    }

    /// Sends one message to this client. `WebSocketClosed` if the WebSocket is closed.
    fn send<'py>(
        this: &Bound<'py, Self>,
        message: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let ws = this.get();
        let (object, message) = (message, Message::new(message, "send")?);
        ws.open()?;
        if ws.link.queued() > MAX_BUDGETS * ws.link.budget() {
            let mut state = ws.state();
            let cause = CloseCause::ClientTooSlow;
            let error = closed_error(cause.code(), &cause.reason());
            ws.close_for(&mut state, cause);
            return Err(error);
        }
        ws.worker.send(ws.key, &ws.link, message, object)?;
        if ws.link.must_wait() {
            return Ok(Bound::new(py, SendReady::new(this.clone().unbind()))?.into_any());
        }
        Ok(Ready::nothing(py)?.into_bound(py).into_any())
    }

    /// The next message. `WebSocketClosed` when the WebSocket is closed and all messages are read.
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

    /// Subscribes this client to the topic: it first gets the requested earlier messages, then the messages that any
    /// worker publishes. `RuntimeError` if it is subscribed to `max_topics` other topics.
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
        let state = self.state();
        if state.topics.contains(&topic) {
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

    /// Unsubscribes this client from the topic.
    fn unsubscribe(&self, topic: &str) -> PyResult<()> {
        let topic = Topic::new(topic).map_err(value_error)?;
        let mut state = self.state();
        state.topics.remove(&topic);
        self.worker.command(Command::Unsubscribe {
            session: self.key,
            topic,
        });
        Ok(())
    }

    /// Publishes to all subscribers of the topic except this client. Returns the offset on the bus. May wait for hubs,
    /// without Python's lock.
    fn publish(&self, topic: &str, message: &Bound<'_, PyAny>) -> PyResult<u64> {
        self.worker
            .publish_message(topic, message, self.key.as_u64())
    }

    fn __repr__(this: &Bound<'_, Self>) -> String {
        let state = match &this.get().state().phase {
            Phase::Opening => "opening".to_owned(),
            Phase::Open => "open".to_owned(),
            Phase::Closed { code, .. } => format!("closed with {code}"),
        };
        format!("<WebSocket {} {state}>", this.as_super().get().path())
    }
}
