//! Sockets and HTTP. Knows no Python: user code plugs in through a trait.

pub mod path;
pub mod router;
pub mod websocket;
