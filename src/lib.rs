//! Fanbus: real-time web applications in Python, with a Rust core.
//!
//! One process per core serves HTTP and WebSocket on one port, and a **bus in shared memory**
//! carries every published message to the clients of *every* worker.
//!
//! ```text
//! socket -> session -> handler (Python) or relay (Rust) -> publish(topic, message)
//!        -> bus (shared memory) == every worker, the publishing one too
//!        -> hub.deliver(topic, frame) -> session outbox -> socket
//! ```
//!
//! Dependencies point one way, and `tests/it/tidy.rs` checks it:
//!
//! ```text
//! ipc  <-  actors  <-  http  <-  python (the only pyo3)  <-  python/fanbus (the package)
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("Fanbus runs on Linux: its bus needs /dev/shm, /proc and locks on open files.");

#[cfg(not(loom))]
pub mod actors;
#[cfg(not(loom))]
pub mod http;
pub mod ipc;
#[cfg(all(feature = "python", not(loom)))]
mod python;
