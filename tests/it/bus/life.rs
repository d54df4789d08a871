//! The tests of a segment's life: created, taken over, left, removed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use fanbus::ipc::{Bus, BusError, BusOptions, Fate, Member, Next, PublishError, ReadAt};

use super::process::{Actor, Name, until};
use super::roles::{draft, open};

#[test]
fn a_bus_of_dead_members_is_taken_over_with_its_history() {
    let name = Name::new("takeover");
    let mut holder = Actor::start("holder", &name);
    let [epoch, slot, incarnation] = holder.hear_numbers("ready")[..] else {
        panic!()
    };
    holder.kill();

    let bus = open(&name);
    assert_eq!(bus.epoch(), epoch);
    assert_eq!(bus.end(), 10);
    let mut frame = Vec::new();
    let ReadAt::Record(head) = bus.read_at(3, &mut frame) else {
        panic!("history is gone")
    };
    assert_eq!(frame[5..], 3_u64.to_le_bytes());
    let dead = Member {
        slot: slot as u8,
        incarnation: incarnation as u32,
    };
    assert_eq!(head.producer, dead);
    assert_eq!(
        bus.member(),
        Member {
            slot: dead.slot,
            incarnation: dead.incarnation + 1
        }
    );
    assert_eq!(bus.publish(&draft(b"goes on")), Ok(10));
    assert_eq!(bus.reap(), 0, "the taker has cleaned up");
}

#[test]
fn a_bus_without_members_is_taken_over_unless_another_size_is_requested() {
    let name = Name::new("sizes");
    let bus = open(&name);
    let epoch = bus.epoch();
    bus.publish(&draft(b"kept")).expect("a sound bus");
    drop(bus);

    let attached = Bus::attach(&name.0).expect("it is there");
    assert_eq!((attached.epoch(), attached.end()), (epoch, 1));
    // With a living member, its sizes are used as they are.
    let other = BusOptions {
        ring_bytes: 8192,
        log_entries: 64,
        ..BusOptions::default()
    };
    let guest = Bus::open(&name.0, &other).expect("it opens");
    assert_eq!(guest.max_message_bytes(), attached.max_message_bytes());
    drop((attached, guest));

    let bus = Bus::open(&name.0, &other).expect("it opens");
    assert_ne!(bus.epoch(), epoch);
    assert_eq!((bus.end(), bus.max_message_bytes()), (0, 2048));
}

#[test]
fn a_missing_bus_cannot_be_attached() {
    let name = Name::new("none");
    let error = Bus::attach(&name.0).expect_err("there is none");
    assert!(matches!(error, BusError::NotFound { .. }));
    assert!(error.to_string().starts_with("There is no bus"), "{error}");
    assert!(!fs::exists(name.path()).expect("a look"));
}

#[test]
fn a_segment_whose_creator_died_half_way_is_created_again() {
    let name = Name::new("half");
    let whole = {
        let bus = open(&name);
        bus.publish(&draft(b"old")).expect("a sound bus");
        drop(bus);
        fs::read(name.path()).expect("a segment")
    };
    let make = |bytes: &[u8]| {
        let _ = fs::remove_file(name.path());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(name.path())
            .expect("a file");
        file.write_all(bytes).expect("memory");
    };
    make(&whole);
    assert_eq!(open(&name).end(), 1, "an exact copy is as good");

    let flip = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let log = 299_008;
    let halves = [
        vec![],
        vec![0; 100],
        vec![0; 4096],
        vec![0; whole.len()],
        whole[..whole.len() - 4096].to_vec(),
        flip(0),       // magic number
        flip(17),      // ring size
        flip(33),      // size of the history
        flip(40),      // epoch
        flip(48),      // checksum
        flip(128 + 3), // the tail is far ahead
        flip(log + 6), // the lap of the first entry
    ];
    for (number, half) in halves.iter().enumerate() {
        make(half);
        let bus = open(&name);
        assert_eq!(bus.end(), 0, "damage {number} was not noticed");
        assert_eq!(bus.publish(&draft(b"new")), Ok(0));
        let inode = fs::metadata(name.path()).expect("a segment").ino();
        drop(bus);
        assert_eq!(open(&name).end(), 1);
        assert_eq!(fs::metadata(name.path()).expect("a segment").ino(), inode);
    }
}

