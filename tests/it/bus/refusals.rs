//! The tests of refusals, and of their messages.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};

use fanbus::ipc::{Bus, BusError, BusOptions};

use super::process::Name;
use super::roles::{open, sentence, small};

#[test]
fn another_layout_version_is_refused_while_it_is_in_use_and_replaced_after() {
    let name = Name::new("version");
    let bus = open(&name);
    let epoch = bus.epoch();
    let file = OpenOptions::new()
        .write(true)
        .open(name.path())
        .expect("it is ours");
    file.write_all_at(&5_u64.to_le_bytes(), 8)
        .expect("in place");
    let refused = sentence(&name);
    assert!(refused.contains("another version of Fanbus"), "{refused}");
    assert!(
        refused.contains("(its memory layout is 5, ours is 4)"),
        "{refused}"
    );
    file.write_all_at(&[0; 8], 0).expect("in place");
    let refused = sentence(&name);
    assert!(
        refused.contains("is in use, but its memory is damaged"),
        "{refused}"
    );
    drop(bus);
    assert_ne!(open(&name).epoch(), epoch);
}

#[test]
fn invalid_names_are_refused_before_anything_is_created() {
    for bad in ["", ".hidden", "../etc", "a/b", "a b", "ü", &"x".repeat(65)] {
        let error = Bus::open(bad, &small()).expect_err("not allowed");
        assert!(matches!(error, BusError::Name { .. }));
        assert!(error.to_string().contains("cannot name a bus"), "{error}");
    }
    let sizes = BusOptions {
        ring_bytes: 5000,
        log_entries: 64,
        history_bytes: 0,
    };
    let error = Bus::open("never-made", &sizes).expect_err("not allowed");
    assert!(error.to_string().contains("powers of two"), "{error}");
    assert!(!fs::exists("/dev/shm/fanbus.never-made").expect("a look"));
}

#[test]
fn a_segment_that_other_users_could_change_is_refused() {
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

    // Changing the owner takes a superuser. Elsewhere the first half must do.
    if chown(name.path(), Some(65_534), None).is_ok() {
        let refused = sentence(&name);
        assert!(refused.contains("belongs to user 65534"), "{refused}");
    }
}
