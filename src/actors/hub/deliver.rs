//! From the bus to the sessions: the one way a published message reaches anybody.

use std::cell::LazyCell;

use super::Hub;
use super::topics::TopicId;
use crate::actors::close::CloseCause;
use crate::actors::deflate::{Encoding, Window};
use crate::actors::session_key::SessionKey;
use crate::actors::topic::Topic;
use crate::actors::turn::Run;
use crate::ipc::{Fate, Next, ReadAt};

/// Turns of the arena before sockets get read again.
const ARENAS_IN_A_ROW: usize = 4;

/// Calls of `next` that may find nothing for us before the turn ends.
const SKIPS_IN_A_ROW: usize = 64;

/// So many records one session gets ahead of the others; when it is to be more, all get them.
const MOST_AHEAD: u64 = 32;
/// After so many sessions publishers see that the hub comes on, though its turn is not over.
const BEAT_EVERY: usize = 64;

impl Hub {
    /// Delivers what the bus has before the offset `until`. True when there may be more of it.
    pub(super) fn deliver(&mut self, until: u64) -> bool {
        if self.subscriber.offset() >= until {
            self.bus.report_caught_up(); // all else was said when it got there
            return false;
        }
        for _ in 0..ARENAS_IN_A_ROW {
            let mut touched = std::mem::take(&mut self.touched);
            let gathered = self.gather(until, &mut touched);
            match touched.as_slice() {
                [] => {}
                [only] => self.deliver_topic(*only),
                several => self.deliver_topics(several),
            }
            for id in touched.drain(..) {
                self.topics.get(id).records.clear();
            }
            self.touched = touched;
            self.turn.clear();
            self.bus.keep_pace(self.subscriber.offset());
            match gathered {
                Gathered::All => {
                    self.bus.report_caught_up();
                    return false;
                }
                Gathered::Full => {}
                Gathered::Lagged(missed) => self.close_lagged(missed),
            }
        }
        true
    }

    /// Reads the bus up to the offset `until` into the turn's arena. `touched` gets the topics that records
    /// came for.
    fn gather(&mut self, until: u64, touched: &mut Vec<TopicId>) -> Gathered {
        if let Some(tags) = self.topics.new_tags() {
            self.subscriber.set_tags(tags);
        }
        let mut skips = 0;
        while !self.turn.is_full() {
            if self.subscriber.offset() >= until {
                self.subscriber.report_offset();
                return Gathered::All;
            }
            let topics = &self.topics;
            match self
                .subscriber
                .next(|hash| topics.wants(hash), &mut self.turn.arena)
            {
                Next::Empty => return Gathered::All,
                Next::Lagged(missed) => return Gathered::Lagged(missed),
                Next::Skipped => {
                    skips += 1;
                    if skips == SKIPS_IN_A_ROW {
                        return Gathered::Full;
                    }
                }
                Next::Record(head) => {
                    let Some(id) = self.topics.find(head.topic_hash, self.subscriber.topic())
                    else {
                        // Another topic with the same hash.
                        self.turn.arena.truncate(head.frame.start);
                        continue;
                    };
                    let ours = head.producer == self.bus.member();
                    let left_out = if ours { head.exclude_session } else { 0 };
                    let hash = head.topic_hash;
                    let index = self.turn.push(head.frame, hash, head.offset, left_out);
                    let records = &mut self.topics.get(id).records;
                    if records.is_empty() {
                        touched.push(id);
                    }
                    records.push(index);
                }
            }
        }
        Gathered::Full
    }

