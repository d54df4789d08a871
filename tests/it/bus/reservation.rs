//! The tests of a server's reserved slots: other programs cannot take them until the server has ended.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt};

use fanbus::ipc::{Bus, BusError, MAX_MEMBERS, PublishError, ServerNeeds, inspect};

use super::process::{Actor, Name};
use super::roles::{draft, open};

const RING_BYTES: usize = 64 << 10;
/// Bytes of a ring that are reserved when a member joins: a quarter and a 64th, in whole pages.
const FIRST_BYTES: u64 = 20 << 10;
// The layout, as in docs/bus.md.
const RESERVED: u64 = 520;

const SERVER: ServerNeeds = ServerNeeds {
    workers: 2,
    extra_workers: 3,
    is_supervised: true,
    joined: 0,
    retains_history: false,
    ring_bytes: Some(RING_BYTES),
    history_bytes: Some(128 << 10),
};
/// The supervisor, its workers, and extra ones.
const RESERVED_PLACES: usize = 1 + 2 + 3;

fn serve(name: &Name) -> Bus {
    Bus::serve(&name.0, &SERVER).expect("memory in /dev/shm")
}

fn worker(name: &Name) -> Bus {
    Bus::attach_as_worker(&name.0).expect("a place is reserved")
}

/// Joins until it is refused. Returns the members, and the error of the next one.
fn crowd(name: &Name) -> (Vec<Bus>, BusError) {
    let mut guests = Vec::new();
    loop {
        match Bus::attach(&name.0) {
            Ok(bus) => guests.push(bus),
            Err(error) => return (guests, error),
        }
        assert!(guests.len() <= MAX_MEMBERS);
    }
}

fn reserved(name: &Name) -> u32 {
    let contents = inspect(&name.0).expect("it is there").contents;
    contents.expect("it is sound").reserved
}

