//! The memory that messages hold while they are not whole: its sum, and the clients that are read from while it is
//! used up.
//!
//! While there is room, all clients are read from. Beyond the budget, a client in the middle of a message waits for
//! its turn, and only a few clients have one at a time. So a message under way always comes to its end, and the
//! memory stays bounded. A client that has its turn and sends too little loses it, and is closed. Otherwise clients
//! that hold half a message forever would block all others. Clients between messages are read from as always, in
//! small pieces: short messages never wait for the long ones of other clients.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::session_key::SessionKey;

/// Clients that may finish their message at a time although the budget is used up.
pub const MOST_TURNS: usize = 16;

/// The bytes that a client must send in [`TURN_TIME`] while others wait, unless its message comes to its end.
pub const TURN_BYTES: usize = 16 << 10;

/// See [`TURN_BYTES`].
pub const TURN_TIME: Duration = Duration::from_secs(5);

/// Bytes that are read at a time, while the budget is used up, of a client that holds nothing.
pub const SHORT_READ: usize = 4 << 10;

/// See the module's documentation. Shared by all sessions of a worker's I/O thread.
#[derive(Debug)]
pub struct Partials {
    most: usize,
    held: Cell<usize>,
    turns: RefCell<Turns>,
    /// A session has a turn, or waits for one.
    queued: Cell<bool>,
}

#[derive(Debug, Default)]
struct Turns {
    taken: Vec<Turn>,
    /// In the order in which they came. A session without a waker has left.
    waiting: VecDeque<SessionKey>,
    wakers: HashMap<SessionKey, Waker>,
}

#[derive(Debug)]
struct Turn {
    session: SessionKey,
    /// The time when the turn was taken, or when the last [`TURN_BYTES`] of it were complete.
    since: Instant,
    /// Bytes that have come since then, less than [`TURN_BYTES`].
    bytes: usize,
}

impl Default for Partials {
    /// Without a limit.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Partials {
    /// At most `most` bytes may be held, all sessions added up, except for those that have a turn.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            held: Cell::default(),
            turns: RefCell::default(),
            queued: Cell::default(),
        }
    }

    /// Is the budget used up?
    pub fn is_used_up(&self) -> bool {
        self.held.get() >= self.most
    }

    /// While the budget is used up: may a session read on in its message? If not, `waker` is woken when it may.
    pub fn may_read_on(&self, session: SessionKey, now: Instant, waker: &Waker) -> bool {
        let turns = &mut *self.turns.borrow_mut();
        self.queued.set(true);
        if turns.taken.iter().any(|turn| turn.session == session) {
            return true;
        }
        if turns.taken.len() < MOST_TURNS {
            turns.take(session, now);
            return true;
        }
        if turns.wakers.insert(session, waker.clone()).is_none() {
            turns.waiting.push_back(session);
        }
        false
    }

    /// A session has read `bytes`. It holds `after` bytes of a message now, instead of `before`.
    #[inline]
    pub fn changed(&self, session: SessionKey, before: usize, after: usize, bytes: usize) {
        // Most messages come whole, and no session waits.
        if before != after || self.queued.get() {
            self.count(session, before, after, bytes);
        }
    }

    fn count(&self, session: SessionKey, before: usize, after: usize, bytes: usize) {
        self.held.set(self.held.get() + after - before);
        if !self.queued.get() {
            return;
        }
        let turns = &mut *self.turns.borrow_mut();
        // A message has come to its end: before that, its bytes never shrink.
        if after == 0 || after < before {
            turns.leave(session);
        } else if let Some(turn) = turns.of(session) {
            turn.bytes += bytes;
            if turn.bytes >= TURN_BYTES {
                (turn.since, turn.bytes) = (Instant::now(), 0);
            }
        }
        if self.held.get() <= self.most / 2 {
            turns.taken.clear();
            turns.waiting.clear();
            turns.wakers.drain().for_each(|(_, waker)| waker.wake());
        }
        turns.pass_on(Instant::now());
        self.queued.set(!turns.taken.is_empty());
    }

    /// Hub: the sessions that have had their turn and have not used it, while others wait.
    pub fn overdue(&self, now: Instant) -> Vec<SessionKey> {
        let turns = &*self.turns.borrow();
        if turns.wakers.is_empty() {
            return Vec::new();
        }
        let is_over = |turn: &&Turn| now.saturating_duration_since(turn.since) >= TURN_TIME;
        let overdue = turns.taken.iter().filter(is_over);
        overdue.map(|turn| turn.session).collect()
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.turns.borrow().wakers.len()
    }
}

