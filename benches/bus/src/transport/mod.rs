//! The transports that are compared, each as a producer and a reader of messages would use it.

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

    /// Sends all messages that wait in this process.
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

    /// Hands over the messages that are there, and returns their number.
    fn read(&mut self, each: &mut impl FnMut(&[u8])) -> Outcome<usize>;

    /// Sleeps until there may be a message.
    fn wait(&mut self) -> Outcome<()>;

    /// The number of messages that the transport reported as lost.
    fn lagged(&self) -> u64 {
        0
    }
}

/// An action with a sending end of any transport.
pub(crate) trait UsePublisher {
    fn run<P: Publish>(self, publisher: P) -> Outcome<()>;
}

/// An action with a receiving end of any transport.
pub(crate) trait UseReader {
    fn run<R: Read>(self, reader: R) -> Outcome<()>;
}

/// Opens the sending end of the task's transport. Every reader is there already.
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

/// Opens the receiving end of the task's transport.
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
