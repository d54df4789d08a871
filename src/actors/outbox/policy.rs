//! The policies that apply when an outbox is full. One more policy is one more line in each match here.

/// The policy for a published message that does not fit the outbox.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Overflow {
    /// Close the session as too slow. The client knows that it missed something.
    #[default]
    Close,
    /// Drop the oldest published messages that wait.
    DropOldest,
    /// Drop the message that does not fit.
    DropNewest,
    /// Hold only the newest message of each topic; if that is not enough, drop the oldest.
    Latest,
}

/// The reaction to a message that does not fit.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum WhenFull {
    Close,
    DropOldest,
    DropNewest,
}

impl Overflow {
    /// The policy that users give by this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "close" => Self::Close,
            "drop_oldest" => Self::DropOldest,
            "drop_newest" => Self::DropNewest,
            "latest" => Self::Latest,
            _ => return None,
        })
    }

    /// The reaction to a message that does not fit.
    pub(super) fn when_full(self) -> WhenFull {
        match self {
            Self::Close => WhenFull::Close,
            Self::DropOldest | Self::Latest => WhenFull::DropOldest,
            Self::DropNewest => WhenFull::DropNewest,
        }
    }

    /// A new message replaces those of its topic that wait. So that little waits where it cannot be replaced, as
    /// little as possible is handed to the kernel.
    pub fn replaces_older(self) -> bool {
        match self {
            Self::Latest => true,
            Self::Close | Self::DropOldest | Self::DropNewest => false,
        }
    }
}

/// The outbox is full, and its policy is to close.
#[derive(Debug, Eq, PartialEq)]
pub struct OutboxFull;
