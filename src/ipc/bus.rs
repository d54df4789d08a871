//! An open bus: this process's membership in a named segment.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::backpressure::Patience;
use super::clock;
use super::counters::{Counters, ReaderOffsets};
use super::cursor::{ReadAt, read_at};
use super::error::{BusError, PublishError};
use super::extent::Extent;
use super::file::is_name;
use super::fork::generation;
use super::history::archiver::Archiver;
use super::history::replay::{self, Replay, ReplayRange};
use super::history::rules::RetentionRule;
use super::layout::INTEREST_BUCKETS;
use super::log::LogDamage;
use super::membership;
use super::open::{self, JoinRequest, Membership};
use super::parker::Parker;
use super::parts::{Fate, Parts};
use super::pipe::MemberPipes;
use super::producer::{Producer, PublishHints};
use super::record::{Draft, Member, is_topic, topic_hash};
use super::reservation::{self, Role};
use super::ring::{FRAME_HEADER_BYTES, max_message_bytes};
use super::segment::Segment;
use super::subscriber::{SAFETY_TICK, Subscriber, WaitQueue};
use super::sync::{Ordering, process};
use super::wake::slots;

/// An open bus: this process's membership in a named segment.
///
/// Cheap to clone. It leaves when the last clone and the last [`Subscriber`] are dropped. A copy
/// that a fork brought into a child process is inert there: it publishes nothing, reads on without
/// being woken, and leaves nothing; the child opens the bus itself.
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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    epoch: u64,
    member: Member,
    parker: Parker,
    pipes: MemberPipes,
    /// The ring has one writer: this lock makes all threads of the process one.
    producer: Mutex<Producer>,
    /// How many subscribers of this process each bucket of interest has.
    interest: Mutex<Box<[u32]>>,
    /// Locks of the file do not exclude threads of one process from each other; this does for tokens
    /// and the door.
    housekeeping: Mutex<()>,
    /// Keeps what is about to be overwritten. Taken with the producer's lock or alone.
    archiver: Mutex<Archiver>,
    /// Where the subscribers of this process stand.
    reader_offsets: ReaderOffsets,
    /// Up to where a subscriber of this process has read: a hint for the producer.
    seen: process::AtomicU64,
    /// See [`Producer::quarter_ring_back`].
    quarter_ring_back: process::AtomicU64,
    /// Which hubs this process has waited for.
    patience: Patience,
    waiting: WaitQueue,
    generation: u32,
    /// The generation that may publish: this one, or none.
    publishes_in: u32,
    segment: Arc<Segment>,
}

/// No process is of this generation: nobody forks so often.
const NEVER: u32 = u32::MAX;

