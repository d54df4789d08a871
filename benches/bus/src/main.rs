//! The benchmark of the bus alone, beside other transports between processes: one-way latency and throughput.
//!
//! This process plans, starts the others (itself again, with a task), and prints. Every message of every run is
//! accounted for: sent, received, or missing.

mod broker;
mod child;
mod clock;
mod credit;
mod figures;
mod ledger;
mod options;
mod plan;
mod producer;
mod reader;
mod run;
mod table;
mod task;
mod transport;

use std::process::ExitCode;

use options::{Command, Options};

/// An error outside of the measurement. It is reported, not handled.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let done = Options::parse().and_then(|command| match command {
        Command::Help => Ok(true),
        Command::Play(task) => task.play().map(|()| true),
        Command::Measure(options) => measure(&options),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-bus: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs all rounds. Returns whether every run was completed without a missing message.
fn measure(options: &Options) -> Outcome<bool> {
    let mut figures = figures::Figures::default();
    let before = clock::load_average();
    run::all(options, &mut figures)?;
    let header = table::Header::new(options, figures.rounds(), &before, &clock::load_average());
    let markdown = table::markdown(&header, &figures);
    options.print(&markdown);
    if let Some(path) = &options.markdown {
        std::fs::write(path, &markdown)?;
    }
    if let Some(path) = &options.json {
        std::fs::write(path, table::json(&header, &figures)? + "\n")?;
    }
    Ok(figures.are_complete())
}
