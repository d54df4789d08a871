//! The causes that end a session: the one table of close codes and reasons (RFC 6455, section 7.4).
//!
//! Every close frame, the access log and `ws.close_code` take their code and reason from here. The table in
//! `docs/howto/websockets.md` is compared with this one by a test below.

use std::borrow::Cow;
use std::time::Duration;

use crate::ipc::Fate;

/// The cause that ends a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CloseCause {
    /// The client closed the connection, with a close frame that may have a code.
    Client {
        /// The code of its close frame.
        code: Option<u16>,
        /// The reason of its close frame.
        reason: String,
    },
    /// The connection ended without a close frame.
    Lost,
    /// The client broke the protocol.
    Violation(Violation),
    /// The client sent more frames per second than
    /// [`Limits::rate_limit`](super::limits::Limits::rate_limit) allows.
    TooManyMessages,
    /// A message of the client is too large for a record on the bus.
    TooLargeForBus,
    /// The bus refuses messages: it was removed, or is damaged.
    BusRefuses,
    /// The client has given no sign of life for this time.
    Silent {
        /// The time-out of its route.
        timeout: Duration,
        /// The missing sign of life.
        silence: Silence,
    },
    /// More waits for the client than its route allows.
    ClientTooSlow,
    /// The memory for outboxes is used up, and the outbox of this client is one of the largest.
    QueuesFull,
    /// The memory for incomplete messages is used up, and this client sends its message slowly.
    MessageTooSlow,
    /// This worker missed records of the bus, which may have been for this client.
    WorkerLagged {
        /// The number of records; not all of them were for this client.
        missed: u64,
        /// The process did not run. Otherwise it ran, and did not keep up.
        stood_still: bool,
    },
    /// Records were overwritten before a new subscription could read them.
    MissedWhileSubscribing,
    /// The bus has ended.
    BusEnded(Fate),
    /// The worker shuts down.
    Restart,
    /// The handler returned.
    HandlerReturned,
    /// The task of the handler was cancelled.
    HandlerCancelled,
    /// The handler raised an exception.
    HandlerFailed,
    /// The handler, or a protocol in Rust, closed the session.
    Application {
        /// A code that [`is_close_code`](super::frame::is_close_code) accepts.
        code: u16,
        /// At most [`MAX_CLOSE_REASON`](super::frame::MAX_CLOSE_REASON) bytes.
        reason: String,
    },
    /// The handshake was not accepted or rejected within
    /// [`Limits::open_timeout`](super::limits::Limits::open_timeout).
    NotAnswered,
    /// The handler rejected the handshake, with this HTTP status.
    Rejected {
        /// From 400 to 599.
        status: u16,
    },
}

/// The sign of life that was missing.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Silence {
    /// Nothing came from the client.
    Heard,
    /// The client's system acknowledged nothing.
    Sent,
}

/// A breach of the WebSocket protocol by a client.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", self.reason())]
pub enum Violation {
    /// A reserved bit without an extension that uses it (RFC 6455, section 5.2).
    ReservedBits,
    /// An opcode without a meaning (section 5.2).
    ReservedOpcode,
    /// A control frame in fragments (section 5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (section 5.5).
    LongControl,
    /// A continuation frame outside a message (section 5.4).
    NothingToContinue,
    /// A message inside a message (section 5.4).
    UnfinishedMessage,
    /// A frame without a mask (section 5.1).
    NotMasked,
    /// A length that a shorter form could hold (section 5.2).
    LongLengthForm,
    /// A length of 64 bits whose first bit is 1 (section 5.2).
    LengthTopBit,
    /// A close code that must not be sent (section 7.4).
    BadCloseCode,
    /// A close frame with one byte (section 5.5.1).
    HalfCloseCode,
    /// Text or a close reason that is not UTF-8 (section 8.1).
    BadUtf8,
    /// Data that cannot be inflated (RFC 7692, section 7.2.2).
    BadDeflate,
    /// A message above [`Limits::max_message_size`](super::limits::Limits::max_message_size).
    MessageTooBig,
    /// A message in more fragments than the decoder counts.
    TooManyFragments,
}

