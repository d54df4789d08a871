//! The methods that join a bus: as a program, as a server's supervisor, and as a worker.

use super::bus::Bus;
use super::error::BusError;
use super::open::JoinRequest;
use super::reservation::{Role, SlotDemand};
use super::sizes::{MemoryDemand, SizeRequest};

/// The sizes of a bus, for its creation. A process that joins an existing bus uses the sizes of that bus.
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
    /// Bytes of the history, which holds the records of [`Bus::retain`], from 128 KiB to 8 GiB. 0: no history.
    /// Reserved with the first rule. The default is 8 MiB.
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

/// The slots and the memory that a server needs on its bus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerNeeds {
    /// Worker processes.
    pub workers: usize,
    /// Further workers that may run at a time: new ones start while old ones still finish their requests.
    pub extra_workers: usize,
    /// Whether a supervisor runs the workers. It is the caller. False: the caller serves clients itself.
    pub is_supervised: bool,
    /// Workers that have joined already, before the supervisor re-executed itself.
    pub joined: usize,
    /// Whether the server makes retention rules.
    pub retains_history: bool,
    /// Bytes of each ring. `None`: the largest size that fits into /dev/shm, 8 MiB at most and 1 MiB at least.
    pub ring_bytes: Option<usize>,
    /// Bytes of the history. `None`: as for the rings.
    pub history_bytes: Option<usize>,
}

impl ServerNeeds {
    /// The slots that the server needs when it opens its bus: for the supervisor, for its workers, and for workers
    /// that overlap during a reload.
    fn need(&self) -> SlotDemand {
        if !self.is_supervised {
            return SlotDemand {
                least: 1,
                most: 1,
                rings: 1,
            };
        }
        let missing = self.workers.saturating_sub(self.joined);
        // A supervisor that re-executed itself has memory already. Further memory is checked when a worker needs it.
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
    /// Joins the bus of that name, and creates it if there is none.
    ///
    /// A bus with living members is joined as it is, whatever `options` say. A bus without members is taken over,
    /// with its history and its epoch, if it is sound and has these sizes. Otherwise it is created again.
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

    /// As [`Bus::open`]. Sizes that are not given are the largest that fit into /dev/shm: 8 MiB at most, and 1 MiB at
    /// least.
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

    /// Joins the bus of that name as the first process of a server, and creates it if there is none. Reserves slots
    /// for the server's other processes, which join with [`Bus::attach_as_worker`], and the memory of their rings.
    ///
    /// A supervisor publishes nothing. It reserves further slots with [`Bus::reserve_places`].
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

    /// Joins the bus of that name as it is: [`BusError::NotFound`] if there is none. For programs that use the bus of
    /// a server, such as a command line or a task queue.
    pub fn attach(name: &str) -> Result<Bus, BusError> {
        Bus::join(name, &JoinRequest::guest(None))
    }

    /// As [`Bus::attach`], for a worker of the bus's server: it takes one of the reserved slots.
    pub fn attach_as_worker(name: &str) -> Result<Bus, BusError> {
        let entry = JoinRequest {
            wish: None,
            role: Role::Worker,
            reserves: None,
        };
        Bus::join(name, &entry)
    }
}
