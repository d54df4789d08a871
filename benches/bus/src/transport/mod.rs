//! What is compared: each transport as a producer and a reader of messages would use it.

mod fanbus;
mod iceoryx;
mod nats;
mod redis;
mod streams;

use crate::Outcome;
use crate::plan::Contender;
use crate::task::Task;

/// The sending end.
pub(crate) trait Publish {
    /// Hands over a message for all readers. It may wait in this process until [`Publish::flush`].
    fn publish(&mut self, message: &[u8]) -> Outcome<()>;

    /// Nothing waits in this process any more.
    fn flush(&mut self) -> Outcome<()> {
        Ok(())
    }
}

/// The receiving end.
pub(crate) trait Read {
    /// Takes the last step of opening, when all producers are there.
    fn connect(&mut self) -> Outcome<()> {
        Ok(())
    }

    /// Hands on what is there, and says how many messages that was.
    fn read(&mut self, each: &mut impl FnMut(&[u8])) -> Outcome<usize>;

    /// Sleeps until there may be something.
    fn wait(&mut self) -> Outcome<()>;

    /// How many messages the transport said were lost.
    fn lagged(&self) -> u64 {
        0
    }
}

/// What to do with a sending end, whichever it is.
pub(crate) trait UsePublisher {
    fn run<P: Publish>(self, publisher: P) -> Outcome<()>;
}

/// What to do with a receiving end, whichever it is.
pub(crate) trait UseReader {
    fn run<R: Read>(self, reader: R) -> Outcome<()>;
}

/// Opens the sending end that the task names. Every reader is there already.
pub(crate) fn with_publisher(task: &Task, user: impl UsePublisher) -> Outcome<()> {
    match task.contender {
        Contender::Fanbus => user.run(fanbus::Publisher::open(task)?),
        Contender::Iceoryx => user.run(iceoryx::Publisher::open(task)?),
        Contender::Socket => user.run(streams::Writer::sockets(task)?),
        Contender::Pipe => user.run(streams::Writer::pipes(task)?),
        Contender::Redis => user.run(redis::Publisher::open(task)?),
        Contender::Nats => user.run(nats::Publisher::open(task)?),
    }
}

/// Opens the receiving end that the task names.
pub(crate) fn with_reader(task: &Task, user: impl UseReader) -> Outcome<()> {
    match task.contender {
        Contender::Fanbus => user.run(fanbus::Reader::open(task)?),
        Contender::Iceoryx => user.run(iceoryx::Reader::open(task)?),
        Contender::Socket => user.run(streams::Reader::sockets(task)?),
        Contender::Pipe => user.run(streams::Reader::pipes(task)?),
        Contender::Redis => user.run(redis::Reader::open(task)?),
        Contender::Nats => user.run(nats::Reader::open(task)?),
    }
}
