//! The upload: the body of a request that user code reads in chunks, on another thread.
//!
//! The I/O thread puts chunks into a queue that reports when it is full, and user code takes them out. Nothing is
//! read before the first chunk is requested, so a client that expects `100 Continue` waits. At most
//! [`BODY_AHEAD_BYTES`] and one chunk wait for user code.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use super::body_error::BodyError;
use super::limits::BODY_AHEAD_BYTES;
use super::request_body::RequestBody;
use super::response::{WireBody, WireResponse};

/// A callback that is called once when a chunk can be taken. It runs on the I/O thread, and must not block.
pub type Notifier = Box<dyn FnOnce() + Send>;

/// Why a body is incomplete.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum UploadError {
    /// It exceeds its limit.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// It ended early, is malformed, or its request already has a response.
    Broken,
}

impl From<BodyError> for UploadError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::TooSlow => Self::TooSlow,
            BodyError::NoMemory | BodyError::NoDisk | BodyError::Broken => Self::Broken,
        }
    }
}

/// The result of taking a chunk.
#[derive(Debug, Eq, PartialEq)]
pub enum UploadChunk {
    /// The next chunk.
    Chunk(Bytes),
    /// The body has ended.
    End,
    /// No chunk is there yet.
    Pending,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// The end of the body, once it is known. It follows the chunks.
    end: Option<Result<(), UploadError>>,
    /// User code has requested a chunk.
    is_requested: bool,
    /// User code has dropped its end.
    is_dropped: bool,
    /// The task of the sender, while it waits for capacity.
    sender: Option<Waker>,
    notifier: Option<Notifier>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the threads that wait.
    came: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let notifier = {
            let state = &mut *self.lock();
            change(state);
            state.notifier.take()
        };
        self.came.notify_one();
        if let Some(notifier) = notifier {
            notifier();
        }
    }
}

/// The receiving end, for user code on any thread.
pub struct Upload(Arc<Shared>);

/// The sending end, on the I/O thread. It fills the queue while it is polled.
pub(super) struct UploadSender {
    shared: Arc<Shared>,
    /// None at the end. Boxed, because few requests have one.
    body: Option<Box<RequestBody>>,
}

/// Makes both ends of an upload.
pub(super) fn upload(body: RequestBody) -> (Upload, UploadSender) {
    let shared = Arc::<Shared>::default();
    let upload = Upload(Arc::clone(&shared));
    let body = Some(Box::new(body));
    (upload, UploadSender { shared, body })
}

impl Upload {
    /// Takes the next chunk, if there is one.
    pub fn take(&self) -> Result<UploadChunk, UploadError> {
        take(&mut self.0.lock())
    }

    /// Takes the next chunk. Blocks this thread until there is one.
    pub fn wait(&self) -> Result<UploadChunk, UploadError> {
        let mut state = self.0.lock();
        loop {
            match take(&mut state)? {
                UploadChunk::Pending => {}
                taken => return Ok(taken),
            }
            let waited = self.0.came.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Calls `notifier` once a chunk can be taken: at once, if there is one.
    pub fn notify(&self, notifier: Notifier) {
        let state = &mut *self.0.lock();
        if state.chunks.is_empty() && state.end.is_none() {
            state.notifier = Some(notifier);
        } else {
            notifier();
        }
    }
}

fn take(state: &mut State) -> Result<UploadChunk, UploadError> {
    state.is_requested = true;
    let taken = match (state.chunks.pop_front(), state.end) {
        (Some(chunk), _) => {
            state.bytes -= chunk.len();
            UploadChunk::Chunk(chunk)
        }
        (None, None) => UploadChunk::Pending,
        (None, Some(Ok(()))) => UploadChunk::End,
        (None, Some(Err(error))) => return Err(error),
    };
    // At half the limit, so that the sender adds more than one chunk when it is woken.
    if state.bytes <= BODY_AHEAD_BYTES / 2
        && let Some(sender) = state.sender.take()
    {
        sender.wake();
    }
    Ok(taken)
}

impl Drop for Upload {
    fn drop(&mut self) {
        let state = &mut *self.0.lock();
        state.is_dropped = true;
        state.chunks.clear();
        if let Some(sender) = state.sender.take() {
            sender.wake();
        }
    }
}

impl UploadSender {
    /// Sends the body until the response is there.
    pub(super) async fn drive<T>(&mut self, response: impl Future<Output = T>) -> T {
        let mut response = pin!(response);
        poll_fn(|task| {
            let _ = Pin::new(&mut *self).poll(task);
            response.as_mut().poll(task)
        })
        .await
    }

    /// Whether the body has ended, or user code has dropped its end.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none()
    }
}

impl Future for UploadSender {
    type Output = ();

