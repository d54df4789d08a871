//! The open bus that publishes: the membership of this process in a named segment.
//!
//! [`Bus`] has its other methods in files of their own: `joining` (the ways in), `reading` (subscribers, interest,
//! sleep), `retention` (history), `housekeeping` (dead members, removal), `pace` and `backpressure` (slow hubs).

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock;
use super::counters::{Counter, Counters, ReaderOffsets};
use super::error::{BusError, PublishError};
use super::extent::Extent;
use super::file::is_name;
use super::fork::generation;
use super::history::archiver::Archiver;
use super::hub_notes::HubNotes;
use super::layout::INTEREST_BUCKETS;
use super::log::LogDamage;
use super::open::{self, JoinRequest, Membership};
use super::parker::Parker;
use super::parts::{Fate, Parts};
use super::pipe::MemberPipes;
use super::producer::{Producer, PublishHints};
use super::record::{Draft, Member, is_topic, topic_hash};
use super::reservation::Role;
use super::ring::{FRAME_HEADER_BYTES, max_message_bytes};
use super::segment::Segment;
use super::sync::{Ordering, process};
use super::wait_queue::WaitQueue;
use super::wake::slots;

/// An open bus: the membership of this process in a named segment.
///
/// Cheap to clone. The member leaves when the last clone and the last [`Subscriber`](super::Subscriber) are dropped.
/// A copy that a fork brought into a child process does nothing there: it publishes nothing, reads without being
/// woken, and leaves nothing. The child must open the bus itself.
///
/// ```
/// use fanbus::ipc::{Bus, BusOptions, Draft, Next, topic_hash};
///
/// let name = format!("doc-{}", std::process::id());
/// let bus = Bus::open(&name, &BusOptions::default())?;
/// let mut subscriber = bus.subscriber();
///
/// let topic = "room:lobby";
/// let offset = bus.publish(&Draft {
///     topic,
///     topic_hash: topic_hash(topic.as_bytes()),
///     flags: 0,
///     exclude_session: 0,
///     frame: [b"", b"hello"],
/// })?;
///
/// let mut frames = Vec::new();
/// let Next::Record(head) = subscriber.next(|_| true, &mut frames) else { panic!() };
/// assert_eq!((head.offset, &frames[head.frame]), (offset, &b"hello"[..]));
/// assert_eq!(subscriber.topic(), "room:lobby");
/// bus.remove()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bus {
    pub(super) shared: Arc<Shared>,
}

/// The state that all clones of a [`Bus`] share.
#[derive(Debug)]
pub(super) struct Shared {
    name: String,
    epoch: u64,
    pub(super) member: Member,
    pub(super) parker: Parker,
    pub(super) pipes: MemberPipes,
    /// The ring has one writer. This lock makes one writer of all threads of the process.
    producer: Mutex<Producer>,
    /// The number of subscribers of this process in each bucket of interest.
    pub(super) interest: Mutex<Box<[u32]>>,
    /// File locks do not exclude threads of one process from each other. This lock does, for tokens and the door.
    pub(super) housekeeping: Mutex<()>,
    /// Taken with the producer's lock, or alone.
    archiver: Mutex<Archiver>,
    /// The offsets of the subscribers of this process.
    pub(super) reader_offsets: ReaderOffsets,
    /// The offset up to which a subscriber of this process has read: a hint for the producer.
    seen: process::AtomicU64,
    /// See [`Producer::quarter_ring_back`].
    quarter_ring_back: process::AtomicU64,
    pub(super) hub_notes: HubNotes,
    pub(super) wait_queue: WaitQueue,
    generation: u32,
    /// The fork generation that may publish: this one, or none.
    publishes_in: u32,
    pub(super) segment: Arc<Segment>,
}

/// No process has this generation: no process forks that often.
const NEVER: u32 = u32::MAX;

/// Locks a mutex. A poisoned one is used as it is: no lock here guards anything that a panic could leave half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The extent of a member's ring: the part that was reserved when it joined. The producer reserves more as needed.
fn extent(segment: &Arc<Segment>, member: Member) -> Extent {
    let (segment, ring) = (
        Arc::clone(segment),
        segment.parts().layout().ring_range(member.slot),
    );
    let start = ring.start;
    let reserve = move |part: Range<usize>| {
        let part = start + part.start..start + part.end;
        segment.reserve(&part).is_ok()
    };
    Extent::first(ring.len(), Box::new(reserve))
}

