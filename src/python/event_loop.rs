//! What Python's event loop does with a batch of events: starts handlers, resumes the tasks that
//! wait for messages, and tells them of the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::dispatch::{HandlerRuntime, ResultTarget, RunningSession};
use super::events::{Event, EventBox, Events};
use super::head::Head;
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

/// Batches taken before the loop's other work gets its turn.
const BATCHES_IN_A_ROW: usize = 8;

/// Nor is another one begun after this time: what handlers do in their first steps can take long, and what
/// they await comes by the loop's other work.
const LONGEST: Duration = Duration::from_millis(1);

/// A handler has this long to end by itself after its client is gone; then its task is cancelled.
const IGNORES_THE_END_S: f64 = 10.0;

/// What a drain works on; kept between drains for its memory.
#[derive(Default)]
struct DrainState {
    batch: Events,
    /// Bytes of the batch that have been taken in.
    read: usize,
    /// Handlers that have messages now, and wait for them.
    woken: Vec<Py<WebSocket>>,
    starts: Starts,
}

/// Owned by Python's main thread, like the loop itself.
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

    /// Who is told when the I/O thread has ended.
    pub(super) fn on_stopped(&self, callback: Py<PyAny>) {
        let _old = self
            .on_stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(callback);
    }

    /// Takes what has come. Called by the loop when the mailbox's descriptor is readable. `is_contended`: do other
    /// threads want Python's lock, too? True: the loop is to linger when it has done what follows from it.
    pub(super) fn drain(&self, py: Python<'_>, is_contended: impl FnOnce() -> bool) -> bool {
        // A second drain within a drain finds the batch in use, and leaves the work to the first.
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            // A drain that panicked has lost its batch, but not the mailbox.
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let raised = self.events.signal().clear();
        let begun = Instant::now();
        let lingers = self.lingering().begin(raised, begun, is_contended);
        state.starts.turn(begun);
        self.runtime.worker.in_one_go(begun, || {
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
                // Where nothing has come, there is no need to ask the clock.
                if !self.events.is_empty() && begun.elapsed() > LONGEST {
                    break;
                }
            }
            // There may be more: come back after the loop's other work.
            self.events.signal().raise();
        });
        lingers
    }

    /// Waits for what comes next, with Python's lock, if the loop may still keep it. True: something has come.
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

    /// False: the rest is for the next turn of the loop, and left in hand.
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
                Event::Room { session } => self.room(py, session),
                Event::StreamRoom { stream } => runtime.streams.room(py, stream),
                Event::StreamOver { stream } => runtime.streams.over(py, stream),
                Event::Wake { future } => upload::wake(py, &future),
                Event::Log { level, line } => logs::tell(py, level, &line),
                Event::Stopped => self.stopped(py),
            };
            self.tell_if_failed(py, done);
        }
        drop(events);
        *read = all.len() - bytes.len();
        list.append(&mut rest);
        self.wake_all(py, woken);
        list.is_empty()
    }

    /// Resumes the handlers whose messages have been taken in; before another one begins, which may compute in
    /// its first step.
    fn wake_all(&self, py: Python<'_>, woken: &mut Vec<Py<WebSocket>>) {
        for ws in woken.drain(..) {
            self.tell_if_failed(py, ws.get().wake(py));
        }
    }

    fn tell_if_failed(&self, py: Python<'_>, done: PyResult<()>) {
        if let Err(error) = done {
            self.runtime.report(py, "the event loop of a worker", error);
        }
    }

    /// Puts a message where its handler will find it. The handler is woken at the end of the
    /// batch, or where another one begins: one that finds several messages is suspended and resumed once for all of them.
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

    fn room(&self, py: Python<'_>, session: SessionKey) -> PyResult<()> {
        self.websocket(py, session)
            .map_or(Ok(()), |ws| ws.get().room(py))
    }

    /// The lock is not held while Python runs: a handler may end, and be removed, in there.
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
        let head = Head::new(request.head, &endpoint.names, values);
        let ws = WebSocket::new(
            py,
            session,
            link,
            Arc::clone(&runtime.worker),
            head,
            endpoint.max_topics,
            &runtime.event_loop,
        )?;
        let ws = Py::new(py, ws)?;
        let guard = runtime.handlers.begin(endpoint);
        let subject = endpoint
            .wants_subject()
            .then(|| ws.bind(py).as_any().clone());
        let made = endpoint.call(py, ws.get().values(), subject, None);
        let running = RunningSession {
            ws: ws.clone_ref(py),
            task: None,
        };
        // Before the task is made, whose first step may be its last.
        runtime.sessions().insert(session, running);
        if let Some(task) = runtime.run_as_task(py, made, ResultTarget::Session { ws, guard })?
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
            // Nobody asked for it: a worker without its I/O thread serves nobody, and is replaced.
            None => self.runtime.event_loop.call_method0(py, "stop").map(drop),
        }
    }
}
