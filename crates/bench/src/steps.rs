//! The script that a connection follows: its steps, as options for the mode `script`.

/// One line of a script.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Step {
    /// Sends this as a text message.
    Send(String),
    /// Waits for a message that contains this text. Other messages are skipped.
    Expect(String),
}

/// The script of a connection. `again` must contain an `Expect`, or the connection would never
/// wait.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub struct Script {
    /// The steps at the beginning, which run once.
    pub first: Vec<Step>,
    /// The steps of a turn, which repeats.
    pub again: Vec<Step>,
}

impl Script {
    /// Whether each turn waits for something.
    pub(super) fn is_bounded(&self) -> bool {
        let is_expect = |step: &Step| matches!(step, Step::Expect(text) if !text.is_empty());
        self.again.iter().any(is_expect)
    }

    /// The step at an index: first the steps of the beginning, then those of a turn.
    pub(super) fn step(&self, at: usize) -> Option<&Step> {
        self.first
            .get(at)
            .or_else(|| self.again.get(at - self.first.len()))
    }
}
