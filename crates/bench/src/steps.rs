//! The script of a connection: the steps that it takes, as options for the mode `script`.

/// One line of a script.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Step {
    /// Sends this as a text message.
    Send(String),
    /// Waits for a message that contains this. Others are skipped.
    Expect(String),
}

/// The script of a connection. `again` must expect something, or the connection would never wait.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub struct Script {
    /// The steps at the beginning, once.
    pub first: Vec<Step>,
    /// The steps of a turn, which is repeated.
    pub again: Vec<Step>,
}

impl Script {
    /// Whether each turn waits for something.
    pub(super) fn is_bounded(&self) -> bool {
        let is_expect = |step: &Step| matches!(step, Step::Expect(text) if !text.is_empty());
        self.again.iter().any(is_expect)
    }

    /// The step at an index: first those of the beginning, then those of a turn.
    pub(super) fn step(&self, at: usize) -> Option<&Step> {
        self.first
            .get(at)
            .or_else(|| self.again.get(at - self.first.len()))
    }
}
