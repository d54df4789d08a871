//! An event stream (Server-Sent Events) as a response: from the hub to the client, without user code.
//!
//! A client that comes back says with `Last-Event-ID` what it has had. Between that and what is
//! delivered from now on there is neither a hole nor anything twice; where there must be a hole, because
//! the bus has forgotten, the client is told.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::header::HeaderName;
use actix_web::http::StatusCode;
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::head::Head;
use super::response::{Body as ResponseBody, Response, WireBody, WireResponse};
use super::router::EndpointId;
use super::service::{Worker, too_busy};
use crate::actors::event::{Beginning, Position};
use crate::actors::hub::Listen;
use crate::actors::limits::Limits;
use crate::actors::listening::{Interest, Listening};
use crate::actors::topic::Topic;
use crate::ipc::Reach;

/// What user code wants a client to get.
#[derive(Clone, Debug)]
pub struct EventStream {
    /// What is published to this topic.
    pub topic: Topic,
    /// So many of its newest messages before, for a client that is new.
    pub last: Option<usize>,
    /// What the client has had, if it does not say so itself in `Last-Event-ID`.
    pub last_event_id: Option<String>,
    /// How long the client waits before it comes back, in milliseconds.
    pub retry_ms: u64,
    /// Of these: the interval of pings, the bytes that may wait, and how many streams there may be. What
    /// a client takes is known to its connection, whose limit on that is any response's.
    pub limits: Limits,
    /// Ends it.
    pub end: Arc<StreamEnd>,
}

/// The end of an event stream, which user code sets from any thread.
#[derive(Debug, Default)]
pub struct StreamEnd {
    /// The event that is sent last, if any: empty without one.
    last: OnceLock<Bytes>,
    waker: AtomicWaker,
}

impl StreamEnd {
    /// Ends the stream behind what waits for its client, and this event. Only the first call counts.
    pub fn set(&self, last: Bytes) {
        if self.last.set(last).is_ok() {
            self.waker.wake();
        }
    }

    fn poll(&self, task: &mut Context<'_>) -> Poll<Bytes> {
        // First the waker, then the look: an end that is set in between is seen, or wakes.
        self.waker.register(task.waker());
        self.last
            .get()
            .map_or(Poll::Pending, |last| Poll::Ready(last.clone()))
    }
}

/// The share of a client's budget that a replay may take: the rest is for what comes meanwhile.
const REPLAY_SHARE: usize = 2;

/// Longer ones are not ours, and are not looked at.
const MOST_ID_BYTES: usize = 64;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The response to this request, whose body is a stream.
pub(super) async fn answer(
    worker: &Worker,
    endpoint: EndpointId,
    response: Response,
    head: &Head,
) -> WireResponse {
    let (body, response) = response.split();
    let stream = match body {
        ResponseBody::Events(stream) => *stream,
        body => return response.with_body(body).into_wire(),
    };
    match open(worker, endpoint, stream, head).await {
        Ok(body) => response.with_body(WireBody::Boxed(BoxBody::new(body))),
        Err(refusal) => refusal.into_wire(),
    }
}

async fn open(
    worker: &Worker,
    endpoint: EndpointId,
    stream: EventStream,
    head: &Head,
) -> Result<Body, Response> {
    let EventStream {
        topic,
        last,
        last_event_id,
        retry_ms,
        limits,
        end,
    } = stream;
    let bus = worker.bus.clone();
    let id = head.get(&LAST_EVENT_ID);
    let id = id.map(|id| String::from_utf8_lossy(id).into_owned());
    let id = id.or(last_event_id).filter(|id| !id.is_empty());
    let reach = match &id {
        Some(id) => Some(Reach::From(behind(id, bus.epoch()))),
        None => last.map(Reach::Last),
    };
    // First the interest, then the end of the bus: whatever is published from here on either lies
    // behind `from` or wakes us.
    let interest = Interest::new(bus.clone(), topic.clone());
    let from = bus.end();
    let beginning = Beginning {
        retry_ms,
        position: Position {
            epoch: bus.epoch(),
            next: from,
        },
    };
    let most = limits.max_queue_bytes / REPLAY_SHARE;
    let beginning = match reach {
        None => beginning.alone(),
        Some(reach) => {
            // Not on this thread, which others wait for.
            let replays = Arc::clone(&worker.turn_queue.replays);
            let read = move || {
                let until = beginning.position.next;
                let past = bus.past(topic.as_str(), reach, until, most);
                beginning.with(&past, most, id.is_some(), &replays)
            };
            spawn_blocking(read).await.map_err(|_| too_busy())?
        }
    };
    let (answer, answered) = oneshot::channel();
    worker.requests.listen(Listen {
        topic: interest,
        from,
        beginning,
        limits: Rc::new(limits),
        endpoint: endpoint.0,
        answer,
    });
    match answered.await {
        Ok(Ok(listening)) => Ok(Body {
            listening,
            end,
            is_over: false,
        }),
        Ok(Err(reason)) => Err(Response::sentence(StatusCode::SERVICE_UNAVAILABLE, reason)),
        Err(_) => Err(too_busy()), // the hub has ended, and the worker with it
    }
}

/// The offset behind what the client has had. All of it is behind what is of another life of the bus,
/// or was never given by us.
fn behind(id: &str, epoch: u64) -> u64 {
    let position = Some(id).filter(|id| id.len() <= MOST_ID_BYTES);
    let position = position.and_then(|id| id.parse::<Position>().ok());
    position
        .filter(|position| position.epoch == epoch)
        .map_or(u64::MAX, |position| position.next)
}

/// The stream, as the connection asks for it.
#[derive(Debug)]
struct Body {
    listening: Listening,
    end: Arc<StreamEnd>,
    /// The last event has been sent.
    is_over: bool,
}

impl MessageBody for Body {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, io::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(next) = self.listening.poll_next(task) {
            return Poll::Ready(next);
        }
        let last = ready!(self.end.poll(task));
        self.is_over = true;
        Poll::Ready((!last.is_empty()).then_some(Ok(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_life_or_of_nobody_has_everything_before_it() {
        assert_eq!(behind("7-41", 7), 42);
        assert_eq!(behind("7--1", 7), 0);
        for id in ["6-41", "41", "x", &format!("7-{}1", "0".repeat(80))] {
            assert_eq!(behind(id, 7), u64::MAX, "{id}");
        }
    }
}
