//! The load driver that measures the cost of a server per message, and checks that every message
//! arrives. It is the engine of `fanbus bench` and `fanbus tune`.
//!
//! The driver has one thread and one epoll, so that it disturbs the server little. The cost of the
//! server is the CPU time of its processes, read from /proc, without that of the driver. The driver
//! counts and checks every message: a rate of messages that did not arrive would mean nothing. It
//! knows servers by their URL only, and it does not depend on the `fanbus` crate.

mod chart;
mod echo;
mod envelope;
mod error;
mod fanout;
pub mod figures;
mod floor;
mod footprint;
mod frame;
mod handshake;
mod http;
mod idle;
mod inflate;
pub mod ledger;
mod meter;
mod options;
mod pace;
mod places;
mod pool;
mod processes;
#[cfg(feature = "python")]
mod python;
mod report;
mod response;
mod script;
mod sockets;
mod stamp;
mod steps;
mod target;
mod tls;
mod upgrade;
mod watch;

pub use chart::{Chart, Line};
pub use envelope::Envelope;
pub use error::BenchError;
pub use floor::Floor;
pub use options::{Mode, Options};
pub use report::Report;
pub use steps::{Script, Step};
pub use watch::{Progress, Watch};

/// The memory that a process and its descendants take together, in MiB: `server.memory_mib` of a
/// report.
pub fn memory_mib(pid: u32) -> Result<f64, BenchError> {
    let memory = processes::Processes::new(Some(pid))?.memory();
    Ok(memory.unwrap_or_default().footprint_kib as f64 / 1024.0)
}

/// Runs a measurement. Returns the counts, even if messages are missing or wrong. Returns an error
/// if there is nothing to count.
pub fn run(options: &Options, watch: &mut dyn Watch) -> Result<Report, BenchError> {
    options.check()?;
    places::allow_sockets(options.sockets())?;
    let pulse = &mut watch::Pulse::new(watch);
    match options.mode {
        Mode::Http => http::run(options, pulse),
        Mode::Echo => echo::run(options, pulse),
        Mode::Fanout => fanout::run(options, pulse),
        Mode::Handshake => handshake::run(options, pulse),
        Mode::Idle => idle::run(options, pulse),
        Mode::Script => script::run(options, pulse),
    }
}
