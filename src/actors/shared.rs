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

/// The parts that the sessions of one worker share. All of them live on the I/O thread.
pub struct Shared {
    /// The bus, to publish on.
    pub bus: Bus,
    /// The handler's end.
    pub inbox: Rc<dyn Inbox>,
    /// The work that is done once for all sessions.
    pub turn_queue: Rc<TurnQueue>,
    /// Lent to the session that reads.
    pub(super) scratch: RefCell<Scratch>,
}

/// Memory that holds no data of a session between two reads.
pub(super) struct Scratch {
    /// The input of the last read.
    pub(super) input: Box<[u8]>,
    /// The answers of a session to one read.
    pub(super) output: Vec<u8>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// The shared parts of the sessions of one worker.
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
