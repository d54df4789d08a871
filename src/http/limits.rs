//! The limits of HTTP that no option changes. `docs/guarantees.md` lists them, and a test compares both.

/// Bytes of a request's head (431 above it): over HTTP/1 from the method to the empty line, over HTTP/2 as HPACK
/// counts them.
pub const MAX_HEAD_BYTES: usize = 64 << 10;

/// Headers of an HTTP/1 request (431 above it). Apache and gunicorn have the same limit.
pub const MAX_HEADERS: usize = 100;

/// Bytes of an HTTP/1 request's target: path and query (414 above it).
pub const MAX_TARGET_BYTES: usize = 32 << 10;

/// Bytes of chunk extensions in one chunked body, over all chunks (400 above it). Only attackers send any.
pub const MAX_CHUNK_EXTENSION_BYTES: usize = 16 << 10;

/// Bytes of trailers in one chunked body (400 above it).
pub const MAX_TRAILER_BYTES: usize = 16 << 10;

/// Bytes that are read ahead of a running request: further requests of the same client.
pub const READ_AHEAD_BYTES: usize = 8 << 10;

/// Decoded bytes of a body that wait for a handler that reads it in chunks.
pub const BODY_AHEAD_BYTES: usize = 64 << 10;

/// Bytes that are read and discarded after a response that was sent before its request's body had arrived. Above it
/// the connection is closed.
pub const MAX_LINGER_BYTES: usize = 512 << 10;

/// Interim responses with early hints (103) per request.
pub const MAX_EARLY_HINTS: usize = 16;

/// Running requests of one HTTP/2 connection, and streams that its client may have open.
pub const MAX_STREAMS: usize = 100;

/// Bytes of one body that an HTTP/2 client may send before they are read.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of all its bodies that an HTTP/2 client may send before they are read. Bodies that fit into the memory for
/// bodies do not count.
pub const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// Frames with one byte of a body that an HTTP/2 client may send at a time, before the connection takes them out of
/// `h2`, where each frame needs memory of its own. A frame with more bytes counts for less, and one of 256 bytes
/// for nothing.
pub const MAX_SMALL_FRAMES: usize = 50_000;

/// Bytes of a response that are ready for the socket, per HTTP/2 stream. A complete response up to this size does
/// not count for [`CONNECTION_RESPONSE_BYTES`].
pub const STREAM_SEND_BYTES: usize = 64 << 10;

/// Memory for the request bodies of one HTTP/2 connection, in bytes: a share of the worker's.
pub const CONNECTION_BODY_BYTES: usize = 32 << 20;

/// Memory for complete responses that wait for the client of one HTTP/2 connection, in bytes: a share of
/// [`RESPONSE_BYTES`]. Above it they wait in files.
pub const CONNECTION_RESPONSE_BYTES: usize = 32 << 20;

/// Memory for complete responses that wait for the clients of all HTTP/2 connections of a worker, in bytes. Above
/// it they wait in files.
pub const RESPONSE_BYTES: usize = 256 << 20;
