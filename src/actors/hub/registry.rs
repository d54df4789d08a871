//! The registry that holds the sessions of a worker, by place.

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::liveness::Liveness;
use super::requests::{NotifyOpened, PendingClient, SessionStart};
use super::topics::TopicId;
use crate::actors::limits::Limits;
use crate::actors::link::Link;
use crate::actors::protocol::Protocol;
use crate::actors::session_key::SessionKey;
use crate::actors::session_writer::{Control, SessionWriter};
use crate::actors::shared::Shared;
use crate::actors::sse::Position;
use crate::actors::stamp::Stamp;

/// The time at which a session must be looked at again.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// After this time.
    In(Duration),
    /// It is over, or has no deadlines.
    Never,
    /// Its handler has neither accepted nor rejected it in time.
    NotAnswered,
}

/// The endpoint of a session, by its number among those of its kind.
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Endpoint {
    WebSocket(u32),
    /// An HTTP endpoint, which has answered with an event stream.
    Events(u32),
}

/// Places whose memory is retained when the last session has left.
const MOST_KEPT: usize = 1024;

/// All sessions, by place.
#[derive(Default)]
pub(super) struct Registry {
    places: Vec<Place>,
    /// The generation of a place before it is taken for the first time.
    generation: u32,
    free: Vec<u32>,
    taken: usize,
    /// Sessions of each endpoint.
    per_endpoint: HashMap<Endpoint, usize>,
}

struct Place {
    /// The number of times that the place has been taken.
    generation: u32,
    state: State,
}

enum State {
    Free,
    Opening(PendingHandshake),
    Open(Member),
}

struct PendingHandshake {
    opening: Box<dyn PendingClient>,
    protocol: Box<dyn Protocol>,
    limits: Rc<Limits>,
    link: Arc<Link>,
    endpoint: Endpoint,
    since: Stamp,
    on_open: Option<NotifyOpened>,
}

/// A session that is open, as the hub knows it.
pub(super) struct Member {
    pub(super) writer: Rc<SessionWriter>,
    pub(super) limits: Rc<Limits>,
    pub(super) endpoint: Endpoint,
    /// Topics that it is subscribed to.
    pub(super) topics: SmallVec<[TopicId; 2]>,
    /// Topics of the running turn, if it has several of them. Each has the offset of the first record that is for
    /// this session.
    pub(super) touched: Vec<(TopicId, u64)>,
    /// Set while the last message of the client is not the only sign of life that counts. In a box, because most
    /// sessions have none.
    pub(super) liveness: Option<Box<Liveness>>,
}

impl Registry {
    /// Sessions, open and opening.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// Sessions of one endpoint, open and opening.
    pub(super) fn sessions_of(&self, endpoint: Endpoint) -> usize {
        self.per_endpoint.get(&endpoint).copied().unwrap_or(0)
    }

    /// Gives a client a place while its handshake is not answered.
    pub(super) fn enter(
        &mut self,
        opening: Box<dyn PendingClient>,
        protocol: Box<dyn Protocol>,
        limits: Rc<Limits>,
        endpoint: Endpoint,
        on_open: Option<NotifyOpened>,
    ) -> (SessionKey, Arc<Link>) {
        let link = Arc::new(Link::new(limits.max_queue_bytes));
        let waiting = PendingHandshake {
            opening,
            protocol,
            limits,
            link: Arc::clone(&link),
            endpoint,
            since: Stamp::now(),
            on_open,
        };
        let key = self.take_place(endpoint);
        self.places[key.slot()].state = State::Opening(waiting);
        (key, link)
    }

    /// Gives an event stream a place, with the writer that is made for it.
    pub(super) fn seat(
        &mut self,
        limits: Rc<Limits>,
        endpoint: Endpoint,
        writer: impl FnOnce(SessionKey, &Limits) -> Rc<SessionWriter>,
    ) -> (SessionKey, Rc<SessionWriter>) {
        let key = self.take_place(endpoint);
        let writer = writer(key, &limits);
        let member = Member {
            writer: Rc::clone(&writer),
            limits,
            endpoint,
            topics: SmallVec::new(),
            touched: Vec::new(),
            liveness: None,
        };
        self.places[key.slot()].state = State::Open(member);
        (key, writer)
    }

