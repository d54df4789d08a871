//! The test that checks each source file by itself: its layer, its `unsafe`, and unfinished work.

use std::fs;
use std::path::Path;

use super::tokens::{code_only, tokens, words};

/// The files that may contain `unsafe`, and their reasons. A file without it must leave the list.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("src/ipc/segment.rs", "maps memory, and views it as words"),
    (
        "src/ipc/fork.rs",
        "installs fork handlers, and replaces descriptors in the child",
    ),
    (
        "src/ipc/fuzzed/memory.rs",
        "maps inaccessible pages around a fuzzer's segment",
    ),
    (
        "src/ipc/copy.rs",
        "one instruction that copies while another process writes",
    ),
    (
        "src/actors/heap.rs",
        "calls the functions of the allocator that hold memory back and return it",
    ),
    (
        "src/actors/forks.rs",
        "replaces descriptors in a forked child, by system calls",
    ),
    (
        "src/python/json/containers.rs",
        "borrows the items of dicts and lists, and checks whether an integer is small",
    ),
    (
        "src/python/json/encoder.rs",
        "promises to end the use of a borrowed key or value in time",
    ),
    (
        "src/http/tcp.rs",
        "makes a system call about a connection that no crate offers",
    ),
    (
        "src/http/page_cache.rs",
        "reads only cached pages, by a system call that no crate offers",
    ),
    (
        "src/python/websocket_awaitables.rs",
        "ends an await with a message, without making the exception",
    ),
    (
        "src/python/worker.rs",
        "borrows a descriptor that comes from Python as a number",
    ),
    (
        "tests/it/bus/roles.rs",
        "forks, because it tests the forked copy of a bus",
    ),
    (
        "tests/allocations.rs",
        "an allocator that counts allocations",
    ),
    (
        "tests/memory.rs",
        "an allocator that counts the bytes in use",
    ),
];

/// A folder, the parts of this crate that it must not know, and the other crates. Names match whole, or as the
/// beginning of a name with an underscore: `actix` is also `actix_http`.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    (
        "src/ipc/",
        &["actors", "http", "python"],
        &["tokio", "actix", "pyo3"],
    ),
    ("src/actors/", &["http", "python"], &["pyo3"]),
    ("src/http/", &["python"], &["pyo3"]),
    ("crates/bench/src/python.rs", &[], &[]),
    // It measures any server: knowledge of this one would be an advantage.
    ("crates/bench/", &[], &["tokio", "pyo3"]),
    ("src/python/", &[], &[]),
    ("src/lib.rs", &[], &[]),
    ("", &[], &["pyo3"]),
];

/// Macros of unfinished work.
const MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

/// Remarks of unfinished work. Spelled in two halves so that this file passes its own test.
const REMARKS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

/// The breaches of the rules in one file, each as a message.
fn breaches(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut report = |what: String| breaches.push(format!("{path}: {what}"));
    if !text.starts_with("//!") {
        report("does not open with a `//!` comment".to_owned());
    }
    for remark in REMARKS {
        if words(text).any(|word| word == *remark) {
            report(format!("contains {remark}: do it, or make it an issue"));
        }
    }

    let code = code_only(text);
    let tokens = tokens(&code);
    let layer = LAYERS.iter().find(|(folder, ..)| path.starts_with(folder));
    let (folder, parts, crates) = layer.expect("the last one matches all");
    for part in parts.iter().filter(|part| uses_part(&tokens, part)) {
        report(format!(
            "{folder} must not know `{part}`: dependencies point one way"
        ));
    }
    for name in crates.iter().filter(|name| uses_crate(&tokens, name)) {
        report(format!("{folder} must not know the crate `{name}`"));
    }
    for name in MACROS {
        if tokens
            .windows(3)
            .any(|it| it[..2] == [name, "!"] && it[2] != "=")
        {
            report(format!("contains {name}!"));
        }
    }
    if tokens.contains(&"unsafe") && !may_be_unsafe(path) {
        report("contains `unsafe`, and is not in UNSAFE_FILES".to_owned());
    }
    breaches
}

fn may_be_unsafe(path: &str) -> bool {
    UNSAFE_FILES.iter().any(|(listed, _)| *listed == path)
}

/// Whether `crate::part`, `super::part` or `crate::{.., part, ..}` occurs.
fn uses_part(tokens: &[&str], part: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        let is_root = matches!(*token, "crate" | "super" | "fanbus");
        match &tokens[at + 1..] {
            [":", ":", "{", group @ ..] if is_root => group_has(group, part),
            [":", ":", name, ..] if is_root => *name == part,
            _ => false,
        }
    })
}

/// Whether one of the paths in a group begins with `part`. `group` starts behind the opening brace.
fn group_has(group: &[&str], part: &str) -> bool {
    let mut depth = 0;
    let mut begins = true;
    for token in group {
        match *token {
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "{" => depth += 1,
            name if begins && name == part => return true,
            _ => {}
        }
        begins = depth == 0 && *token == ",";
    }
    false
}

/// Whether a path begins with the crate, or an attribute or `use` names it.
fn uses_crate(tokens: &[&str], name: &str) -> bool {
    tokens.iter().enumerate().any(|(at, token)| {
        let is_it = token
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        let begins = !matches!(&tokens[..at], [.., ":", ":"]);
        let goes_on = matches!(&tokens[at + 1..], [":", ":", ..]);
        let is_named = matches!(&tokens[..at], [.., "use" | "crate"]);
        is_it && begins && (goes_on || is_named)
    })
}

