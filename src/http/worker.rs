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
    /// This worker's membership.
    pub bus: Bus,
    /// What compresses responses, if anything does.
    pub compression: Option<Compression>,
    /// What turbo routes have answered.
    pub cache: Rc<Cache>,
    /// Clients speak TLS.
    pub is_secure: bool,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Signs of life.
    pub pulse: Arc<Pulse>,
    /// The times at which connections are looked at.
    pub deadlines: Rc<Deadlines>,
    /// Which connections stay open while the worker ends.
    pub keepalive_drain: Rc<KeepAliveDrain>,
    /// The memory for the bodies of requests.
    pub bodies: Rc<Budget>,
    /// The memory for responses that wait for clients of HTTP/2.
    pub responses: Rc<Budget>,
    /// Lent to the connection that reads.
    pub scratch: RefCell<Box<[u8]>>,
}
