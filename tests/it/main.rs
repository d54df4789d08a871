//! All Rust integration tests, in one binary.

mod bus;
mod codec;
mod codec_model;
mod defaults;
mod extension;
mod framing;
mod guarantees;
mod handshake;
mod inflating;
mod router;
mod serve;
mod support;
mod tidy;
