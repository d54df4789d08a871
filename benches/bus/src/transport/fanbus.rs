//! The transport Fanbus: its bus, by default with its default sizes.

use fanbus::ipc::{Bus, BusOptions, Draft, Next, Subscriber, topic_hash};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Publish, Read};
use crate::Outcome;
use crate::task::Task;

const TOPIC: &str = "bench:one";

pub(super) struct Publisher {
    bus: Bus,
    topic_hash: u64,
}

fn open(task: &Task) -> Outcome<Bus> {
    let options = BusOptions {
        ring_bytes: task.ring_bytes,
        ..BusOptions::default()
    };
    Ok(Bus::open(&task.name, &options)?)
}

impl Publisher {
    pub(super) fn open(task: &Task) -> Outcome<Publisher> {
        Ok(Publisher {
            bus: open(task)?,
            topic_hash: topic_hash(TOPIC.as_bytes()),
        })
    }
}

impl Publish for Publisher {
    #[inline]
    fn publish(&mut self, message: &[u8]) -> Outcome<()> {
        self.bus.publish(&Draft {
            topic: TOPIC,
            topic_hash: self.topic_hash,
            flags: 0,
            exclude_session: 0,
            frame: [b"", message],
        })?;
        Ok(())
    }
}

pub(super) struct Reader {
    bus: Bus,
    subscriber: Subscriber,
    frame: Vec<u8>,
    topic_hash: u64,
    lagged: u64,
}

impl Reader {
    pub(super) fn open(task: &Task) -> Outcome<Reader> {
        let bus = open(task)?;
        let topic_hash = topic_hash(TOPIC.as_bytes());
        bus.add_interest(topic_hash);
        Ok(Reader {
            subscriber: bus.subscriber(),
            bus,
            frame: Vec::new(),
            topic_hash,
            lagged: 0,
        })
    }
}

impl Read for Reader {
    #[inline]
    fn read(&mut self, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        self.frame.clear();
        let wanted = self.topic_hash;
        match self.subscriber.next(|hash| hash == wanted, &mut self.frame) {
            Next::Record(head) => {
                each(&self.frame[head.frame]);
                Ok(1)
            }
            Next::Lagged(count) => {
                self.lagged += count;
                Ok(0)
            }
            Next::Skipped | Next::Empty => Ok(0),
        }
    }

    /// Sleeps as a worker's event loop does.
    fn wait(&mut self) -> Outcome<()> {
        let parker = self.bus.parker();
        if parker.park(self.subscriber.offset()) {
            let mut fds = [PollFd::new(parker.fd(), PollFlags::POLLIN)];
            let woken = poll(&mut fds, PollTimeout::from(250_u16));
            parker.unpark();
            woken?;
            parker.clear();
        }
        Ok(())
    }

    fn lagged(&self) -> u64 {
        self.lagged
    }
}
