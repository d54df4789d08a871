//! The delivery of records from the bus to the sessions: the only way that a published message takes to a client.

use std::cell::LazyCell;

use super::Hub;
use super::topics::TopicId;
use crate::actors::close::CloseCause;
use crate::actors::deflate::{Encoding, Window};
use crate::actors::session_key::SessionKey;
use crate::actors::topic::Topic;
use crate::actors::turn::Run;
use crate::ipc::{Fate, Next, ReadAt};

/// Arenas in a row that are delivered before sockets are read again.
const ARENAS_IN_A_ROW: usize = 4;

/// Calls of `next` that may find no record for this worker before the turn ends.
const SKIPS_IN_A_ROW: usize = 64;

/// One session may get this many records ahead of the others. For more records, the hub delivers to all sessions.
const MOST_AHEAD: u64 = 32;
/// After so many sessions publishers see that the hub makes progress, though its turn is not over.
const BEAT_EVERY: usize = 64;

impl Hub {
    /// Delivers what the bus has before the offset `until`. True when there may be more of it.
    pub(super) fn deliver(&mut self, until: u64) -> bool {
        if self.subscriber.offset() >= until {
            self.bus.report_caught_up(); // the hub reported the rest when it got there
            return false;
        }
        for _ in 0..ARENAS_IN_A_ROW {
            let mut touched = std::mem::take(&mut self.touched_topics);
            let gathered = self.gather(until, &mut touched);
            match touched.as_slice() {
                [] => {}
                [only] => self.deliver_topic(*only),
                several => self.deliver_topics(several),
            }
            for id in touched.drain(..) {
                self.topics.get(id).records.clear();
            }
            self.touched_topics = touched;
            self.turn.clear();
            self.bus.keep_pace(self.subscriber.offset());
            match gathered {
                GatherOutcome::All => {
                    self.bus.report_caught_up();
                    return false;
                }
                GatherOutcome::Full => {}
                GatherOutcome::Lagged(missed) => self.close_lagged(missed),
            }
        }
        true
    }

    /// Reads the bus up to the offset `until` into the turn's arena. The topics of the records are added to
    /// `touched`.
    fn gather(&mut self, until: u64, touched: &mut Vec<TopicId>) -> GatherOutcome {
        if let Some(tags) = self.topics.new_tags() {
            self.subscriber.set_tags(tags);
        }
        let mut skips = 0;
        while !self.turn.is_full() {
            if self.subscriber.offset() >= until {
                self.subscriber.report_offset();
                return GatherOutcome::All;
            }
            let topics = &self.topics;
            match self
                .subscriber
                .next(|hash| topics.wants(hash), &mut self.turn.arena)
            {
                Next::Empty => return GatherOutcome::All,
                Next::Lagged(missed) => return GatherOutcome::Lagged(missed),
                Next::Skipped => {
                    skips += 1;
                    if skips == SKIPS_IN_A_ROW {
                        return GatherOutcome::Full;
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
        GatherOutcome::Full
    }

    /// The usual turn: one topic. Its records are one run of the arena, written once per session.
    fn deliver_topic(&mut self, id: TopicId) {
        let subscribed = self.topics.get(id);
        let indexes = subscribed.records.as_slice();
        let run = self.turn.run(indexes, Encoding::Plain, &mut self.scratch);
        // The first session that takes it makes it.
        let usual = Encoding::Deflated(Window::LARGEST);
        let deflated = LazyCell::new(|| {
            let mut bytes = Vec::new();
            self.turn.run(indexes, usual, &mut bytes);
            bytes
        });
        let first = self.turn.offset(indexes[0]);
        let plain = !self.turn.leaves_somebody_out(indexes);
        let mut overflowed = std::mem::take(&mut self.overflowed);
        let mut private_records = std::mem::take(&mut self.private_records);
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
                        self.turn.run(indexes, encoding, &mut self.private_scratch)
                    }
                };
                if writer.deliver(run, &self.turn, indexes).is_err() {
                    overflowed.push(session);
                }
                continue;
            }
            private_records.clear();
            let records = indexes.iter().copied();
            private_records
                .extend(records.filter(|&index| self.turn.is_for(index, session.as_u64(), from)));
            let encoding = writer.encoding();
            let run = self
                .turn
                .run(&private_records, encoding, &mut self.private_scratch);
            if writer.deliver(run, &self.turn, &private_records).is_err() {
                overflowed.push(session);
            }
        }
        self.private_records = private_records;
        self.close_overflowed(overflowed);
    }