    /// Takes a free place, which the caller must fill at once.
    fn take_place(&mut self, endpoint: Endpoint) -> SessionKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                generation: self.generation,
                state: State::Free,
            });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[slot as usize];
        // After 2^32 uses of one place the keys repeat; 0 is left out.
        place.generation = place.generation.wrapping_add(1).max(1);
        self.taken += 1;
        *self.per_endpoint.entry(endpoint).or_default() += 1;
        SessionKey::new(slot, place.generation)
    }

    /// Accepts a waiting client, unless it is gone.
    pub(super) fn accept(
        &mut self,
        key: SessionKey,
        shared: &Rc<Shared>,
        subprotocol: Option<String>,
    ) {
        let Some(place) = self.place(key) else {
            return;
        };
        let waiting = match mem::replace(&mut place.state, State::Free) {
            State::Opening(waiting) => waiting,
            other => {
                place.state = other;
                return;
            }
        };
        let PendingHandshake {
            opening,
            protocol,
            limits,
            link,
            endpoint,
            on_open,
            ..
        } = waiting;
        // Before the session begins, and can end.
        if let Some(notify) = on_open {
            notify(key);
            shared.turn_queue.request();
        }
        let start = SessionStart {
            key,
            shared: Rc::clone(shared),
            protocol,
            limits: Rc::clone(&limits),
            link,
            subprotocol,
        };
        let writer = opening.accept(start);
        let (topics, touched) = (SmallVec::new(), Vec::new());
        let member = Member {
            writer,
            limits,
            endpoint,
            topics,
            touched,
            liveness: None,
        };
        place.state = State::Open(member);
    }

    /// Takes a waiting client out, to reject it.
    pub(super) fn take_opening(&mut self, key: SessionKey) -> Option<Box<dyn PendingClient>> {
        let place = self.place(key)?;
        match mem::replace(&mut place.state, State::Free) {
            State::Opening(waiting) => {
                self.release(key, waiting.endpoint);
                Some(waiting.opening)
            }
            other => {
                place.state = other;
                None
            }
        }
    }

    /// Removes a session that is over. Returns the topics that it was subscribed to.
    pub(super) fn leave(&mut self, key: SessionKey) -> SmallVec<[TopicId; 2]> {
        let Some(place) = self.place(key) else {
            return SmallVec::new();
        };
        match mem::replace(&mut place.state, State::Free) {
            State::Open(member) => {
                self.release(key, member.endpoint);
                member.topics
            }
            other => {
                place.state = other;
                SmallVec::new()
            }
        }
    }

    /// An open session.
    pub(super) fn member(&mut self, key: SessionKey) -> Option<&mut Member> {
        match &mut self.place(key)?.state {
            State::Open(member) => Some(member),
            State::Free | State::Opening(_) => None,
        }
    }

    /// The writer of an open session.
    pub(super) fn writer(&self, key: SessionKey) -> Option<&SessionWriter> {
        let place = self.places.get(key.slot())?;
        match &place.state {
            State::Open(member) if member.writer.key() == key => Some(&member.writer),
            _ => None,
        }
    }

    /// The writers of all open sessions.
    pub(super) fn writers(&self) -> impl Iterator<Item = &SessionWriter> {
        self.places.iter().filter_map(|place| match &place.state {
            State::Open(member) => Some(&*member.writer),
            State::Free | State::Opening(_) => None,
        })
    }

    /// Orders an open session to do something.
    pub(super) fn order(&self, key: SessionKey, control: Control) {
        if let Some(place) = self.places.get(key.slot())
            && let State::Open(member) = &place.state
            && member.writer.key() == key
        {
            member.writer.order(control);
        }
    }

    /// Keys of all sessions that are not closing yet.
    pub(super) fn open_sessions(&self) -> Vec<SessionKey> {
        let open = self
            .writers()
            .filter(|writer| writer.closed_since().is_none());
        open.map(SessionWriter::key).collect()
    }

    /// Does everything that is due for a session, and returns the time of the next look.
    pub(super) fn look_at(&mut self, key: SessionKey, now: Instant, position: Position) -> Due {
        match self.place(key).map(|place| &mut place.state) {
            Some(State::Open(member)) => member.look_at(now, position).map_or(Due::Never, Due::In),
            Some(State::Opening(waiting)) => {
                let waited = now.saturating_duration_since(waiting.since.into());
                let left = waiting.limits.open_timeout.saturating_sub(waited);
                if left.is_zero() {
                    Due::NotAnswered
                } else {
                    Due::In(left)
                }
            }
            Some(State::Free) | None => Due::Never,
        }
    }

    fn place(&mut self, key: SessionKey) -> Option<&mut Place> {
        let place = self.places.get_mut(key.slot())?;
        let current = SessionKey::new(key.slot() as u32, place.generation.max(1));
        (current == key && !matches!(place.state, State::Free)).then_some(place)
    }

    fn release(&mut self, key: SessionKey, endpoint: Endpoint) {
        self.taken -= 1;
        self.free.push(key.slot() as u32);
        if let Some(count) = self.per_endpoint.get_mut(&endpoint) {
            *count -= 1;
        }
        if self.taken == 0 && self.places.len() > MOST_KEPT {
            // Keys of sessions that are over stay unknown: new sessions have a later generation.
            let generations = self.places.iter().map(|place| place.generation);
            self.generation = generations.max().unwrap_or_default();
            (self.places, self.free) = (Vec::new(), Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_has_left_leaves_no_places_and_its_keys_stay_unknown() {
        let mut registry = Registry::default();
        let endpoint = Endpoint::WebSocket(0);
        let mut old: Vec<_> = (0..=MOST_KEPT)
            .map(|_| registry.take_place(endpoint))
            .collect();
        let again = old.pop().expect("there are some");
        registry.release(again, endpoint);
        old.push(registry.take_place(endpoint)); // its place has had two sessions
        for key in &old {
            registry.release(*key, endpoint);
        }
        assert_eq!((registry.len(), registry.places.capacity()), (0, 0));
        old.push(again);
        for _ in 0..=MOST_KEPT {
            let new = registry.take_place(endpoint);
            assert!(!old.contains(&new));
        }
    }

    #[test]
    fn a_place_costs_little() {
        assert!(size_of::<Place>() <= 96, "{}", size_of::<Place>());
    }
}
