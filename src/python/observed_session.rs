//! `_core.Session`: a session of a turbo route, as its hooks see it. They look on: frames are relayed
//! whether or not Python has come to them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::dispatch::HandlerRuntime;
use super::head::Head;
use super::multidict::MultiDict;
use super::session_count::SessionCountGuard;
use crate::actors::session_key::SessionKey;
use crate::http::handler::Call;

/// The sessions that are open and have hooks.
#[derive(Default)]
pub(super) struct ObservedSessions(
    Mutex<HashMap<SessionKey, ObservedSession, foldhash::fast::RandomState>>,
);

/// An open session, and who wants to know of its end.
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
        let session = Session {
            key,
            head: Head::new(request.head, &hooks.names, call.values.into_boxed_slice()),
            end: OnceLock::new(),
            _counted: runtime.worker.observed.add(),
        };
        let observed = ObservedSession {
            session: Py::new(py, session)?,
            hooks: hooks.object.clone_ref(py),
        };
        let session = observed.session.clone_ref(py);
        self.open().insert(key, observed);
        hooks
            .object
            .call_method1(py, "opened", (session,))
            .map(drop)
    }

    /// Takes out a session that is over. None: it has no hooks.
    pub(super) fn take(&self, key: SessionKey) -> Option<ObservedSession> {
        self.open().remove(&key)
    }
}

impl ObservedSession {
    /// Event loop: the session is over.
    pub(super) fn closed(self, py: Python<'_>, code: u16, reason: String) -> PyResult<()> {
        let _first = self.session.get().end.set((code, reason));
        self.hooks
            .call_method1(py, "closed", (self.session,))
            .map(drop)
    }
}

/// One client's session on a turbo route. `on_open` and `on_close` get it; it is never constructed by
/// hand.
#[pyclass(frozen, weakref, module = "fanbus._core")]
pub(super) struct Session {
    key: SessionKey,
    head: Head,
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

    /// Address and port of the other end of the connection.
    #[getter]
    fn client(&self) -> (String, u16) {
        self.head.client()
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

    fn __repr__(&self) -> String {
        let of = format!("{} of {}", self.head.path(), self.head.client_text());
        match self.end.get() {
            None => format!("<Session {of}>"),
            Some((code, _)) => format!("<Session {of} closed with {code}>"),
        }
    }
}