impl Violation {
    /// The close code (RFC 6455, section 7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::BadUtf8 | Self::BadDeflate => 1007,
            Self::MessageTooBig | Self::TooManyFragments => 1009,
            _ => 1002,
        }
    }

    /// One sentence for the close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "A reserved bit is set.",
            Self::ReservedOpcode => "The opcode is reserved.",
            Self::FragmentedControl => "A control frame may not be fragmented.",
            Self::LongControl => "A control frame carries at most 125 bytes.",
            Self::NothingToContinue => "A continuation frame without a message to continue.",
            Self::UnfinishedMessage => "A new message before the last one was finished.",
            Self::NotMasked => "Frames from a client must be masked.",
            Self::LongLengthForm => "The payload length is not in its shortest form.",
            Self::LengthTopBit => "The top bit of a 64-bit payload length is set.",
            Self::BadCloseCode => "The close code is not a valid one.",
            Self::HalfCloseCode => "A close frame of one byte has no room for its code.",
            Self::BadUtf8 => "The text is not valid UTF-8.",
            Self::BadDeflate => "The message cannot be inflated.",
            Self::MessageTooBig => "The message is larger than this server accepts.",
            Self::TooManyFragments => "The message is cut into too many fragments.",
        }
    }
}

impl CloseCause {
    /// The close code. 1005 and 1006 are never sent: they mean a close without a code, and an end
    /// without a close frame (RFC 6455, section 7.4.1).
    pub fn code(&self) -> u16 {
        match self {
            Self::HandlerReturned => 1000,
            Self::Silent { .. } | Self::HandlerCancelled => 1001,
            Self::Client { code, .. } => code.unwrap_or(1005),
            Self::Lost | Self::NotAnswered | Self::Rejected { .. } => 1006,
            Self::Violation(violation) => violation.code(),
            Self::TooManyMessages => 1008,
            Self::TooLargeForBus => 1009,
            Self::BusRefuses | Self::HandlerFailed => 1011,
            Self::Restart => 1012,
            Self::ClientTooSlow
            | Self::QueuesFull
            | Self::MessageTooSlow
            | Self::WorkerLagged { .. }
            | Self::MissedWhileSubscribing
            | Self::BusEnded(_) => 1013,
            Self::Application { code, .. } => *code,
        }
    }

    /// The reason: a few words for people, and possibly empty.
    pub fn reason(&self) -> Cow<'_, str> {
        let reason = match self {
            Self::Client { reason, .. } | Self::Application { reason, .. } => reason,
            Self::Lost => "the connection was lost",
            Self::Violation(violation) => violation.reason(),
            Self::TooManyMessages => "too many messages per second",
            Self::TooLargeForBus => "message too large for the bus",
            Self::BusRefuses => "the bus does not take messages",
            Self::Silent { timeout, silence } => {
                let missing = match silence {
                    Silence::Heard => "was heard",
                    Silence::Sent => "could be sent",
                };
                let seconds = timeout.as_secs_f32();
                return format!("nothing {missing} for {seconds} s").into();
            }
            Self::ClientTooSlow => "this client was too slow: messages were missed",
            Self::QueuesFull => {
                "this client was slow, and the memory for slow clients was used up: messages were missed"
            }
            Self::MessageTooSlow => {
                "this message came slowly, and the memory for incomplete messages was used up"
            }
            Self::WorkerLagged {
                missed,
                stood_still,
            } => {
                let lag = if *stood_still {
                    "stood still"
                } else {
                    "fell behind"
                };
                return format!("this worker {lag}: up to {missed} messages were missed").into();
            }
            Self::MissedWhileSubscribing => "messages were missed while subscribing",
            Self::BusEnded(Fate::Removed) => {
                "the bus of this server was removed: messages may be missed"
            }
            Self::BusEnded(Fate::Damaged) => {
                "the bus of this server is damaged: messages may be missed"
            }
            Self::Restart => "the server restarts",
            Self::HandlerReturned | Self::HandlerCancelled => "",
            Self::HandlerFailed => "the handler failed",
            Self::NotAnswered => "The application did not respond in time.",
            Self::Rejected { status } => return format!("refused with {status}").into(),
        };
        Cow::Borrowed(reason)
    }

    /// Are the messages that wait for the client dropped? Then the client does not take them, or a gap
    /// would come before them. Otherwise they are sent before the close frame.
    pub fn drops_outbox(&self) -> bool {
        match self {
            Self::Silent { .. }
            | Self::ClientTooSlow
            | Self::QueuesFull
            | Self::WorkerLagged { .. }
            | Self::MissedWhileSubscribing
            | Self::BusEnded(_) => true,
            Self::Client { .. }
            | Self::Lost
            | Self::Violation(_)
            | Self::TooManyMessages
            | Self::TooLargeForBus
            | Self::BusRefuses
            | Self::MessageTooSlow
            | Self::Restart
            | Self::HandlerReturned
            | Self::HandlerCancelled
            | Self::HandlerFailed
            | Self::Application { .. }
            | Self::NotAnswered
            | Self::Rejected { .. } => false,
        }
    }
}

