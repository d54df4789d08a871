//! The table that holds the readers of one open bus, and the thread that wakes event loops for them.
//!
//! Each subscription has a cursor of its own on the bus: unread records wait in shared memory, and no queue can
//! overflow. A thread that iterates sleeps in `ipc::Bus::sleep`. An event loop watches an eventfd, its bell, and one
//! thread of this process sleeps for all loops, and raises their bells. That thread never takes Python's lock.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use crate::actors::frame::{Kind, message_of};
use crate::actors::mailbox::{FdSignal, Signal};
use crate::actors::topic::Topic;
use crate::ipc::{Bus, Fate, Next, Subscriber};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All subscriptions of one open bus, and the event loops to wake for them.
#[derive(Default)]
pub(super) struct Readers {
    cursors: Mutex<Vec<Weak<Cursor>>>,
    bells: Mutex<Bells>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Bells {
    /// One for each event loop.
    list: Vec<Weak<FdSignal>>,
    /// Started with the first of them.
    thread: Option<JoinHandle<()>>,
}

impl Readers {
    /// A cursor from the end of the bus on.
    pub(super) fn subscribe(&self, bus: Bus, topic: Topic) -> Arc<Cursor> {
        let cursor = Arc::new(Cursor::new(bus, topic));
        let mut cursors = lock(&self.cursors);
        cursors.retain(|cursor| cursor.strong_count() > 0);
        cursors.push(Arc::downgrade(&cursor));
        cursor
    }

    /// A bell that is raised when a subscription may have a record to read. A reader that finds none waits for the next
    /// time; no record after this call is missed.
    pub(super) fn bell(self: &Arc<Self>, bus: Bus) -> std::io::Result<Arc<FdSignal>> {
        let bell = Arc::new(FdSignal::new()?);
        let mut bells = lock(&self.bells);
        bells.list.retain(|bell| bell.strong_count() > 0);
        bells.list.push(Arc::downgrade(&bell));
        if bells.thread.is_none() {
            let (subscriber, readers) = (bus.subscriber(), Arc::clone(self));
            let watch = move || readers.watch(&bus, subscriber);
            let builder = thread::Builder::new().name("fanbus-bells".to_owned());
            bells.thread = Some(builder.spawn(watch)?);
        }
        Ok(bell)
    }

    /// Ends all subscriptions and the thread. Then only the caller uses the membership.
    pub(super) fn close(&self, bus: &Bus) {
        self.closed.store(true, Relaxed);
        if bus.is_forked() {
            return; // the thread does not exist here, and its copy may hold a lock
        }
        for cursor in lock(&self.cursors).drain(..) {
            if let Some(cursor) = cursor.upgrade() {
                cursor.close();
            }
        }
        let thread = lock(&self.bells).thread.take();
        bus.wake_threads();
        self.wake_loops();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn watch(&self, bus: &Bus, mut subscriber: Subscriber) {
        let mut frame = Vec::new();
        let mut rung_at = subscriber.offset();
        while !self.closed.load(Relaxed) {
            let mut wanted = false;
            let next = subscriber.next(
                |hash| {
                    wanted |= self.wants(hash);
                    false // the record itself is not needed
                },
                &mut frame,
            );
            // Readers of a rare topic skip the other records from time to time, so that they are not overtaken.
            let far = subscriber.offset() - rung_at >= bus.log_entries() / 8;
            if wanted || far || matches!(next, Next::Lagged(_)) {
                self.wake_loops();
                rung_at = subscriber.offset();
            }
            if next == Next::Empty {
                bus.sleep(subscriber.offset());
                if bus.fate().is_some() {
                    self.wake_loops();
                }
            }
        }
    }

    fn wants(&self, hash: u64) -> bool {
        let is_it = |cursor: &Weak<Cursor>| {
            let cursor = cursor.upgrade();
            cursor.is_some_and(|cursor| cursor.topic.hash() == hash)
        };
        lock(&self.cursors).iter().any(is_it)
    }

    /// Wakes every event loop.
    pub(super) fn wake_loops(&self) {
        for bell in &lock(&self.bells).list {
            if let Some(bell) = bell.upgrade() {
                bell.raise();
            }
        }
    }
}

/// The result of a step of a cursor.
pub(super) enum Step {
    /// A message: its frame, and the length of the frame's header.
    Message {
        offset: u64,
        kind: Kind,
        frame: Vec<u8>,
        header_len: usize,
    },
    /// This number of records was overwritten unread.
    Missed(u64),
    /// No record now. If the cursor is closed, none will come.
    Nothing,
    /// A fork has copied the cursor.
    Forked,
    /// No record will come: the bus was removed or damaged.
    CutOff(Fate),
}

/// The offset on the bus that a subscription has reached. Any thread may advance it.
pub(super) struct Cursor {
    pub(super) topic: Topic,
    /// None once closed.
    reading: Mutex<Option<Reading>>,
}

struct Reading {
    bus: Bus,
    subscriber: Subscriber,
    hash: u64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.bus.remove_interest(self.hash);
    }
}

impl Cursor {
    fn new(bus: Bus, topic: Topic) -> Self {
        let hash = topic.hash();
        // Interest first, then the place: see [S1] in docs/bus.md.
        bus.add_interest(hash);
        let mut subscriber = bus.subscriber();
        let mut tags = [0; 4];
        tags[(hash >> 6 & 3) as usize] = 1 << (hash & 63);
        subscriber.set_tags(tags);
        let reading = Reading {
            bus,
            subscriber,
            hash,
        };
        Self {
            topic,
            reading: Mutex::new(Some(reading)),
        }
    }

    /// The next message of the topic, or the reason why there is none.
    pub(super) fn next(&self) -> Step {
        let mut reading = lock(&self.reading);
        let Some(reading) = reading.as_mut() else {
            return Step::Nothing;
        };
        if reading.bus.is_forked() {
            return Step::Forked;
        }
        let hash = reading.hash;
        let mut frame = Vec::new();
        loop {
            frame.clear();
            match reading.subscriber.next(|found| found == hash, &mut frame) {
                Next::Record(head) if reading.subscriber.topic() == self.topic.as_str() => {
                    // Another program published bytes that are not a frame: they are returned as they are.
                    let (kind, len) = message_of(&frame)
                        .map_or((Kind::Binary, frame.len()), |(kind, it)| (kind, it.len()));
                    let header_len = frame.len() - len;
                    return Step::Message {
                        offset: head.offset,
                        kind,
                        frame,
                        header_len,
                    };
                }
                Next::Record(_) | Next::Skipped => {}
                Next::Lagged(missed) => return Step::Missed(missed),
                Next::Empty => {
                    return reading.bus.fate().map_or(Step::Nothing, Step::CutOff);
                }
            }
        }
    }

    /// The bus and offset to sleep for until there may be a record. None once closed.
    pub(super) fn place(&self) -> Option<(Bus, u64)> {
        let reading = lock(&self.reading);
        let reading = reading.as_ref()?;
        Some((reading.bus.clone(), reading.subscriber.offset()))
    }

    /// Closes the cursor, and wakes the threads that sleep for it.
    pub(super) fn close(&self) {
        let reading = lock(&self.reading).take();
        if let Some(reading) = reading {
            reading.bus.wake_threads();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.reading).is_none()
    }
}
