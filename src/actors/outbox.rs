//! A session's bounded outbound queue, and what happens at its bound.
//!
//! It holds only what the socket did not take at once, so it is empty, and owns no memory, as long
//! as the client keeps up. It knows no socket: the writer asks for slices and reports what was
//! written.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

use bytes::Bytes;

use super::frame::{self, FrameHeader};

/// What happens when a published message does not fit a session's queue any more.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Overflow {
    /// Close the session with 1013. The client knows that it missed something.
    #[default]
    Close,
    /// Forget the oldest published messages that wait.
    DropOldest,
    /// Forget the message that does not fit.
    DropNewest,
    /// Keep only the newest message of each topic; when that is not enough, forget the oldest.
    Latest,
}

/// Frames that wait for the socket, oldest first.
#[derive(Debug)]
pub struct Outbox {
    queue: VecDeque<Waiting>,
    /// Bytes that wait, without what `written` says.
    bytes: usize,
    /// Bytes of whole entries that no other queue shares.
    own: usize,
    /// Bytes and [`FRAME_OVERHEAD`] for each frame at which the queue is full.
    limit: usize,
    /// Bytes of the first entry that the socket took already.
    written: usize,
    /// The client has seen the beginning of the first entry, which is therefore never forgotten.
    begun: bool,
    /// Bytes at the start of the first entry that are the rest of a frame, whose beginning went out
    /// before anything waited. [`ALL`]: the whole entry is.
    rest: u32,
    overflow: Overflow,
}

#[derive(Debug)]
struct Waiting {
    /// The header of a large message, which is a frame of its own. `frame` is its payload.
    header: Option<FrameHeader>,
    frame: Bytes,
    source: Source,
}

impl Waiting {
    fn new(frame: Bytes, source: Source) -> Self {
        let header = None;
        Self {
            header,
            frame,
            source,
        }
    }

    fn header(&self) -> &[u8] {
        self.header.as_deref().unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.header().len() + self.frame.len()
    }
}

/// Where a waiting frame comes from: it decides what may be done to it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// Published to the topic with this hash. May be forgotten by policy.
    Topic(u64),
    /// Sent by the session's handler, which counts its bytes. Never forgotten while open.
    Handler,
    /// The same, of a topic's past: other queues may hold the same bytes.
    Past,
    /// The replay at the beginning of an event stream: other queues may hold the same bytes.
    Beginning,
    /// Close, echo: sent by the session itself. Never forgotten while open.
    Session,
    /// Ping, pong: goes out in front of what waits. Never forgotten while open.
    Control,
}

impl Source {
    /// Does the handler count its bytes?
    pub(super) fn is_handlers(self) -> bool {
        matches!(self, Self::Handler | Self::Past)
    }

    /// Does no other queue hold the same bytes?
    fn is_own(self) -> bool {
        !matches!(self, Self::Topic(_) | Self::Past | Self::Beginning)
    }
}

impl Waiting {
    fn own_bytes(&self) -> usize {
        if self.source.is_own() { self.len() } else { 0 }
    }
}

/// What a frame that waits costs besides its bytes, so that many small ones are not free.
pub const FRAME_OVERHEAD: usize = 64;

/// Small frames of the handler or the session are joined up to this many bytes: they are never
/// forgotten one by one, so they need not be told apart.
const JOINED_BYTES: usize = 4096;

/// The queue is full and the policy is to close.
#[derive(Debug, Eq, PartialEq)]
pub struct Overflowed;

/// What a policy has made of a full queue.
struct Room {
    /// The new frame may wait. If not, it is forgotten instead.
    is_enough: bool,
    /// Messages that were forgotten for it.
    forgotten: u64,
}

/// A rest that is as long as its entry. Longer ones than this number are never joined by anything.
const ALL: u32 = u32::MAX;

/// A queue that held this many frames gives its memory back when it is empty again.
const KEPT_FRAMES: usize = 8;

impl Outbox {
    /// An empty outbox for `limit` bytes.
    pub fn new(limit: usize, overflow: Overflow) -> Self {
        let queue = VecDeque::new();
        Self {
            queue,
            bytes: 0,
            own: 0,
            written: 0,
            begun: false,
            rest: 0,
            limit,
            overflow,
        }
    }

    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it costs to let this wait.
    pub fn cost(&self) -> usize {
        self.bytes + self.queue.len() * FRAME_OVERHEAD
    }

