//! The sizes of a new bus: the requested ones, or the largest that fit into /dev/shm.
//!
//! The check comes before anything is created. It is a forecast: other processes may take the memory meanwhile, and
//! then `fallocate` refuses.

use super::error::BusError;
use super::layout::Layout;
use super::shortage::Shortage;

/// Bytes of a ring, and of the history, that are tried in turn if no size was requested.
const STEPS: [usize; 4] = [8 << 20, 4 << 20, 2 << 20, 1 << 20];
/// Rings for other programs, if they fit into /dev/shm too.
const OTHERS: usize = 2;

/// The memory that a bus needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct MemoryDemand {
    /// Workers of the server that creates the bus. 0: another program creates it.
    pub(super) workers: usize,
    /// Rings that it cannot do without.
    pub(super) least_rings: usize,
    /// Rings that it may come to have, without those of other programs.
    pub(super) most_rings: usize,
    /// Whether its history will be used.
    pub(super) retains_history: bool,
}

impl MemoryDemand {
    /// The demand of a program that creates a bus.
    pub(super) const PROGRAM: MemoryDemand = MemoryDemand {
        workers: 0,
        least_rings: 1,
        most_rings: 1,
        retains_history: false,
    };
}

/// The requested sizes. `None`: the bus chooses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SizeRequest {
    ring_bytes: Option<usize>,
    log_entries: usize,
    history_bytes: Option<usize>,
    demand: MemoryDemand,
}

impl SizeRequest {
    /// Checks the sizes. It is an error if one is outside its limits.
    pub(super) fn new(
        ring_bytes: Option<usize>,
        log_entries: usize,
        history_bytes: Option<usize>,
        demand: MemoryDemand,
    ) -> Result<SizeRequest, BusError> {
        let wish = SizeRequest {
            ring_bytes,
            log_entries,
            history_bytes,
            demand,
        };
        // All steps are within the limits.
        let ring_bytes = ring_bytes.unwrap_or(STEPS[0]);
        let layout = Layout::new(ring_bytes, log_entries).ok_or(BusError::Sizes {
            ring_bytes,
            log_entries,
        })?;
        let history_bytes = history_bytes.unwrap_or(STEPS[0]);
        layout
            .with_history(history_bytes)
            .ok_or(BusError::HistorySize { history_bytes })?;
        Ok(wish)
    }

    /// The layout with the requested sizes, and `step` for the others.
    fn layout(&self, step: usize) -> Layout {
        Layout::new(self.ring_bytes.unwrap_or(step), self.log_entries)
            .and_then(|layout| layout.with_history(self.history_bytes.unwrap_or(step)))
            .expect("checked when the wish was made")
    }

    fn needed(&self, layout: Layout, rings: usize) -> u64 {
        let history = if self.demand.retains_history {
            layout.history_bytes()
        } else {
            0
        };
        (layout.fixed_bytes() + rings * layout.ring_bytes() + history) as u64
    }

    /// The largest sizes with which a bus fits into `free` bytes.
    pub(super) fn choose(&self, name: &str, free: u64) -> Result<Layout, BusError> {
        let most_rings = self.demand.most_rings + OTHERS;
        let layouts = || STEPS.into_iter().map(|step| self.layout(step));
        let fits = |layout: &Layout, rings| self.needed(*layout, rings) <= free;
        let smallest = layouts().next_back().expect("there are steps");
        layouts()
            .find(|layout| fits(layout, most_rings))
            .or_else(|| fits(&smallest, self.demand.least_rings).then_some(smallest))
            .ok_or_else(|| {
                BusError::DoesNotFit(Shortage {
                    name: name.into(),
                    workers: self.demand.workers,
                    rings: self.demand.least_rings,
                    ring_bytes: smallest.ring_bytes(),
                    history_bytes: if self.demand.retains_history {
                        smallest.history_bytes()
                    } else {
                        0
                    },
                    needed: self.needed(smallest, self.demand.least_rings),
                    free,
                })
            })
    }