    /// The usual turn: one topic. Its records are one run of the arena, written once per session.
    fn deliver_topic(&mut self, id: TopicId) {
        let subscribed = self.topics.get(id);
        let indexes = subscribed.records.as_slice();
        let run = self.turn.run(indexes, Encoding::Plain, &mut self.scratch);
        // Made by the first session that takes it.
        let usual = Encoding::Deflated(Window::LARGEST);
        let deflated = LazyCell::new(|| {
            let mut bytes = Vec::new();
            self.turn.run(indexes, usual, &mut bytes);
            bytes
        });
        let first = self.turn.offset(indexes[0]);
        let plain = !self.turn.leaves_somebody_out(indexes);
        let mut slow = std::mem::take(&mut self.slow);
        let mut own = std::mem::take(&mut self.own);
        for (served, (&session, &from)) in subscribed.subscribers.iter().enumerate() {
            if served % BEAT_EVERY == BEAT_EVERY - 1 {
                self.bus.beat();
                self.registry.shed(&self.turn_queue.queues);
            }
            let Some(writer) = self.registry.writer(session) else {
                continue;
            };
            if plain && from <= first {
                let run = match writer.encoding() {
                    Encoding::Plain => run,
                    encoding @ Encoding::Events => Run {
                        bytes: &[],
                        encoding,
                    },
                    encoding @ Encoding::Deflated(_) if encoding == usual => Run {
                        bytes: &deflated,
                        encoding,
                    },
                    encoding @ Encoding::Deflated(_) => {
                        self.turn.run(indexes, encoding, &mut self.own_scratch)
                    }
                };
                if writer.deliver(run, &self.turn, indexes).is_err() {
                    slow.push(session);
                }
                continue;
            }
            own.clear();
            let records = indexes.iter().copied();
            own.extend(records.filter(|&index| self.turn.is_for(index, session.as_u64(), from)));
            let encoding = writer.encoding();
            let run = self.turn.run(&own, encoding, &mut self.own_scratch);
            if writer.deliver(run, &self.turn, &own).is_err() {
                slow.push(session);
            }
        }
        self.own = own;
        self.close_slow(slow);
    }

