//! The load client's ledger against a model that keeps everything: what is missing, doubled, late,
//! passed over, and in how many orders it came.

use std::collections::{HashMap, HashSet};

use fanbus_bench::ledger::{Outstanding, Receiver, orders};
use proptest::prelude::*;

/// What a list of all that came says.
#[derive(PartialEq, Eq, Debug)]
struct Counts {
    arrived: u64,
    missing: u64,
    gaps: u64,
    late: u64,
    duplicates: u64,
}

fn by_the_book(publishers: u64, sent: u64, came: &[u64]) -> Counts {
    let mut seen = HashSet::new();
    let mut newest: HashMap<u64, u64> = HashMap::new();
    let (mut gaps, mut late, mut duplicates) = (0, 0, 0);
    for &number in came {
        if !seen.insert(number) {
            duplicates += 1;
            continue;
        }
        let publisher = number % publishers;
        let expected = newest
            .get(&publisher)
            .map_or(publisher, |last| last + publishers);
        if number < expected {
            late += 1;
        } else {
            gaps += u64::from(number > expected);
            newest.insert(publisher, number);
        }
    }
    let arrived = seen.len() as u64;
    Counts {
        arrived,
        missing: (0..sent).filter(|number| !seen.contains(number)).count() as u64,
        gaps,
        late,
        duplicates,
    }
}

fn by_the_ledger(publishers: u64, sent: u64, came: &[u64]) -> Counts {
    let mut receiver = Receiver::new(publishers as usize);
    let first = came.iter().filter(|number| receiver.take(**number)).count() as u64;
    assert_eq!(first, receiver.arrived());
    Counts {
        arrived: first,
        missing: receiver.missing(sent),
        gaps: receiver.gaps,
        late: receiver.late,
        duplicates: receiver.duplicates,
    }
}

/// Publishers, how many messages they sent, and what came of them, in whatever order.
fn deliveries() -> impl Strategy<Value = (u64, u64, Vec<u64>)> {
    (1_u64..5, 1_u64..60).prop_flat_map(|(publishers, sent)| {
        let came = prop::collection::vec(0..sent, 0..120);
        (Just(publishers), Just(sent), came)
    })
}

/// All messages in order, but for some that are dropped, doubled, or swapped with the next.
fn troubles() -> impl Strategy<Value = (u64, u64, Vec<u64>)> {
    (1_u64..4, prop::collection::vec(0_u8..12, 1..200)).prop_map(|(publishers, fates)| {
        let mut came = Vec::new();
        for (number, fate) in (0_u64..).zip(&fates) {
            match fate {
                0 => {}
                1 => came.extend([number, number]),
                2 => came.insert(came.len().saturating_sub(1), number),
                _ => came.push(number),
            }
        }
        (publishers, fates.len() as u64, came)
    })
}

proptest! {
    #[test]
    fn the_ledger_counts_as_a_list_of_everything_does(
        (publishers, sent, came) in prop_oneof![deliveries(), troubles()]
    ) {
        prop_assert_eq!(
            by_the_ledger(publishers, sent, &came),
            by_the_book(publishers, sent, &came)
        );
    }

    #[test]
    fn orders_are_those_of_who_got_everything(
        sequences in prop::collection::vec(
            Just((0_u64..5).collect::<Vec<_>>()).prop_shuffle(), 1..6
        ),
        losers in prop::collection::vec(0_usize..5, 0..4),
    ) {
        let receive = |numbers: &[u64]| {
            let mut receiver = Receiver::new(2);
            for number in numbers {
                receiver.take(*number);
            }
            receiver
        };
        let mut receivers: Vec<_> = sequences.iter().map(|it| receive(it)).collect();
        // Who lost something is no witness of an order.
        receivers.extend(losers.iter().map(|len| receive(&sequences[0][..*len])));
        let different: HashSet<_> = sequences.iter().collect();
        prop_assert_eq!(orders(&receivers, 5), different.len() as u64);
    }

    #[test]
    fn what_is_outstanding_is_what_has_not_reached_everybody(
        steps in prop::collection::vec((0_u8..8, 0_u64..40), 1..200),
        receivers in 1_usize..4,
    ) {
        let mut outstanding = Outstanding::default();
        let mut left: HashMap<u64, usize> = HashMap::new();
        for (kind, number) in steps {
            match kind {
                0..=2 => {
                    let number = outstanding.send(receivers);
                    left.insert(number, receivers);
                }
                3..=6 => {
                    outstanding.take(number);
                    if let Some(count) = left.get_mut(&number) {
                        *count -= 1;
                        if *count == 0 {
                            left.remove(&number);
                        }
                    }
                }
                _ if number == 0 => {
                    outstanding.forget();
                    left.clear();
                }
                _ => {}
            }
            prop_assert_eq!(outstanding.in_flight(), left.len());
        }
    }
}

#[test]
fn a_duplicate_does_not_make_another_order() {
    let (mut once, mut twice) = (Receiver::new(1), Receiver::new(1));
    for number in [0, 1, 2] {
        once.take(number);
    }
    for number in [0, 1, 1, 0, 2, 2] {
        twice.take(number);
    }
    assert_eq!(twice.duplicates, 3);
    assert_eq!(orders([&once, &twice], 3), 1);
}

#[test]
fn a_receiver_that_loses_every_other_message_does_not_fill_the_memory() {
    let mut receiver = Receiver::new(1);
    let sent = 400_000;
    for number in (0..sent).step_by(2) {
        assert!(receiver.take(number));
    }
    assert_eq!(receiver.missing(sent), sent / 2);
    // What was passed over long ago has been given up; what was passed over lately has not.
    assert!(!receiver.take(1));
    assert!(receiver.take(sent - 3));
}
