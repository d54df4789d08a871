//! The handshakes of WebSockets, as far as Python decides: who may come in, and what becomes of a session whose
//! handler has ended.

use std::sync::Arc;

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::prelude::*;

use super::dispatch::{HandlerRuntime, ResultTarget};
use super::errors::WebSocketClosed;
use super::request::{Request, RequestLinks};
use super::router::{Endpoint, Endpoints};
use super::websocket::WebSocket;
use crate::actors::close::CloseCause;
use crate::actors::hub::Command;
use crate::actors::rejection::Rejection;
use crate::actors::session_key::SessionKey;
use crate::http::handler::Call;
use crate::http::router::EndpointId;

impl HandlerRuntime {
    /// Event loop: asks an asynchronous function whether a client may come in.
    pub(super) fn start_admission(
        self: &Arc<Self>,
        py: Python<'_>,
        call: Call,
        session: SessionKey,
    ) -> PyResult<()> {
        let guard = self.endpoints.websocket(call.endpoint);
        let guard = guard.map(|endpoint| self.handlers.begin(endpoint));
        let (made, label) = self.call_admission(py, call, None);
        let target = ResultTarget::Admission {
            session,
            label,
            guard,
        };
        self.run_as_task(py, made, target).map(drop)
    }

    /// Handler thread: asks a synchronous function whether a client may come in.
    pub(super) fn run_admission(&self, py: Python<'_>, call: Call, session: SessionKey) {
        let endpoint = self.endpoints.websocket(call.endpoint);
        let _handling = endpoint.map(|endpoint| self.handlers.begin(endpoint));
        match self.copy_context(py) {
            Ok(context) => {
                let (result, label) = self.call_admission(py, call, Some(&context));
                self.admit(py, session, &label, result);
            }
            Err(error) => self.admit(py, session, "a handshake", Err(error)),
        }
    }

    fn call_admission<'py>(
        &self,
        py: Python<'py>,
        call: Call,
        context: Option<&Bound<'py, PyAny>>,
    ) -> (PyResult<Bound<'py, PyAny>>, String) {
        let endpoint = self
            .endpoints
            .websocket(call.endpoint)
            .expect("only asked where it is set");
        let Call {
            values, request, ..
        } = call;
        let request = request.expect("a handshake carries its request");
        let path = request.head.path().to_owned();
        let label = format!("the handshake of {path}");
        let links = RequestLinks {
            events: &self.events,
            client: None,
        };
        let subject = Request::new(py, request, endpoint, &values, links)
            .and_then(|request| Bound::new(py, request));
        let result = subject
            .and_then(|subject| endpoint.call(py, &values, Some(subject.into_any()), context));
        (result, label)
    }

    pub(super) fn admit(
        &self,
        py: Python<'_>,
        session: SessionKey,
        label: &str,
        result: PyResult<Bound<'_, PyAny>>,
    ) {
        let rejection = match result {
            Ok(verdict) if verdict.is(&*pyo3::types::PyBool::new(py, false)) => {
                let sentence = "The application refused the connection.";
                Some(Rejection::new(403, sentence))
            }
            Ok(_) => None,
            Err(error) => Some(self.rejection(py, label, error)),
        };
        self.worker.command(match rejection {
            None => Command::Accept {
                session,
                subprotocol: None,
            },
            Some(rejection) => Command::Reject {
                session,
                rejection: Box::new(rejection),
            },
        });
    }

    pub(super) fn end_session(
        &self,
        py: Python<'_>,
        ws: &WebSocket,
        result: PyResult<Bound<'_, PyAny>>,
    ) {
        let _running = self.take_session(ws.key());
        let Err(error) = result else {
            return ws.finish(CloseCause::HandlerReturned, None);
        };
        // A handler that was still sending when its client left has done nothing wrong.
        let left = ws.is_closed() && error.is_instance_of::<WebSocketClosed>(py);
        if left || error.is_instance_of::<CancelledError>(py) {
            let sentence = "The server is going away.";
            let rejection = Rejection::new(503, sentence);
            ws.finish(CloseCause::HandlerCancelled, Some(rejection));
        } else if ws.is_opening() {
            let rejection = self.rejection(py, &ws.label(), error);
            ws.finish(CloseCause::HandlerFailed, Some(rejection));
        } else {
            ws.finish(CloseCause::HandlerFailed, None);
            self.report(py, &ws.label(), error);
        }
    }
}

impl Endpoints {
    /// Does the function behind this endpoint run sessions, or only admit clients?
    pub(super) fn runs_sessions(&self, id: EndpointId) -> bool {
        self.websocket(id)
            .is_some_and(|endpoint| endpoint.runs_sessions)
    }

    /// The function behind a WebSocket endpoint, if it has one.
    pub(super) fn websocket(&self, id: EndpointId) -> Option<&Endpoint> {
        self.websockets[id.0 as usize].as_ref()
    }
}
