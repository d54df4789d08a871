//! Walks the paths that a message takes, one after another, a stated number of times each.
//!
//! It counts nothing itself: callgrind does, and `benches/cost/count.py` starts it and reads the counts.
//! `make cost`
//!
//! ```text
//! fanbus-cost parts [TEXT]        the paths of one thread whose names contain TEXT; see walk.rs
//! fanbus-cost turns               the names of the turns
//! fanbus-cost turn NAME COUNT     a worker, and one of its turns so many times; see turns.rs
//! ```

mod bus;
mod http;
#[path = "../../../tests/it/support/mod.rs"]
#[allow(
    dead_code,
    unfulfilled_lint_expectations,
    reason = "the tests' worker and client, of which a part is needed here"
)]
mod support;
mod turns;
mod walk;
mod websocket;

use std::process::ExitCode;

use walk::Walk;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["parts"] => parts(""),
        ["parts", only] => parts(only),
        ["turns"] => turns::list(),
        ["turn", name, count] => {
            let count = count.parse().ok();
            let walked = count.is_some_and(|count| turns::walk(name, count));
            return if walked { ExitCode::SUCCESS } else { help() };
        }
        _ => return help(),
    }
    ExitCode::SUCCESS
}

fn parts(only: &str) {
    let mut walk = Walk::new(only);
    http::paths(&mut walk);
    websocket::paths(&mut walk);
    bus::paths(&mut walk);
}

fn help() -> ExitCode {
    eprintln!("This is run by `make cost`: see benches/cost/src/main.rs for its arguments.");
    ExitCode::from(2)
}