impl From<Violation> for CloseCause {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::actors::frame::{MAX_CLOSE_REASON, is_close_code};

    /// The table that users read.
    const PAGE: &str = include_str!("../../docs/howto/websockets.md");

    const VIOLATIONS: [Violation; 15] = [
        Violation::ReservedBits,
        Violation::ReservedOpcode,
        Violation::FragmentedControl,
        Violation::LongControl,
        Violation::NothingToContinue,
        Violation::UnfinishedMessage,
        Violation::NotMasked,
        Violation::LongLengthForm,
        Violation::LengthTopBit,
        Violation::BadCloseCode,
        Violation::HalfCloseCode,
        Violation::BadUtf8,
        Violation::BadDeflate,
        Violation::MessageTooBig,
        Violation::TooManyFragments,
    ];

    /// The causes whose code and reason the server chooses, with a close frame.
    fn causes() -> Vec<CloseCause> {
        let silent = |silence| CloseCause::Silent {
            timeout: Duration::from_secs(60),
            silence,
        };
        let lagged = |stood_still| CloseCause::WorkerLagged {
            missed: 7,
            stood_still,
        };
        let mut causes: Vec<CloseCause> = VIOLATIONS.map(Into::into).into();
        causes.extend([
            CloseCause::TooManyMessages,
            CloseCause::TooLargeForBus,
            CloseCause::BusRefuses,
            silent(Silence::Heard),
            silent(Silence::Sent),
            CloseCause::ClientTooSlow,
            CloseCause::QueuesFull,
            CloseCause::MessageTooSlow,
            lagged(false),
            lagged(true),
            CloseCause::MissedWhileSubscribing,
            CloseCause::BusEnded(Fate::Removed),
            CloseCause::BusEnded(Fate::Damaged),
            CloseCause::Restart,
            CloseCause::HandlerReturned,
            CloseCause::HandlerCancelled,
            CloseCause::HandlerFailed,
        ]);
        causes
    }

    #[test]
    fn the_page_for_users_has_each_code_with_its_reason_and_no_other() {
        let rows = PAGE.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let code = cells.next()?.parse().ok().filter(|code| *code >= 1000)?;
            let reason = cells.next()?.trim_matches('`');
            Some((
                code,
                if reason == "*(empty)*" { "" } else { reason }.to_owned(),
            ))
        });
        let page: BTreeSet<(u16, String)> = rows.collect();
        let table = causes();
        let table = table
            .iter()
            .map(|cause| (cause.code(), cause.reason().into_owned()));
        assert_eq!(page, table.collect());
    }

    #[test]
    fn a_close_frame_takes_each_code_and_each_reason() {
        for cause in causes() {
            assert!(is_close_code(cause.code()), "{cause:?}");
            assert!(cause.reason().len() <= MAX_CLOSE_REASON, "{cause:?}");
        }
    }

    #[test]
    fn an_end_without_a_close_frame_has_a_code_that_is_never_sent() {
        let without_code = CloseCause::Client {
            code: None,
            reason: String::new(),
        };
        assert_eq!(without_code.code(), 1005);
        for cause in [
            CloseCause::Lost,
            CloseCause::NotAnswered,
            CloseCause::Rejected { status: 403 },
        ] {
            assert_eq!(cause.code(), 1006);
            assert!(!is_close_code(cause.code()));
        }
    }
}
