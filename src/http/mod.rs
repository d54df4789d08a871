//! Sockets and HTTP. Knows no Python: user code plugs in through [`handler::Handler`].

pub mod access;
pub(crate) mod cache;
pub mod config;
mod connections;
pub mod events;
mod farewell;
pub mod flow;
pub mod folder;
pub mod form;
pub mod handler;
pub mod head;
mod http2;
pub(crate) mod incoming;
pub mod listener;
pub mod path;
pub mod proxies;
pub mod replies;
pub mod request;
pub mod response;
pub mod router;
pub mod routes;
pub(crate) mod sending;
pub mod server;
pub mod service;
pub mod tls;
pub mod transport;
pub mod websocket;