    /// Would `len` more bytes in a frame of their own keep the bound?
    fn fits(&self, len: usize) -> bool {
        self.cost() + len + FRAME_OVERHEAD <= self.limit
    }

    /// What this queue alone costs: without the bytes that others share.
    pub fn own_cost(&self) -> usize {
        self.own + self.queue.len() * FRAME_OVERHEAD
    }

    /// Queues what the socket did not take of frames whose beginning it took. The first of them ends
    /// `end` bytes on. Only for an empty outbox.
    pub fn push_rest(&mut self, rest: Bytes, end: usize, source: Source) {
        debug_assert!(
            self.is_empty() && (1..=rest.len()).contains(&end),
            "a rest is the first to wait"
        );
        self.bytes = rest.len();
        self.begun = true;
        self.rest = u32::try_from(end).unwrap_or(ALL);
        self.append(Waiting::new(rest, source));
    }

    /// Queues a large message of the handler, of which the socket took `taken` bytes already; none, if
    /// anything waits.
    pub fn push_large(&mut self, header: FrameHeader, payload: Bytes, taken: usize) {
        if taken > 0 {
            let rest = match taken.checked_sub(header.len()) {
                Some(taken) => payload.slice(taken..),
                // Hardly ever: the socket had room for less than ten bytes.
                None => [&header[taken..], &payload].concat().into(),
            };
            let end = rest.len();
            return self.push_rest(rest, end, Source::Handler);
        }
        let waiting = Waiting {
            header: Some(header),
            frame: payload,
            source: Source::Handler,
        };
        self.bytes += waiting.len();
        self.append(waiting);
    }

    /// Queues a frame. Published frames obey the bound; one that finds the queue empty always fits,
    /// so that the bound never forbids a single message. Returns how many the policy has forgotten for it.
    pub fn push(&mut self, frame: Bytes, source: Source) -> Result<u64, Overflowed> {
        let mut forgotten = 0;
        if let Source::Topic(topic) = source
            && !self.queue.is_empty()
        {
            let room = self.make_room(frame.len(), topic)?;
            forgotten = room.forgotten;
            if !room.is_enough {
                return Ok(forgotten + 1);
            }
        }
        self.bytes += frame.len();
        if let Some(last) = self.queue.back_mut()
            && last.source == source
            && last.header.is_none()
            && source.is_own()
            && last.frame.len() + frame.len() <= JOINED_BYTES
        {
            last.frame = [&last.frame[..], &frame].concat().into();
            self.own += frame.len();
            return Ok(forgotten);
        }
        self.append(Waiting::new(frame, source));
        Ok(forgotten)
    }

    fn append(&mut self, waiting: Waiting) {
        self.own += waiting.own_bytes();
        self.queue.push_back(waiting);
    }

    fn take_first(&mut self) -> Option<Waiting> {
        let first = self.queue.pop_front()?;
        self.own -= first.own_bytes();
        if self.queue.is_empty() && self.queue.capacity() > KEPT_FRAMES {
            self.queue = VecDeque::new();
        }
        Some(first)
    }

    /// Queues a control frame in front of all that waits: behind the frame that the client has seen the
    /// beginning of, and behind other control frames.
    pub fn push_control(&mut self, control: Bytes) {
        self.bytes += control.len();
        self.own += control.len();
        let mut place = 0;
        if self.begun {
            place = 1;
            let end = self.end_of_begun();
            let first = &mut self.queue[0];
            if end < first.len() {
                let source = first.source;
                let frame = first.frame.split_off(end);
                self.queue.insert(1, Waiting::new(frame, source));
            }
        }
        let is_control = |waiting: &&Waiting| waiting.source == Source::Control;
        place += self.queue.iter().skip(place).take_while(is_control).count();
        let before = place
            .checked_sub(1)
            .filter(|_| place > usize::from(self.begun));
        if let Some(last) = before.map(|at| &mut self.queue[at])
            && last.frame.len() + control.len() <= JOINED_BYTES
        {
            last.frame = [&last.frame[..], &control].concat().into();
            return;
        }
        self.queue
            .insert(place, Waiting::new(control, Source::Control));
    }