    /// Whether an existing bus without members will do, where `capacity` bytes are free or its own. It must have the
    /// requested sizes. A bus with a history may be smaller than a new one; others must be as large.
    pub(super) fn accepts(&self, found: Layout, has_history: bool, capacity: u64) -> bool {
        let is_asked_for = self.log_entries == found.log_entries()
            && self
                .ring_bytes
                .is_none_or(|bytes| bytes == found.ring_bytes())
            && self
                .history_bytes
                .is_none_or(|_| self.layout(STEPS[0]).history_bytes() == found.history_bytes());
        let fits = self.needed(found, self.demand.least_rings) <= capacity;
        let is_best = || self.choose("", capacity).is_ok_and(|best| best == found);
        is_asked_for && fits && (has_history || is_best())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const LOG: usize = 1 << 16;

    fn server(workers: usize, retains_history: bool) -> MemoryDemand {
        MemoryDemand {
            workers,
            least_rings: workers + 1,
            most_rings: workers + 1 + workers.min(4),
            retains_history,
        }
    }

    fn chosen(demand: MemoryDemand, free: u64) -> Option<(usize, usize)> {
        let wish = SizeRequest::new(None, LOG, None, demand).expect("within the limits");
        let layout = wish.choose("chat", free).ok()?;
        Some((layout.ring_bytes() >> 20, layout.history_bytes() >> 20))
    }

    #[test]
    fn the_sizes_depend_on_workers_memory_and_history() {
        // Docker's default size of /dev/shm.
        let docker: Vec<_> = [1, 2, 4, 8, 16, 32, 56]
            .map(|workers| chosen(server(workers, false), 64 * MIB).expect("memory").0)
            .into();
        assert_eq!(docker, [8, 8, 4, 4, 2, 1, 1]);
        assert_eq!(chosen(server(2, true), 64 * MIB), Some((4, 4)));
        assert_eq!(chosen(server(8, true), 64 * MIB), Some((2, 2)));
        assert_eq!(chosen(server(8, false), 16 * MIB), Some((1, 1)));
        assert_eq!(chosen(server(2, true), 16 * MIB), Some((1, 1)));
        assert_eq!(chosen(server(56, true), 1024 * MIB), Some((8, 8)));
        assert_eq!(chosen(MemoryDemand::PROGRAM, 16 * MIB), Some((4, 4)));
    }

    #[test]
    fn the_smallest_sizes_need_memory_for_the_workers_only() {
        assert_eq!(chosen(server(14, false), 16 * MIB), Some((1, 1)));
        assert_eq!(chosen(server(15, false), 16 * MIB), None);
        assert_eq!(chosen(server(13, true), 16 * MIB), Some((1, 1)));
        assert_eq!(chosen(server(14, true), 16 * MIB), None);
        assert_eq!(chosen(server(1, false), 0), None);
    }

    #[test]
    fn requested_sizes_stay_and_the_error_has_the_figures() {
        let wish =
            SizeRequest::new(Some(8 << 20), LOG, None, server(8, true)).expect("within the limits");
        let refused = wish.choose("chat", 64 * MIB).expect_err("9 x 8 MiB and 1");
        assert_eq!(
            refused.to_string(),
            "The bus \"chat\" does not fit into /dev/shm. It needs 73.8 MiB (9 rings of 8 MiB: one for each of 8 \
             workers, and one for a worker that replaces another; 1 MiB of history; the log), and 64 MiB are \
             free. Enlarge /dev/shm (Docker: --shm-size=128m), or use fewer --workers, a --bus-size of at most 4M or \
             a smaller --history-size."
        );
        let fits = wish
            .choose("chat", 80 * MIB)
            .expect("the history is smaller");
        assert_eq!(
            (fits.ring_bytes(), fits.history_bytes()),
            (8 << 20, 1 << 20)
        );
        assert!(SizeRequest::new(Some(5000), LOG, None, MemoryDemand::PROGRAM).is_err());
        assert!(SizeRequest::new(None, LOG, Some(5), MemoryDemand::PROGRAM).is_err());
    }

    #[test]
    fn an_unused_bus_is_reused_if_it_has_a_history_or_is_as_large_as_a_new_one() {
        let wish = SizeRequest::new(None, LOG, None, server(2, true)).expect("within the limits");
        let small = wish.layout(1 << 20);
        let large = wish.layout(8 << 20);
        assert!(!wish.accepts(small, false, 1024 * MIB));
        assert!(wish.accepts(small, true, 1024 * MIB));
        assert!(wish.accepts(large, false, 1024 * MIB));
        assert!(wish.accepts(small, false, 16 * MIB));
        assert!(!wish.accepts(large, true, 16 * MIB), "it does not fit");
        let asked = SizeRequest::new(Some(1 << 20), LOG, None, server(2, true)).expect("allowed");
        assert!(!asked.accepts(large, true, 1024 * MIB));
    }
}
