//! The load client, `fanbus bench`: what a server costs per message, and whether every message
//! arrived.
//!
//! One thread and one epoll, so that it disturbs the server little; what is counted as the server's
//! cost is that of its processes, read from /proc, so the client's own is not in it. It checks what
//! it measures: a figure for messages that did not arrive would be no figure. It knows servers by
//! their URL only, and nothing of the rest of this crate.

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
mod report;
mod response;
mod script;
mod sockets;
mod stamp;
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
pub use script::{Script, Step};
pub use watch::{Progress, Watch};

/// The memory that a process and its descendants take together, in MiB: `server.memory_mib` of a report.
pub fn memory_mib(pid: u32) -> Result<f64, BenchError> {
    let memory = processes::Processes::new(Some(pid))?.memory();
    Ok(memory.unwrap_or_default().footprint_kib as f64 / 1024.0)
}

/// Measures. Returns what was counted, whether or not all of it is as it should be; an error if
/// there is nothing to count.
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
