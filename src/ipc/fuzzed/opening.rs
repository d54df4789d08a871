//! The script over a segment's file: the file and its members at first, and the processes that open it then.

use std::fs::{OpenOptions, exists, remove_file};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process;

use arbitrary::Arbitrary;

use super::script::Sizes;
use super::sound::TOPICS;
use super::write::Write;
use crate::ipc::file::SegmentFile;
use crate::ipc::layout::{
    CHECK_AT, EPOCH_AT, HISTORY_BYTES_AT, LOG_ENTRIES_AT, Layout, MIN_HISTORY_BYTES, PAGE_BYTES,
    RING_BYTES_AT, VERSION_AT, WORD_BYTES,
};
use crate::ipc::parts::Parts;
use crate::ipc::segment::Mapping;
use crate::ipc::sync::Ordering;
use crate::ipc::{
    Bus, BusError, BusOptions, Draft, Next, ReplayRange, RetentionRule, inspect, remove, topic_hash,
};

/// The initial content of the file.
#[derive(Arbitrary, Debug)]
enum InitialFile {
    Nothing,
    Bytes(Vec<u8>),
    Bus {
        published: u8,
        /// The number of its members, alive or dead.
        members: u8,
        are_alive: bool,
    },
}

/// A call by the process that has opened the bus, or an action of another one.
#[derive(Arbitrary, Debug)]
enum Call {
    Publish {
        topic: u8,
        bytes: u16,
        times: u8,
    },
    Read {
        times: u8,
    },
    ReadAt(u64),
    ReadFrom(u64),
    Damage(Write),
    Sleep,
    Interest(u8),
    Reap,
    Inspect,
    Join,
    Attach,
    Leave,
    Remove,
    /// Makes a retention rule for a topic.
    Retain {
        topic: u8,
        records: u8,
        seconds: u8,
    },
    Replay {
        topic: u8,
        reach: u16,
        bytes: u16,
    },
    PastFrom {
        topic: u8,
        offset: u64,
    },
}

/// The script over a segment's file, which a fuzzer writes.
#[derive(Arbitrary, Debug)]
pub struct Opening {
    sizes: Sizes,
    found: InitialFile,
    /// Makes the file this many pages long, if it has no members: touching a truncated mapping is SIGBUS.
    pages: Option<u16>,
    /// Puts these powers of two into the header, with the right checksum.
    header: Option<(u8, u8)>,
    damage: Vec<Write>,
    /// Joins as a guest, which creates nothing.
    attaches: bool,
    calls: Vec<Call>,
}

impl Opening {
    /// Plays it in /dev/shm. Panics if the bus breaks a promise.
    pub fn play(self) {
        let layout = self.sizes.layout().with_history(MIN_HISTORY_BYTES);
        let place = TemporaryBus::new(layout.expect("the smallest there is"));
        let mut buses = place.prepare(&self.found);
        if let (Some(pages), true) = (self.pages, buses.is_empty()) {
            place.resize(usize::from(pages) % 1024);
        }
        if let Some((ring, log)) = self.header {
            place.write_header(1 << (ring & 63), 1 << (log & 63));
        }
        self.damage.iter().for_each(|write| place.damage(*write));

        let is_inhabited = !buses.is_empty();
        let _ = inspect(&place.name);
        let opened = if self.attaches {
            Bus::attach(&place.name)
        } else {
            Bus::open(&place.name, &place.options())
        };
        match opened {
            Ok(bus) => buses.push(bus),
            Err(BusError::Damaged { .. } | BusError::OtherLayout { .. }) => assert!(is_inhabited),
            Err(BusError::NotFound { .. }) => assert!(self.attaches && !is_inhabited),
            Err(error) => panic!("{error}"),
        }
        for call in self.calls {
            place.call(&call, &mut buses);
        }

        // In any state, the next process can open the bus or create it again.
        drop(buses);
        let next = Bus::open(&place.name, &place.options()).expect("no other process holds a lock");
        publish(&next, 0, 1).expect("a bus that was taken over is sound");
        next.remove().expect("ours");
        drop(next);
        assert!(!exists(place.path()).expect("a look"), "something is left");
    }
}

fn publish(bus: &Bus, topic: u8, bytes: usize) -> Option<u64> {
    let topic = TOPICS[usize::from(topic) % TOPICS.len()];
    let frame = vec![bytes as u8; bytes % (bus.max_message_bytes() + 1)];
    let draft = Draft {
        topic,
        topic_hash: topic_hash(topic.as_bytes()),
        flags: 0,
        exclude_session: 0,
        frame: [b"head:", &frame],
    };
    bus.publish(&draft).ok()
}

/// A bus name of this process alone, with no file before and after.
struct TemporaryBus {
    name: String,
    layout: Layout,
}

impl TemporaryBus {
    fn new(layout: Layout) -> TemporaryBus {
        let name = format!("fuzz-{}", process::id());
        let place = TemporaryBus { name, layout };
        let _ = remove_file(place.path());
        place
    }

    fn path(&self) -> String {
        format!("/dev/shm/fanbus.{}", self.name)
    }

    fn options(&self) -> BusOptions {
        BusOptions {
            ring_bytes: self.layout.ring_bytes(),
            log_entries: self.layout.log_entries(),
            history_bytes: self.layout.history_bytes(),
        }
    }

