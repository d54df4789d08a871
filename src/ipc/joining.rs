//! The ways into a bus: as a program, as a server's supervisor, and as a worker.

use super::bus::Bus;
use super::error::BusError;
use super::open::JoinRequest;
use super::reservation::{Role, SlotDemand};
use super::sizes::{MemoryDemand, SizeRequest};

/// Sizes of a bus. They count when it is created; who joins a living bus takes it as it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BusOptions {
    /// Bytes of each member's ring, a power of two from 4 KiB to 1 GiB.
    ///
    /// Reserved when a member joins. A message may have a quarter of it. The default, 8 MiB, takes
    /// seven messages of 1 MiB before the oldest is overwritten.
    pub ring_bytes: usize,
    /// Entries of the log, 8 bytes each, a power of two from 64 to 2^24; times `ring_bytes` at most
    /// 2^41.
    ///
    /// A reader that falls behind by more misses records, even small ones. The default, 2^16, is
    /// one and a half rings of messages of 128 bytes, and goes with rings of up to 32 MiB.
    pub log_entries: usize,
    /// Bytes for what is kept by [`Bus::retain`], from 128 KiB to 8 GiB; 0 retains_history nothing. Reserved with
    /// the first rule. The default is 8 MiB.
    pub history_bytes: usize,
}

impl Default for BusOptions {
    fn default() -> BusOptions {
        BusOptions {
            ring_bytes: 8 << 20,
            log_entries: 1 << 16,
            history_bytes: 8 << 20,
        }
    }
}

/// What a server needs of its bus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerNeeds {
    /// Processes that serve.
    pub workers: usize,
    /// Further ones that there may be at a time: new workers that start while old ones finish what they have.
    pub extra_workers: usize,
    /// Whether another process looks after them: the caller. Else the caller serves.
    pub is_supervised: bool,
    /// Workers that have joined already, in the caller's life before it executed itself.
    pub joined: usize,
    /// Whether it makes rules of what to retain.
    pub retains_history: bool,
    /// Bytes of each ring. `None`: as many as fit into /dev/shm, 8 MiB at most and 1 MiB at least.
    pub ring_bytes: Option<usize>,
    /// Bytes of the history. `None`: as for the rings.
    pub history_bytes: Option<usize>,
}

impl ServerNeeds {
    /// The places that it needs when it opens its bus: a supervisor's, those of its workers, and those for
    /// workers that replace others while these finish what they have.
    fn need(&self) -> SlotDemand {
        if !self.is_supervised {
            return SlotDemand {
                least: 1,
                most: 1,
                rings: 1,
            };
        }
        let missing = self.workers.saturating_sub(self.joined);
        // One that goes on has the memory that it has; whether there is more is asked before it is needed.
        let rings = if self.joined == 0 { missing + 1 } else { 0 };
        SlotDemand {
            least: 1 + rings,
            most: (1 + missing + self.extra_workers).max(1 + rings),
            rings,
        }
    }

    fn demand(&self) -> MemoryDemand {
        MemoryDemand {
            workers: self.workers,
            least_rings: self.workers + usize::from(self.is_supervised),
            most_rings: self.workers + self.extra_workers,
            retains_history: self.retains_history,
        }
    }
}

impl Bus {
    /// Joins the bus of that name, creating it if there is none.
    ///
    /// A segment that living members use is joined as it is, whatever `options` say. One that
    /// nobody lives in any more is taken over with its history and its epoch, if it is sound and has
    /// these sizes, and made anew otherwise.
    ///
    /// May wait up to ten seconds for another process that is just opening it.
    pub fn open(name: &str, options: &BusOptions) -> Result<Bus, BusError> {
        let BusOptions {
            ring_bytes,
            log_entries,
            history_bytes,
        } = *options;
        let wish = SizeRequest::new(
            Some(ring_bytes),
            log_entries,
            Some(history_bytes),
            MemoryDemand::PROGRAM,
        )?;
        Bus::join(name, &JoinRequest::guest(Some(wish)))
    }

    /// As [`Bus::open`], with the largest sizes that fit into /dev/shm for those that are not given: 8 MiB
    /// at most, and 1 MiB at least.
    pub fn open_fitting(
        name: &str,
        ring_bytes: Option<usize>,
        history_bytes: Option<usize>,
    ) -> Result<Bus, BusError> {
        let log_entries = BusOptions::default().log_entries;
        let wish = SizeRequest::new(
            ring_bytes,
            log_entries,
            history_bytes,
            MemoryDemand::PROGRAM,
        )?;
        Bus::join(name, &JoinRequest::guest(Some(wish)))
    }

    /// Joins the bus of that name as the first process of a server, creating it if there is none, and
    /// reserves places for the server's other processes, which [`Bus::attach_as_worker`] gives them, and the
    /// memory of their rings.
    ///
    /// A supervisor publishes nothing. It reserves further places by [`Bus::reserve_places`].
    pub fn serve(name: &str, server: &ServerNeeds) -> Result<Bus, BusError> {
        let log_entries = BusOptions::default().log_entries;
        let wish = SizeRequest::new(
            server.ring_bytes,
            log_entries,
            server.history_bytes,
            server.demand(),
        )?;
        let role = if server.is_supervised {
            Role::Supervisor
        } else {
            Role::Worker
        };
        let entry = JoinRequest {
            wish: Some(wish),
            role,
            reserves: Some(server.need()),
        };
        Bus::join(name, &entry)
    }

    /// Joins the bus of that name as it is: [`BusError::NotFound`] if there is none. For those who
    /// come to somebody else's bus, a command line or a task queue.
    pub fn attach(name: &str) -> Result<Bus, BusError> {
        Bus::join(name, &JoinRequest::guest(None))
    }

    /// As [`Bus::attach`], for a worker of the bus's server: it takes one of the reserved places.
    pub fn attach_as_worker(name: &str) -> Result<Bus, BusError> {
        let entry = JoinRequest {
            wish: None,
            role: Role::Worker,
            reserves: None,
        };
        Bus::join(name, &entry)
    }
}