impl Bus {
    pub(super) fn join(name: &str, request: &JoinRequest) -> Result<Bus, BusError> {
        if !is_name(name) {
            return Err(BusError::Name { name: name.into() });
        }
        let Membership {
            segment,
            member,
            pipe,
            epoch,
        } = open::open(name, request)?;
        let segment = Arc::new(segment);
        let (log, ring) = (segment.parts().log(), segment.parts().ring(member.slot));
        let producer = Producer::resume(log, ring, member).within(extent(&segment, member));
        let bus = Bus {
            shared: Arc::new(Shared {
                name: name.into(),
                epoch,
                member,
                parker: Parker::new(Arc::clone(&segment), member.slot, pipe),
                pipes: MemberPipes::new(),
                producer: Mutex::new(producer),
                // The system only allocates the pages that are used.
                interest: Mutex::new(vec![0; INTEREST_BUCKETS].into()),
                housekeeping: Mutex::new(()),
                archiver: Mutex::default(),
                reader_offsets: ReaderOffsets::default(),
                seen: process::AtomicU64::new(0),
                quarter_ring_back: process::AtomicU64::new(0),
                hub_notes: HubNotes::default(),
                wait_queue: WaitQueue::default(),
                generation: generation(),
                publishes_in: match request.role {
                    Role::Supervisor => NEVER,
                    Role::Guest | Role::Worker => generation(),
                },
                segment,
            }),
        };
        bus.reap();
        Ok(bus)
    }

    /// The name that the bus was opened with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The epoch of the bus: offsets of different epochs cannot be compared. It changes when the history is lost.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The offset that the next record will get.
    pub fn end(&self) -> u64 {
        self.parts()
            .log()
            .end(self.shared.seen.load(Ordering::Relaxed))
    }

    /// The member that this process is.
    pub fn member(&self) -> Member {
        self.shared.member
    }

    /// Largest message that can be published, in bytes: a quarter of a ring. A frame header may come on top.
    pub fn max_message_bytes(&self) -> usize {
        max_message_bytes(self.parts().layout().ring_bytes())
    }

    /// Bytes of each member's ring.
    pub fn ring_bytes(&self) -> usize {
        self.parts().layout().ring_bytes()
    }

    /// Bytes of the history, which holds the records of [`Bus::retain`]. 0: the bus has none.
    pub fn history_bytes(&self) -> usize {
        self.parts().layout().history_bytes()
    }

    /// The number of records that a reader may fall behind before it misses records, however small they are.
    pub fn log_entries(&self) -> u64 {
        self.parts().log().capacity()
    }

    /// Whether this is a copy that a fork brought into a child process.
    pub fn is_forked(&self) -> bool {
        self.shared.generation != generation()
    }

    /// Publishes a record, wakes the sleeping members with interest in its topic, and returns its offset.
    ///
    /// Can be called from any thread. It never waits for readers ([`Bus::publish_blocking`] does). Threads of one
    /// process wait for each other while a record is copied.
    #[inline]
    pub fn publish(&self, draft: &Draft<'_>) -> Result<u64, PublishError> {
        let published = self.publish_if_read(draft, None)?;
        Ok(published.expect("without a limit it is published"))
    }

