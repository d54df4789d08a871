//! The topics that the sessions of a worker are subscribed to.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use indexmap::IndexMap;
use smallvec::SmallVec;

use crate::actors::session_key::SessionKey;
use crate::actors::topic::Topic;
use crate::actors::turn::Index;

/// The number that names a topic of this worker while a session is subscribed to it.
pub(super) type TopicId = u32;

/// All topics that a session of this worker is subscribed to.
#[derive(Default)]
pub(super) struct Topics {
    subscribed: slab::Slab<TopicEntry>,
    /// Topics by hash; two only when their hashes collide.
    by_hash: HashMap<u64, SmallVec<[TopicId; 1]>, BuildHasherDefault<Identity>>,
    tags: Tags,
    /// At this number of topics the size of the tables is checked next: they may be too large.
    shrink_at: usize,
}

/// Tables for fewer topics than this are not worth shrinking.
const FEW_TOPICS: usize = 1024;

/// The tags (low 8 bits of a hash) of the topics. Records with other tags are skipped without a look at their
/// topic, and are not counted as missed when they are overwritten.
struct Tags {
    /// Topics of each tag.
    counts: [u32; 256],
    /// Bit per tag: there is one.
    wanted: [u64; 4],
    /// Has `wanted` changed since it was last read?
    changed: bool,
}

impl Default for Tags {
    fn default() -> Self {
        let (counts, wanted) = ([0; 256], [0; 4]);
        Self {
            counts,
            wanted,
            changed: true, // a reader without tags reads all
        }
    }
}

impl Tags {
    fn add(&mut self, hash: u64) {
        let tag = usize::from(hash as u8);
        self.counts[tag] += 1;
        if self.counts[tag] == 1 {
            self.wanted[tag / 64] |= 1 << (tag % 64);
            self.changed = true;
        }
    }

    fn remove(&mut self, hash: u64) {
        let tag = usize::from(hash as u8);
        self.counts[tag] -= 1;
        if self.counts[tag] == 0 {
            self.wanted[tag / 64] &= !(1 << (tag % 64));
            self.changed = true;
        }
    }
}

/// Is the tag of this topic among them?
fn has_tag(tags: &[u64; 4], hash: u64) -> bool {
    let tag = hash as u8;
    tags[usize::from(tag >> 6)] & 1 << (tag & 63) != 0
}

/// A topic and its sessions.
pub(super) struct TopicEntry {
    topic: Topic,
    pub(super) subscribers: Subscribers,
    /// Records of the running turn, in their order.
    pub(super) records: Vec<Index>,
}

/// The sessions of a topic, each with the offset of the first record that is for it. The hub goes through them for
/// every record. Sessions leave it in constant time, also thousands at once.
pub(super) type Subscribers = IndexMap<SessionKey, u64, foldhash::fast::RandomState>;

impl Topics {
    /// Number of topics.
    pub(super) fn len(&self) -> usize {
        self.subscribed.len()
    }

    /// Is a session subscribed to a topic with this hash?
    pub(super) fn wants(&self, hash: u64) -> bool {
        self.by_hash.contains_key(&hash)
    }

    /// The topic of this name, if a session is subscribed to it.
    pub(super) fn find(&self, hash: u64, name: &str) -> Option<TopicId> {
        let candidates = self.by_hash.get(&hash)?;
        candidates
            .iter()
            .copied()
            .find(|&id| self.subscribed[id as usize].topic.as_str() == name)
    }

    /// A topic that `find` or `join` has named.
    pub(super) fn get(&mut self, id: TopicId) -> &mut TopicEntry {
        &mut self.subscribed[id as usize]
    }

    /// Subscribes a session that is not subscribed yet, from offset `from` on.
    pub(super) fn join(&mut self, topic: Topic, session: SessionKey, from: u64) -> TopicId {
        let id = self.find(topic.hash(), topic.as_str()).unwrap_or_else(|| {
            let hash = topic.hash();
            let (subscribers, records) = (Subscribers::default(), Vec::new());
            let id = self.subscribed.insert(TopicEntry {
                topic,
                subscribers,
                records,
            }) as TopicId;
            self.by_hash.entry(hash).or_default().push(id);
            self.tags.add(hash);
            self.shrink_at = self.shrink_at.max(self.subscribed.len() / 4);
            id
        });
        self.get(id).subscribers.insert(session, from);
        id
    }

