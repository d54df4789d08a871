//! The tests of life and death: a member lives while it holds its token, whatever the table says of processes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use fanbus::ipc::{Member, MemberInfo, inspect};

use super::process::{Actor, Name};
use super::roles::{draft, open};

// The layout, as in docs/bus.md.
const MEMBERS: u64 = 266_240;
const MEMBER_BYTES: u64 = 512;
const PID: u64 = 272;

/// Starts a member, and returns its slot and incarnation.
fn hold(name: &Name) -> (Actor, Member) {
    let mut holder = Actor::start("holder", name);
    let [_, slot, incarnation] = holder.hear_numbers("ready")[..] else {
        panic!()
    };
    let member = Member {
        slot: slot as u8,
        incarnation: incarnation as u32,
    };
    (holder, member)
}

/// Writes another process into the table, as if the process id had been reused.
fn rename(name: &Name, member: Member, pid: u32) {
    let file = OpenOptions::new().write(true).open(name.path());
    let at = MEMBERS + u64::from(member.slot) * MEMBER_BYTES + PID;
    file.and_then(|file| file.write_all_at(&u64::from(pid).to_le_bytes(), at))
        .expect("it is ours");
}

#[test]
fn a_dead_member_whose_process_id_was_reused_is_dead() {
    let name = Name::new("reused-pid");
    let bus = open(&name);
    let (mut holder, member) = hold(&name);
    let mut other = Actor::start("opener", &name); // alive, and not a member yet
    other.hear_after("ready");
    holder.kill();
    rename(&name, member, other.pid());

    // It died asleep and with interest. A publish tries to wake it, and touches no other process.
    bus.publish(&draft(b"hello")).expect("a sound bus");
    let living = inspect(&name.0).expect("it is there").members;
    let slots: Vec<_> = living.iter().map(|found| found.slot).collect();
    assert_eq!(slots, [bus.member().slot]);
    assert_eq!(bus.reap_members(), [member]);

    other.say("0");
    let found = other.hear_numbers("open");
    let next = u64::from(member.incarnation) + 1;
    assert_eq!(found[1..], [u64::from(member.slot), next]);
}

#[test]
fn a_living_member_whose_process_id_leads_nowhere_is_alive() {
    let name = Name::new("lost-pid");
    let bus = open(&name);
    let mut dead = Actor::start("opener", &name);
    dead.hear_after("ready");
    dead.kill();
    let (_holder, member) = hold(&name);
    rename(&name, member, dead.pid());

    assert_eq!(bus.reap_members(), []);
    bus.publish(&draft(b"hello")).expect("a sound bus");
    let living = inspect(&name.0).expect("it is there").members;
    let MemberInfo { slot, pid, .. } = living[1];
    assert_eq!((slot, pid), (member.slot, dead.pid()));
    let next = open(&name);
    assert_ne!(next.member().slot, member.slot, "its place was given away");
}
