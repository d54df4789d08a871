//! The access log of a worker: the I/O thread records requests, and another thread writes them as lines.
//!
//! A record goes into a bounded queue, and the I/O thread never waits. Records that do not fit are counted; the
//! number is reported with the next batch.

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

/// Records that may wait for the thread that writes the log.
const MAX_WAITING: usize = 8192;
/// Bytes that are recorded of each text that a client chose.
const MAX_TEXT_BYTES: usize = 4096;
/// The status of a request whose client disconnected before the response, as in nginx.
const CLIENT_GONE: u16 = 499;

/// The kind of a record.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AccessKind {
    /// A request got its response.
    Request,
    /// A WebSocket was opened.
    Opened,
    /// A WebSocket was closed.
    Closed,
}

/// One line of the access log.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// The kind.
    pub kind: AccessKind,
    /// When the request or the session began.
    pub time: SystemTime,
    /// How long it lasted.
    pub duration: Duration,
    /// The client.
    pub peer: Peer,
    /// In upper case.
    pub method: Box<str>,
    /// Path and query as the client sent them.
    pub target: Box<str>,
    /// The version, such as `HTTP/1.1`.
    pub version: &'static str,
    /// The status of the response, or the close code of a WebSocket that was closed.
    pub status: u16,
    /// Bytes of the response's body. None: the size was not known when the response began.
    pub bytes: Option<u64>,
    /// The page that links here, as the client reports it. Not checked: it may hold anything.
    pub referer: Box<[u8]>,
    /// The program of the client, as it reports itself. Not checked: it may hold anything.
    pub agent: Box<[u8]>,
}

/// The end of the queue that receives records from the I/O thread.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: SyncSender<Option<AccessRecord>>,
    lost: Arc<AtomicU64>,
}

/// The end of the queue that the writing thread reads.
#[derive(Debug)]
pub struct AccessRecords {
    queue: Receiver<Option<AccessRecord>>,
    lost: Arc<AtomicU64>,
}

/// Makes both ends of a queue.
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
    /// Begins the record of a request. A record that is dropped unfinished is one of a client that disconnected.
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

    /// Wakes the thread that waits in [`AccessRecords::take`], so that it can end.
    pub fn close(&self) {
        // A full queue wakes it, too.
        let _ = self.queue.try_send(None);
    }

    fn put(&self, record: AccessRecord) {
        if self.queue.try_send(Some(record)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

/// The record of a running request. It is queued when it is dropped.
#[derive(Debug)]
pub struct PendingRecord {
    log: AccessLog,
    began: Instant,
    record: AccessRecord,
}

impl PendingRecord {
    /// The request got a response.
    pub fn finish(mut self, status: u16, size: BodySize) {
        self.record.status = status;
        self.record.bytes = match size {
            BodySize::None => Some(0),
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::Stream => None,
        };
    }

    /// The WebSocket that the request became was closed for this cause.
    pub fn close(mut self, cause: &CloseCause) {
        self.record.status = cause.code();
    }

    /// The request became a WebSocket. A record of the opening is queued now; the returned one is queued at the
    /// close.
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
    /// Waits at most `limit` for the next record, and takes up to `max` further ones. Also returns the number of
    /// records that were lost since the last call.
    pub fn take(&self, limit: Duration, max: usize) -> (Vec<AccessRecord>, u64) {
        let mut records = Vec::new();
        match self.queue.recv_timeout(limit) {
            Ok(first) => records.extend(first),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        records.extend(self.queue.try_iter().take(max).flatten());
        (records, self.lost.swap(0, Relaxed))
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
    fn records_that_do_not_fit_are_counted() {
        let (log, records) = queue();
        for _ in 0..MAX_WAITING + 5 {
            begin(&log).finish(200, BodySize::Sized(7));
        }
        let (taken, lost) = records.take(Duration::ZERO, usize::MAX);
        assert_eq!((taken.len(), lost), (MAX_WAITING, 5));
        assert_eq!((taken[0].status, taken[0].bytes), (200, Some(7)));
        assert_eq!(records.take(Duration::ZERO, usize::MAX).1, 0);
    }

    #[test]
    fn disconnects_and_websockets_have_records_of_their_own() {
        let (log, records) = queue();
        drop(begin(&log));
        drop(begin(&log).open());
        let open = begin(&log).open();
        open.close(&CloseCause::HandlerCancelled);
        log.close();
        let (taken, _) = records.take(Duration::ZERO, usize::MAX);
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