    /// Ends a session's subscription. Returns the topic's hash if there was one.
    pub(super) fn leave(&mut self, id: TopicId, session: SessionKey) -> Option<u64> {
        let subscribed = self.subscribed.get_mut(id as usize)?;
        subscribed.subscribers.swap_remove(&session)?;
        let hash = subscribed.topic.hash();
        if subscribed.subscribers.is_empty() {
            self.tags.remove(hash);
            self.subscribed.remove(id as usize);
            let candidates = self
                .by_hash
                .get_mut(&hash)
                .expect("every topic is listed by hash");
            candidates.retain(|candidate| *candidate != id);
            if candidates.is_empty() {
                self.by_hash.remove(&hash);
            }
            self.shrink();
        }
        Some(hash)
    }

    /// Returns the memory of a crowd of topics that has gone. The time for that grows with the number of places, so
    /// it is tried each time that half of the topics have gone. Places are freed from the end only, up to one that
    /// is still taken.
    fn shrink(&mut self) {
        let (topics, places) = (self.subscribed.len(), self.subscribed.capacity());
        if topics <= self.shrink_at && places > FEW_TOPICS {
            self.shrink_at = topics / 2;
            self.subscribed.shrink_to_fit();
            self.by_hash.shrink_to(2 * self.by_hash.len());
        }
    }

    /// The tags of all topics, if they have changed since the last call.
    pub(super) fn new_tags(&mut self) -> Option<[u64; 4]> {
        std::mem::take(&mut self.tags.changed).then_some(self.tags.wanted)
    }

    /// Every session that was subscribed to a topic of one of these tags before offset `until`; one that has
    /// several such topics comes several times.
    pub(super) fn subscribers(
        &self,
        tags: &[u64; 4],
        until: u64,
    ) -> impl Iterator<Item = SessionKey> {
        let topics = self.subscribed.iter().map(|(_, topic)| topic);
        let topics = topics.filter(|topic| has_tag(tags, topic.topic.hash()));
        let subscribers = topics.flat_map(|topic| topic.subscribers.iter());
        subscribers.filter_map(move |(session, from)| (*from < until).then_some(*session))
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
    fn a_topic_exists_as_long_as_a_session_is_subscribed() {
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

    #[test]
    fn the_tables_of_a_crowd_of_topics_shrink_when_they_are_left() {
        let mut topics = Topics::default();
        let topic = |number| Topic::new(&format!("user:{number}")).expect("a good name");
        let stays = topics.join(topic(0), key(1), 0);
        let mut most = Vec::new();
        for cycle in 0..3 {
            let names = (1..100_001).map(|number| topic(cycle * 100_000 + number));
            let ids: Vec<_> = names.map(|it| topics.join(it, key(1), 0)).collect();
            most.push((topics.subscribed.capacity(), topics.by_hash.capacity()));
            for id in ids {
                topics.leave(id, key(1));
            }
            assert!(
                topics.subscribed.capacity() <= 2 * FEW_TOPICS,
                "in cycle {cycle}"
            );
            assert!(
                topics.by_hash.capacity() <= 8 * FEW_TOPICS,
                "in cycle {cycle}"
            );
        }
        assert!(most.iter().all(|it| *it == most[0]), "{most:?}");
        assert_eq!(topics.len(), 1);
        assert_eq!(topics.get(stays).topic.as_str(), "user:0");
    }

    #[test]
    fn only_subscribers_of_a_topic_with_a_tag_can_have_missed_a_record_of_it() {
        let mut topics = Topics::default();
        assert_eq!(
            topics.new_tags(),
            Some([0; 4]),
            "at first a reader reads all"
        );
        let names = ["room:1", "room:2", "room:3"];
        let rooms = names.map(|name| Topic::new(name).expect("a good name"));
        let hashes = rooms.clone().map(|topic| topic.hash());
        let [one, two, three] = rooms;
        let id = topics.join(one, key(1), 10);
        topics.join(two.clone(), key(2), 10);
        topics.join(two, key(3), 20);
        topics.join(three, key(4), 30);
        let tags = topics.new_tags().expect("there are new ones");
        assert!(hashes.iter().all(|hash| has_tag(&tags, *hash)));
        assert_eq!(topics.new_tags(), None);

        let of_two = |hash: u64| {
            let mut tags = [0; 4];
            tags[usize::from(hash as u8 >> 6)] = 1 << (hash & 63);
            tags
        };
        let tag = of_two(hashes[1]);
        let missed = |until| topics.subscribers(&tag, until).collect::<Vec<_>>();
        assert_eq!(missed(20), [key(2)]);
        assert_eq!(missed(21), [key(2), key(3)]);
        assert_eq!(missed(10), []);
        assert_eq!(topics.subscribers(&tags, u64::MAX).count(), 4);

        topics.leave(id, key(1));
        let tags = topics.new_tags().expect("one less");
        assert!(!has_tag(&tags, hashes[0]));
    }
}
