//! The tests of many processes that open one bus: at once, at a locked door, and more than the limit.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanbus::ipc::{Bus, MAX_MEMBERS, Member};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::process::{Actor, Name, until};
use super::roles::{draft, open, sentence};

#[test]
fn fifty_processes_that_open_at_once_find_one_bus_though_the_first_is_killed() {
    for round in 0..6 {
        let name = Name::new(&format!("race-{round}"));
        let mut openers: Vec<_> = (0..50).map(|_| Actor::start("opener", &name)).collect();
        for opener in &mut openers {
            opener.hear_after("ready");
        }
        // All at the same moment. How far the first comes before it dies differs from round to round.
        let start = SystemTime::now() + Duration::from_millis(20);
        let micros = start
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_micros();
        for opener in &mut openers {
            opener.say(&micros.to_string());
        }
        until("they begin", || {
            SystemTime::now() > start + Duration::from_micros(100 * round)
        });
        openers.remove(0).kill();
        let mut found: Vec<_> = openers
            .iter_mut()
            .map(|opener| opener.hear_numbers("open"))
            .collect();
        assert!(
            found.iter().all(|one| one[0] == found[0][0]),
            "two epochs: {found:?}"
        );
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 49, "two in one slot: {found:?}");

        // There is one bus, and it works: every offset is given once.
        for opener in &mut openers {
            opener.say("publish");
        }
        let mut offsets: Vec<_> = openers
            .iter_mut()
            .map(|opener| opener.hear_numbers("published")[0])
            .collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (0..49).collect::<Vec<_>>());

        // The others are killed too, and the next start cleans up after all of them.
        openers.iter_mut().for_each(Actor::kill);
        let bus = open(&name);
        assert_eq!((bus.epoch(), bus.end()), (found[0][0], 49));
        assert_eq!(bus.reap(), 0, "opening the bus cleans up");
        bus.remove().expect("it is ours");
        assert_eq!(name.files(), [""; 0]);
    }
}

#[test]
fn a_process_that_waited_for_the_door_of_a_removed_segment_opens_its_successor() {
    let name = Name::new("door");
    // A creator that has got as far as an empty file and its door.
    let mut options = OpenOptions::new();
    let maker = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(name.path());
    let maker = maker.expect("a file");
    let door = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&maker, FcntlArg::F_OFD_SETLK(&door)).expect("no other process has it");
    let mut opener = Actor::start("opener", &name);
    opener.hear_after("ready");
    opener.say("0");
    let inode = maker.metadata().expect("a look").ino();
    until("it stands at the door", || {
        let mut fds = fs::read_dir(format!("/proc/{}/fd", opener.pid())).expect("it lives");
        fds.any(|fd| {
            let there = fd.ok().and_then(|fd| fs::metadata(fd.path()).ok());
            there.is_some_and(|there| there.ino() == inode)
        })
    });
    fs::remove_file(name.path()).expect("it is ours");
    let bus = open(&name);
    assert_eq!(
        maker.metadata().expect("a look").len(),
        0,
        "it built behind a closed door"
    );
    drop(maker);
    assert_eq!(opener.hear_numbers("open")[0], bus.epoch());
}

#[test]
fn the_sixty_fifth_member_is_refused_until_another_has_left() {
    let name = Name::new("members");
    let mut members: Vec<_> = (0..MAX_MEMBERS).map(|_| open(&name)).collect();
    let slots: Vec<_> = members
        .iter()
        .map(|bus| usize::from(bus.member().slot))
        .collect();
    assert_eq!(slots, (0..MAX_MEMBERS).collect::<Vec<_>>());
    let refused = sentence(&name);
    assert!(
        refused.contains("has 64 members, which is the limit"),
        "{refused}"
    );
    // All members exchange messages.
    let mut subscribers: Vec<_> = members.iter().map(Bus::subscriber).collect();
    for (number, bus) in members.iter().enumerate() {
        assert_eq!(bus.publish(&draft(b"hello")), Ok(number as u64));
    }
    for subscriber in &mut subscribers {
        for slot in 0..MAX_MEMBERS as u8 {
            match subscriber.next(|_| true, &mut Vec::new()) {
                fanbus::ipc::Next::Record(head) => assert_eq!(head.producer.slot, slot),
                other => panic!("{other:?}"),
            }
        }
    }
    drop(subscribers);
    drop(members.remove(40));
    assert_eq!(
        open(&name).member(),
        Member {
            slot: 40,
            incarnation: 2
        }
    );
}
