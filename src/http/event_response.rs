//! The response whose body is an event stream (Server-Sent Events): the hub sends its messages without user code.
//!
//! A client that reconnects names the last event that it received in `Last-Event-ID`. It gets every later message
//! exactly once. If the bus no longer has some of them, the client gets an event that reports the gap.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::header::HeaderName;
use actix_web::http::StatusCode;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::event_stream::{EventStream, StreamEnd};
use super::head::Head;
use super::refusals::too_busy;
use super::response::{Response, WireBody, WireResponse};
use super::router::EndpointId;
use super::worker::HttpWorker;
use crate::actors::hub::OpenEventStream;
use crate::actors::sse::Position;
use crate::actors::sse_beginning::SseBeginning;
use crate::actors::sse_session::{Interest, SseSession};
use crate::ipc::ReplayRange;

/// A replay may take this share of a client's queue; the rest is for messages that are published meanwhile.
const REPLAY_SHARE: usize = 2;

/// Longer ids are not ours, and are ignored.
const MAX_ID_BYTES: usize = 64;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Opens an event stream in the hub, and makes it the body of this response.
pub(super) async fn respond(
    worker: &HttpWorker,
    endpoint: EndpointId,
    stream: EventStream,
    response: Response<()>,
    head: &Head,
) -> WireResponse {
    match open(worker, endpoint, stream, head).await {
        Ok(body) => response.with_body(WireBody::Boxed(BoxBody::new(body))),
        Err(refusal) => refusal,
    }
}

async fn open(
    worker: &HttpWorker,
    endpoint: EndpointId,
    stream: EventStream,
    head: &Head,
) -> Result<EventStreamBody, WireResponse> {
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
    let range = match &id {
        Some(id) => Some(ReplayRange::From(offset_after(id, bus.epoch()))),
        None => last.map(ReplayRange::Last),
    };
    // First the interest, then the end of the bus: every message that is published from here on either lies behind
    // `from`, or wakes the hub.
    let interest = Interest::new(bus.clone(), topic.clone());
    let from = bus.end();
    let beginning = SseBeginning {
        retry_ms,
        position: Position {
            epoch: bus.epoch(),
            next: from,
        },
    };
    let max = limits.max_queue_bytes / REPLAY_SHARE;
    let beginning = match range {
        None => beginning.alone(),
        Some(range) => {
            // On another thread, because the read may take long.
            let replays = Arc::clone(&worker.turn_queue.replays);
            let read = move || {
                let until = beginning.position.next;
                let replay = bus.replay(topic.as_str(), range, until, max);
                beginning.with(&replay, max, id.is_some(), &replays)
            };
            spawn_blocking(read).await.map_err(|_| too_busy())?
        }
    };
    let (reply, opened) = oneshot::channel();
    worker.requests.open_event_stream(OpenEventStream {
        topic: interest,
        from,
        beginning,
        limits: Rc::new(limits),
        endpoint: endpoint.0,
        answer: reply,
    });
    match opened.await {
        Ok(Ok(listening)) => Ok(EventStreamBody {
            listening,
            end,
            is_over: false,
        }),
        Ok(Err(reason)) => Err(Response::sentence(StatusCode::SERVICE_UNAVAILABLE, reason)),
        Err(_) => Err(too_busy()), // the hub has ended, and the worker ends, too
    }
}

/// The offset after the last event that the client received. An id of another epoch, or an invalid one, counts as
/// after all events.
fn offset_after(id: &str, epoch: u64) -> u64 {
    let position = Some(id).filter(|id| id.len() <= MAX_ID_BYTES);
    let position = position.and_then(|id| id.parse::<Position>().ok());
    position
        .filter(|position| position.epoch == epoch)
        .map_or(u64::MAX, |position| position.next)
}

/// The body of the response, which the connection polls.
#[derive(Debug)]
struct EventStreamBody {
    listening: SseSession,
    end: Arc<StreamEnd>,
    /// The last event has been sent.
    is_over: bool,
}

impl MessageBody for EventStreamBody {
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
    fn an_id_of_another_epoch_or_an_invalid_one_comes_after_all_events() {
        assert_eq!(offset_after("7-41", 7), 42);
        assert_eq!(offset_after("7--1", 7), 0);
        for id in ["6-41", "41", "x", &format!("7-{}1", "0".repeat(80))] {
            assert_eq!(offset_after(id, 7), u64::MAX, "{id}");
        }
    }
}
