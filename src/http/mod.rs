//! Sockets and HTTP. Knows no Python: user code plugs in through a trait.

pub mod websocket;
