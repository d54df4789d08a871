//! The error that a bus does not fit into /dev/shm: what it needs, what is free, and what to do.

use std::fmt;

use super::units::Bytes;

/// The smallest `--bus-size` of a server.
const LEAST_BUS_SIZE: u64 = 64 << 10;

/// The figures of a bus that does not fit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shortage {
    /// The name of the bus.
    pub name: String,
    /// Workers of the server that would create the bus. 0: another program would.
    pub workers: usize,
    /// Rings that it needs.
    pub rings: usize,
    /// Bytes of one ring.
    pub ring_bytes: usize,
    /// Bytes of the history. 0: the history will not be used.
    pub history_bytes: usize,
    /// Bytes that it needs in all.
    pub needed: u64,
    /// Bytes that are free in /dev/shm.
    pub free: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (needed, free) = (Bytes(self.needed), Bytes(self.free));
        write!(
            f,
            "The bus {:?} does not fit into /dev/shm. It needs {needed} ({}; the log), and {free} are free. \
             Enlarge /dev/shm (Docker: --shm-size={}m), or use {}.",
            self.name,
            self.parts(),
            self.needed.next_power_of_two() >> 20,
            self.less()
        )
    }
}

impl Shortage {
    fn parts(&self) -> String {
        let size = Bytes(self.ring_bytes as u64);
        let rings = match (self.workers, self.rings) {
            (_, 1) => format!("1 ring of {size}"),
            (1, rings) => format!(
                "{rings} rings of {size}: one for the worker, and one for a worker that replaces it"
            ),
            (workers, rings) => format!(
                "{rings} rings of {size}: one for each of {workers} workers, and one for a worker that \
                 replaces another"
            ),
        };
        match self.history_bytes {
            0 => rings,
            bytes => format!("{rings}; {} of history", Bytes(bytes as u64)),
        }
    }

    /// The ways to need less memory.
    fn less(&self) -> String {
        if self.workers == 0 {
            return "a smaller size".into();
        }
        let mut ways = Vec::new();
        if self.workers > 1 {
            ways.push("fewer --workers".into());
        }
        ways.push(match self.largest_ring() {
            Some(bytes) if bytes >= 1 << 20 => format!("a --bus-size of at most {}M", bytes >> 20),
            Some(bytes) => format!("a --bus-size of at most {}K", bytes >> 10),
            None => "a smaller --bus-size".into(),
        });
        if self.history_bytes > 0 {
            ways.push("a smaller --history-size".into());
        }
        let last = ways.pop().expect("a size");
        if ways.is_empty() {
            last
        } else {
            format!("{} or {last}", ways.join(", "))
        }
    }

    /// The largest ring that fits while the other sizes stay the same. `None`: there is none.
    fn largest_ring(&self) -> Option<u64> {
        let rest = self.needed - (self.rings * self.ring_bytes) as u64;
        let bytes = self.free.checked_sub(rest)? / self.rings as u64;
        (bytes >= LEAST_BUS_SIZE).then(|| 1 << bytes.ilog2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortage() -> Shortage {
        Shortage {
            name: "chat".into(),
            workers: 8,
            rings: 9,
            ring_bytes: 8 << 20,
            history_bytes: 0,
            needed: (72 << 20) + 1,
            free: 64 << 20,
        }
    }

    #[test]
    fn the_advice_fits_into_the_free_memory() {
        let less = |shortage: Shortage| shortage.less();
        assert_eq!(
            less(shortage()),
            "fewer --workers or a --bus-size of at most 4M"
        );
        let alone = Shortage {
            workers: 1,
            rings: 1,
            free: 1 << 20,
            needed: 8 << 20,
            ..shortage()
        };
        assert_eq!(less(alone), "a --bus-size of at most 1M");
        let full = Shortage {
            free: 0,
            history_bytes: 1,
            ..shortage()
        };
        assert_eq!(
            less(full),
            "fewer --workers, a smaller --bus-size or a smaller --history-size"
        );
        let program = Shortage {
            workers: 0,
            ..shortage()
        };
        assert_eq!(less(program), "a smaller size");
    }
}
