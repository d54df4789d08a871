//! What a measurement gives: figures, and what was wrong, in sentences.
//!
//! The names are the same in every mode; what a mode does not have is null. They are the schema of
//! `--json`, and [`SCHEMA`] is its version.

use std::collections::BTreeMap;

use super::figures::{Figures, Value};
use super::meter::Meter;
use super::options::{Mode, Options};
use super::upgrade::close_meaning;

/// Goes up when a name goes, or means something else; not when one is added.
const SCHEMA: u64 = 1;

/// What became of all that was sent, warm-up included. None: the mode has no such thing.
#[derive(Clone, Default, Debug)]
pub(super) struct Account {
    pub(super) sent: u64,
    /// Different messages, at each receiver.
    pub(super) delivered: u64,
    pub(super) missing: u64,
    pub(super) gaps: Option<u64>,
    pub(super) late: Option<u64>,
    pub(super) duplicates: Option<u64>,
    /// Answers that are not what they should be.
    pub(super) wrong: u64,
    /// What was due in the open loop, and never sent because nothing had room for it.
    pub(super) unsent: u64,
    /// Messages that are none of ours.
    pub(super) foreign: Option<u64>,
    pub(super) orders: Option<u64>,
    /// How often nothing came for a second and what was in flight was given up.
    pub(super) stalls: Option<u64>,
    pub(super) closed: BTreeMap<Option<u16>, u64>,
    /// Responses by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) wire_bytes_per_unit: Option<f64>,
    /// Further sentences.
    pub(super) faults: Vec<String>,
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    /// By name, as in `--json`.
    pub figures: Figures,
    /// Everything that was sent arrived, once and in one order.
    pub is_complete: bool,
}

impl Account {
    /// What was wrong, in sentences.
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

/// Puts it all together.
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

/// The load, as it was asked for.
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
