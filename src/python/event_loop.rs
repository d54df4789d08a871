//! The drain that Python's event loop runs for a batch of events: it starts handlers, resumes the tasks that wait for
//! messages, and notifies them of the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::connection::{Connection, ConnectionKind};
use super::dispatch::{HandlerRuntime, ResultTarget, RunningSession};
use super::events::{Event, EventBox, Events};
use super::logs;
use super::observed_session::ObservedSessions;
use super::upload;
use super::websocket::WebSocket;
use crate::actors::arena::Arena;
use crate::actors::frame::Kind;
use crate::actors::lingering::Lingering;
use crate::actors::link::Link;
use crate::actors::mailbox::{Batch, Signal};
use crate::actors::session_key::SessionKey;
use crate::actors::starts::Starts;
use crate::http::handler::Call;

/// Batches that a drain takes before the loop does its other work.
const BATCHES_IN_A_ROW: usize = 8;

/// A drain begins no further batch after this time: the first steps of handlers can take long, and their awaitables
/// need the loop's other work.
const LONGEST: Duration = Duration::from_millis(1);

/// Seconds that a handler may run on after its client has disconnected; then its task is cancelled.
const IGNORES_THE_END_S: f64 = 10.0;

/// The state of a drain, which keeps its memory between drains.
#[derive(Default)]
struct DrainState {
    batch: Events,
    /// Bytes of the batch that have been read.
    read: usize,
    /// WebSockets whose handlers wait, and have messages now.
    woken: Vec<Py<WebSocket>>,
    starts: Starts,
}

/// The part of the event loop that is in Rust. Python's main thread owns it, like the loop itself.
pub(super) struct EventLoop {
    pub runtime: Arc<HandlerRuntime>,
    events: EventBox,
    state: Mutex<DrainState>,
    observed: ObservedSessions,
    lingering: Mutex<Lingering>,
    /// Called when the I/O thread has ended.
    on_stopped: Mutex<Option<Py<PyAny>>>,
}

impl EventLoop {
    pub(super) fn new(runtime: Arc<HandlerRuntime>, events: EventBox) -> Self {
        Self {
            runtime,
            events,
            state: Mutex::default(),
            observed: ObservedSessions::default(),
            lingering: Mutex::default(),
            on_stopped: Mutex::default(),
        }
    }

    /// Sets the function that is called when the I/O thread has ended.
    pub(super) fn on_stopped(&self, callback: Py<PyAny>) {
        let _old = self
            .on_stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(callback);
    }

    /// Drains the mailbox. The loop calls it when the mailbox's descriptor is readable. `is_contended`: do other
    /// threads want Python's lock, too? True: the loop has to linger after the steps that follow.
    pub(super) fn drain(&self, py: Python<'_>, is_contended: impl FnOnce() -> bool) -> bool {
        // A second drain within a drain finds the batch in use, and leaves the work to the first.
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            // A drain that panicked has lost its batch, but not the mailbox.
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let raised = self.events.signal().clear();
        let start = Instant::now();
        let lingers = self.lingering().begin(raised, start, is_contended);
        state.starts.turn(start);
        self.runtime.worker.in_one_go(start, || {
            for _ in 0..BATCHES_IN_A_ROW {
                if state.batch.is_empty() {
                    if !self.events.take(&mut state.batch) {
                        return;
                    }
                    state.read = 0;
                }
                if !self.dispatch(py, &mut state) {
                    break;
                }
                // With an empty mailbox there is no need to read the clock.
                if !self.events.is_empty() && start.elapsed() > LONGEST {
                    break;
                }
            }
            // There may be more: come back after the loop's other work.
            self.events.signal().raise();
        });
        lingers
    }

    /// Waits for the next event while holding Python's lock, if the loop may still hold it. True: an event has come.
    pub(super) fn linger(&self) -> bool {
        let left = self.lingering().left(Instant::now());
        let has_come = left.is_some_and(|left| self.events.signal().wait(left));
        if !has_come {
            self.lingering().end();
        }
        has_come
    }

