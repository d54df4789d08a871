//! The transport iceoryx2: messages are written into lent memory, and read in place. A sleeping reader is woken by an
//! event, which the producer sends behind each message.

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use super::{Publish, Read};
use crate::Outcome;
use crate::task::{Patience, Task};

type Service = ipc::Service;
type Messages = iceoryx2::service::port_factory::publish_subscribe::PortFactory<Service, [u8], ()>;

/// A producer's own queue to each reader holds its whole window, and so never fills.
fn messages(node: &Node<Service>, task: &Task) -> Outcome<Messages> {
    let queue = task.window as usize + 1;
    let name = ServiceName::new(&task.name)?;
    let messages = node.service_builder(&name).publish_subscribe::<[u8]>();
    Ok(messages
        .max_publishers(task.producers)
        .max_subscribers(task.readers)
        .max_nodes(task.producers + task.readers)
        .subscriber_max_buffer_size(queue)
        .enable_safe_overflow(false)
        .open_or_create()?)
}

/// Its files in /dev/shm begin with the name of the run, which the leader removes.
fn node(task: &Task) -> Outcome<Node<Service>> {
    set_log_level(LogLevel::Error);
    let mut config = Config::default();
    let folder = task
        .folder
        .to_str()
        .ok_or("the temporary folder has no UTF-8 name")?;
    config.global.set_root_path(&Path::new(folder.as_bytes())?);
    config.global.prefix = FileName::new(task.name.as_bytes())?;
    Ok(NodeBuilder::new().config(&config).create::<Service>()?)
}

pub(super) struct Publisher {
    port: publisher::Publisher<Service, [u8], ()>,
    notifier: Option<Notifier<Service>>,
    // After the fields that use it: fields are dropped in order.
    _messages: Messages,
    _node: Node<Service>,
}

impl Publisher {
    pub(super) fn open(task: &Task) -> Outcome<Publisher> {
        let node = node(task)?;
        let messages = messages(&node, task)?;
        let port = messages
            .publisher_builder()
            .initial_max_slice_len(task.bytes)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let notifier = if task.patience == Patience::Sleep {
            let name = ServiceName::new(&task.name)?;
            let events = node.service_builder(&name).event().open_or_create()?;
            Some(events.notifier_builder().create()?)
        } else {
            None
        };
        Ok(Publisher {
            port,
            notifier,
            _messages: messages,
            _node: node,
        })
    }
}

impl Publish for Publisher {
    #[inline]
    fn publish(&mut self, message: &[u8]) -> Outcome<()> {
        let sample = self.port.loan_slice_uninit(message.len())?;
        sample.write_from_slice(message).send()?;
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
        }
        Ok(())
    }
}

pub(super) struct Reader {
    subscriber: Subscriber<Service, [u8], ()>,
    listener: Option<Listener<Service>>,
    _messages: Messages,
    _node: Node<Service>,
}

impl Reader {
    pub(super) fn open(task: &Task) -> Outcome<Reader> {
        let node = node(task)?;
        let messages = messages(&node, task)?;
        let subscriber = messages.subscriber_builder().create()?;
        let listener = if task.patience == Patience::Sleep {
            let name = ServiceName::new(&task.name)?;
            let events = node.service_builder(&name).event().open_or_create()?;
            Some(events.listener_builder().create()?)
        } else {
            None
        };
        Ok(Reader {
            subscriber,
            listener,
            _messages: messages,
            _node: node,
        })
    }
}

impl Read for Reader {
    #[inline]
    fn read(&mut self, each: &mut impl FnMut(&[u8])) -> Outcome<usize> {
        match self.subscriber.receive()? {
            Some(sample) => {
                each(sample.payload());
                Ok(1)
            }
            None => Ok(0),
        }
    }

    fn wait(&mut self) -> Outcome<()> {
        let listener = self
            .listener
            .as_ref()
            .ok_or("only a sleeping reader waits")?;
        listener.blocking_wait(|_| {})?;
        Ok(())
    }
}