    /// Does a control frame wait?
    pub fn has_control(&self) -> bool {
        // Behind one entry at most: the begun one.
        let mut front = self.queue.iter().take(2);
        front.any(|waiting| waiting.source == Source::Control)
    }

    /// The client has seen the beginning of the first entry, although `advance` did not say so.
    pub fn begin(&mut self) {
        self.begun = !self.queue.is_empty();
    }

    /// Where the frame ends that the socket takes next, in bytes of the first entry.
    fn end_of_begun(&self) -> usize {
        let first = &self.queue[0];
        if self.rest == ALL || first.header.is_some() {
            return first.len();
        }
        let (begun, whole) = first.frame.split_at(self.rest as usize);
        match self.written.checked_sub(begun.len()) {
            Some(at) => begun.len() + frame::end_of_frame_at(whole, at),
            None => begun.len(),
        }
    }

    /// Applies the policy for `len` more bytes of `topic`.
    fn make_room(&mut self, len: usize, topic: u64) -> Result<Room, Overflowed> {
        let mut forgotten = 0;
        if self.overflow == Overflow::Latest {
            forgotten += self.forget(|waiting| waiting.source == Source::Topic(topic), usize::MAX);
        }
        if !self.fits(len) {
            match self.overflow {
                Overflow::Close => return Err(Overflowed),
                Overflow::DropNewest => {}
                Overflow::DropOldest | Overflow::Latest => {
                    let excess = self.cost() + len + FRAME_OVERHEAD - self.limit;
                    let is_published =
                        |waiting: &Waiting| matches!(waiting.source, Source::Topic(_));
                    forgotten += self.forget(is_published, excess);
                }
            }
        }
        Ok(Room {
            is_enough: self.fits(len) || self.queue.is_empty(),
            forgotten,
        })
    }

    /// Forgets published frames, oldest first, until `excess` of their cost is gone. The first frame stays
    /// when the client has seen its beginning. Returns how many have gone.
    fn forget(&mut self, may_go: impl Fn(&Waiting) -> bool, excess: usize) -> u64 {
        let (mut gone, mut frames) = (0, 0);
        let mut begun = self.begun;
        self.queue.retain(|waiting| {
            let enough = gone + frames * FRAME_OVERHEAD >= excess;
            if mem::take(&mut begun) || enough || !may_go(waiting) {
                return true;
            }
            gone += waiting.len();
            frames += 1;
            false
        });
        self.bytes -= gone;
        frames as u64
    }

    /// Forgets all that waits but the frame that the client has seen the beginning of, because the
    /// session closes. Returns the handler's bytes among them.
    pub fn forget_all(&mut self) -> usize {
        let kept = usize::from(self.begun);
        let mut handlers = self.forget_behind(kept);
        if self.begun {
            handlers += self.cut_begun();
        }
        let first = self.queue.front();
        self.bytes = first.map_or(0, |first| first.len() - self.written);
        self.own = first.map_or(0, Waiting::own_bytes);
        handlers
    }

    /// Forgets everything, because nothing can be sent any more. Returns the handler's bytes among it.
    pub fn clear(&mut self) -> usize {
        let handlers = self.forget_behind(0);
        self.queue = VecDeque::new();
        (self.bytes, self.own, self.written, self.rest) = (0, 0, 0, 0);
        self.begun = false;
        handlers
    }

    /// Forgets all but the first entries, whatever they are.
    fn forget_behind(&mut self, kept: usize) -> usize {
        let gone = self.queue.drain(kept..);
        let handlers = gone.filter(|waiting| waiting.source.is_handlers());
        handlers.map(|waiting| waiting.len()).sum()
    }

    /// Forgets what is in the first entry behind the frame that the client has seen the beginning of: it
    /// may be megabytes.
    fn cut_begun(&mut self) -> usize {
        let end = self.end_of_begun();
        let first = &mut self.queue[0];
        let whole = first.len();
        if end == whole {
            return 0; // as with a header of its own, for that is one frame
        }
        first.frame = Bytes::copy_from_slice(&first.frame[self.written..end]);
        (self.written, self.rest) = (0, ALL);
        if first.source.is_handlers() {
            first.source = Source::Handler;
            return whole - first.frame.len();
        }
        0
    }

