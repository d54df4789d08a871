//! The report that a measurement returns: its figures, and its faults as sentences.
//!
//! The names are the same in every mode; values that a mode does not have are null. The names are
//! the schema of `--json`, and [`SCHEMA`] is its version.

use std::collections::BTreeMap;

use super::figures::{Figures, Value};
use super::meter::Meter;
use super::options::{Mode, Options};
use super::upgrade::close_meaning;

/// The version. It increases when a name is removed or changes its meaning, not when one is added.
const SCHEMA: u64 = 1;

/// The counts of everything that was sent, warm-up included. None: the mode has no such count.
#[derive(Clone, Default, Debug)]
pub(super) struct Account {
    pub(super) sent: u64,
    /// Different messages, at each receiver.
    pub(super) delivered: u64,
    pub(super) missing: u64,
    pub(super) gaps: Option<u64>,
    pub(super) late: Option<u64>,
    pub(super) duplicates: Option<u64>,
    /// Answers that differ from the expected ones.
    pub(super) wrong: u64,
    /// Messages that were due in the open loop, but never sent because no connection had room for
    /// them.
    pub(super) unsent: u64,
    /// Messages that this run of the driver did not send.
    pub(super) foreign: Option<u64>,
    pub(super) orders: Option<u64>,
    /// How often nothing arrived for a second, and the messages in flight were given up.
    pub(super) stalls: Option<u64>,
    pub(super) closed: BTreeMap<Option<u16>, u64>,
    /// The number of responses, by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) wire_bytes_per_unit: Option<f64>,
    /// Further faults, as sentences.
    pub(super) faults: Vec<String>,
}

/// The result of a measurement.
#[derive(Debug)]
pub struct Report {
    /// The figures by name, as in `--json`.
    pub figures: Figures,
    /// Whether everything that was sent arrived, once and in one order.
    pub is_complete: bool,
}

impl Account {
    /// The faults, as sentences.
    fn told(&self) -> Vec<String> {
        let mut told = self.faults.clone();
        let counted = [
            (self.missing, "did not arrive"),
            (
                self.unsent,
                "were due and never sent, because every connection waited for the server",
            ),
            (self.wrong, "were not what they should be"),
            (self.duplicates.unwrap_or(0), "came more than once"),
            (
                self.late.unwrap_or(0),
                "came after a later one of the same sender",
            ),
        ];
        for (count, what) in counted {
            if count > 0 {
                told.push(format!("{count} {what}."));
            }
        }
        if let Some(orders @ 2..) = self.orders {
            told.push(format!("The clients saw {orders} different orders."));
        }
        if let Some(stalls @ 1..) = self.stalls {
            told.push(format!(
                "Nothing came for a second, {stalls} times; the messages in flight count as missing."
            ));
        }
        for (code, count) in &self.closed {
            told.push(match code {
                Some(code) => format!(
                    "The server closed {count} connections with {code}: {}.",
                    close_meaning(*code)
                ),
                None => format!("The server closed {count} connections without a word."),
            });
        }
        told
    }
}

/// Builds the report.
pub(super) fn report(
    options: &Options,
    account: &Account,
    meter: &Meter,
    unit: &str,
    idle: Option<Figures>,
) -> Report {
    let mut faults = account.told();
    if meter.units() == 0 && options.mode != Mode::Idle {
        faults.push(format!(
            "There were no {unit} in the time that was measured."
        ));
    }
    let is_complete = faults.is_empty();
    let mut figures = Figures::default();
    figures.add("schema", SCHEMA);
    figures.add("mode", options.mode.name());
    figures.add("url", options.url.as_str());
    figures.add("complete", is_complete);
    figures.add("faults", Value::Texts(faults));
    figures.add("load", load(options));
    meter.report(unit, &mut figures);
    figures.add("sent", account.sent);
    figures.add("delivered", account.delivered);
    figures.add("missing", account.missing);
    figures.add("unsent", account.unsent);
    figures.add("wrong", account.wrong);
    figures.add("gaps", account.gaps);
    figures.add("late", account.late);
    figures.add("duplicates", account.duplicates);
    figures.add("orders", account.orders);
    figures.add("foreign", account.foreign);
    figures.add("stalls", account.stalls);
    let mut closed = Figures::default();
    for (code, count) in &account.closed {
        closed.add(
            code.map_or_else(|| "none".to_owned(), |code| code.to_string()),
            *count,
        );
    }
    figures.add("closed", closed);
    let mut statuses = Figures::default();
    for (status, count) in &account.statuses {
        statuses.add(status.to_string(), *count);
    }
    figures.add("statuses", statuses);
    figures.add("wire_bytes_per_unit", account.wire_bytes_per_unit);
    figures.add("idle", idle);
    Report {
        figures,
        is_complete,
    }
}

/// The load, as the options requested it.
fn load(options: &Options) -> Figures {
    let has_messages = matches!(options.mode, Mode::Echo | Mode::Fanout);
    let is_closed = options.rate.is_none() && options.mode != Mode::Idle;
    let in_flight = match options.mode {
        Mode::Echo | Mode::Fanout => options.in_flight,
        Mode::Http => options.in_flight * options.connections,
        _ => options.connections,
    };
    let mut load = Figures::default();
    load.add("connections", options.connections);
    load.add(
        "publishers",
        (options.mode == Mode::Fanout).then_some(options.publishers),
    );
    load.add("in_flight", is_closed.then_some(in_flight));
    load.add("rate", options.rate);
    load.add("bytes", has_messages.then_some(options.bytes));
    load
}