impl Turns {
    fn take(&mut self, session: SessionKey, now: Instant) {
        self.taken.push(Turn {
            session,
            since: now,
            bytes: 0,
        });
    }

    fn of(&mut self, session: SessionKey) -> Option<&mut Turn> {
        self.taken.iter_mut().find(|turn| turn.session == session)
    }

    fn leave(&mut self, session: SessionKey) {
        self.taken.retain(|turn| turn.session != session);
        self.wakers.remove(&session);
    }

    /// Gives free turns to sessions that wait. They have them before they are woken.
    fn pass_on(&mut self, now: Instant) {
        while self.taken.len() < MOST_TURNS
            && let Some(next) = self.waiting.pop_front()
        {
            if let Some(waker) = self.wakers.remove(&next) {
                self.take(next, now);
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: usize) -> SessionKey {
        SessionKey::new(slot as u32, 1)
    }

    #[test]
    fn beyond_the_budget_turns_come_in_order_and_all_are_let_go_when_half_of_it_is_free() {
        let (partials, now) = (Partials::new(1000), Instant::now());
        let asks = |slot| partials.may_read_on(key(slot), now, Waker::noop());
        for slot in 0..MOST_TURNS + 4 {
            partials.changed(key(slot), 0, 100, 100);
        }
        assert!(partials.is_used_up());
        for slot in 0..MOST_TURNS {
            assert!(
                asks(slot) && asks(slot),
                "it has its turn until its message is whole"
            );
        }
        let late = MOST_TURNS;
        assert!(!asks(late) && !asks(late) && !asks(late + 1));
        assert_eq!(partials.waiting(), 2);
        partials.changed(key(late + 1), 100, 0, 0); // it has left
        partials.changed(key(3), 100, 100, 50);
        assert!(!asks(late));
        partials.changed(key(3), 100, 0, 50);
        assert!(asks(late) && !asks(late + 2));
        for slot in (0..MOST_TURNS).filter(|slot| *slot != 3) {
            partials.changed(key(slot), 100, 0, 0);
        }
        assert!(!partials.is_used_up());
        assert_eq!(
            (partials.waiting(), partials.turns.borrow().waiting.len()),
            (0, 0)
        );
    }

    #[test]
    fn a_turn_is_lost_that_is_not_used_while_others_wait() {
        let (partials, start) = (Partials::new(10), Instant::now());
        for slot in 0..=MOST_TURNS {
            partials.changed(key(slot), 0, 100, 100);
        }
        for slot in 0..MOST_TURNS {
            assert!(partials.may_read_on(key(slot), start, Waker::noop()));
        }
        let (early, end) = (start + TURN_TIME / 2, start + TURN_TIME);
        assert!(partials.overdue(end).is_empty(), "nobody waits");
        assert!(!partials.may_read_on(key(MOST_TURNS), end, Waker::noop()));
        assert!(partials.overdue(early).is_empty());
        for slot in 0..MOST_TURNS - 1 {
            partials.changed(key(slot), 100, 200, TURN_BYTES / 2);
        }
        assert_eq!(partials.overdue(end).len(), MOST_TURNS);
        for slot in 0..MOST_TURNS - 1 {
            partials.changed(key(slot), 200, 200, TURN_BYTES / 2);
        }
        assert_eq!(partials.overdue(end), [key(MOST_TURNS - 1)]);
        partials.changed(key(MOST_TURNS - 1), 100, 0, 0); // it is closed
        assert!(partials.may_read_on(key(MOST_TURNS), end, Waker::noop()));
    }
}
