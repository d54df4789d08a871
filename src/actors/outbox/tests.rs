//! The tests of the outbox that check the drops of each policy, and frames that have begun to go out.

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
    assert_eq!(full(Overflow::Close).push(frame(9, 1), A), Err(OutboxFull));
}

#[test]
fn drop_newest_keeps_what_waits() {
    let mut outbox = full(Overflow::DropNewest);
    assert_eq!(outbox.push(frame(9, 1), A), Ok(1));
    assert_eq!(first_bytes(&outbox), [1, 2, 3, 4]);
}

#[test]
fn drop_oldest_drops_published_frames_only() {
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
fn a_frame_whose_beginning_was_written_is_never_dropped() {
    let mut outbox = Outbox::new(100 + 2 * FRAME_OVERHEAD, Overflow::DropOldest);
    outbox.push_rest(frame(1, 80), 80, A);
    assert_eq!(outbox.push(frame(2, 50), A), Ok(1));
    assert_eq!(
        first_bytes(&outbox),
        [1],
        "the new one did not fit beside it"
    );
    assert_eq!(outbox.drop_all(), 0);
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
    assert_eq!(outbox.push(frame(2, 1), A), Err(OutboxFull));
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
    let whole = |len: &usize| [&*message_header(Kind::Binary, *len), &vec![b'm'; *len]].concat();
    lens.iter().flat_map(whole).collect::<Vec<u8>>().into()
}

fn ping() -> Bytes {
    Bytes::copy_from_slice(&frame::ping(b""))
}

/// All bytes that wait, whether begun or not.
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
fn the_end_drops_all_but_the_frame_that_was_begun() {
    for (taken, left) in [(0, 0), (5, 7), (12, 304), (20, 296)] {
        let mut outbox = Outbox::new(10_000, Overflow::Close);
        let pushed = outbox.push(messages(&[10, 300, 5000]), Source::Handler);
        pushed.expect("the handler's frames always fit");
        let credited = outbox.advance(taken) + outbox.drop_all();
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
    // The answer to a handshake is not a frame, and may have frames behind it.
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
fn a_large_message_that_is_begun_stays_whole_when_the_rest_is_dropped() {
    let payload = Bytes::from(vec![b'm'; 300]);
    let mut outbox = Outbox::new(10_000, Overflow::Close);
    let header = message_header(Kind::Binary, 300);
    outbox.push_large(header, payload.clone(), 0);
    outbox.push_large(header, payload, 0);
    outbox.advance(2);
    assert_eq!(outbox.drop_all(), 304);
    assert_eq!(outbox.bytes(), 302);
    assert_eq!(waiting(&outbox), messages(&[300])[2..]);
}

#[test]
fn a_frame_that_is_begun_although_nothing_was_taken_is_neither_interrupted_nor_dropped() {
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
            let entry: usize = slices.iter().map(|slice| slice.len()).sum();
            prop_assert_eq!(entry, outbox.bytes());
            outbox.advance(write.min(entry));
            let own: usize = outbox.queue.iter().map(Entry::own_bytes).sum();
            prop_assert_eq!(outbox.own_cost(), own + outbox.queue.len() * FRAME_OVERHEAD);
        }
        outbox.drop_all();
        prop_assert!(outbox.queue.len() <= 1);
        outbox.clear();
        prop_assert_eq!((outbox.bytes(), outbox.cost(), outbox.own_cost()), (0, 0, 0));
    }
}