#[test]
fn members_of_a_removed_bus_see_its_fate_and_a_new_bus_takes_its_name() {
    let name = Name::new("removed");
    let (one, two) = (open(&name), open(&name));
    let mut subscriber = two.subscriber();
    one.publish(&draft(b"before")).expect("a sound bus");
    assert_eq!(two.fate(), None);
    one.remove().expect("it is ours");
    assert!(!fs::exists(name.path()).expect("a look"));
    let new = open(&name);
    assert_ne!(new.epoch(), one.epoch());
    for bus in [&one, &two] {
        assert_eq!(bus.publish(&draft(b"late")), Err(PublishError::Removed));
        assert_eq!(bus.fate(), Some(Fate::Removed));
        assert!(!bus.is_still_named().expect("a look"));
    }
    // The earlier records are still there.
    assert!(matches!(
        subscriber.next(|_| true, &mut Vec::new()),
        Next::Record(_)
    ));
    assert_eq!((new.end(), new.fate()), (0, None));
    // The old members do not take the name of the new bus away.
    two.remove().expect("nothing to do");
    assert!(fs::exists(name.path()).expect("a look"));
}

#[test]
fn a_clean_stop_removes_a_bus_without_other_members() {
    let name = Name::new("unused");
    let (one, two) = (open(&name), open(&name));
    assert!(!one.remove_if_unused().expect("a look"));
    drop(one);
    two.publish(&draft(b"still")).expect("it has its name");
    assert!(two.remove_if_unused().expect("it is ours"));
    assert!(!fs::exists(name.path()).expect("a look"));
}

#[test]
fn a_bus_marked_as_removed_by_a_dead_process_is_not_joined() {
    const FATE_AT: u64 = 56; // docs/bus.md, section 2
    let name = Name::new("half-removed");
    let old = open(&name);
    let segment = File::options().write(true).open(name.path());
    let segment = segment.expect("it is ours");
    segment
        .write_all_at(&1_u64.to_le_bytes(), FATE_AT)
        .expect("ours");
    assert!(matches!(
        Bus::attach(&name.0),
        Err(BusError::NotFound { .. })
    ));
    let new = open(&name);
    assert_ne!(new.epoch(), old.epoch());
    assert_eq!(new.publish(&draft(b"new")), Ok(0));
}

#[test]
fn a_publisher_that_finds_the_log_damaged_marks_the_bus_and_the_next_one_is_sound() {
    let name = Name::new("damaged");
    let (one, two) = (open(&name), open(&name));
    let garbage = [0xFF; 8].repeat(1 << 12); // the whole log of these tests
    let segment = File::options().write(true).open(name.path());
    let segment = segment.expect("it is ours");
    segment.write_all_at(&garbage, 299_008).expect("ours");
    assert_eq!(one.publish(&draft(b"lost")), Err(PublishError::Damaged));
    assert_eq!(two.fate(), Some(Fate::Damaged));
    assert_eq!(two.publish(&draft(b"lost")), Err(PublishError::Damaged));
    assert!(matches!(
        Bus::attach(&name.0),
        Err(BusError::Damaged { .. })
    ));
    drop((one, two));
    assert_eq!(open(&name).publish(&draft(b"new")), Ok(0));
}

#[test]
fn a_forked_child_does_nothing_and_does_not_hold_its_parents_token() {
    let name = Name::new("fork");
    let bus = open(&name);
    let mut parent = Actor::start("parent", &name);
    let mut lines = [parent.hear(), parent.hear()];
    lines.sort();
    assert_eq!(lines[0], "child is done", "then {}", lines[1]);
    let member = lines[1]
        .strip_prefix("parent is ")
        .expect("its member")
        .to_string();
    // the earlier records, and those that the child published as a member of its own
    assert_eq!(bus.end(), 2);
    assert_eq!(
        bus.reap(),
        0,
        "the parent lives, whatever its child dropped"
    );
    assert!(fs::exists(name.path()).expect("a look"));

    // The child has copies of all the parent's descriptors, and lives on.
    let child = fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.pid()));
    parent.kill();
    if let Ok(child) = child {
        let pid = child.trim();
        assert!(
            fs::exists(format!("/proc/{pid}")).expect("a look"),
            "the child is to outlive it"
        );
    }
    let mut dead = Vec::new();
    until("its death is noticed", || {
        dead = bus.reap_members();
        !dead.is_empty()
    });
    let [Member { slot, incarnation }] = dead[..] else {
        panic!("{dead:?}")
    };
    assert_eq!(format!("{slot} {incarnation}"), member);
}
