//! What the sessions of one worker share: the way to the hub and the bus, to user code, and a buffer to read in.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use actix::Addr;

use super::close::CloseCause;
use super::frame::Kind;
use super::hub::Hub;
use super::session::{READ_BYTES, SessionKey};
use super::turn_queue::TurnQueue;
use crate::ipc::Bus;

/// Where user code gets what happens to its sessions. Called on the I/O thread: must not block.
pub trait Inbox: 'static {
    /// A message of the client.
    fn message(&self, session: SessionKey, kind: Kind, payload: Cow<'_, [u8]>);
    /// The session is over. Comes exactly once, after its last message.
    fn closed(&self, session: SessionKey, cause: &CloseCause);
    /// A handler that was told to wait may send again.
    fn room(&self, session: SessionKey);
    /// May sessions read on? That is, does it have room for messages?
    fn has_room(&self) -> bool;
    /// The turn ends: hand over what was collected. `stalled`: sessions wait for room and want to
    /// hear of it.
    fn flush(&self, stalled: bool);
}

/// What the sessions of one worker share. All of it lives on the I/O thread.
pub struct Shared {
    /// The hub of this worker.
    pub hub: Addr<Hub>,
    /// The bus, to publish on.
    pub bus: Bus,
    /// The handler's end.
    pub inbox: Rc<dyn Inbox>,
    /// What is done once for all sessions.
    pub turn_queue: Rc<TurnQueue>,
    /// Lent to the session that reads.
    pub(super) scratch: RefCell<Scratch>,
}

/// Memory that no session keeps anything in.
pub(super) struct Scratch {
    /// What was read last.
    pub(super) input: Box<[u8]>,
    /// What a session answers to one read.
    pub(super) output: Vec<u8>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// What the sessions of one worker share.
    pub fn new(
        hub: Addr<Hub>,
        bus: Bus,
        inbox: Rc<dyn Inbox>,
        turn_queue: Rc<TurnQueue>,
    ) -> Rc<Self> {
        let input = vec![0; READ_BYTES].into_boxed_slice();
        let scratch = RefCell::new(Scratch {
            input,
            output: Vec::new(),
        });
        Rc::new(Self {
            hub,
            bus,
            inbox,
            turn_queue,
            scratch,
        })
    }
}
