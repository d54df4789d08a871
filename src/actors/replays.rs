//! What clients that come back are sent of the past: each record is held once for all of them.
//!
//! A crowd that comes back at once asks for the same records, or at least for those that the bus has: so what
//! waits for all of it is no more than that, whatever the size of the crowd.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::queues::Gauge;
use crate::ipc::Past;

/// See the module's documentation. Handlers' threads share records here, the I/O thread lets go of them.
#[derive(Debug, Default)]
pub struct Replays {
    gauge: Gauge,
    /// Records that wait for somebody, by their offset.
    records: Mutex<HashMap<u64, Bytes>>,
}

impl Replays {
    /// Counts what is held here, and in queues.
    pub fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// The frames of the past, oldest first, as others have them who wait for the same.
    pub fn share(&self, past: &Past) -> Vec<Bytes> {
        let frames = past.records.iter().map(|record| {
            let frame = &past.frames[record.frame.clone()];
            // Taken for each record, so that the I/O thread never waits for long.
            let mut records = self.records();
            let shared = records.entry(record.offset).or_insert_with(|| {
                self.gauge.add(frame.len());
                Bytes::copy_from_slice(frame)
            });
            debug_assert_eq!(*shared, frame, "an offset is one record");
            shared.clone()
        });
        frames.collect()
    }

    /// I/O thread, now and then: lets go of what waits for nobody any more.
    pub(super) fn sweep(&self) {
        let mut records = self.records();
        if records.is_empty() {
            return;
        }
        records.retain(|_, frame| {
            let is_wanted = !frame.is_unique();
            if !is_wanted {
                self.gauge.subtract(frame.len());
            }
            is_wanted
        });
        if records.is_empty() {
            *records = HashMap::new();
        }
    }

    /// Held for a few instructions, or for a sweep.
    fn records(&self) -> MutexGuard<'_, HashMap<u64, Bytes>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::PastRecord;

    fn past(offsets: &[u64]) -> Past {
        let mut past = Past::default();
        for &offset in offsets {
            let start = past.frames.len();
            past.frames.extend(format!("record {offset:>20}").bytes());
            past.records.push(PastRecord {
                offset,
                flags: 0,
                frame: start..past.frames.len(),
            });
        }
        past
    }

    #[test]
    fn a_record_is_held_once_and_until_nobody_waits_for_it() {
        let replays = Replays::default();
        let one = replays.share(&past(&[1, 2, 3]));
        let other = replays.share(&past(&[2, 3, 4]));
        assert_eq!(one[1].as_ptr(), other[0].as_ptr());
        assert_eq!(one[1], *format!("record {:>20}", 2));
        assert_eq!(replays.gauge().held(), 4 * 27);
        drop(one);
        replays.sweep();
        assert_eq!(replays.gauge().held(), 3 * 27);
        drop(other);
        replays.sweep();
        assert_eq!(replays.gauge().held(), 0);
        assert_eq!(replays.records().capacity(), 0);
    }
}
