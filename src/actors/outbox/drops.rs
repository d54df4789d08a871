//! The ways in which frames leave an outbox without being sent: by policy, or because the session closes.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::entry::{Entry, FRAME_OVERHEAD, Source};
use super::policy::{OutboxFull, WhenFull};
use super::{ALL, Outbox};

/// The outcome of a policy.
pub(super) struct PolicyOutcome {
    /// The new frame may wait. If not, it is dropped.
    pub(super) fits: bool,
    /// Messages that were dropped for it.
    pub(super) dropped: u64,
}

impl Outbox {
    /// Applies the policy for `len` more bytes of `topic`.
    pub(super) fn apply_policy(
        &mut self,
        len: usize,
        topic: u64,
    ) -> Result<PolicyOutcome, OutboxFull> {
        let mut dropped = 0;
        if self.overflow.replaces_older() {
            dropped += self.drop_entries(|entry| entry.source == Source::Topic(topic), usize::MAX);
        }
        if !self.fits(len) {
            match self.overflow.when_full() {
                WhenFull::Close => return Err(OutboxFull),
                WhenFull::DropNewest => {}
                WhenFull::DropOldest => {
                    let excess = self.cost() + len + FRAME_OVERHEAD - self.limit;
                    let is_published = |entry: &Entry| matches!(entry.source, Source::Topic(_));
                    dropped += self.drop_entries(is_published, excess);
                }
            }
        }
        Ok(PolicyOutcome {
            fits: self.fits(len) || self.queue.is_empty(),
            dropped,
        })
    }

    /// Drops published frames, oldest first, until `excess` of their cost is gone. The first frame stays when the
    /// client has seen its beginning. Returns the number of dropped frames.
    fn drop_entries(&mut self, may_go: impl Fn(&Entry) -> bool, excess: usize) -> u64 {
        let (mut gone, mut frames) = (0, 0);
        let mut begun = self.begun;
        self.queue.retain(|entry| {
            let enough = gone + frames * FRAME_OVERHEAD >= excess;
            if mem::take(&mut begun) || enough || !may_go(entry) {
                return true;
            }
            gone += entry.len();
            frames += 1;
            false
        });
        self.bytes -= gone;
        frames as u64
    }

    /// Drops all frames that wait, except one that the client has seen the beginning of, because the session
    /// closes. Returns the handler's bytes among them.
    pub fn drop_all(&mut self) -> usize {
        let kept = usize::from(self.begun);
        let mut handlers = self.drop_behind(kept);
        if self.begun {
            handlers += self.cut_begun();
        }
        let first = self.queue.front();
        self.bytes = first.map_or(0, |first| first.len() - self.written);
        self.own = first.map_or(0, Entry::own_bytes);
        handlers
    }

    /// Drops everything, because nothing can be sent any more. Returns the handler's bytes among the dropped ones.
    pub fn clear(&mut self) -> usize {
        let handlers = self.drop_behind(0);
        self.queue = VecDeque::new();
        (self.bytes, self.own, self.written, self.rest) = (0, 0, 0, 0);
        self.begun = false;
        handlers
    }

    /// Drops all but the first entries, whatever their source.
    fn drop_behind(&mut self, kept: usize) -> usize {
        let gone = self.queue.drain(kept..);
        let handlers = gone.filter(|entry| entry.source.is_handlers());
        handlers.map(|entry| entry.len()).sum()
    }

    /// Drops the bytes of the first entry behind the frame that the client has seen the beginning of: they may be
    /// megabytes.
    fn cut_begun(&mut self) -> usize {
        let end = self.end_of_begun();
        let first = &mut self.queue[0];
        let whole = first.len();
        if end == whole {
            return 0; // an entry with its own header always ends here: it is one frame
        }
        first.frame = Bytes::copy_from_slice(&first.frame[self.written..end]);
        (self.written, self.rest) = (0, ALL);
        if first.source.is_handlers() {
            first.source = Source::Handler;
            return whole - first.frame.len();
        }
        0
    }
}
