//! The load client: what a server costs per message, and whether every message arrived.
//!
//! One thread and one epoll, so that it disturbs the server little; the cost is that of the
//! server's processes, read from /proc, so the client's own does not count. It checks what it
//! measures: a figure for messages that did not arrive would be no figure.

mod client;
mod echo;
mod fanout;
mod handshake;
mod http;
mod idle;
mod inflate;
mod ledger;
mod net;
mod options;
mod processes;
mod report;
mod stamp;

use std::process::ExitCode;

use options::{Mode, Options};
use report::Report;

/// What goes wrong outside the server: options, connections, /proc. Told, not handled.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let done = Options::parse().and_then(|options| match options {
        Some(options) => run(&options).map(Some),
        None => Ok(None),
    });
    match done {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(is_complete)) if is_complete => ExitCode::SUCCESS,
        Ok(Some(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether everything that was sent arrived, once and in one order.
fn run(options: &Options) -> Outcome<bool> {
    net::allow_many_files()?;
    let report: Report = match options.mode {
        Mode::Echo => echo::run(options)?,
        Mode::Fanout => fanout::run(options)?,
        Mode::Handshake => handshake::run(options)?,
        Mode::Idle => idle::run(options)?,
        Mode::Http => http::run(options)?,
    };
    report.print(options.json);
    Ok(report.is_complete())
}
