//! `_core.Session`: the session of a turbo route that its hooks observe. Frames are relayed without waiting for the
//! hooks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::prelude::*;

use super::connection::{Connection, ConnectionKind};
use super::dispatch::HandlerRuntime;
use super::session_count::SessionCountGuard;
use crate::actors::session_key::SessionKey;
use crate::http::handler::Call;

/// The sessions that are open and have hooks.
#[derive(Default)]
pub(super) struct ObservedSessions(
    Mutex<HashMap<SessionKey, ObservedSession, foldhash::fast::RandomState>>,
);

/// An open session, and the hooks to call at its end.
pub(super) struct ObservedSession {
    session: Py<Session>,
    hooks: Py<PyAny>,
}

impl ObservedSessions {
    fn open(
        &self,
    ) -> MutexGuard<'_, HashMap<SessionKey, ObservedSession, foldhash::fast::RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Event loop: a session is open.
    pub(super) fn opened(
        &self,
        py: Python<'_>,
        runtime: &HandlerRuntime,
        call: Call,
        key: SessionKey,
    ) -> PyResult<()> {
        let Some(hooks) = &runtime.endpoints.hooks[call.endpoint.0 as usize] else {
            return Ok(());
        };
        let request = call.request.expect("a handshake carries its request");
        let values = call.values.into_boxed_slice();
        let connection = Connection::new(
            ConnectionKind::WebSocket,
            request.head,
            &hooks.names,
            values,
        );
        let session = Session {
            key,
            end: OnceLock::new(),
            _counted: runtime.worker.observed.add(),
        };
        let observed = ObservedSession {
            session: Py::new(
                py,
                PyClassInitializer::from(connection).add_subclass(session),
            )?,
            hooks: hooks.object.clone_ref(py),
        };
        let session = observed.session.clone_ref(py);
        self.open().insert(key, observed);
        hooks
            .object
            .call_method1(py, "opened", (session,))
            .map(drop)
    }

    /// Removes a closed session. None if it has no hooks.
    pub(super) fn take(&self, key: SessionKey) -> Option<ObservedSession> {
        self.open().remove(&key)
    }
}

impl ObservedSession {
    /// Event loop: calls the hook for a closed session.
    pub(super) fn closed(self, py: Python<'_>, code: u16, reason: String) -> PyResult<()> {
        let _first = self.session.get().end.set((code, reason));
        self.hooks
            .call_method1(py, "closed", (self.session,))
            .map(drop)
    }
}

/// One client's session on a turbo route. `on_open` and `on_close` get it; it is never constructed by
/// hand.
#[pyclass(frozen, weakref, extends = Connection, module = "fanbus._core")]
pub(super) struct Session {
    key: SessionKey,
    /// Close code and reason.
    end: OnceLock<(u16, String)>,
    _counted: SessionCountGuard,
}

#[pymethods]
impl Session {
    /// Unique among all connections of this server, in all workers.
    #[getter]
    fn id(&self) -> String {
        format!("{:x}-{:x}", std::process::id(), self.key.as_u64())
    }

    /// None while open; else the code of the close (RFC 6455 section 7.4).
    #[getter]
    fn close_code(&self) -> Option<u16> {
        self.end.get().map(|(code, _)| *code)
    }

    /// None while open; else the reason of the close, which may be empty.
    #[getter]
    fn close_reason(&self) -> Option<&str> {
        self.end.get().map(|(_, reason)| reason.as_str())
    }

    fn __repr__(this: &Bound<'_, Self>) -> String {
        let connection = this.as_super().get();
        let of = format!("{} of {}", connection.path(), connection.client_label());
        match this.get().end.get() {
            None => format!("<Session {of}>"),
            Some((code, _)) => format!("<Session {of} closed with {code}>"),
        }
    }
}