    /// Sends the chunks that are there and fit. Ready at the end.
    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        while let Some(body) = &mut this.body {
            {
                let state = &mut *this.shared.lock();
                if state.is_dropped {
                    break;
                }
                if !state.is_requested || state.bytes >= BODY_AHEAD_BYTES {
                    state.sender = Some(task.waker().clone());
                    return Poll::Pending;
                }
            }
            match ready!(body.poll_chunk(task)) {
                Some(Ok(chunk)) => this.shared.change(|state| {
                    state.bytes += chunk.len();
                    state.chunks.push_back(chunk);
                }),
                Some(Err(why)) => {
                    this.shared
                        .change(|state| state.end = Some(Err(why.into())));
                    break;
                }
                None => {
                    this.shared.change(|state| state.end = Some(Ok(())));
                    break;
                }
            }
        }
        this.body = None;
        Poll::Ready(())
    }
}

impl Drop for UploadSender {
    /// The request has ended, or its client has disconnected.
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.end.get_or_insert(Err(UploadError::Broken));
        });
    }
}

/// Sends the rest of the request's body while the response is sent: the handler may make one of the other.
pub(super) fn send_during_response(response: WireResponse, sender: UploadSender) -> WireResponse {
    let (body, head) = response.split();
    match body {
        WireBody::Stream(_) | WireBody::Boxed(_) => {
            let body = body.boxed();
            head.with_body(WireBody::Boxed(BoxBody::new(UploadingBody {
                sender,
                body,
            })))
        }
        WireBody::Nothing | WireBody::Bytes(_) | WireBody::File(_) => head.with_body(body),
    }
}

struct UploadingBody {
    sender: UploadSender,
    body: BoxBody,
}

impl MessageBody for UploadingBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let _ = Pin::new(&mut self.sender).poll(task);
        Pin::new(&mut self.body).poll_next(task)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upload").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::http1::body::TestFeed;
    use crate::http::payload::Payload;
    use crate::http::request_body::BodyLimits;

    /// A body of `len` bytes, of which `came` have arrived.
    fn body(len: u64, came: usize) -> (TestFeed, Upload, UploadSender) {
        let (feed, body) = TestFeed::new(len, came);
        let limits = BodyLimits {
            bytes: usize::MAX - 1,
            time: Duration::from_secs(60),
            bytes_per_second: 1,
        };
        let (upload, sender) = upload(RequestBody::new(Payload::Http1(body), limits));
        (feed, upload, sender)
    }

    fn poll(sender: &mut UploadSender) -> Poll<()> {
        Pin::new(sender).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn an_upload_reads_nothing_before_the_first_take_and_no_more_than_fits() {
        let (feed, upload, mut sender) = body(1 << 20, 1 << 20);
        assert!(poll(&mut sender).is_pending());
        assert!(!feed.is_requested());
        assert_eq!(upload.take(), Ok(UploadChunk::Pending));
        let mut read = 0;
        loop {
            let _ = poll(&mut sender);
            while feed.bring() {
                let _ = poll(&mut sender);
            }
            assert!(upload.0.lock().bytes <= 2 * BODY_AHEAD_BYTES);
            match upload.take() {
                Ok(UploadChunk::Chunk(chunk)) => read += chunk.len(),
                Ok(UploadChunk::End) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read, 1 << 20);
        assert!(sender.is_done());
    }

    #[tokio::test]
    async fn a_notifier_is_called_once_and_a_dropped_request_is_an_error() {
        let (feed, upload, mut sender) = body(2, 1);
        assert_eq!(upload.take(), Ok(UploadChunk::Pending));
        let count = Arc::new(Mutex::new(0));
        let notify = |upload: &Upload| {
            let count = Arc::clone(&count);
            upload.notify(Box::new(move || *count.lock().expect("one thread") += 1));
        };
        notify(&upload);
        let _ = poll(&mut sender);
        assert!(feed.bring());
        let _ = poll(&mut sender);
        assert_eq!(*count.lock().expect("one thread"), 1);
        notify(&upload);
        assert_eq!(*count.lock().expect("one thread"), 2, "a chunk waits");
        assert_eq!(upload.take(), Ok(UploadChunk::Chunk("x".into())));
        drop(sender);
        assert_eq!(upload.take(), Err(UploadError::Broken));
        assert_eq!(upload.wait(), Err(UploadError::Broken));
    }

    #[tokio::test]
    async fn a_dropped_upload_ends_its_sender() {
        let (_feed, upload, mut sender) = body(2, 0);
        assert!(poll(&mut sender).is_pending());
        drop(upload);
        assert!(poll(&mut sender).is_ready());
    }
}