/// No lock here guards anything that a panic could leave half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a member may use of its ring: what it has reserved when it joined, and more when it needs more.
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
    pub(super) fn join(name: &str, entry: &JoinRequest) -> Result<Bus, BusError> {
        if !is_name(name) {
            return Err(BusError::Name { name: name.into() });
        }
        let Membership {
            segment,
            member,
            pipe,
            epoch,
        } = open::open(name, entry)?;
        let segment = Arc::new(segment);
        let producer = Producer::resume(segment.parts(), member).within(extent(&segment, member));
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
                patience: Patience::default(),
                waiting: WaitQueue::default(),
                generation: generation(),
                publishes_in: match entry.role {
                    Role::Supervisor => NEVER,
                    Role::Guest | Role::Worker => generation(),
                },
                segment,
            }),
        };
        bus.reap();
        Ok(bus)
    }

    /// The name it was opened with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Which life of the bus its offsets belong to. Another after its history was lost.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The offset that the next record will get.
    pub fn end(&self) -> u64 {
        self.parts()
            .log()
            .end(self.shared.seen.load(Ordering::Relaxed))
    }

    /// Who this process is on the bus.
    pub fn member(&self) -> Member {
        self.shared.member
    }

    /// Largest message that can be published: a quarter of a ring. A frame header comes on top.
    pub fn max_message_bytes(&self) -> usize {
        max_message_bytes(self.parts().layout().ring_bytes())
    }

    /// Bytes of each member's ring.
    pub fn ring_bytes(&self) -> usize {
        self.parts().layout().ring_bytes()
    }

    /// Bytes for what is kept by [`Bus::retain`]; 0: nothing is.
    pub fn history_bytes(&self) -> usize {
        self.parts().layout().history_bytes()
    }

    /// How far a reader may fall behind before it misses records, however small they are.
    pub fn log_entries(&self) -> u64 {
        self.parts().log().capacity()
    }

    /// Whether this is a copy that a fork brought here.
    pub fn is_forked(&self) -> bool {
        self.shared.generation != generation()
    }

    /// Publishes a record, wakes the sleepers with interest in its topic, and returns its offset.
    ///
    /// From any thread. Never blocks for readers; threads of one process wait for each other while a
    /// record is copied. Who can wait for readers has [`Bus::publish_blocking`].
    #[inline]
    pub fn publish(&self, draft: &Draft<'_>) -> Result<u64, PublishError> {
        let published = self.publish_if_read(draft, None)?;
        Ok(published.expect("without a limit it is published"))
    }

    /// As [`Bus::publish`], if the hubs only need to have read the records before `reached`. Otherwise nothing
    /// is published, and the error is the offset that the hubs have to reach first.
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
        let keeps = parts.has_rules();
        let now = PublishHints {
            seen: shared.seen.load(Ordering::Relaxed),
            seconds: if keeps { clock::seconds() } else { 0 },
        };
        let published = {
            let mut producer = lock(&shared.producer);
            if let Some(reached) = reached {
                let to_be_read = producer.must_be_read(parts.log());
                if to_be_read > reached {
                    return Ok(Err(to_be_read));
                }
            }
            let keep = |up_to| {
                if keeps {
                    self.keep(up_to);
                }
            };
            let published = producer.publish(parts, draft, now, keep);
            self.counters().count_published(bytes);
            let back = &shared.quarter_ring_back;
            back.store(producer.quarter_ring_back(), Ordering::Relaxed);
            published
        };
        let offset = published.map_err(|LogDamage| {
            parts.set_fate(Fate::Damaged);
            PublishError::Damaged
        })?;

        // Every quarter of a log everybody is woken, lest a sleeper be lapped without knowing.
        let sleepers = parts.sleepers();
        let mask = if offset & (parts.log().capacity() / 4 - 1) == 0 {
            if keeps {
                self.keep(offset.saturating_sub(parts.log().capacity() / 2));
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

    #[cold]
    pub(super) fn wake_members(&self, mask: u64) {
        let sleepers = self.parts().sleepers();
        for slot in slots(mask) {
            sleepers.wake(slot, || {
                self.counters().count_wakeup_sent();
                self.send_wakeup(slot)
            });
        }
    }

    /// Sees to it that what the rules want of the records below `up_to` is kept.
    #[cold]
    fn keep(&self, up_to: u64) {
        let mut archiver = lock(&self.shared.archiver);
        archiver.keep(self.shared.segment.file(), self.parts(), up_to);
    }

    /// From now on records of the topics that match are kept when they would be overwritten, by
    /// whichever member that would be, for [`Bus::replay`]. A rule of the same pattern is replaced.
    ///
    /// Within `history_bytes` of [`BusOptions`]: if that is not enough, the oldest go first. May wait
    /// up to ten seconds for another process that is just opening the bus.
    pub fn retain(&self, rule: &RetentionRule) -> Result<(), BusError> {
        if self.is_forked() {
            return Err(BusError::Forked);
        }
        rule.check()?;
        let name = || self.shared.name.clone();
        let area = self.parts().history();
        let area = area.ok_or_else(|| BusError::NoHistory { name: name() })?;
        let _housekeeping = lock(&self.shared.housekeeping);
        let file = self.shared.segment.file();
        file.lock_door(Instant::now() + open::PATIENCE)?;
        let made = file
            .reserve(&self.parts().layout().history_range())
            .map(|()| area.make_rule(rule, self.end()));
        file.unlock_door()?;
        if made? {
            Ok(())
        } else {
            Err(BusError::TooManyRules { name: name() })
        }
    }

    /// The rules of [`Bus::retain`], of all members.
    pub fn rules(&self) -> Vec<RetentionRule> {
        self.parts()
            .history()
            .map_or_else(Vec::new, |it| it.rules())
    }

    /// What was published to a topic below offset `until`: as far back as `reach` says, but no more than
    /// `max_bytes` of frames. Without a rule for the topic, what the rings and the log still have.
    ///
    /// With the offset at which a subscriber of that topic began for `until`, the two meet without a gap.
    pub fn replay(&self, topic: &str, reach: ReplayRange, until: u64, max_bytes: usize) -> Replay {
        let until = until.min(self.end());
        replay::past(self.parts(), topic, reach, until, max_bytes)
    }

    /// Makes a member's pipe readable. Our own reading thread may sleep while another publishes.
    fn send_wakeup(&self, slot: u8) -> bool {
        if slot == self.shared.member.slot {
            self.shared.parker.send_wakeup()
        } else {
            self.shared.pipes.send_wakeup(slot, self.parts().table())
        }
    }

    /// This member has dropped so many messages more for clients that are too slow for them.
    pub fn count_dropped(&self, messages: u64) {
        self.counters().count_dropped(messages);
    }

    /// A cursor that reads from the end on.
    pub fn subscriber(&self) -> Subscriber {
        Subscriber::new(self.clone(), self.end())
    }

    /// A cursor that reads from `offset` on, or from the end if that comes first. What has been
    /// overwritten since is reported as [`super::Next::Lagged`].
    pub fn subscriber_at(&self, offset: u64) -> Subscriber {
        Subscriber::new(self.clone(), offset.min(self.end()))
    }

    /// One record by its offset, for replay. Its frame goes behind `frame`.
    pub fn read_at(&self, offset: u64, frame: &mut Vec<u8>) -> ReadAt {
        read_at(self.parts(), offset, frame, &mut String::new())
    }

    /// As [`Bus::read_at`], with the topic's name, which replaces what is in `topic`.
    pub fn read_at_with_topic(
        &self,
        offset: u64,
        frame: &mut Vec<u8>,
        topic: &mut String,
    ) -> ReadAt {
        read_at(self.parts(), offset, frame, topic)
    }

    /// From now on records of this topic wake this member when it sleeps. Counted: each call wants
    /// one [`Bus::remove_interest`].
    pub fn add_interest(&self, topic_hash: u64) {
        let mut interest = lock(&self.shared.interest);
        let count = &mut interest[topic_hash as usize & (INTEREST_BUCKETS - 1)];
        *count += 1;
        if *count == 1 && !self.is_forked() {
            self.parts()
                .sleepers()
                .set_interest(self.shared.member.slot, topic_hash);
        }
    }

    /// Takes one [`Bus::add_interest`] back. Without one it does nothing.
    pub fn remove_interest(&self, topic_hash: u64) {
        let mut interest = lock(&self.shared.interest);
        let count = &mut interest[topic_hash as usize & (INTEREST_BUCKETS - 1)];
        if *count == 1 && !self.is_forked() {
            self.parts()
                .sleepers()
                .clear_interest(self.shared.member.slot, topic_hash);
        }
        *count = count.saturating_sub(1);
    }

    /// Blocks this thread until there is something to read at `offset`, until [`Bus::wake_threads`], or
    /// for a quarter of a second; at times for no reason less. For those who wait without keeping
    /// their [`Subscriber`] to themselves meanwhile; the others have [`Subscriber::wait`].
    ///
    /// In a forked child it returns at once.
    pub fn sleep(&self, offset: u64) {
        self.sleep_for(offset, SAFETY_TICK);
    }

    /// As [`Bus::sleep`], and for no longer than `limit`.
    pub fn sleep_for(&self, offset: u64, limit: Duration) {
        if !self.is_forked() {
            self.waiting().sleep(self, limit.min(SAFETY_TICK), offset);
        }
    }

    /// Wakes the threads of this process that sleep on this bus, so that they look around. A thread
    /// that is just falling asleep may notice with the end of [`Bus::sleep`] only.
    pub fn wake_threads(&self) {
        self.shared.parker.send_wakeup();
    }

    /// Sleep and wake of this member's reading thread.
    pub fn parker(&self) -> &Parker {
        &self.shared.parker
    }

    /// Cleans after members that died, and wakes all sleepers if there were any: the dead one may
    /// have published something and not come to waking them. Returns how many had died.
    ///
    /// Two system calls for each other member; meant for a tick, or the news of a child's death.
    pub fn reap(&self) -> usize {
        self.reap_members().len()
    }

    /// As [`Bus::reap`], and tells who died. Of all who look at the same time, one is told.
    pub fn reap_members(&self) -> Vec<Member> {
        if self.is_forked() {
            return Vec::new();
        }
        let died = {
            let _housekeeping = lock(&self.shared.housekeeping);
            let own_slot = self.shared.member.slot;
            membership::reap(self.shared.segment.file(), self.parts(), own_slot)
        };
        for member in &died {
            self.shared.pipes.close(member.slot);
        }
        if !died.is_empty() {
            // Not by `wake`: a mark may have come from the dead one, without its ring.
            for slot in slots(self.parts().sleepers().all()) {
                self.send_wakeup(slot);
            }
        }
        died
    }

    /// For a supervisor that is about to start a worker: sees to it that reader_offsets are reserved for so many
    /// members, with itself, and the memory of their rings. The error says what is missing.
    ///
    /// May wait up to ten seconds for another process that is just opening the bus.
    pub fn reserve_places(&self, members: usize) -> Result<(), BusError> {
        if self.is_forked() {
            return Err(BusError::Forked);
        }
        let _housekeeping = lock(&self.shared.housekeeping);
        let file = self.shared.segment.file();
        file.lock_door(Instant::now() + open::PATIENCE)?;
        let own = self.shared.member.slot;
        let reserved = reservation::reserve_for(file, self.parts(), own, members);
        file.unlock_door()?;
        reserved
    }

    /// Removes the bus, so that the next to open it gets a new, empty one. Those who have it open are
    /// told: they cannot publish any more, see [`Bus::fate`].
    pub fn remove(&self) -> Result<(), BusError> {
        if self.is_forked() {
            return Err(BusError::Forked);
        }
        open::remove(self.shared.segment.file(), self.parts())?;
        for slot in slots(self.parts().sleepers().all()) {
            self.send_wakeup(slot);
        }
        Ok(())
    }

    /// As [`Bus::remove`], unless somebody else is attached: then nothing happens, and false. For a clean
    /// stop: others may go on with it, and the next to open it joins them.
    pub fn remove_if_unused(&self) -> Result<bool, BusError> {
        if self.is_forked() {
            return Err(BusError::Forked);
        }
        open::remove_if_unused(self.shared.segment.file(), self.parts())
    }

    /// What has become of it. `None`: it is in order. A bus that has met its fate takes no more records.
    pub fn fate(&self) -> Option<Fate> {
        self.parts().fate()
    }

    /// Whether its name still leads to it. If not, whoever opens that name gets another bus.
    pub fn is_still_named(&self) -> Result<bool, BusError> {
        self.shared.segment.file().is_still_named()
    }

    #[inline]
    pub(super) fn parts(&self) -> Parts<'_> {
        self.shared.segment.parts()
    }

    /// What this member has counted so far.
    pub(super) fn counters(&self) -> Counters<'_> {
        self.parts().counters(self.shared.member.slot)
    }

    pub(super) fn reader_offsets(&self) -> &ReaderOffsets {
        &self.shared.reader_offsets
    }

    /// Notes how far a subscriber has read.
    #[inline]
    pub(super) fn note_read_up_to(&self, end: u64) {
        self.shared.seen.store(end, Ordering::Relaxed);
    }

    /// An offset above those of all records that this process has published more than a quarter of
    /// its ring ago.
    pub(super) fn quarter_ring_back(&self) -> u64 {
        self.shared.quarter_ring_back.load(Ordering::Relaxed)
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.shared.patience
    }

    /// Whether the member in `slot` lives. One that cannot be asked about does.
    pub(super) fn is_alive(&self, slot: u8) -> bool {
        let is_own = slot == self.shared.member.slot;
        is_own
            || self
                .shared
                .segment
                .file()
                .is_token_held(slot)
                .unwrap_or(true)
    }

    pub(super) fn waiting(&self) -> &WaitQueue {
        &self.shared.waiting
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.generation == generation() {
            membership::clean(self.segment.parts(), self.member.slot);
            // Said and not left to the close: a subprocess that another thread is just starting holds
            // a copy of the descriptor until its exec.
            let _ = self.segment.file().drop_token(self.member.slot);
        }
    }
}