    fn lingering(&self) -> MutexGuard<'_, Lingering> {
        let lingering = self.lingering.lock();
        lingering.unwrap_or_else(PoisonError::into_inner)
    }

    /// False: the rest of the batch is left for the next turn of the loop.
    fn dispatch(&self, py: Python<'_>, state: &mut DrainState) -> bool {
        let DrainState {
            batch,
            read,
            woken,
            starts,
        } = state;
        let Arena { list, bytes: all } = &mut batch.arena;
        let mut bytes = &all[*read..];
        let mut rest = Vec::new();
        let runtime = &self.runtime;
        let mut events = list.drain(..);
        while let Some(event) = events.next() {
            let begins = matches!(event, Event::Request { .. } | Event::Connect { .. });
            if begins && !starts.take() {
                rest.push(event);
                rest.extend(events.by_ref());
                break;
            }
            let done = match event {
                Event::Message { session, kind, len } => {
                    let (payload, rest) = bytes.split_at(len);
                    bytes = rest;
                    self.take_in(py, session, kind, payload, woken)
                }
                Event::LargeMessage {
                    session,
                    kind,
                    payload,
                } => self.take_in(py, session, kind, &payload, woken),
                Event::Release { object } => {
                    drop(object); // here, where Python's lock is held
                    Ok(())
                }
                Event::Request { call, reply } => {
                    self.wake_all(py, woken);
                    self.runtime.start_request(py, call, reply)
                }
                Event::Connect {
                    call,
                    session,
                    link,
                } => {
                    self.wake_all(py, woken);
                    if self.runtime.endpoints.runs_sessions(call.endpoint) {
                        self.connect(py, call, session, link)
                    } else {
                        self.runtime.start_admission(py, call, session)
                    }
                }
                Event::Closed {
                    session,
                    code,
                    reason,
                } => match self.observed.take(session) {
                    Some(observed) => observed.closed(py, code, reason),
                    None => self.closed(py, session, code, reason),
                },
                Event::Opened { call, session } => self.observed.opened(py, runtime, call, session),
                Event::SendReady { session } => self.send_ready(py, session),
                Event::StreamReady { stream } => runtime.streams.ready(py, stream),
                Event::StreamOver { stream } => runtime.streams.over(py, stream),
                Event::Wake { future } => upload::wake(py, &future),
                Event::Log { level, line } => logs::write(py, level, &line),
                Event::Stopped => self.stopped(py),
            };
            self.report_failure(py, done);
        }
        drop(events);
        *read = all.len() - bytes.len();
        list.append(&mut rest);
        self.wake_all(py, woken);
        list.is_empty()
    }

    /// Resumes the handlers that have new messages. Called before another handler starts, which may compute in its first
    /// step.
    fn wake_all(&self, py: Python<'_>, woken: &mut Vec<Py<WebSocket>>) {
        for ws in woken.drain(..) {
            self.report_failure(py, ws.get().wake(py));
        }
    }

    fn report_failure(&self, py: Python<'_>, done: PyResult<()>) {
        if let Err(error) = done {
            self.runtime.report(py, "the event loop of a worker", error);
        }
    }

    /// Puts a message into the inbox of its session. The handler is woken at the end of the batch, or before another one
    /// starts: so several messages cost one suspension and one wake-up.
    fn take_in(
        &self,
        py: Python<'_>,
        session: SessionKey,
        kind: Kind,
        payload: &[u8],
        woken: &mut Vec<Py<WebSocket>>,
    ) -> PyResult<()> {
        let Some(ws) = self.websocket(py, session) else {
            return Ok(());
        };
        if ws.get().take_in(py, kind, payload)? {
            woken.push(ws);
        }
        Ok(())
    }

    fn send_ready(&self, py: Python<'_>, session: SessionKey) -> PyResult<()> {
        self.websocket(py, session)
            .map_or(Ok(()), |ws| ws.get().wake_senders(py))
    }

    /// The lock is not held while Python runs: a handler may end there, and be removed.
    fn websocket(&self, py: Python<'_>, session: SessionKey) -> Option<Py<WebSocket>> {
        let running = self.runtime.sessions();
        Some(running.get(&session)?.ws.clone_ref(py))
    }

    fn connect(
        &self,
        py: Python<'_>,
        call: Call,
        session: SessionKey,
        link: Arc<Link>,
    ) -> PyResult<()> {
        let runtime = &self.runtime;
        let Some(endpoint) = runtime.endpoints.websocket(call.endpoint) else {
            return Ok(());
        };
        let request = call.request.expect("a handshake carries its request");
        let values = call.values.into_boxed_slice();
        let connection = Connection::new(
            ConnectionKind::WebSocket,
            request.head,
            &endpoint.names,
            values,
        );
        let ws = WebSocket::new(
            py,
            session,
            link,
            Arc::clone(&runtime.worker),
            connection,
            endpoint.max_topics,
            &runtime.event_loop,
        )?;
        let guard = runtime.handlers.begin(endpoint);
        let subject = endpoint.wants_subject().then(|| ws.as_any().clone());
        let awaitable = endpoint.call(py, &ws.as_super().get().values, subject, None);
        let ws = ws.unbind();
        let running = RunningSession {
            ws: ws.clone_ref(py),
            task: None,
        };
        // Before the task is created, whose first step may be its last.
        runtime.sessions().insert(session, running);
        if let Some(task) =
            runtime.run_as_task(py, awaitable, ResultTarget::Session { ws, guard })?
            && let Some(running) = runtime.sessions().get_mut(&session)
        {
            running.task = Some(task.unbind());
        }
        Ok(())
    }

    fn closed(
        &self,
        py: Python<'_>,
        session: SessionKey,
        code: u16,
        reason: String,
    ) -> PyResult<()> {
        let running = self.runtime.take_session(session);
        let Some(RunningSession { ws, task }) = running else {
            return Ok(());
        };
        // A handler that waited for a message has run on by now, usually to its end.
        ws.get().closed(py, code, reason)?;
        if let Some(task) = task
            && !task.call_method0(py, "done")?.is_truthy(py)?
        {
            let cancel = task.getattr(py, "cancel")?;
            self.runtime
                .event_loop
                .call_method1(py, "call_later", (IGNORES_THE_END_S, cancel))?;
        }
        Ok(())
    }

    fn stopped(&self, py: Python<'_>) -> PyResult<()> {
        let callback = self
            .on_stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match callback {
            Some(callback) => callback.call0(py).map(drop),
            // It ended unexpectedly: a worker without its I/O thread is useless, and the supervisor replaces it.
            None => self.runtime.event_loop.call_method0(py, "stop").map(drop),
        }
    }
}
