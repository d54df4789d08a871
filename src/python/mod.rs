//! The module `fanbus._core`: the only code that uses Python.
//!
//! [`worker::Worker`] starts the I/O thread and owns the mailboxes. On that thread a [`handler::PythonHandler`]
//! collects events. On Python's main thread [`event_loop`] drains them and runs coroutines. Synchronous functions run
//! on [`threads`], which are started on demand. Safety never relies on the GIL.

#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 hands a method its arguments by value"
)]

mod access;
mod admission;
mod awaitables;
mod bus;
mod connection;
mod cpu;
mod crash;
mod dispatch;
mod endpoint;
mod errors;
mod event_loop;
mod events;
mod failures;
mod forks;
mod form;
mod handler;
mod handler_coroutine;
mod heap;
mod history;
mod json;
mod lane;
mod lane_context;
mod loan;
mod lock;
mod logs;
mod message;
mod multidict;
mod observed_session;
mod options;
mod publisher;
mod readers;
mod record;
mod request;
mod response;
mod return_value;
mod router;
mod running_handlers;
mod session_count;
mod stream;
mod subscription;
mod tasks;
mod threads;
mod tls;
mod upload;
mod websocket;
mod websocket_awaitables;
mod websocket_methods;
mod worker;
mod worker_handle;

use pyo3::prelude::*;

/// `fanbus._core`.
#[pymodule(gil_used = false)]
mod _core {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::access::AccessLog;
    #[pymodule_export]
    use super::bus::{Bus, buses, check_pattern, counters, inspect_bus, remove_bus};
    #[pymodule_export]
    use super::connection::{Connection, root_path};
    #[pymodule_export]
    use super::forks::{Withheld, die_with_parent, open_descriptors};
    #[pymodule_export]
    use super::form::Part;
    #[pymodule_export]
    use super::heap::{give_back_memory, keep_free_memory};
    #[pymodule_export]
    use super::history::Replay;
    #[pymodule_export]
    use super::json::{answer_json, to_json};
    #[pymodule_export]
    use super::lane::PyLane;
    #[pymodule_export]
    use super::multidict::MultiDict;
    #[pymodule_export]
    use super::observed_session::Session;
    #[pymodule_export]
    use super::record::Record;
    #[pymodule_export]
    use super::request::{Request, json_body};
    #[pymodule_export]
    use super::response::StreamEnd;
    #[pymodule_export]
    use super::return_value::as_response;
    #[pymodule_export]
    use super::router::Router;
    #[pymodule_export]
    use super::stream::Sink;
    #[pymodule_export]
    use super::subscription::{Bell, Subscription};
    #[pymodule_export]
    use super::threads::PyThreads;
    #[pymodule_export]
    use super::tls::Tls;
    #[pymodule_export]
    use super::upload::Upload;
    #[pymodule_export]
    use super::websocket::WebSocket;
    #[pymodule_export]
    use super::worker::{Worker, bind_listeners};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
