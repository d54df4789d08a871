//! The state that all connections of one worker share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::budget::Budget;
use super::cache::Cache;
use super::compression::Compression;
use super::config::Config;
use super::deadlines::Deadlines;
use super::handler::Handler;
use super::keepalive_drain::KeepAliveDrain;
use super::replies::Replies;
use super::routes::Routes;
use crate::actors::hub::Requests;
use crate::actors::limits::Limits;
use crate::actors::pulse::Pulse;
use crate::actors::shutdown::Shutdown;
use crate::actors::turn_queue::TurnQueue;
use crate::ipc::Bus;

/// The state of one worker's HTTP side. Each worker has one, and no request copies it.
pub(super) struct HttpWorker {
    pub routes: Arc<Routes>,
    pub config: Arc<Config>,
    /// The limits of each WebSocket endpoint, shared by its sessions.
    pub limits: Vec<Rc<Limits>>,
    pub handler: Rc<dyn Handler>,
    pub replies: Rc<Replies>,
    pub requests: Rc<Requests>,
    pub turn_queue: Rc<TurnQueue>,
    /// This worker's member of the bus.
    pub bus: Bus,
    /// The compressors of responses. None: responses are not compressed.
    pub compression: Option<Compression>,
    /// The cached responses of turbo routes.
    pub cache: Rc<Cache>,
    /// Clients speak TLS.
    pub is_secure: bool,
    /// The signal to stop.
    pub shutdown: Shutdown,
    /// The counters that show that the worker is alive.
    pub pulse: Arc<Pulse>,
    /// The deadlines of the connections.
    pub deadlines: Rc<Deadlines>,
    /// Which keep-alive connections may close while the worker ends.
    pub keepalive_drain: Rc<KeepAliveDrain>,
    /// The memory for the bodies of requests.
    pub bodies: Rc<Budget>,
    /// The memory for responses that wait for clients of HTTP/2.
    pub responses: Rc<Budget>,
    /// The read buffer, which a connection borrows for a read.
    pub scratch: RefCell<Box<[u8]>>,
}
