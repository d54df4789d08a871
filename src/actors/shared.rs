//! The parts that the sessions of one worker share: the bus, the inbox of user code, the queue for the end of
//! the turn, and a buffer to read in.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::inbox::Inbox;
use super::turn_queue::TurnQueue;
use crate::ipc::Bus;

/// Bytes read from one socket at a time.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// What the sessions of one worker share. All of it lives on the I/O thread.
pub struct Shared {
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
    pub fn new(bus: Bus, inbox: Rc<dyn Inbox>, turn_queue: Rc<TurnQueue>) -> Rc<Self> {
        let input = vec![0; READ_BYTES].into_boxed_slice();
        let scratch = RefCell::new(Scratch {
            input,
            output: Vec::new(),
        });
        Rc::new(Self {
            bus,
            inbox,
            turn_queue,
            scratch,
        })
    }
}
