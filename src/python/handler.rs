//! The [`Handler`] that passes requests and sessions to Python: on the I/O thread it collects events, and hands them
//! over at the end of the turn. It never attaches to Python.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tokio::task::spawn_local;

use super::crash;
use super::endpoint::EndpointKinds;
use super::events::{Event, EventBox, Events};
use super::lane::Lane;
use super::lane_context::Job;
use super::threads::Threads;
use super::worker_handle::WorkerHandle;
use crate::actors::close::CloseCause;
use crate::actors::frame::{Kind, LARGE_BYTES};
use crate::actors::inbox::Inbox;
use crate::actors::link::Link;
use crate::actors::mailbox::Batch;
use crate::actors::session_key::SessionKey;
use crate::http::handler::{Call, Handler};
use crate::http::replies::ReplyKey;
use crate::http::router::EndpointId;

pub(super) struct PythonHandler {
    kinds: Arc<EndpointKinds>,
    events: EventBox,
    threads: Arc<Threads>,
    /// The lane of the synchronous handlers.
    lane: Arc<Lane>,
    worker: Arc<WorkerHandle>,
    turn: RefCell<Turn>,
    /// The tasks run that look for commands of a long drain, and after the threads. The first event starts them.
    looking: Cell<bool>,
}

/// The events and jobs of the current turn.
#[derive(Default)]
struct Turn {
    events: Events,
    jobs: Vec<Job>,
}

impl PythonHandler {
    pub(super) fn new(
        kinds: Arc<EndpointKinds>,
        events: EventBox,
        threads: Arc<Threads>,
        lane: Arc<Lane>,
        worker: Arc<WorkerHandle>,
    ) -> Rc<Self> {
        let (turn, looking) = (RefCell::default(), Cell::default());
        Rc::new(Self {
            kinds,
            events,
            threads,
            lane,
            worker,
            turn,
            looking,
        })
    }

    /// Does the queue for calls of this kind have capacity?
    fn has_capacity_for(&self, asynchronous: bool) -> bool {
        if asynchronous {
            self.events.has_capacity()
        } else {
            self.lane.has_capacity()
        }
    }

    fn collect(&self, event: Event) {
        self.turn.borrow_mut().events.push(event);
    }
}

impl Inbox for PythonHandler {
    fn message(&self, session: SessionKey, kind: Kind, payload: Cow<'_, [u8]>) {
        let events = &mut self.turn.borrow_mut().events;
        if payload.len() >= LARGE_BYTES {
            let payload = payload.into_owned();
            return events.push(Event::LargeMessage {
                session,
                kind,
                payload,
            });
        }
        events.push_message(session, kind, &payload);
    }

    fn closed(&self, session: SessionKey, cause: &CloseCause) {
        self.collect(Event::Closed {
            session,
            code: cause.code(),
            reason: cause.reason().into_owned(),
        });
    }

    fn send_ready(&self, session: SessionKey) {
        self.collect(Event::SendReady { session });
    }

    fn has_capacity(&self) -> bool {
        self.events.has_capacity()
    }

    fn flush(&self, stalled: bool) {
        if stalled {
            self.worker.stalled.store(true, SeqCst);
        }
        let Turn { events, jobs } = &mut *self.turn.borrow_mut();
        if jobs.is_empty() && events.is_empty() {
            return;
        }
        if !jobs.is_empty() {
            self.lane.post(jobs.drain(..));
        }
        if !events.is_empty() {
            self.events.post(|batch| events.move_to(batch));
            events.clear();
        }
        if !self.looking.replace(true) {
            spawn_local(look_again(Arc::clone(&self.worker)));
            spawn_local(Arc::clone(&self.threads).watch());
        }
    }
}

impl Handler for PythonHandler {
    fn opened(&self, call: Call, session: SessionKey) {
        self.collect(Event::Opened { call, session });
    }

    fn has_capacity_to_watch(&self) -> bool {
        self.worker.observed.has_capacity()
    }

    fn has_capacity_for_request(&self, endpoint: EndpointId) -> bool {
        self.has_capacity_for(self.kinds.request_is_async(endpoint))
    }

    fn has_capacity_to_connect(&self, endpoint: EndpointId) -> bool {
        self.has_capacity_for(self.kinds.connect_is_async(endpoint))
    }

    fn request(&self, call: Call, reply: ReplyKey) {
        if self.kinds.request_is_async(call.endpoint) {
            self.collect(Event::Request { call, reply });
        } else {
            self.turn
                .borrow_mut()
                .jobs
                .push(Job::Request { call, reply });
        }
    }

    fn connect(&self, call: Call, session: SessionKey, link: Arc<Link>) {
        if self.kinds.connect_is_async(call.endpoint) {
            self.collect(Event::Connect {
                call,
                session,
                link,
            });
        } else {
            self.turn
                .borrow_mut()
                .jobs
                .push(Job::Admit { call, session });
        }
    }
}

/// Takes the commands of a drain that lasts long, before it ends.
async fn look_again(worker: Arc<WorkerHandle>) {
    let looked = Arc::clone(&worker.drains)
        .look(|| worker.take_early())
        .await;
    if let Err(error) = looked {
        crash::abort(&error);
    }
}
