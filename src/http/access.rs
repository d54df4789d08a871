//! The access log: the I/O thread notes what it did, and another thread makes lines of it.
//!
//! A note goes into a bounded queue, and never waits. AccessKind does not fit is counted, and told with
//! the next note that does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use actix_http::Method;
use actix_http::body::BodySize;
use actix_http::header::{HeaderName, REFERER, USER_AGENT};

use super::head::Head;
use super::peer::Peer;
use crate::actors::close::CloseCause;

/// AccessRecords that may wait.
const MAX_WAITING: usize = 8192;
/// Of what a client chose, so much is noted.
const MAX_TEXT_BYTES: usize = 4096;
/// The status of a request whose client went away before the answer, as nginx has it.
const CLIENT_GONE: u16 = 499;

/// The kind of a record.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AccessKind {
    /// A request was answered.
    Request,
    /// A WebSocket was opened.
    Opened,
    /// A WebSocket was closed.
    Closed,
}

/// One thing that has been done.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// AccessKind it was.
    pub kind: AccessKind,
    /// When it began.
    pub time: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Who asked.
    pub peer: Peer,
    /// In upper case.
    pub method: Box<str>,
    /// Path and query as they were sent.
    pub target: Box<str>,
    /// As in `HTTP/1.1`.
    pub version: &'static str,
    /// Of the answer; of a WebSocket that was closed, its close code.
    pub status: u16,
    /// Of the answer's body; None if they were not known when it began.
    pub bytes: Option<u64>,
    /// Where the client says that it found the link. Not checked: it may hold anything.
    pub referer: Box<[u8]>,
    /// AccessKind the client says that it is. Not checked: it may hold anything.
    pub agent: Box<[u8]>,
}

/// Where notes are put.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: SyncSender<Option<AccessRecord>>,
    lost: Arc<AtomicU64>,
}

/// Where notes are taken.
#[derive(Debug)]
pub struct AccessRecords {
    queue: Receiver<Option<AccessRecord>>,
    lost: Arc<AtomicU64>,
}

/// Both ends of a queue.
pub fn queue() -> (AccessLog, AccessRecords) {
    let (sender, receiver) = sync_channel(MAX_WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let log = AccessLog {
        queue: sender,
        lost: Arc::clone(&lost),
    };
    (
        log,
        AccessRecords {
            queue: receiver,
            lost,
        },
    )
}

impl AccessLog {
    /// A request begins. If it is dropped, its client has gone.
    pub fn begin(&self, method: &Method, head: &Head) -> PendingRecord {
        let text = |name: HeaderName| {
            let value = head.get(&name).unwrap_or_default();
            value[..value.len().min(MAX_TEXT_BYTES)].into()
        };
        let target = head.target();
        let mut end = target.len().min(MAX_TEXT_BYTES);
        while !target.is_char_boundary(end) {
            end -= 1;
        }
        PendingRecord {
            log: self.clone(),
            began: Instant::now(),
            record: AccessRecord {
                kind: AccessKind::Request,
                time: SystemTime::now(),
                duration: Duration::ZERO,
                peer: head.peer,
                method: method.as_str().into(),
                target: target[..end].into(),
                version: head.version.with_protocol(),
                status: CLIENT_GONE,
                bytes: None,
                referer: text(REFERER),
                agent: text(USER_AGENT),
            },
        }
    }

    /// Wakes who takes, so that it sees that this is the end.
    pub fn close(&self) {
        // A full queue wakes it as well.
        let _ = self.queue.try_send(None);
    }

    fn put(&self, record: AccessRecord) {
        if self.queue.try_send(Some(record)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

/// A request that has begun. Noted when it is dropped.
#[derive(Debug)]
pub struct PendingRecord {
    log: AccessLog,
    began: Instant,
    record: AccessRecord,
}

impl PendingRecord {
    /// It was answered.
    pub fn finish(mut self, status: u16, size: BodySize) {
        self.record.status = status;
        self.record.bytes = match size {
            BodySize::None => Some(0),
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::Stream => None,
        };
    }

    /// The WebSocket that it became was closed for this cause.
    pub fn close(mut self, cause: &CloseCause) {
        self.record.status = cause.code();
    }

    /// It became a WebSocket: this is noted now, and its end when what is returned is dropped.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.record.status = 101;
        self.record.kind = AccessKind::Opened;
        self.record.duration = self.began.elapsed();
        self.log.put(self.record.clone());
        self.record.kind = AccessKind::Closed;
        self.record.status = CloseCause::Lost.code();
        self.began = Instant::now();
        self
    }
}

impl Drop for PendingRecord {
    fn drop(&mut self) {
        self.record.duration = self.began.elapsed();
        self.log.put(self.record.clone());
    }
}

impl AccessRecords {
    /// Waits for the next note, for so long, and takes what else there is, up to `most`. And how
    /// many were lost since the last call.
    pub fn take(&self, limit: Duration, most: usize) -> (Vec<AccessRecord>, u64) {
        let mut notes = Vec::new();
        match self.queue.recv_timeout(limit) {
            Ok(first) => notes.extend(first),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        notes.extend(self.queue.try_iter().take(most).flatten());
        (notes, self.lost.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadWriter, Version};

    fn begin(log: &AccessLog) -> PendingRecord {
        let direct = Peer {
            address: None,
            is_secure: false,
        };
        let head = HeadWriter::new("/", None, 0, 0).finish(Version::Http11, direct);
        log.begin(&Method::GET, &head)
    }

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let (log, notes) = queue();
        for _ in 0..MAX_WAITING + 5 {
            begin(&log).finish(200, BodySize::Sized(7));
        }
        let (taken, lost) = notes.take(Duration::ZERO, usize::MAX);
        assert_eq!((taken.len(), lost), (MAX_WAITING, 5));
        assert_eq!((taken[0].status, taken[0].bytes), (200, Some(7)));
        assert_eq!(notes.take(Duration::ZERO, usize::MAX).1, 0);
    }

    #[test]
    fn a_client_that_went_and_a_websocket_have_notes_of_their_own() {
        let (log, notes) = queue();
        drop(begin(&log));
        drop(begin(&log).open());
        let open = begin(&log).open();
        open.close(&CloseCause::HandlerCancelled);
        log.close();
        let (taken, _) = notes.take(Duration::ZERO, usize::MAX);
        let kinds: Vec<_> = taken.iter().map(|it| (it.kind, it.status)).collect();
        assert_eq!(
            kinds,
            [
                (AccessKind::Request, CLIENT_GONE),
                (AccessKind::Opened, 101),
                (AccessKind::Closed, 1006),
                (AccessKind::Opened, 101),
                (AccessKind::Closed, 1001)
            ]
        );
    }
}
