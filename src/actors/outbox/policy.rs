//! The policies that apply when an outbox is full.

/// The policy for a published message that does not fit the outbox.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Overflow {
    /// Close the session with 1013. The client knows that it missed something.
    #[default]
    Close,
    /// Drop the oldest published messages that wait.
    DropOldest,
    /// Drop the message that does not fit.
    DropNewest,
    /// Hold only the newest message of each topic; if that is not enough, drop the oldest.
    Latest,
}

/// The outbox is full, and its policy is to close.
#[derive(Debug, Eq, PartialEq)]
pub struct OutboxFull;
