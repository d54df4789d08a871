//! The parts of RFC 6455 that need no socket: the opening handshake, and the decoder that turns a peer's bytes into
//! events.
//!
//! The frames that a server *sends* are encoded in [`crate::actors::frame`], because the bus carries them.

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