    /// A turn with several topics: a session with more than one of them gets their records merged.
    fn deliver_topics(&mut self, touched: &[TopicId]) {
        let mut touched_sessions = std::mem::take(&mut self.touched_sessions);
        for &id in touched {
            for (&session, &from) in &self.topics.get(id).subscribers {
                let Some(member) = self.registry.member(session) else {
                    continue;
                };
                if member.touched.is_empty() {
                    touched_sessions.push(session);
                }
                member.touched.push((id, from));
            }
        }
        let mut overflowed = std::mem::take(&mut self.overflowed);
        let mut private_records = std::mem::take(&mut self.private_records);
        for (served, session) in touched_sessions.drain(..).enumerate() {
            if served % BEAT_EVERY == BEAT_EVERY - 1 {
                self.bus.beat();
                self.registry.shed(&self.turn_queue.queues);
            }
            let Some(member) = self.registry.member(session) else {
                continue;
            };
            private_records.clear();
            for (id, from) in member.touched.drain(..) {
                let records = self.topics.get(id).records.iter().copied();
                private_records.extend(
                    records.filter(|&index| self.turn.is_for(index, session.as_u64(), from)),
                );
            }
            // Indexes grow with offsets: sorted, they are in the order of the bus.
            private_records.sort_unstable();
            let encoding = member.writer.encoding();
            let run = self.turn.run(&private_records, encoding, &mut self.scratch);
            if member
                .writer
                .deliver(run, &self.turn, &private_records)
                .is_err()
            {
                overflowed.push(session);
            }
        }
        self.touched_sessions = touched_sessions;
        self.private_records = private_records;
        self.close_overflowed(overflowed);
    }

    /// Delivers the records before the offset `until` to one session, before the command of a handler that had
    /// published them is carried out. The other sessions get them in one write at the end of the turn.
    pub(super) fn deliver_ahead(&mut self, session: SessionKey, until: u64) {
        if until <= self.subscriber.offset() {
            return; // the usual send: Python of this worker has not published lately
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
        let mut private_records = std::mem::take(&mut self.private_records);
        private_records.clear();
        for offset in since..until {
            let read =
                self.bus
                    .read_at_with_topic(offset, &mut self.turn.arena, &mut self.topic_name);
            let ReadAt::Record(head) = read else {
                continue; // overwritten: the hub finds that too, and reports it
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
                private_records.push(index);
            } else {
                self.turn.pop(start);
            }
        }
        for &id in &ids {
            if let Some(from) = self.topics.get(id).subscribers.get_mut(&session) {
                *from = until.max(*from);
            }
        }
        let run = self
            .turn
            .run(&private_records, encoding, &mut self.private_scratch);
        let writer = self.registry.writer(session);
        let overflowed =
            writer.is_some_and(|it| it.deliver(run, &self.turn, &private_records).is_err());
        self.private_records = private_records;
        self.turn.clear();
        if overflowed {
            self.close_overflowed(vec![session]);
        }
    }

    /// Subscribes a session from offset `from` on. The subscription takes over the interest that the caller has
    /// added.
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

    /// The hub's cursor may have passed `from` before the command came. The missing records are read again, for
    /// this session alone.
    fn replay(&mut self, session: SessionKey, topic: &Topic, from: u64) {
        let mut name = String::new();
        for offset in from..self.subscriber.offset() {
            self.turn.clear();
            match self
                .bus
                .read_at_with_topic(offset, &mut self.turn.arena, &mut name)
            {
                ReadAt::Record(head) if head.topic_hash == topic.hash() => {
                    let is_own = head.producer == self.bus.member()
                        && head.exclude_session == session.as_u64();
                    if is_own || name != topic.as_str() {
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
                        self.close_overflowed(vec![session]);
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

    /// Closes the sessions whose outbox is full, where the route requires that.
    fn close_overflowed(&mut self, mut overflowed: Vec<SessionKey>) {
        for session in overflowed.drain(..) {
            self.close(session, CloseCause::ClientTooSlow);
        }
        self.overflowed = overflowed;
    }

    /// This worker missed records. Sessions that were subscribed to topics that may have been among them are
    /// closed. The number of missed records of each session is unknown.
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
    /// The bus has ended: sessions with subscriptions would get no message any more.
    pub(super) fn close_cut_off(&self, fate: Fate) {
        let concerned: Vec<_> = self.topics.subscribers(&[u64::MAX; 4], u64::MAX).collect();
        for session in concerned {
            self.close(session, CloseCause::BusEnded(fate));
        }
    }
}

enum GatherOutcome {
    /// The wanted records have been read.
    All,
    /// The arena is full, or many records were skipped: there may be more.
    Full,
    /// The worker was overtaken and missed this many records.
    Lagged(u64),
}
