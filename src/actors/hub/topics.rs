//! The topics of a worker and who is subscribed to each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use indexmap::IndexMap;
use smallvec::SmallVec;

use crate::actors::session::SessionKey;
use crate::actors::topic::Topic;
use crate::actors::turn::Index;

/// Names a topic of this worker while anybody is subscribed to it.
pub(super) type TopicId = u32;

/// All topics that somebody here is subscribed to.
#[derive(Default)]
pub(super) struct Topics {
    topics: slab::Slab<Subscribed>,
    /// Topics by hash; two only when their hashes collide.
    by_hash: HashMap<u64, SmallVec<[TopicId; 1]>, BuildHasherDefault<Identity>>,
}

/// A topic and its sessions.
pub(super) struct Subscribed {
    topic: Topic,
    pub(super) subscribers: Subscribers,
    /// Records of the running turn, in their order.
    pub(super) records: Vec<Index>,
}

/// The sessions of a topic, each with the offset of the first record that is for it. Gone through
/// for every record, and left in no time, also by thousands at once.
pub(super) type Subscribers = IndexMap<SessionKey, u64, foldhash::fast::RandomState>;

impl Topics {
    /// Number of topics.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Is anybody subscribed to a topic with this hash?
    pub(super) fn wants(&self, hash: u64) -> bool {
        self.by_hash.contains_key(&hash)
    }

    /// The topic of this name, if anybody is subscribed to it.
    pub(super) fn find(&self, hash: u64, name: &str) -> Option<TopicId> {
        let candidates = self.by_hash.get(&hash)?;
        candidates
            .iter()
            .copied()
            .find(|&id| self.topics[id as usize].topic.as_str() == name)
    }

    /// A topic that `find` or `join` has named.
    pub(super) fn get(&mut self, id: TopicId) -> &mut Subscribed {
        &mut self.topics[id as usize]
    }

    /// Subscribes a session that is not subscribed yet, from offset `from` on.
    pub(super) fn join(&mut self, topic: Topic, session: SessionKey, from: u64) -> TopicId {
        let id = self.find(topic.hash(), topic.as_str()).unwrap_or_else(|| {
            let hash = topic.hash();
            let (subscribers, records) = (Subscribers::default(), Vec::new());
            let id = self.topics.insert(Subscribed {
                topic,
                subscribers,
                records,
            }) as TopicId;
            self.by_hash.entry(hash).or_default().push(id);
            id
        });
        self.get(id).subscribers.insert(session, from);
        id
    }

    /// Ends a session's subscription. Returns the topic's hash if there was one.
    pub(super) fn leave(&mut self, id: TopicId, session: SessionKey) -> Option<u64> {
        let subscribed = self.topics.get_mut(id as usize)?;
        subscribed.subscribers.swap_remove(&session)?;
        let hash = subscribed.topic.hash();
        if subscribed.subscribers.is_empty() {
            self.topics.remove(id as usize);
            let candidates = self
                .by_hash
                .get_mut(&hash)
                .expect("every topic is listed by hash");
            candidates.retain(|candidate| *candidate != id);
            if candidates.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        Some(hash)
    }

    /// Every session that is subscribed to anything; one that has several topics comes several
    /// times.
    pub(super) fn subscribers(&self) -> impl Iterator<Item = SessionKey> {
        self.topics
            .iter()
            .flat_map(|(_, topic)| topic.subscribers.keys().copied())
    }
}

/// Topics come with a good hash: it is not hashed again.
#[derive(Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only u64 keys are hashed here")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> SessionKey {
        SessionKey::new(slot, 1)
    }

    #[test]
    fn a_topic_lives_as_long_as_somebody_is_subscribed() {
        let mut topics = Topics::default();
        let topic = Topic::new("room:1").expect("a good name");
        let (hash, name) = (topic.hash(), topic.as_str().to_owned());
        let id = topics.join(topic.clone(), key(1), 0);
        assert_eq!(topics.join(topic, key(2), 0), id);
        assert!(topics.wants(hash));
        assert_eq!(topics.leave(id, key(3)), None);
        assert_eq!(topics.leave(id, key(1)), Some(hash));
        assert_eq!(topics.find(hash, &name), Some(id));
        assert_eq!(topics.leave(id, key(2)), Some(hash));
        assert!(!topics.wants(hash));
        assert_eq!(topics.find(hash, &name), None);
    }
}