fn check_folder(root: &Path, folder: &str, breached: &mut Vec<String>, files: &mut usize) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return;
    };
    for entry in entries {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().into_string().expect("an ASCII name");
        let path = format!("{folder}/{name}");
        if entry.file_type().expect("a type").is_dir() {
            check_folder(root, &path, breached, files);
        } else if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            let text = fs::read_to_string(entry.path()).expect("readable UTF-8");
            breached.extend(breaches(&path, &text));
            *files += 1;
        }
    }
}

#[test]
fn every_file_follows_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut breached, mut files) = (Vec::new(), 0);
    for folder in [
        "src",
        "crates",
        "tests",
        "benches",
        "examples",
        "fuzz/fuzz_targets",
    ] {
        check_folder(root, folder, &mut breached, &mut files);
    }
    assert!(
        files > 10,
        "only {files} files were found below {}",
        root.display()
    );
    assert!(breached.is_empty(), "\n{}\n", breached.join("\n"));
}

#[test]
fn each_file_with_permission_for_unsafe_uses_it() {
    for (path, _) in UNSAFE_FILES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = fs::read_to_string(file).expect("a listed file exists");
        assert!(
            tokens(&code_only(&text)).contains(&"unsafe"),
            "{path} uses none"
        );
    }
}

/// The breaches in a file that is otherwise in order.
fn found(path: &str, code: &str) -> String {
    breaches(path, &format!("//! A file.\n{code}\n")).join("\n")
}

#[test]
fn dependency_in_the_wrong_direction_is_found() {
    let wrong = [
        ("src/ipc/ring.rs", "use crate::actors::hub;"),
        ("src/ipc/ring.rs", "fn f() { crate::http::server::run() }"),
        ("src/ipc/ring.rs", "use super::super::python;"),
        (
            "src/ipc/ring.rs",
            "use crate::{ipc::log::{self, Log}, http};",
        ),
        ("src/ipc/ring.rs", "use tokio::time;"),
        ("src/ipc/ring.rs", "use actix_http::Method;"),
        ("src/ipc/ring.rs", "fn f() -> pyo3::PyResult<()> { g() }"),
        ("src/actors/hub.rs", "use crate::http::config;"),
        (
            "src/actors/hub.rs",
            "use crate::{\n    http::config,\n    ipc,\n};",
        ),
        ("src/actors/hub.rs", "use pyo3::prelude::*;"),
        ("src/http/server.rs", "use crate::python::rim;"),
        ("crates/bench/src/echo.rs", "use tokio::net;"),
        ("src/http/server.rs", "extern crate pyo3;"),
        ("tests/it/hub.rs", "use pyo3::Python;"),
    ];
    for (path, code) in wrong {
        assert!(
            found(path, code).contains("must not know"),
            "{path}: {code}"
        );
    }
    let right = [
        (
            "src/ipc/ring.rs",
            "// unlike tokio::sync, and see crate::actors::hub",
        ),
        (
            "src/ipc/ring.rs",
            "fn f() { log::http(\"crate::http\", r#\"use \"tokio::x\"\"#) }",
        ),
        (
            "src/ipc/ring.rs",
            "use crate::{ipc::http, ipc::{log, actors}};",
        ),
        (
            "src/actors/hub.rs",
            "use crate::ipc::Bus; use tokio::time; use actix::Actor;",
        ),
        (
            "src/http/server.rs",
            "use crate::actors::hub; fn f<'a>(x: &'a str) -> char { '\"' }",
        ),
        (
            "src/python/rim.rs",
            "use pyo3::prelude::*; use crate::http;",
        ),
        ("src/lib.rs", "use pyo3::prelude::*;"),
        (
            "crates/bench/src/lib.rs",
            "mod http; fn f() { http::run(); } use crate::echo;",
        ),
    ];
    for (path, code) in right {
        assert_eq!(found(path, code), "", "{path}: {code}");
    }
}

#[test]
fn unsafe_is_found_outside_the_list() {
    let code = "fn f() { unsafe { g() } }";
    assert!(found("src/ipc/ring.rs", code).contains("`unsafe`"));
    assert_eq!(found(UNSAFE_FILES[0].0, code), "");
    assert_eq!(
        found("src/ipc/ring.rs", "#![deny(unsafe_code)] // not unsafe"),
        ""
    );
}

#[test]
fn unfinished_work_is_found() {
    for remark in REMARKS {
        let code = format!("// {remark}: later");
        assert!(found("src/lib.rs", &code).contains(remark), "{remark}");
    }
    for name in MACROS {
        let code = format!("fn f() {{ {name}!() }}");
        assert!(
            found("src/lib.rs", &code).contains(&format!("{name}!")),
            "{name}"
        );
    }
    assert_eq!(
        found(
            "src/lib.rs",
            "fn todo() { if x != y { dbg != z } } // no todo!"
        ),
        ""
    );
}

#[test]
fn file_without_a_first_comment_is_found() {
    assert_eq!(breaches("src/lib.rs", "use std::io;\n").len(), 1);
    assert_eq!(
        breaches("src/lib.rs", "//! It is this.\nuse std::io;\n").len(),
        0
    );
}