    /// A turn with several topics: who has more than one of them gets their records merged.
    fn deliver_topics(&mut self, touched: &[TopicId]) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &id in touched {
            for (&session, &from) in &self.topics.get(id).subscribers {
                let Some(member) = self.registry.member(session) else {
                    continue;
                };
                if member.touched.is_empty() {
                    dirty.push(session);
                }
                member.touched.push((id, from));
            }
        }
        let mut slow = std::mem::take(&mut self.slow);
        let mut own = std::mem::take(&mut self.own);
        for (served, session) in dirty.drain(..).enumerate() {
            if served % BEAT_EVERY == BEAT_EVERY - 1 {
                self.bus.beat();
                self.registry.shed(&self.turn_queue.queues);
            }
            let Some(member) = self.registry.member(session) else {
                continue;
            };
            own.clear();
            for (id, from) in member.touched.drain(..) {
                let records = self.topics.get(id).records.iter().copied();
                own.extend(
                    records.filter(|&index| self.turn.is_for(index, session.as_u64(), from)),
                );
            }
            // Indexes grow with offsets: sorted, they are in the order of the bus.
            own.sort_unstable();
            let encoding = member.writer.encoding();
            let run = self.turn.run(&own, encoding, &mut self.scratch);
            if member.writer.deliver(run, &self.turn, &own).is_err() {
                slow.push(session);
            }
        }
        self.dirty = dirty;
        self.own = own;
        self.close_slow(slow);
    }

    /// A session is about to be sent something, or to hear nothing more, by a handler that had published all
    /// that the bus has before the offset `until`: so it gets that first, alone. For the others it stays one
    /// write at the end of the turn.
    pub(super) fn deliver_ahead(&mut self, session: SessionKey, until: u64) {
        if until <= self.subscriber.offset() {
            return; // the usual send, of a worker whose Python has published nothing of late
        }
        let Some(member) = self.registry.member(session) else {
            return;
        };
        let topics = &mut self.topics;
        let from = |id: &TopicId| topics.get(*id).subscribers.get(&session).copied();
        let Some(since) = member.topics.iter().filter_map(from).min() else {
            return;
        };
        let since = since.max(self.subscriber.offset());
        if until <= since {
            return;
        }
        if until - since > MOST_AHEAD {
            while self.deliver(until) {}
            return;
        }
        let ids = member.topics.clone();
        let encoding = member.writer.encoding();
        let mut own = std::mem::take(&mut self.own);
        own.clear();
        for offset in since..until {
            let read =
                self.bus
                    .read_at_with_topic(offset, &mut self.turn.arena, &mut self.topic_name);
            let ReadAt::Record(head) = read else {
                continue; // overwritten: the hub finds that too, and says so
            };
            let ours = head.producer == self.bus.member();
            let left_out = if ours { head.exclude_session } else { 0 };
            let start = head.frame.start;
            let index = self
                .turn
                .push(head.frame, head.topic_hash, offset, left_out);
            let id = self.topics.find(head.topic_hash, &self.topic_name);
            let id = id.filter(|id| ids.contains(id));
            let from = id.and_then(|id| self.topics.get(id).subscribers.get(&session).copied());
            if from.is_some_and(|from| self.turn.is_for(index, session.as_u64(), from)) {
                own.push(index);
            } else {
                self.turn.pop(start);
            }
        }
        for &id in &ids {
            if let Some(from) = self.topics.get(id).subscribers.get_mut(&session) {
                *from = until.max(*from);
            }
        }
        let run = self.turn.run(&own, encoding, &mut self.own_scratch);
        let writer = self.registry.writer(session);
        let overflowed = writer.is_some_and(|it| it.deliver(run, &self.turn, &own).is_err());
        self.own = own;
        self.turn.clear();
        if overflowed {
            self.close_slow(vec![session]);
        }
    }

    /// Subscribes a session from offset `from` on. The interest that the caller has added is the
    /// subscription's from here on.
    pub(super) fn subscribe(&mut self, session: SessionKey, topic: Topic, from: u64) {
        let hash = topic.hash();
        let known = self.topics.find(hash, topic.as_str());
        let Some(member) = self.registry.member(session) else {
            self.bus.remove_interest(hash);
            return;
        };
        if known.is_some_and(|id| member.topics.contains(&id)) {
            self.bus.remove_interest(hash);
            return;
        }
        let name = topic.clone();
        let id = self.topics.join(topic, session, from);
        member.topics.push(id);
        self.replay(session, &name, from);
    }

    /// The hub's cursor may have passed `from` before the command came: what is missing is read
    /// again, for this session alone.
    fn replay(&mut self, session: SessionKey, topic: &Topic, from: u64) {
        let mut name = String::new();
        for offset in from..self.subscriber.offset() {
            self.turn.clear();
            match self
                .bus
                .read_at_with_topic(offset, &mut self.turn.arena, &mut name)
            {
                ReadAt::Record(head) if head.topic_hash == topic.hash() => {
                    let own = head.producer == self.bus.member()
                        && head.exclude_session == session.as_u64();
                    if own || name != topic.as_str() {
                        continue;
                    }
                    let index = self
                        .turn
                        .push(head.frame.clone(), head.topic_hash, offset, 0);
                    let Some(writer) = self.registry.writer(session) else {
                        break;
                    };
                    let run = self
                        .turn
                        .run(&[index], writer.encoding(), &mut self.scratch);
                    if writer.deliver(run, &self.turn, &[index]).is_err() {
                        self.close_slow(vec![session]);
                        break;
                    }
                }
                ReadAt::Record(_) => {}
                ReadAt::Overwritten => {
                    self.close(session, CloseCause::MissedWhileSubscribing);
                    break;
                }
                ReadAt::NotYet => break,
            }
        }
        self.turn.clear();
    }

    /// Ends a session's subscription.
    pub(super) fn unsubscribe(&mut self, session: SessionKey, topic: &Topic) {
        let Some(id) = self.topics.find(topic.hash(), topic.as_str()) else {
            return;
        };
        let Some(member) = self.registry.member(session) else {
            return;
        };
        member.topics.retain(|other| *other != id);
        if let Some(hash) = self.topics.leave(id, session) {
            self.bus.remove_interest(hash);
        }
    }

    /// Sessions whose outbox is full, where the route says that this closes them.
    fn close_slow(&mut self, mut slow: Vec<SessionKey>) {
        for session in slow.drain(..) {
            self.close(session, CloseCause::ClientTooSlow);
        }
        self.slow = slow;
    }

    /// This worker itself was overtaken: who was then subscribed to what may have been among it is told by
    /// being closed. How many of the records were of its topics is not known any more.
    fn close_lagged(&mut self, missed: u64) {
        let stood_still = self.bus.was_abandoned();
        let tags = self.subscriber.missed_tags();
        let until = self.subscriber.offset();
        let concerned: Vec<_> = self.topics.subscribers(&tags, until).collect();
        if concerned.is_empty() {
            self.subscriber.uncount_missed(missed);
        }
        for session in concerned {
            let cause = CloseCause::WorkerLagged {
                missed,
                stood_still,
            };
            self.close(session, cause);
        }
    }
}

impl Hub {
    /// The bus has come to its end: who is subscribed to anything would hear nothing any more.
    pub(super) fn close_cut_off(&self, fate: Fate) {
        let concerned: Vec<_> = self.topics.subscribers(&[u64::MAX; 4], u64::MAX).collect();
        for session in concerned {
            self.close(session, CloseCause::BusEnded(fate));
        }
    }
}

enum Gathered {
    /// What was wanted has been read.
    All,
    /// The arena is full, or much was passed over: there may be more.
    Full,
    /// The worker was overtaken and missed this many records.
    Lagged(u64),
}