    /// Creates the initial content, and returns the living members.
    fn prepare(&self, found: &InitialFile) -> Vec<Bus> {
        match found {
            InitialFile::Nothing => Vec::new(),
            InitialFile::Bytes(bytes) => {
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).mode(0o600);
                let file = file.open(self.path()).expect("memory in /dev/shm");
                file.write_all_at(bytes, 0).expect("memory in /dev/shm");
                Vec::new()
            }
            InitialFile::Bus {
                published,
                members,
                are_alive,
            } => {
                let open = |_| Bus::open(&self.name, &self.options()).expect("nothing is there");
                let buses: Vec<_> = (0..=members & 3).map(open).collect();
                for number in 0..usize::from(*published) {
                    let offset = publish(&buses[number % buses.len()], number as u8, number * 3);
                    assert_eq!(offset, Some(number as u64));
                }
                if *are_alive { buses } else { Vec::new() }
            }
        }
    }

    fn resize(&self, pages: usize) {
        if let Ok(Some(file)) = SegmentFile::open(&self.name) {
            file.set_bytes(pages * PAGE_BYTES).expect("it is ours");
        }
    }

    /// Runs a function over the file's words, if there is at least a page of them.
    fn with_mapping(&self, run: impl FnOnce(&Mapping)) {
        if let Ok(Some(file)) = SegmentFile::open(&self.name)
            && file.bytes().expect("it is ours") >= PAGE_BYTES as u64
        {
            run(&Mapping::new(&self.name, &file).expect("it is ours"));
        }
    }

    fn write_header(&self, ring_bytes: u64, log_entries: u64) {
        self.with_mapping(|mapping| {
            let words = mapping.words();
            words[RING_BYTES_AT].store(ring_bytes, Ordering::Relaxed);
            words[LOG_ENTRIES_AT].store(log_entries, Ordering::Relaxed);
            let checked = [
                VERSION_AT,
                RING_BYTES_AT,
                LOG_ENTRIES_AT,
                HISTORY_BYTES_AT,
                EPOCH_AT,
            ]
            .map(|at| words[at].load(Ordering::Relaxed).to_le_bytes());
            words[CHECK_AT].store(topic_hash(&checked.concat()), Ordering::Relaxed);
        });
    }

    fn damage(&self, write: Write) {
        self.with_mapping(|mapping| {
            let words = mapping.words();
            if words.len() * WORD_BYTES >= self.layout.total_bytes() {
                write.apply(words, Parts::new(words, self.layout));
            }
        });
    }

    fn call(&self, call: &Call, buses: &mut Vec<Bus>) {
        match *call {
            Call::Damage(write) => return self.damage(write),
            Call::Inspect => return drop(inspect(&self.name)),
            Call::Remove => return drop(remove(&self.name, true)),
            Call::Leave => return drop(buses.pop()),
            Call::Join if buses.len() < 8 => {
                return buses.extend(Bus::open(&self.name, &self.options()));
            }
            Call::Attach if buses.len() < 8 => return buses.extend(Bus::attach(&self.name)),
            _ => {}
        }
        let Some(bus) = buses.last() else { return };
        match *call {
            Call::Publish {
                topic,
                bytes,
                times,
            } => {
                for _ in 0..=times & 31 {
                    let _ = publish(bus, topic, bytes.into());
                }
            }
            Call::Read { times } => read(bus, bus.end().saturating_sub(times.into())),
            Call::ReadFrom(offset) => read(bus, offset),
            Call::ReadAt(offset) => drop(bus.read_at(offset, &mut Vec::new())),
            Call::Sleep if bus.parker().park(bus.end()) => {
                // Another member of this process may wake it.
                let _ = publish(&buses[0], 0, 1);
                bus.parker().unpark();
            }
            Call::Interest(topic) => bus.add_interest(topic.into()),
            Call::Retain {
                topic,
                records,
                seconds,
            } => {
                let rule = RetentionRule {
                    pattern: TOPICS[usize::from(topic) % TOPICS.len()].into(),
                    records: records.into(),
                    seconds: seconds.into(),
                };
                // Damage may have left no space for another rule.
                let _ = bus.retain(&rule);
            }
            Call::Replay {
                topic,
                reach,
                bytes,
            } => past(bus, topic, ReplayRange::Last(reach.into()), bytes.into()),
            Call::PastFrom { topic, offset } => {
                past(bus, topic, ReplayRange::From(offset), usize::MAX)
            }
            Call::Reap => drop(bus.reap_members()),
            _ => {}
        }
    }
}

fn past(bus: &Bus, topic: u8, reach: ReplayRange, most: usize) {
    let topic = TOPICS[usize::from(topic) % TOPICS.len()];
    let past = bus.replay(topic, reach, u64::MAX, most);
    assert!(past.frames.len() <= most);
    assert!(
        past.records
            .iter()
            .all(|it| it.frame.end <= past.frames.len())
    );
    if let ReplayRange::Last(count) = reach {
        assert!(past.records.len() <= count);
    }
}

impl Drop for TemporaryBus {
    fn drop(&mut self) {
        let _ = remove_file(self.path()); // left by a script that failed
    }
}

/// Reads until there is nothing more, at most a log of times.
fn read(bus: &Bus, offset: u64) {
    let mut subscriber = bus.subscriber_at(offset);
    let mut frames = Vec::new();
    for _ in 0..bus.log_entries() {
        frames.clear();
        let before = subscriber.offset();
        let next = subscriber.next(|_| true, &mut frames);
        assert!(subscriber.offset() >= before);
        if next == Next::Empty {
            return;
        }
    }
}
