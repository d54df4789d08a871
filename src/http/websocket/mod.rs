//! RFC 6455 without a socket: the opening handshake, and a peer's bytes turned into events.
//!
//! What a server *sends* is encoded in [`crate::actors::frame`], because the bus carries it.

pub mod codec;
pub mod extension;
pub mod handshake;
mod header;
mod inflate;
mod mask;
mod message;
pub mod origin;
pub mod subprotocol;
pub(in crate::http) mod upgrade;

pub use message::MAX_FRAGMENTS;