    /// Takes out the oldest frame, whole. Only where none is ever begun.
    pub fn pop(&mut self) -> Option<Bytes> {
        debug_assert!(!self.begun, "no test writes parts of frames");
        let first = self.take_first()?;
        debug_assert!(first.header.is_none(), "nor are there large messages");
        self.bytes -= first.len();
        Some(first.frame)
    }

    /// The bytes that wait, oldest first, for one vectored write.
    pub fn slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>, most: usize) {
        let mut skip = self.written;
        for waiting in self.queue.iter().take(most) {
            let header = waiting.header();
            let in_header = header.len().min(skip);
            if in_header < header.len() {
                slices.push(IoSlice::new(&header[in_header..]));
            }
            let in_frame = mem::take(&mut skip) - in_header;
            slices.push(IoSlice::new(&waiting.frame[in_frame..]));
        }
    }

    /// The socket took `count` bytes of the slices. Returns how many of them were the handler's,
    /// counted when their frame is complete.
    pub fn advance(&mut self, count: usize) -> usize {
        let mut handlers = 0;
        self.bytes -= count;
        self.written += count;
        self.begun |= count > 0;
        while let Some(first) = self.queue.front() {
            let len = first.len();
            if self.written < len {
                break;
            }
            self.written -= len;
            if first.source.is_handlers() {
                handlers += len;
            }
            self.take_first();
            self.begun = self.written > 0;
            self.rest = 0;
        }
        if self.queue.is_empty() {
            debug_assert_eq!(
                (self.bytes, self.written, self.own),
                (0, 0, 0),
                "an empty outbox owes nothing"
            );
        }
        handlers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::actors::frame::{Kind, message_header};

    const A: Source = Source::Topic(1);
    const B: Source = Source::Topic(2);

    fn frame(byte: u8, len: usize) -> Bytes {
        Bytes::from(vec![byte; len])
    }

    fn first_bytes(outbox: &Outbox) -> Vec<u8> {
        let mut slices = Vec::new();
        outbox.slices(&mut slices, usize::MAX);
        slices.iter().map(|slice| slice[0]).collect()
    }

    fn full(overflow: Overflow) -> Outbox {
        let mut outbox = Outbox::new(100 + 4 * FRAME_OVERHEAD, overflow);
        for (byte, source) in [(1, A), (2, B), (3, Source::Handler), (4, A)] {
            outbox
                .push(frame(byte, 25), source)
                .expect("four times 25 bytes fit 100");
        }
        outbox
    }

    #[test]
    fn by_default_a_message_too_many_closes() {
        assert_eq!(full(Overflow::Close).push(frame(9, 1), A), Err(Overflowed));
    }

    #[test]
    fn drop_newest_keeps_what_waits() {
        let mut outbox = full(Overflow::DropNewest);
        assert_eq!(outbox.push(frame(9, 1), A), Ok(1));
        assert_eq!(first_bytes(&outbox), [1, 2, 3, 4]);
    }

    #[test]
    fn drop_oldest_forgets_published_frames_only() {
        let mut outbox = full(Overflow::DropOldest);
        assert_eq!(outbox.push(frame(9, 140), A), Ok(3));
        assert_eq!(first_bytes(&outbox), [3, 9], "the handler's frame stays");
        assert_eq!(outbox.bytes(), 165);
    }

    #[test]
    fn latest_keeps_the_newest_of_each_topic() {
        let mut outbox = full(Overflow::Latest);
        assert_eq!(outbox.push(frame(9, 25), A), Ok(1));
        assert_eq!(first_bytes(&outbox), [2, 3, 9]);
    }

    #[test]
    fn a_frame_whose_beginning_was_written_is_never_forgotten() {
        let mut outbox = Outbox::new(100 + 2 * FRAME_OVERHEAD, Overflow::DropOldest);
        outbox.push_rest(frame(1, 80), 80, A);
        assert_eq!(outbox.push(frame(2, 50), A), Ok(1));
        assert_eq!(
            first_bytes(&outbox),
            [1],
            "the new one did not fit beside it"
        );
        assert_eq!(outbox.forget_all(), 0);
        assert_eq!(outbox.bytes(), 80);
    }

    #[test]
    fn small_messages_are_not_free() {
        let mut outbox = Outbox::new(10_000, Overflow::Close);
        let pushed = (0..1000)
            .take_while(|_| outbox.push(frame(1, 2), A).is_ok())
            .count();
        assert!(
            pushed * (2 + FRAME_OVERHEAD) <= 10_000,
            "{pushed} messages wait"
        );
    }

    #[test]
    fn what_the_handler_sends_bit_by_bit_is_joined() {
        let mut outbox = Outbox::new(10_000, Overflow::Close);
        for _ in 0..10_000 {
            outbox
                .push(frame(1, 2), Source::Handler)
                .expect("the handler's frames always fit");
        }
        assert!(outbox.cost() < 21_000, "{} for 20,000 bytes", outbox.cost());
        assert_eq!(outbox.advance(20_000), 20_000, "and credited");
    }

    #[test]
    fn a_message_larger_than_the_bound_passes_an_empty_queue() {
        let mut outbox = Outbox::new(10, Overflow::Close);
        assert_eq!(outbox.push(frame(1, 1000), A), Ok(0));
        assert_eq!(outbox.push(frame(2, 1), A), Err(Overflowed));
    }

    #[test]
    fn the_handlers_bytes_are_credited_when_its_frame_is_complete() {
        let mut outbox = Outbox::new(1000, Overflow::Close);
        outbox
            .push(frame(1, 10), Source::Handler)
            .expect("the handler's frames always fit");
        outbox.push(frame(2, 10), A).expect("room enough");
        assert_eq!(outbox.advance(9), 0);
        assert_eq!(outbox.advance(2), 10);
        assert_eq!(outbox.advance(9), 0);
        assert!(outbox.is_empty());
    }

    /// Messages of these lengths, one behind the other, as a handler's sends come.
    fn messages(lens: &[usize]) -> Bytes {
        let whole =
            |len: &usize| [&*message_header(Kind::Binary, *len), &vec![b'm'; *len]].concat();
        lens.iter().flat_map(whole).collect::<Vec<u8>>().into()
    }

    fn ping() -> Bytes {
        Bytes::copy_from_slice(&frame::ping(b""))
    }

    /// All that waits, whatever is begun.
    fn waiting(outbox: &Outbox) -> Vec<u8> {
        let mut slices = Vec::new();
        outbox.slices(&mut slices, usize::MAX);
        slices.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    /// Lengths of the frames in `bytes`, which begin with one.
    fn frame_lens(mut bytes: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        while !bytes.is_empty() {
            let len = frame::len_of_first(bytes).expect("nothing is broken apart");
            bytes = &bytes[len..];
            lens.push(len);
        }
        lens
    }

    #[test]
    fn a_control_frame_goes_in_front_of_what_waits_and_behind_other_control_frames() {
        let mut outbox = full(Overflow::Close);
        outbox.push_control(Bytes::from_static(b"one"));
        outbox.push_control(Bytes::from_static(b"two"));
        assert!(waiting(&outbox).starts_with(b"onetwo\x01"));
        assert!(outbox.has_control());
        outbox.advance(6);
        assert!(!outbox.has_control());
        assert_eq!(first_bytes(&outbox), [1, 2, 3, 4]);
    }

    #[test]
    fn a_control_frame_waits_for_the_end_of_the_frame_that_is_begun_and_no_longer() {
        for (taken, before) in [
            (0, vec![]),
            (1, vec![12]),
            (12, vec![12, 302]),
            (20, vec![12, 302]),
        ] {
            let mut outbox = Outbox::new(10_000, Overflow::Close);
            let pushed = outbox.push(messages(&[10, 300, 5]), Source::Handler);
            pushed.expect("the handler's frames always fit");
            let begun = waiting(&outbox)[..taken].to_vec();
            outbox.advance(taken);
            outbox.push_control(ping());
            let all = [begun, waiting(&outbox)].concat();
            // A message of 300 bytes has a header of 4.
            let before: Vec<usize> = before
                .iter()
                .map(|&len| if len == 302 { 304 } else { len })
                .collect();
            let lens = frame_lens(&all);
            assert_eq!(
                lens[..=before.len()],
                [&before[..], &[2]].concat(),
                "{taken}"
            );
            let rest = waiting(&outbox).len();
            assert_eq!(
                outbox.advance(rest),
                12 + 304 + 7,
                "all of it is credited: {taken}"
            );
        }
    }

    #[test]
    fn what_is_forgotten_at_the_end_is_all_but_the_frame_that_was_begun() {
        for (taken, left) in [(0, 0), (5, 7), (12, 304), (20, 296)] {
            let mut outbox = Outbox::new(10_000, Overflow::Close);
            let pushed = outbox.push(messages(&[10, 300, 5000]), Source::Handler);
            pushed.expect("the handler's frames always fit");
            let credited = outbox.advance(taken) + outbox.forget_all();
            assert_eq!(
                (outbox.bytes(), outbox.own_cost()),
                (left, left + FRAME_OVERHEAD * usize::from(left > 0)),
                "{taken}"
            );
            assert_eq!(credited + outbox.advance(left), 12 + 304 + 5004, "{taken}");
        }
    }

    #[test]
    fn a_control_frame_goes_behind_the_rest_of_what_was_begun_before_anything_waited() {
        let all = messages(&[100, 50]);
        let mut outbox = Outbox::new(10_000, Overflow::Close);
        outbox.push_rest(all.slice(30..), 102 - 30, Source::Handler);
        outbox.push_control(ping());
        let sent = [&all[..30], &waiting(&outbox)].concat();
        assert_eq!(frame_lens(&sent), [102, 2, 52]);
        // The answer to a handshake is no frame, and may have frames behind it.
        let answer = Bytes::from_static(b"HTTP/1.1 101 Switching Protocols");
        let mut outbox = Outbox::new(10_000, Overflow::Close);
        let pushed = outbox.push(answer.clone(), Source::Session);
        pushed.expect("only published frames can overflow");
        outbox.advance(5);
        outbox.push_control(ping());
        assert_eq!(waiting(&outbox), [&answer[5..], &ping()].concat());
    }

    #[test]
    fn a_large_message_is_one_frame_wherever_the_socket_stops() {
        let payload = Bytes::from(vec![b'm'; 300]);
        let header = message_header(Kind::Binary, 300);
        let all = messages(&[300, 5]);
        for taken in 0..304 {
            for later in 0..304 - taken {
                let mut outbox = Outbox::new(10_000, Overflow::Close);
                outbox.push_large(header, payload.clone(), taken);
                let behind = outbox.push(messages(&[5]), Source::Handler);
                behind.expect("the handler's frames always fit");
                assert_eq!(outbox.bytes(), all.len() - taken);
                let mut sent = all[..taken].to_vec();
                sent.extend_from_slice(&waiting(&outbox)[..later]);
                outbox.advance(later);
                outbox.push_control(ping());
                sent.extend(waiting(&outbox));
                let expected: &[usize] = match taken + later {
                    0 => &[2, 304, 7],
                    _ => &[304, 2, 7],
                };
                assert_eq!(frame_lens(&sent), expected, "{taken} and {later}");
                let rest = waiting(&outbox).len();
                assert_eq!(outbox.advance(rest), 304 - taken + 7, "all is credited");
            }
        }
    }

    #[test]
    fn a_large_message_that_is_begun_stays_whole_when_the_rest_is_forgotten() {
        let payload = Bytes::from(vec![b'm'; 300]);
        let mut outbox = Outbox::new(10_000, Overflow::Close);
        let header = message_header(Kind::Binary, 300);
        outbox.push_large(header, payload.clone(), 0);
        outbox.push_large(header, payload, 0);
        outbox.advance(2);
        assert_eq!(outbox.forget_all(), 304);
        assert_eq!(outbox.bytes(), 302);
        assert_eq!(waiting(&outbox), messages(&[300])[2..]);
    }

    #[test]
    fn what_is_begun_although_nothing_was_taken_is_neither_interrupted_nor_forgotten() {
        let mut outbox = Outbox::new(100 + FRAME_OVERHEAD, Overflow::DropOldest);
        outbox.push(messages(&[80]), A).expect("it is the first");
        outbox.begin();
        assert_eq!(outbox.push(messages(&[90]), A), Ok(1), "it is left out");
        outbox.push_control(ping());
        assert_eq!(frame_lens(&waiting(&outbox)), [82, 2]);
    }

    proptest! {
        #[test]
        fn control_frames_never_break_a_message_apart_and_never_wait_for_a_second_one(
            steps in prop::collection::vec((prop::collection::vec(0_usize..200, 1..5), 0_usize..400, any::<bool>()), 1..40),
        ) {
            let mut outbox = Outbox::new(1 << 20, Overflow::Close);
            let (mut sent, mut messages_in, mut pings_in) = (Vec::new(), Vec::new(), 0);
            for (lens, write, asks) in steps {
                if asks {
                    outbox.push_control(ping());
                    pings_in += 1;
                    let begun = frame::end_of_frame_at(&[&sent[..], &waiting(&outbox)].concat(), sent.len());
                    let all = [&sent[..], &waiting(&outbox)].concat();
                    let mut at = 0;
                    let ahead = frame_lens(&all).into_iter().filter(|&len| {
                        let counts = at >= sent.len() && at < begun.max(sent.len()) && len != 2;
                        at += len;
                        counts
                    });
                    prop_assert!(ahead.count() <= 1);
                } else {
                    let frames = messages(&lens);
                    messages_in.extend(lens.iter().map(|len| len + if *len < 126 { 2 } else { 4 }));
                    let pushed = outbox.push(frames, Source::Handler);
                    prop_assert!(pushed.is_ok());
                }
                let now = waiting(&outbox);
                let write = write.min(now.len());
                sent.extend_from_slice(&now[..write]);
                outbox.advance(write);
            }
            sent.extend(waiting(&outbox));
            let is_ping = |bytes: &[u8]| bytes.starts_with(b"\x89");
            let mut rest = &sent[..];
            let (mut out, mut pings) = (Vec::new(), 0);
            while !rest.is_empty() {
                let len = frame::len_of_first(rest).expect("a whole frame");
                if is_ping(rest) { pings += 1 } else { out.push(len) }
                rest = &rest[len..];
            }
            prop_assert_eq!(out, messages_in);
            prop_assert_eq!(pings, pings_in);
        }

        #[test]
        fn whatever_happens_the_count_of_bytes_is_right(
            limit in 1_usize..600,
            policy in prop::sample::select(vec![
                Overflow::Close, Overflow::DropOldest, Overflow::DropNewest, Overflow::Latest,
            ]),
            steps in prop::collection::vec((1_usize..60, 0_u8..4, 0_usize..80), 1..60),
        ) {
            let mut outbox = Outbox::new(limit, policy);
            for (len, source, write) in steps {
                let source = match source { 0 => A, 1 => B, 2 => Source::Handler, _ => Source::Session };
                let before = outbox.bytes();
                let before_cost = outbox.cost();
                let published = matches!(source, Source::Topic(_));
                let pushed = outbox.push(frame(7, len), source);
                if published && before > 0 && before_cost <= limit {
                    // A message larger than the bound may wait, alone.
                    prop_assert!(outbox.cost() <= limit || outbox.queue.len() == 1);
                }
                prop_assert!(pushed.is_ok() || policy == Overflow::Close);
                let mut slices = Vec::new();
                outbox.slices(&mut slices, usize::MAX);
                let waiting: usize = slices.iter().map(|slice| slice.len()).sum();
                prop_assert_eq!(waiting, outbox.bytes());
                outbox.advance(write.min(waiting));
                let own: usize = outbox.queue.iter().map(Waiting::own_bytes).sum();
                prop_assert_eq!(outbox.own_cost(), own + outbox.queue.len() * FRAME_OVERHEAD);
            }
            outbox.forget_all();
            prop_assert!(outbox.queue.len() <= 1);
            outbox.clear();
            prop_assert_eq!((outbox.bytes(), outbox.cost(), outbox.own_cost()), (0, 0, 0));
        }
    }
}