    /// As [`Bus::publish`], if all records that the hubs must have read lie before `reached`. Otherwise nothing is
    /// published, and the inner error is the offset that the hubs have to reach first.
    ///
    /// Not generic, so that every step of a publish is inlined here, once.
    pub(super) fn publish_if_read(
        &self,
        draft: &Draft<'_>,
        reached: Option<u64>,
    ) -> Result<Result<u64, u64>, PublishError> {
        let shared = &*self.shared;
        if shared.publishes_in != generation() {
            return Err(if self.is_forked() {
                PublishError::Forked
            } else {
                PublishError::NoRing
            });
        }
        if !is_topic(draft.topic) {
            return Err(PublishError::BadTopic);
        }
        debug_assert_eq!(draft.topic_hash, topic_hash(draft.topic.as_bytes()));
        let parts = self.parts();
        let limit = max_message_bytes(parts.layout().ring_bytes());
        let bytes = draft.frame_bytes();
        if bytes > limit + FRAME_HEADER_BYTES {
            return Err(PublishError::TooLarge { bytes, limit });
        }
        if let Some(fate) = parts.fate() {
            return Err(match fate {
                Fate::Removed => PublishError::Removed,
                Fate::Damaged => PublishError::Damaged,
            });
        }
        let has_rules = parts.has_rules();
        let hints = PublishHints {
            seen: shared.seen.load(Ordering::Relaxed),
            seconds: if has_rules { clock::seconds() } else { 0 },
        };
        let published = {
            let mut producer = lock(&shared.producer);
            if let Some(reached) = reached {
                let to_be_read = producer.must_be_read(parts.log());
                if to_be_read > reached {
                    return Ok(Err(to_be_read));
                }
            }
            let archive = |up_to| {
                if has_rules {
                    self.archive(up_to);
                }
            };
            let ring = parts.ring(producer.slot());
            let published = producer.publish(parts.log(), ring, draft, hints, archive);
            self.counters().count_published(bytes);
            let back = &shared.quarter_ring_back;
            back.store(producer.quarter_ring_back(), Ordering::Relaxed);
            published
        };
        let offset = published.map_err(|LogDamage| {
            parts.set_fate(Fate::Damaged);
            PublishError::Damaged
        })?;

        // Every quarter of a log all members are woken, so that none sleeps through a whole lap.
        let sleepers = parts.sleepers();
        let mask = if offset & (parts.log().capacity() / 4 - 1) == 0 {
            if has_rules {
                self.archive(offset.saturating_sub(parts.log().capacity() / 2));
            }
            sleepers.all()
        } else {
            sleepers.interested(draft.topic_hash)
        };
        if mask != 0 {
            self.wake_members(mask);
        }
        Ok(Ok(offset))
    }

    /// Wakes the members of a mask that sleep and that no other publisher has woken yet.
    #[cold]
    pub(super) fn wake_members(&self, mask: u64) {
        let sleepers = self.parts().sleepers();
        for slot in slots(mask) {
            sleepers.wake(slot, || {
                self.count(Counter::WakeupsSent, 1);
                self.send_wakeup(slot)
            });
        }
    }

    /// Makes a member's pipe readable. This process's own reading thread may sleep while another thread publishes.
    pub(super) fn send_wakeup(&self, slot: u8) -> bool {
        if slot == self.shared.member.slot {
            self.shared.parker.send_wakeup()
        } else {
            self.shared.pipes.send_wakeup(slot, self.parts().table())
        }
    }

    /// Copies the records below `up_to` that a retention rule covers into the history.
    #[cold]
    fn archive(&self, up_to: u64) {
        let mut archiver = lock(&self.shared.archiver);
        archiver.archive(self.shared.segment.file(), self.parts(), up_to);
    }

    /// Adds to a counter of this member, which `fanbus bus show` prints.
    pub fn count(&self, counter: Counter, more: u64) {
        self.counters().add(counter, more);
    }

    #[inline]
    pub(super) fn parts(&self) -> Parts<'_> {
        self.shared.segment.parts()
    }

    /// The counters of this member.
    pub(super) fn counters(&self) -> Counters<'_> {
        self.parts().counters(self.shared.member.slot)
    }

    /// Notes the offset up to which a subscriber has read.
    #[inline]
    pub(super) fn note_read_up_to(&self, offset: u64) {
        self.shared.seen.store(offset, Ordering::Relaxed);
    }

    /// An offset above those of all records that this process published more than a quarter of its ring ago.
    pub(super) fn quarter_ring_back(&self) -> u64 {
        self.shared.quarter_ring_back.load(Ordering::Relaxed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.generation == generation() {
            super::membership::clean(self.segment.parts(), self.member.slot);
            // The token is released here and not by the close: a subprocess that another thread is just starting
            // holds a copy of the descriptor until its exec.
            let _ = self.segment.file().release_token(self.member.slot);
        }
    }
}
