//! The limits of HTTP that no option changes. `docs/guarantees.md` lists them; a test compares.

/// Bytes of a request's head (431 above it): over HTTP/1 from the method to the empty line, over HTTP/2 as HPACK
/// counts them.
pub const MAX_HEAD_BYTES: usize = 64 << 10;

/// Headers of a request over HTTP/1 (431 above it). Apache and gunicorn have the same limit.
pub const MAX_HEADERS: usize = 100;

/// Bytes of a request's target over HTTP/1: path and query (414 above it).
pub const MAX_TARGET_BYTES: usize = 32 << 10;

/// Bytes of chunk extensions that one chunked body may have, all chunks added up (400 above it). Nobody
/// sends any but to do harm.
pub const MAX_CHUNK_EXTENSION_BYTES: usize = 16 << 10;

/// Bytes of trailers that one chunked body may have (400 above it).
pub const MAX_TRAILER_BYTES: usize = 16 << 10;

/// Bytes that are read ahead of a running request: further requests of the same client.
pub const READ_AHEAD_BYTES: usize = 8 << 10;

/// Decoded bytes of a body that wait for a handler that reads it piece by piece.
pub const BODY_AHEAD_BYTES: usize = 64 << 10;

/// Bytes that are read and thrown away behind an answer that was given before its request's body had come.
/// More than that, and the connection is closed.
pub const MAX_LINGER_BYTES: usize = 512 << 10;

/// Interim responses with early hints (103) that one request may have.
pub const MAX_EARLY_HINTS: usize = 16;

/// Requests of one HTTP/2 connection that are running, and streams that its client may have open.
pub const MAX_STREAMS: usize = 100;

/// Bytes of one body that an HTTP/2 client may send before they are read.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of all its bodies that an HTTP/2 client may send before they are read, beside those for which there is room in
/// the memory for bodies.
pub const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// Frames with a byte of a body that an HTTP/2 client may send at a time, before the connection takes them out of `h2`,
/// where each needs memory of its own. One with more bytes counts for less, and one of 256 for nothing.
pub const MAX_SMALL_FRAMES: usize = 50_000;

/// Bytes of a response that are ready for the socket, for each stream of HTTP/2. A whole response up to this size
/// does not count for [`CONNECTION_RESPONSE_BYTES`].
pub const STREAM_SEND_BYTES: usize = 64 << 10;

/// Memory for the bodies of one HTTP/2 connection's requests, in bytes: a share of the worker's.
pub const CONNECTION_BODY_BYTES: usize = 32 << 20;

/// Memory for whole responses of one HTTP/2 connection that wait for their client, in bytes: a share of
/// [`RESPONSE_BYTES`]. Above it they wait in files.
pub const CONNECTION_RESPONSE_BYTES: usize = 32 << 20;

/// Memory for whole responses of all HTTP/2 connections of a worker that wait for their clients, in bytes. Above
/// it they wait in files.
pub const RESPONSE_BYTES: usize = 256 << 20;
