//! The logger that passes the lines of Rust to Python's `logging`, by the event loop. Logging never blocks.

use std::sync::{Mutex, Once, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

use super::events::{Event, EventBox};

/// The mailbox of the worker that started last, which gets the log lines. There is one worker per process.
static LINES: Lines = Lines(Mutex::new(None));

/// Sets the logger of the process once.
static ONCE: Once = Once::new();

/// The prefix of modules that warn of clients' mistakes: clients must not be able to fill the log.
const OF_CLIENTS: &str = "h2::";

/// The prefix of the modules whose lines below warnings are passed on, if the application logs such lines.
const OURS: &str = "fanbus::";

struct Lines(Mutex<Option<EventBox>>);

/// From now on log lines go into `events`, as far as Python's logger `fanbus` wants them.
pub(super) fn hand_over(py: Python<'_>, events: EventBox) -> PyResult<()> {
    *LINES.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
    let logging = py.import("logging")?;
    let debug = logging.getattr("DEBUG")?;
    let wants_debug = logging
        .call_method1("getLogger", ("fanbus",))?
        .call_method1("isEnabledFor", (debug,))?
        .extract::<bool>()?;
    ONCE.call_once(|| {
        // Another logger in this process stays.
        if log::set_logger(&LINES).is_ok() {
            log::set_max_level(if wants_debug {
                LevelFilter::Debug
            } else {
                LevelFilter::Warn
            });
        }
    });
    Ok(())
}

/// Event loop: writes a line to Python's logger `fanbus`.
pub(super) fn write(py: Python<'_>, level: Level, line: &str) -> PyResult<()> {
    let method = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    };
    let logger = py
        .import("logging")?
        .call_method1("getLogger", ("fanbus",))?;
    logger.call_method1(method, ("%s", line)).map(drop)
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        match metadata.level() {
            Level::Error | Level::Warn => !target.starts_with(OF_CLIENTS),
            Level::Info | Level::Debug => target.starts_with(OURS),
            Level::Trace => false,
        }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let events = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(events) = events else { return };
        // A burst of lines must not fill the memory: lines without capacity are dropped.
        if events.has_capacity() {
            let (level, line) = (record.level(), record.args().to_string());
            events.post(|batch| batch.push(Event::Log { level, line }));
        }
    }

    fn flush(&self) {}
}
