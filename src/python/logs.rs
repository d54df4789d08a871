//! Rust's log, handed to Python's `logging` by the event loop. Whoever logs waits for nobody.

use std::sync::{Mutex, Once, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

use super::events::{Event, EventBox};

/// Where log lines go: the mailbox of the worker that started last. There is one per process.
static LINES: Lines = Lines(Mutex::new(None));

/// The process's logger is set once.
static ONCE: Once = Once::new();

/// Who warns of what clients do: a log that they can fill is of no use.
const OF_CLIENTS: &str = "h2::";

/// Whose lines below warnings are of use, to an application that logs those.
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
        // Somebody else's logger in this process stays.
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

/// Event loop: gives a line to Python's logger `fanbus`.
pub(super) fn tell(py: Python<'_>, level: Level, line: &str) -> PyResult<()> {
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
        // A storm of lines must not fill the memory: what does not fit is not told.
        if events.has_capacity() {
            let (level, line) = (record.level(), record.args().to_string());
            events.post(|batch| batch.push(Event::Log { level, line }));
        }
    }

    fn flush(&self) {}
}
