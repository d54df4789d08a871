//! The life of a segment: made, joined, taken over, left, removed; and who may not.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanbus::ipc::{Bus, BusError, BusOptions, MAX_MEMBERS, Member, ReadAt};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::process::{Actor, Name, until};
use super::roles::{draft, small};

fn open(name: &Name) -> Bus {
    Bus::open(&name.0, &small()).expect("it opens")
}

fn sentence(name: &Name) -> String {
    Bus::open(&name.0, &small())
        .expect_err("it does not open")
        .to_string()
}

fn number_after(actor: &mut Actor, word: &str) -> Vec<u64> {
    let line = actor.hear_after(word);
    line.split(' ')
        .map(|word| word.parse().expect("a number"))
        .collect()
}

#[test]
fn a_bus_whose_members_all_died_is_taken_over_with_its_history() {
    let name = Name::new("takeover");
    let mut holder = Actor::start("holder", &name);
    let [epoch, slot, incarnation] = number_after(&mut holder, "ready")[..] else {
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
fn a_bus_that_all_left_is_taken_over_too_unless_another_size_is_wanted() {
    let name = Name::new("sizes");
    let bus = open(&name);
    let epoch = bus.epoch();
    bus.publish(&draft(b"kept")).expect("a sound bus");
    drop(bus);

    let attached = Bus::attach(&name.0).expect("it is there");
    assert_eq!((attached.epoch(), attached.end()), (epoch, 1));
    // Somebody lives there: its sizes are taken as they are.
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
fn nobody_attaches_to_a_bus_that_does_not_exist() {
    let name = Name::new("none");
    let error = Bus::attach(&name.0).expect_err("there is none");
    assert!(matches!(error, BusError::NotFound { .. }));
    assert!(error.to_string().starts_with("There is no bus"), "{error}");
    assert!(!fs::exists(name.path()).expect("a look"));
}

#[test]
fn fifty_that_open_at_once_find_one_bus_though_the_first_is_killed() {
    for round in 0..6 {
        let name = Name::new(&format!("race-{round}"));
        let mut openers: Vec<_> = (0..50).map(|_| Actor::start("opener", &name)).collect();
        for opener in &mut openers {
            opener.hear_after("ready");
        }
        // All at the same moment; what the first comes to before it dies differs from round to round.
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
            .map(|opener| number_after(opener, "open"))
            .collect();
        assert!(
            found.iter().all(|one| one[0] == found[0][0]),
            "two epochs: {found:?}"
        );
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 49, "two in one slot: {found:?}");

        // One bus, and it works: every offset is given once.
        for opener in &mut openers {
            opener.say("publish");
        }
        let mut offsets: Vec<_> = openers
            .iter_mut()
            .map(|opener| number_after(opener, "published")[0])
            .collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (0..49).collect::<Vec<_>>());
    }
}

#[test]
fn who_waited_at_the_door_of_a_segment_that_was_removed_goes_to_its_successor() {
    let name = Name::new("door");
    // A maker that has come as far as an empty file and its door.
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
    fcntl(&maker, FcntlArg::F_OFD_SETLK(&door)).expect("nobody else is there");
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
    assert_eq!(number_after(&mut opener, "open")[0], bus.epoch());
}

#[test]
fn a_segment_whose_maker_died_half_way_is_made_anew() {
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
        file.write_all(bytes).expect("room");
    };
    make(&whole);
    assert_eq!(open(&name).end(), 1, "an exact copy is as good");

    let flip = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let log = 4096 + 4096 * 8 + 64 * 512;
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
fn another_layout_version_is_refused_while_it_is_in_use_and_replaced_after() {
    let name = Name::new("version");
    let bus = open(&name);
    let epoch = bus.epoch();
    let file = OpenOptions::new()
        .write(true)
        .open(name.path())
        .expect("it is ours");
    file.write_all_at(&3_u64.to_le_bytes(), 8)
        .expect("in place");
    let refused = sentence(&name);
    assert!(refused.contains("another version of Fanbus"), "{refused}");
    assert!(
        refused.contains("(its memory layout is 3, ours is 2)"),
        "{refused}"
    );
    file.write_all_at(&[0; 8], 0).expect("in place");
    let refused = sentence(&name);
    assert!(
        refused.contains("is in use, but its header is damaged"),
        "{refused}"
    );
    drop(bus);
    assert_ne!(open(&name).epoch(), epoch);
}

#[test]
fn the_sixty_fifth_member_is_told_so_and_may_come_when_one_has_left() {
    let name = Name::new("members");
    let mut members: Vec<_> = (0..MAX_MEMBERS).map(|_| open(&name)).collect();
    let slots: Vec<_> = members
        .iter()
        .map(|bus| usize::from(bus.member().slot))
        .collect();
    assert_eq!(slots, (0..MAX_MEMBERS).collect::<Vec<_>>());
    let refused = sentence(&name);
    assert!(
        refused.contains("has 64 members, and that is the limit"),
        "{refused}"
    );
    // All of them talk to each other.
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

#[test]
fn names_that_are_not_allowed_are_refused_before_anything_is_made() {
    for bad in ["", ".hidden", "../etc", "a/b", "a b", "ü", &"x".repeat(65)] {
        let error = Bus::open(bad, &small()).expect_err("not allowed");
        assert!(matches!(error, BusError::Name { .. }));
        assert!(error.to_string().contains("cannot name a bus"), "{error}");
    }
    let sizes = BusOptions {
        ring_bytes: 5000,
        log_entries: 64,
        ..BusOptions::default()
    };
    let error = Bus::open("never-made", &sizes).expect_err("not allowed");
    assert!(error.to_string().contains("powers of two"), "{error}");
    assert!(!fs::exists("/dev/shm/fanbus.never-made").expect("a look"));
}

#[test]
fn a_segment_that_others_could_change_is_refused() {
    let name = Name::new("owner");
    drop(open(&name));
    fs::set_permissions(name.path(), Permissions::from_mode(0o644)).expect("it is ours");
    let refused = sentence(&name);
    assert!(
        refused.contains("has mode 644, and a bus has 600"),
        "{refused}"
    );
    fs::set_permissions(name.path(), Permissions::from_mode(0o600)).expect("it is ours");
    drop(open(&name));

    // Giving it away takes a superuser; elsewhere the first half must do.
    if chown(name.path(), Some(65_534), None).is_ok() {
        let refused = sentence(&name);
        assert!(refused.contains("belongs to user 65534"), "{refused}");
    }
}

#[test]
fn a_removed_bus_lives_on_for_its_members_and_makes_room_for_a_new_one() {
    let name = Name::new("removed");
    let (one, two) = (open(&name), open(&name));
    let mut subscriber = two.subscriber();
    one.remove().expect("it is ours");
    assert!(!fs::exists(name.path()).expect("a look"));
    let new = open(&name);
    assert_ne!(new.epoch(), one.epoch());
    one.publish(&draft(b"still")).expect("a sound bus");
    assert!(matches!(
        subscriber.next(|_| true, &mut Vec::new()),
        fanbus::ipc::Next::Record(_)
    ));
    assert_eq!(new.end(), 0);
    // The old ones do not take the new one's name away.
    two.remove().expect("nothing to do");
    assert!(fs::exists(name.path()).expect("a look"));
}

#[test]
fn a_forked_child_is_inert_and_does_not_keep_its_parent_alive() {
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
    // before, and what the child published with its own membership
    assert_eq!(bus.end(), 2);
    assert_eq!(
        bus.reap(),
        0,
        "the parent lives, whatever its child dropped"
    );
    assert!(fs::exists(name.path()).expect("a look"));

    // The child has copies of all the parent's descriptors, and stays.
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

#[test]
fn a_full_dev_shm_is_a_sentence_at_the_start_and_never_a_signal_later() {
    let name = Name::new("full");
    // A /dev/shm of 3 MiB for one process, in a mount namespace of its own.
    let exe = std::env::current_exe().expect("this test binary");
    let script = "mount -t tmpfs -o size=3m tmpfs /dev/shm && exec \"$0\" \"$@\"";
    let is_root = nix::unistd::geteuid().is_root();
    let flags: &[&str] = if is_root { &["-m"] } else { &["-r", "-m"] };
    let mut probe = Command::new("unshare");
    let allowed = probe
        .args(flags)
        .args(["sh", "-c", "mount -t tmpfs tmpfs /dev/shm"])
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        // Containers often forbid it. Then at least what is too large for any memory is refused.
        let huge = BusOptions {
            ring_bytes: 1 << 31,
            log_entries: 64,
            ..BusOptions::default()
        };
        assert!(Bus::open(&name.0, &huge).is_err());
        return;
    }
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", script]).arg(exe);
    let mut cramped = Actor::run(command, "cramped", &name);
    let refused = cramped.hear_after("Cannot reserve 8 MiB for the bus");
    assert!(
        refused.contains("in /dev/shm: 2.4 MiB are free"),
        "{refused}"
    );
    assert!(
        refused.contains("--bus-size") && refused.contains("--shm-size"),
        "{refused}"
    );
    assert_eq!(cramped.hear(), "left 0", "what was begun was not removed");
    let second = cramped.hear_after("Cannot reserve 64 KiB for the bus");
    assert!(second.contains("0 bytes are free"), "{second}");
    assert_eq!(cramped.hear(), "end 100000");
    assert!(cramped.wait().success());
}

#[test]
fn after_any_of_it_only_the_named_segment_is_there() {
    let name = Name::new("leftovers");
    let mut holder = Actor::start("holder", &name);
    holder.hear_after("ready");
    holder.kill();
    drop(open(&name));
    let mine: Vec<_> = fs::read_dir("/dev/shm")
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|file| file.contains(&name.0))
        .collect();
    assert_eq!(mine, [format!("fanbus.{}", name.0)]);
    let file = File::open(name.path())
        .expect("ours")
        .metadata()
        .expect("a look");
    // One member has been there at a time: its ring, the log and the tables are all it takes.
    let reserved = file.blocks() * 512;
    assert!(
        reserved <= (64 << 10) + 69_632 + 8 * 4096,
        "{reserved} bytes are in use"
    );
}
