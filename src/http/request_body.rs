//! The request body that a connection reads within its limits: of size, of time, and of the memory for all bodies.

use std::cell::Cell;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body_error::BodyError;
use super::budget::{Budget, Hold};
use super::payload::Payload;
use super::spool::on_disk;

/// Bytes of a body that are read at first, and at a time once the body goes to a file.
const FIRST_STEP: usize = 16 << 10;

/// Largest step by which the memory for a body grows.
const LARGEST_STEP: usize = 1 << 20;

/// The limits on the size and the time of a body.
#[derive(Copy, Clone, Debug)]
pub(super) struct BodyLimits {
    /// Largest size, in bytes.
    pub bytes: usize,
    /// Time that every body has.
    pub time: Duration,
    /// Bytes that extend the time by a second: a body that arrives steadily is not too slow.
    pub bytes_per_second: usize,
}

/// A request body. As a stream it serves readers that parse it while it arrives.
pub(super) struct RequestBody {
    payload: Payload,
    limits: BodyLimits,
    received: usize,
    /// Time spent waiting for the client so far. Time that the reader takes does not count.
    waited: Duration,
    /// The start of the current wait.
    since: Option<Instant>,
    /// None until the first wait.
    waiting: Option<Pin<Box<Sleep>>>,
    error: Rc<Cell<Option<BodyError>>>,
}

impl RequestBody {
    pub(super) fn new(payload: Payload, limits: BodyLimits) -> Self {
        Self {
            payload,
            limits,
            received: 0,
            waited: Duration::ZERO,
            since: None,
            waiting: None,
            error: Rc::default(),
        }
    }

    /// The reason why the stream ended with an error. Stream readers wrap errors, and lose the reason.
    pub(super) fn error(&self) -> Rc<Cell<Option<BodyError>>> {
        Rc::clone(&self.error)
    }

    /// Reads the whole body. The returned hold accounts for its memory.
    pub(super) async fn whole(mut self, budget: &Rc<Budget>) -> Result<(Bytes, Hold), BodyError> {
        let mut hold = Hold::new(budget);
        let (mut size, mut step) = (0, FIRST_STEP);
        loop {
            if !hold.try_grow(step) {
                return self.via_file(hold).await;
            }
            size += step;
            // One byte above the limit is enough to detect a body that is too large.
            let capacity = size.min(self.limits.bytes + 1);
            if poll_fn(|task| self.poll_fill(capacity, task)).await? {
                let body = self.payload.take();
                hold.shrink_to(body.len());
                return Ok((body, hold));
            }
            step = size.min(LARGEST_STEP);
        }
    }

    fn poll_fill(
        &mut self,
        capacity: usize,
        task: &mut Context<'_>,
    ) -> Poll<Result<bool, BodyError>> {
        match self.payload.poll_fill(capacity, task) {
            Poll::Ready(Ok(is_rest)) => {
                self.stop_timer();
                let received = self.received + self.payload.waiting();
                Poll::Ready(if received > self.limits.bytes {
                    Err(BodyError::TooLarge)
                } else {
                    Ok(is_rest)
                })
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let received = self.received + self.payload.waiting();
                ready!(self.poll_timeout(received, task));
                Poll::Ready(Err(BodyError::TooSlow))
            }
        }
    }

    /// Reads the rest of the body into a file, because the memory for bodies is used up. The body is read back when
    /// all of it fits into memory.
    async fn via_file(mut self, mut hold: Hold) -> Result<(Bytes, Hold), BodyError> {
        let mut file: Option<File> = None;
        loop {
            let left = self.limits.bytes + 1 - self.received.min(self.limits.bytes);
            let capacity = left.min(FIRST_STEP);
            if poll_fn(|task| self.poll_fill(capacity, task)).await? {
                break;
            }
            let chunk = self.payload.take();
            self.received += chunk.len();
            let offset = (self.received - chunk.len()) as u64;
            let write = move || {
                let file = file.map_or_else(tempfile::tempfile, Ok)?;
                file.write_all_at(&chunk, offset)?;
                Ok(file)
            };
            file = Some(on_disk(write).await.map_err(|error| no_disk(&error))?);
            // Only after the write: otherwise many chunks could wait for a slow disk without being counted.
            hold.shrink_to(0);
        }
        let rest = self.payload.take();
        let (in_file, len) = (self.received, self.received + rest.len());
        hold.shrink_to(0);
        hold.whole(len).await;
        // Allocated on this thread: memory that many threads allocate stays with each of them.
        let mut body = vec![0; len];
        let read = move || {
            let (front, back) = body.split_at_mut(in_file);
            if let Some(file) = file {
                file.read_exact_at(front, 0)?;
            }
            back.copy_from_slice(&rest);
            Ok(Bytes::from(body))
        };
        Ok((on_disk(read).await.map_err(|error| no_disk(&error))?, hold))
    }

    fn fail(&self, error: BodyError) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.error.set(Some(error));
        Poll::Ready(Some(Err(PayloadError::Incomplete(None))))
    }

    /// Stops the clock, because the client has sent something.
    fn stop_timer(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Waits until the time limit of the body has passed.
    fn poll_timeout(&mut self, received: usize, task: &mut Context<'_>) -> Poll<()> {
        let more = received as f64 / self.limits.bytes_per_second as f64;
        let limit = self.limits.time + Duration::from_secs_f64(more);
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = since + limit.saturating_sub(self.waited);
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(waiting.as_mut().poll(task));
            // Bytes that arrived since have extended the limit.
            if waiting.deadline() >= deadline {
                return Poll::Ready(());
            }
            waiting.as_mut().reset(deadline);
        }
    }

    /// The next chunk, or the reason why there is none.
    pub(super) fn poll_chunk(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.payload.poll_chunk(task) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.stop_timer();
                self.received = self.received.saturating_add(chunk.len());
                if self.received > self.limits.bytes {
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Pending => {
                let received = self.received;
                ready!(self.poll_timeout(received, task));
                Poll::Ready(Some(Err(BodyError::TooSlow)))
            }
            end @ Poll::Ready(_) => end,
        }
    }
}

fn no_disk(error: &io::Error) -> BodyError {
    let folder = std::env::temp_dir();
    log::error!(
        "cannot store a request's body in {}: {error}",
        folder.display()
    );
    BodyError::NoDisk
}

impl Stream for RequestBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match ready!(self.poll_chunk(task)) {
            Some(Ok(chunk)) => Poll::Ready(Some(Ok(chunk))),
            Some(Err(error)) => self.fail(error),
            None => Poll::Ready(None),
        }
    }
}
