//! The actors: the hub, the sessions and the mailboxes. Each owns state that others reach by messages.
//!
//! Everything here runs on a worker's one I/O thread, except the two ends of a [`mailbox::Mailbox`]
//! and the counters of a [`link::Link`]. It knows the bus; it knows no HTTP and no Python.

pub mod arena;
pub mod close;
pub mod crowd;
pub mod deflate;
pub mod forks;
pub mod frame;
pub mod heap;
pub mod hub;
pub mod inbox;
pub mod limits;
pub mod lingering;
pub mod link;
pub mod mailbox;
pub mod outbox;
pub mod pace;
pub mod partials;
pub mod protocol;
pub mod protocols;
pub mod publish;
pub mod pulse;
pub mod queues;
pub mod rejection;
pub mod replays;
pub mod second_look;
pub mod session;
pub mod session_key;
pub mod session_writer;
pub mod shared;
pub mod shutdown;
pub mod sizing;
pub mod socket_writer;
pub mod sse;
pub mod sse_beginning;
pub mod sse_session;
pub mod stamp;
pub mod starts;
pub mod topic;
pub mod turn;
pub mod turn_queue;
pub mod watch;
pub mod wheel;
