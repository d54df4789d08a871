//! The tests that check the writer: its size, and frames that have begun to go out.

use std::io::{self, ErrorKind, IoSlice};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;
use crate::actors::frame::{Kind, len_of_first, message_header};
use crate::actors::outbox::Overflow;
use crate::actors::sse::Position;

#[test]
fn an_idle_client_costs_little() {
    // Each has one, in an `Rc`. An allocator rounds such sizes up to multiples of 16 bytes.
    assert!(
        size_of::<SessionWriter>() <= 200,
        "{}",
        size_of::<SessionWriter>()
    );
}

/// A socket that takes as much as it has room for. One with TLS has taken a byte more than it says.
#[derive(Default)]
struct Narrow {
    secure: bool,
    room: Cell<usize>,
    held_back: Cell<bool>,
    sent: RefCell<Vec<u8>>,
}

impl SocketWriter for Rc<Narrow> {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let given: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let room = self.room.take();
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let known = usize::from(self.held_back.take());
        let taken = given.len().min(known + room);
        self.room.set(known + room - taken);
        self.sent
            .borrow_mut()
            .extend_from_slice(&given[known..taken]);
        if self.secure && taken == known + room {
            self.held_back.set(true);
            return match taken - 1 {
                0 => Err(ErrorKind::WouldBlock.into()),
                taken => Ok(taken),
            };
        }
        Ok(taken)
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn finish(&self) {}

    fn acks(&self) -> Option<Acks> {
        None
    }

    fn holds_back(&self) -> bool {
        self.held_back.get()
    }
}

fn writer(socket: &Rc<Narrow>, overflow: Overflow) -> SessionWriter {
    let limits = Limits {
        max_queue_bytes: 1000,
        overflow,
        ..Limits::default()
    };
    SessionWriter::new(
        Box::new(Rc::clone(socket)),
        SessionKey::new(0, 1),
        Encoding::Plain,
        &limits,
        Arc::new(Link::new(1000)),
        Rc::default(),
    )
}

fn deliver(writer: &SessionWriter, lens: &[usize]) {
    let mut turn = Turn::default();
    let mut indexes = Vec::new();
    for (offset, &len) in (0..).zip(lens) {
        let start = turn.arena.len();
        turn.arena
            .extend_from_slice(&message_header(Kind::Binary, len));
        turn.arena.resize(turn.arena.len() + len, b'm');
        let frame = start..turn.arena.len();
        indexes.push(turn.push(frame, 7, offset, 0));
    }
    let run = turn
        .run(&indexes, Encoding::Plain, &mut Vec::new())
        .bytes
        .to_vec();
    let run = Run {
        bytes: &run,
        encoding: Encoding::Plain,
    };
    writer
        .deliver(run, &turn, &indexes)
        .expect("the policy is to leave messages out");
}

proptest! {
    /// Frames may be left out, put in front or held back: the client always sees whole frames.
    #[test]
    fn a_frame_that_has_begun_to_go_out_is_finished(
        secure in any::<bool>(),
        overflow in prop::sample::select(vec![
            Overflow::DropOldest, Overflow::DropNewest, Overflow::Latest,
        ]),
        steps in prop::collection::vec((0_u8..5, prop::collection::vec(1_usize..40, 1..5), 0_usize..80), 1..60),
    ) {
        let socket = Rc::new(Narrow { secure, ..Narrow::default() });
        let writer = writer(&socket, overflow);
        for (what, lens, room) in steps {
            socket.room.set(room);
            match what {
                0 => deliver(&writer, &lens),
                1 => writer.ping(Position { epoch: 0, next: 0 }),
                2 => {
                    let whole = |len: &usize| [&*message_header(Kind::Text, *len), &vec![b'h'; *len]].concat();
                    let frames: Vec<u8> = lens.iter().flat_map(whole).collect();
                    writer.link.sent(frames.len());
                    writer.send_messages(&frames);
                }
                3 => {
                    let len = lens.iter().sum::<usize>().min(125);
                    writer.link.sent(message_header(Kind::Text, len).len() + len);
                    writer.send_large(Kind::Text, vec![b'h'; len].into());
                }
                _ => {
                    let flushed = writer.poll_flush(&mut Context::from_waker(Waker::noop()));
                    prop_assert!(!matches!(flushed, Poll::Ready(Err(_))));
                }
            }
        }
        socket.room.set(usize::MAX / 2);
        let flushed = writer.poll_flush(&mut Context::from_waker(Waker::noop()));
        prop_assert!(matches!(flushed, Poll::Ready(Ok(()))));
        prop_assert_eq!(writer.link.queued(), 0);
        let sent = socket.sent.borrow();
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let Some(len) = len_of_first(rest) else {
                return Err(TestCaseError::fail(format!("no frame: {rest:?}")));
            };
            let (frame, behind) = rest.split_at(len);
            let payload = match frame[0] {
                0x81 => b'h',
                0x82 => b'm',
                _ => b'-',
            };
            let is_whole = frame[2..].iter().all(|&byte| byte == payload);
            prop_assert_eq!(frame[0] == 0x89, len == 2);
            prop_assert!(is_whole, "{:?}", frame);
            rest = behind;
        }
    }
}