#[test]
fn programs_cannot_take_the_slots_of_a_server() {
    let name = Name::new("reserved");
    let supervisor = serve(&name);
    assert_eq!(reserved(&name), RESERVED_PLACES as u32);
    let (mut guests, refused) = crowd(&name);
    assert_eq!(guests.len(), MAX_MEMBERS - RESERVED_PLACES);
    assert!(
        matches!(refused, BusError::FullForGuests { reserved: 6, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("6 of 64 places are reserved"));

    // Workers join, die, are replaced, and overlap, whatever other programs do.
    let mut workers: Vec<_> = (0..5).map(|_| worker(&name)).collect();
    assert!(matches!(
        Bus::attach_as_worker(&name.0),
        Err(BusError::Full { .. })
    ));
    workers.pop();
    assert!(crowd(&name).0.is_empty(), "a worker's place is not theirs");
    workers.push(worker(&name));
    guests.pop();
    guests.push(Bus::attach(&name.0).expect("a program's place is a program's"));
    workers[0].publish(&draft(b"all is well")).expect("sound");

    // When all processes of the server have ended, the reservation has ended too.
    drop((supervisor, workers));
    assert_eq!(reserved(&name), 0);
    let (more, refused) = crowd(&name);
    assert_eq!(more.len(), RESERVED_PLACES);
    assert!(matches!(refused, BusError::Full { .. }), "{refused}");
}

#[test]
fn a_server_that_is_killed_reserves_nothing() {
    let name = Name::new("killed-server");
    let mut holder = Actor::start("server", &name);
    holder.hear_after("ready");
    let guest = Bus::attach(&name.0).expect("there is a free slot");
    assert_eq!(reserved(&name), 4);
    holder.kill();
    assert_eq!(reserved(&name), 0);
    let (guests, refused) = crowd(&name);
    assert_eq!(guests.len(), MAX_MEMBERS - 1);
    assert!(matches!(refused, BusError::Full { .. }), "{refused}");
    drop(guests);
    // The next server joins them, and has slots of its own.
    let _server = serve(&name);
    assert_eq!(reserved(&name), RESERVED_PLACES as u32);
    assert_eq!(crowd(&name).0.len(), MAX_MEMBERS - 1 - RESERVED_PLACES);
    drop(guest);
}

#[test]
fn a_supervisor_that_re_executes_itself_finds_its_slots_again() {
    let name = Name::new("executed");
    let supervisor = serve(&name);
    let workers = [worker(&name), worker(&name)];
    drop(supervisor);
    // Without a supervisor, its workers hold all reserved slots.
    let (guests, _) = crowd(&name);
    assert_eq!(guests.len(), MAX_MEMBERS - RESERVED_PLACES);
    let again = ServerNeeds {
        joined: 2,
        ..SERVER
    };
    let supervisor = Bus::serve(&name.0, &again).expect("its place");
    assert_eq!(reserved(&name), RESERVED_PLACES as u32);
    let _overlap: [Bus; 3] = std::array::from_fn(|index| {
        supervisor.reserve_places(4 + index).expect("reserved");
        worker(&name)
    });
    let refused = supervisor.reserve_places(7).expect_err("all are taken");
    assert!(matches!(refused, BusError::Full { .. }), "{refused}");
    drop(guests);
    supervisor.reserve_places(7).expect("free again");
    assert_eq!(reserved(&name), RESERVED_PLACES as u32 + 1);
    drop(workers);
}

#[test]
fn a_late_server_takes_the_free_slots_or_is_refused() {
    let name = Name::new("late");
    let first = open(&name);
    let mut guests = vec![first];
    guests.extend((1..MAX_MEMBERS).map(|_| Bus::attach(&name.0).expect("a place")));
    let refused = Bus::serve(&name.0, &SERVER).expect_err("no place at all");
    assert!(matches!(refused, BusError::Full { .. }), "{refused}");
    guests.truncate(MAX_MEMBERS - 3);
    let refused = Bus::serve(&name.0, &SERVER).expect_err("none for a replacement");
    assert!(matches!(refused, BusError::Full { .. }), "{refused}");
    guests.truncate(MAX_MEMBERS - 4);
    let supervisor = serve(&name);
    let _workers = [worker(&name), worker(&name)];
    assert_eq!(crowd(&name).0.len(), 0);
    supervisor.reserve_places(4).expect("one for a replacement");
    assert!(supervisor.reserve_places(5).is_err());
}

#[test]
fn a_supervisor_has_no_ring_and_reserves_those_of_its_workers() {
    let name = Name::new("rings");
    let blocks = || std::fs::metadata(name.path()).expect("ours").blocks() * 512;
    let supervisor = serve(&name);
    let reserved = blocks();
    let log_and_tables = 299_008 + (512 << 10);
    assert_eq!(reserved, log_and_tables + 3 * FIRST_BYTES);
    assert_eq!(
        supervisor.publish(&draft(b"from nowhere")),
        Err(PublishError::NoRing)
    );
    let workers = [worker(&name), worker(&name), worker(&name)];
    assert_eq!(blocks(), reserved);
    supervisor.reserve_places(5).expect("memory in /dev/shm");
    assert_eq!(blocks(), reserved + FIRST_BYTES);
    workers[0].publish(&draft(b"hello")).expect("sound");
    assert_eq!(supervisor.end(), 1);
    assert_eq!(
        blocks(),
        reserved + FIRST_BYTES,
        "it has a free slot for that"
    );
    for _ in 0..3 {
        workers[0].publish(&draft(&[7; 8000])).expect("sound");
    }
    let grown = blocks() - reserved - FIRST_BYTES;
    assert!((4 << 10..RING_BYTES as u64 / 4).contains(&grown), "{grown}");
    for _ in 0..9 {
        workers[0].publish(&draft(&[7; 8000])).expect("sound");
    }
    let whole = reserved + RING_BYTES as u64;
    assert_eq!(blocks(), whole, "its ring is whole, and the others are not");
}

#[test]
fn a_stale_reservation_does_not_hinder_programs() {
    let name = Name::new("mask");
    let bus = open(&name);
    let file = OpenOptions::new().write(true).open(name.path());
    let file = file.expect("it is ours");
    let damage = |mask: u64| {
        file.write_all_at(&mask.to_le_bytes(), RESERVED)
            .expect("in place");
    };
    damage(!1);
    let guest = Bus::attach(&name.0).expect("no member has a reserved place");
    damage(u64::MAX);
    let refused = Bus::attach(&name.0).expect_err("all places seem to be a server's");
    assert!(
        matches!(refused, BusError::FullForGuests { reserved: 64, .. }),
        "{refused}"
    );
    let _worker = worker(&name);
    let _supervisor = serve(&name);
    drop((bus, guest));
}
