//! Everything a peer can do wrong, each with its close code (RFC 6455, section 7.4.1) and a
//! sentence for the close frame.

use crate::actors::frame::Violation;

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

const fn violation(code: u16, reason: &'static str) -> Violation {
    Violation { code, reason }
}

pub(super) const RESERVED_BITS: Violation = violation(PROTOCOL_ERROR, "A reserved bit is set.");
pub(super) const RESERVED_OPCODE: Violation = violation(PROTOCOL_ERROR, "The opcode is reserved.");
pub(super) const FRAGMENTED_CONTROL: Violation =
    violation(PROTOCOL_ERROR, "A control frame may not be fragmented.");
pub(super) const LONG_CONTROL: Violation =
    violation(PROTOCOL_ERROR, "A control frame carries at most 125 bytes.");
pub(super) const NOTHING_TO_CONTINUE: Violation = violation(
    PROTOCOL_ERROR,
    "A continuation frame without a message to continue.",
);
pub(super) const UNFINISHED_MESSAGE: Violation = violation(
    PROTOCOL_ERROR,
    "A new message before the last one was finished.",
);
pub(super) const NOT_MASKED: Violation =
    violation(PROTOCOL_ERROR, "Frames from a client must be masked.");
pub(super) const LONG_LENGTH_FORM: Violation = violation(
    PROTOCOL_ERROR,
    "The payload length is not in its shortest form.",
);
pub(super) const LENGTH_TOP_BIT: Violation = violation(
    PROTOCOL_ERROR,
    "The top bit of a 64-bit payload length is set.",
);
pub(super) const BAD_CLOSE_CODE: Violation =
    violation(PROTOCOL_ERROR, "The close code is not a valid one.");
pub(super) const HALF_CLOSE_CODE: Violation = violation(
    PROTOCOL_ERROR,
    "A close frame of one byte has no room for its code.",
);
pub(super) const BAD_UTF8: Violation = violation(INVALID_DATA, "The text is not valid UTF-8.");
pub(super) const BAD_DEFLATE: Violation =
    violation(INVALID_DATA, "The message cannot be inflated.");
pub(super) const MESSAGE_TOO_BIG: Violation =
    violation(TOO_BIG, "The message is larger than this server accepts.");
pub(super) const TOO_MANY_FRAGMENTS: Violation =
    violation(TOO_BIG, "The message is cut into too many fragments.");
