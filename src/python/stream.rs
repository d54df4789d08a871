//! `_core.Sink`: the sink that takes the chunks of a streamed response; and the table of the producers, which are
//! notified when there is capacity again, and when the stream is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::events::{Event, EventBox, StreamKey};
use super::lane::PyLane;
use super::loan;
use super::response::{self, StreamedBody};
use crate::http::stream_body::{BodyWatcher, StreamBody, StreamSender, stream_body};
use crate::http::trailers::TrailerSlot;

/// The context of the generator of a stream: a handler on a thread, with its context variables, or on the event loop.
pub(super) struct ProducerContext<'m, 'py> {
    pub event_loop: &'m Py<PyAny>,
    pub on_error: &'m Py<PyAny>,
    pub label: &'m str,
    pub context: Option<&'m Bound<'py, PyAny>>,
}

/// A stream that has been started.
pub(super) struct StreamStart<'py> {
    pub body: StreamBody,
    pub trailers: Option<TrailerSlot>,
    /// A coroutine that the handler's task has to run.
    pub coroutine: Option<Bound<'py, PyAny>>,
}

/// The producers of the active streams: objects of `fanbus.runtime.streaming`.
pub(super) struct Streams {
    pub events: EventBox,
    /// The lane of synchronous producers.
    lane: Py<PyLane>,
    next: AtomicU64,
    producers: Mutex<HashMap<StreamKey, Py<PyAny>, foldhash::fast::RandomState>>,
}

impl Streams {
    pub(super) fn new(events: EventBox, lane: Py<PyLane>) -> Self {
        Self {
            events,
            lane,
            next: AtomicU64::new(0),
            producers: Mutex::default(),
        }
    }

    fn producers(
        &self,
    ) -> MutexGuard<'_, HashMap<StreamKey, Py<PyAny>, foldhash::fast::RandomState>> {
        self.producers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to send the chunks of an iterator. The result may have a coroutine that the handler's task has to run.
    pub(super) fn start<'py>(
        &self,
        py: Python<'py>,
        streamed: &StreamedBody,
        context: ProducerContext<'_, 'py>,
    ) -> PyResult<StreamStart<'py>> {
        let ProducerContext {
            event_loop,
            on_error,
            label,
            context,
        } = context;
        let key = StreamKey(self.next.fetch_add(1, Relaxed));
        let events = EventBox::clone(&self.events);
        let watcher = StreamWatcher {
            key,
            events: EventBox::clone(&events),
        };
        let (source, body) = stream_body(Box::new(watcher));
        let trailers = streamed.trailers.as_ref().map(|_| TrailerSlot::default());
        let sink = Sink {
            source,
            trailers: trailers.clone(),
            events,
        };
        let arguments = (
            &streamed.iterator,
            &streamed.trailers,
            Py::new(py, sink)?,
            event_loop,
            on_error,
            label,
            context,
            &self.lane,
        );
        let (producer, coroutine): (Py<PyAny>, Option<Bound<'py, PyAny>>) = py
            .import("fanbus.runtime.streaming")?
            .getattr("start")?
            .call1(arguments)?
            .extract()?;
        self.producers().insert(key, producer);
        Ok(StreamStart {
            body,
            trailers,
            coroutine,
        })
    }

    /// Event loop: a stream has capacity again.
    pub(super) fn ready(&self, py: Python<'_>, key: StreamKey) -> PyResult<()> {
        let producer = self.producers().get(&key).map(|it| it.clone_ref(py));
        producer.map_or(Ok(()), |it| it.call_method0(py, "room").map(drop))
    }

    /// Event loop: a stream is over.
    pub(super) fn over(&self, py: Python<'_>, key: StreamKey) -> PyResult<()> {
        let producer = self.producers().remove(&key);
        producer.map_or(Ok(()), |it| it.call_method0(py, "over").map(drop))
    }
}

/// Posts the events of a stream to the event loop.
struct StreamWatcher {
    key: StreamKey,
    events: EventBox,
}

impl BodyWatcher for StreamWatcher {
    fn send_ready(&self) {
        let event = Event::StreamReady { stream: self.key };
        self.events.post(|events| events.push(event));
    }

    fn closed(&self) {
        let event = Event::StreamOver { stream: self.key };
        self.events.post(|events| events.push(event));
    }
}

/// The sink of the chunks of a response. Any thread.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Sink {
    source: StreamSender,
    trailers: Option<TrailerSlot>,
    events: EventBox,
}

#[pymethods]
impl Sink {
    /// Hands over a chunk: str or bytes. False: wait for capacity, or the stream is over.
    fn write(&self, piece: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(if let Ok(bytes) = piece.cast::<PyBytes>() {
            let hold = || loan::bytes_of(bytes, &self.events);
            self.source.write(bytes.as_bytes(), hold)
        } else if let Ok(text) = piece.cast::<PyString>() {
            let utf8 = text.to_str()?;
            let hold = || loan::text_of(text, &self.events).expect("its UTF-8 was made just now");
            self.source.write(utf8.as_bytes(), hold)
        } else {
            let kind = piece.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "A streamed response must yield str or bytes, got {kind}."
            )));
        })
    }

    /// Must the producer wait for capacity?
    fn is_full(&self) -> bool {
        self.source.is_full()
    }

    /// Is the stream over, for example because the client has disconnected?
    fn is_over(&self) -> bool {
        self.source.is_closed()
    }

    /// Sets the trailers: a mapping, or pairs. Call it once, before `end`. `ValueError` for a field that cannot be a
    /// trailer.
    fn set_trailers(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        let trailers = response::trailers(lines)?;
        if let Some(slot) = &self.trailers {
            // A second call changes nothing.
            let _ = slot.set(trailers);
        }
        Ok(())
    }

    /// Ends the body. `failed`: the body is incomplete, so the connection is aborted.
    fn end(&self, failed: bool) {
        self.source.end(failed);
    }
}
