//! The access log: the I/O thread notes what it did, and another thread makes lines of it.
//!
//! A note goes into a bounded queue, and never waits. What does not fit is counted, and told with
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

/// Notes that may wait.
const MOST_NOTES: usize = 8192;
/// Of what a client chose, so much is noted.
const MOST_BYTES: usize = 4096;
/// The status of a request whose client went away before the answer, as nginx has it.
const CLIENT_GONE: u16 = 499;

/// What has been done.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// A request was answered.
    Request,
    /// A WebSocket was opened.
    Opened,
    /// A WebSocket was closed.
    Closed,
}

/// One thing that has been done.
#[derive(Clone, Debug)]
pub struct Note {
    /// What it was.
    pub what: What,
    /// When it began.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
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
    /// What the client says that it is. Not checked: it may hold anything.
    pub agent: Box<[u8]>,
}

/// Where notes are put.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: SyncSender<Option<Note>>,
    lost: Arc<AtomicU64>,
}

/// Where notes are taken.
#[derive(Debug)]
pub struct Notes {
    queue: Receiver<Option<Note>>,
    lost: Arc<AtomicU64>,
}

/// Both ends of a queue.
pub fn queue() -> (AccessLog, Notes) {
    let (sender, receiver) = sync_channel(MOST_NOTES);
    let lost = Arc::new(AtomicU64::new(0));
    let log = AccessLog {
        queue: sender,
        lost: Arc::clone(&lost),
    };
    (
        log,
        Notes {
            queue: receiver,
            lost,
        },
    )
}

impl AccessLog {
    /// A request begins. If it is dropped, its client has gone.
    pub fn begin(&self, method: &Method, head: &Head) -> Begun {
        let text = |name: HeaderName| {
            let value = head.get(&name).unwrap_or_default();
            value[..value.len().min(MOST_BYTES)].into()
        };
        let target = head.target();
        let mut end = target.len().min(MOST_BYTES);
        while !target.is_char_boundary(end) {
            end -= 1;
        }
        Begun {
            log: self.clone(),
            began: Instant::now(),
            note: Note {
                what: What::Request,
                at: SystemTime::now(),
                took: Duration::ZERO,
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
    pub fn end(&self) {
        // A full queue wakes it as well.
        let _ = self.queue.try_send(None);
    }

    fn put(&self, note: Note) {
        if self.queue.try_send(Some(note)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

/// A request that has begun. Noted when it is dropped.
#[derive(Debug)]
pub struct Begun {
    log: AccessLog,
    began: Instant,
    note: Note,
}

impl Begun {
    /// It was answered.
    pub fn answered(mut self, status: u16, size: BodySize) {
        self.note.status = status;
        self.note.bytes = match size {
            BodySize::None => Some(0),
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::Stream => None,
        };
    }

    /// The WebSocket that it became was closed, for this cause.
    pub fn closed(mut self, cause: &CloseCause) {
        self.note.status = cause.code();
    }

    /// It became a WebSocket: this is noted now, and its end when what is returned is dropped.
    #[must_use]
    pub fn opened(mut self) -> Self {
        self.note.status = 101;
        self.note.what = What::Opened;
        self.note.took = self.began.elapsed();
        self.log.put(self.note.clone());
        self.note.what = What::Closed;
        self.note.status = CloseCause::Lost.code();
        self.began = Instant::now();
        self
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.note.took = self.began.elapsed();
        self.log.put(self.note.clone());
    }
}

impl Notes {
    /// Waits for the next note, for so long, and takes what else there is, up to `most`. And how
    /// many were lost since the last call.
    pub fn take(&self, limit: Duration, most: usize) -> (Vec<Note>, u64) {
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

    fn begin(log: &AccessLog) -> Begun {
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
        for _ in 0..MOST_NOTES + 5 {
            begin(&log).answered(200, BodySize::Sized(7));
        }
        let (taken, lost) = notes.take(Duration::ZERO, usize::MAX);
        assert_eq!((taken.len(), lost), (MOST_NOTES, 5));
        assert_eq!((taken[0].status, taken[0].bytes), (200, Some(7)));
        assert_eq!(notes.take(Duration::ZERO, usize::MAX).1, 0);
    }

    #[test]
    fn a_client_that_went_and_a_websocket_have_notes_of_their_own() {
        let (log, notes) = queue();
        drop(begin(&log));
        drop(begin(&log).opened());
        let open = begin(&log).opened();
        open.closed(&CloseCause::HandlerCancelled);
        log.end();
        let (taken, _) = notes.take(Duration::ZERO, usize::MAX);
        let kinds: Vec<_> = taken.iter().map(|it| (it.what, it.status)).collect();
        assert_eq!(
            kinds,
            [
                (What::Request, CLIENT_GONE),
                (What::Opened, 101),
                (What::Closed, 1006),
                (What::Opened, 101),
                (What::Closed, 1001)
            ]
        );
    }
}
