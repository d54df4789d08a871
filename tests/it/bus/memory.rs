//! The tests of the memory that a bus takes in /dev/shm: errors when that is full, and the files that are left.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::process::{Actor, Name};
use super::roles::open;

#[test]
fn a_full_dev_shm_is_an_error_at_the_start_and_never_a_signal_later() {
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
        // Past the harness, which hides the output of a test that passes.
        let skipped =
            "skipped: a full /dev/shm needs a mount namespace, and `unshare` may not make one";
        writeln!(std::io::stderr(), "{skipped}").expect("standard error is open");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", script]).arg(exe);
    let mut cramped = Actor::run(command, "cramped", &name);
    let refused = cramped.hear_after("The bus");
    assert!(
        refused.contains("needs 8.8 MiB (1 ring of 8 MiB; the log), and 3 MiB are free"),
        "{refused}"
    );
    assert!(refused.contains("--shm-size"), "{refused}");
    assert_eq!(cramped.hear(), "left 0", "what was begun was not removed");
    let second = cramped.hear_after("Cannot reserve 20 KiB for the bus");
    assert!(second.contains("0 bytes are free"), "{second}");
    assert_eq!(cramped.hear(), "end 100001");
    assert_eq!(
        cramped.hear(),
        "whole",
        "it grows when there is memory again"
    );
    assert!(cramped.wait().success());
}

#[test]
fn only_the_named_segment_is_left_in_dev_shm() {
    let name = Name::new("leftovers");
    let mut holder = Actor::start("holder", &name);
    holder.hear_after("ready");
    holder.kill();
    drop(open(&name));
    assert_eq!(name.files(), [format!("fanbus.{}", name.0)]);
    let file = File::open(name.path())
        .expect("ours")
        .metadata()
        .expect("a look");
    // One member at a time: its ring, the log and the tables are all that is reserved.
    let reserved = file.blocks() * 512;
    assert!(
        reserved <= (64 << 10) + 299_008 + 8 * 4096,
        "{reserved} bytes are in use"
    );
}
