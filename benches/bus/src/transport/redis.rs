//! The transport Redis: publish and subscribe over a Unix socket, with the crate `redis`.
//!
//! Producers at full rate send up to 64 messages at once (a pipeline). A producer of single messages sends one.

use redis::{Client, Connection, Msg, Pipeline, PubSub};

use super::{Publish, Read};
use crate::Outcome;
use crate::task::Task;

/// Most messages of a pipeline, and bytes after which no more are added.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 64 << 10;

fn connect(task: &Task) -> Outcome<Connection> {
    let path = task.broker.as_deref().ok_or("Redis was not started")?;
    Ok(Client::open(format!("redis+unix://{path}"))?.get_connection()?)
}

pub(super) struct Publisher {
    connection: Connection,
    channel: String,
    pipeline: Pipeline,
    bytes: usize,
}

impl Publisher {
    pub(super) fn open(task: &Task) -> Outcome<Publisher> {
        Ok(Publisher {
            connection: connect(task)?,
            channel: task.name.clone(),
            pipeline: Pipeline::new(),
            bytes: 0,
        })
    }
}

impl Publish for Publisher {
    fn publish(&mut self, message: &[u8]) -> Outcome<()> {
        self.pipeline.publish(&self.channel, message).ignore();
        self.bytes += message.len();
        if self.pipeline.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        if !self.pipeline.is_empty() {
            self.pipeline.exec(&mut self.connection)?;
            self.pipeline.clear();
            self.bytes = 0;
        }
        Ok(())
    }
}

pub(super) struct Reader {
    /// Borrows a connection that lives as long as the process.
    subscription: PubSub<'static>,
    /// The message of the last wait.
    message: Option<Msg>,
}

impl Reader {
    pub(super) fn open(task: &Task) -> Outcome<Reader> {
        let connection = Box::leak(Box::new(connect(task)?));
        let mut subscription = connection.as_pubsub();
        subscription.subscribe(&task.name)?;
        Ok(Reader {
            subscription,
            message: None,
        })
    }
}

impl Read for Reader {
    fn read(&mut self, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        let Some(message) = self.message.take() else {
            return Ok(0);
        };
        each(message.get_payload_bytes());
        Ok(1)
    }

    fn wait(&mut self) -> Outcome<()> {
        self.message = Some(self.subscription.get_message()?);
        Ok(())
    }
}
