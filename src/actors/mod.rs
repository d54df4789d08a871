//! State owned by one actor, reached by messages: hub, session, outbox, mailbox.

pub mod frame;
pub mod topic;
