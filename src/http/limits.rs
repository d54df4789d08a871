//! The limits of HTTP that no option changes. `docs/guarantees.md` lists them; a test compares.

/// Bytes of a request's head over HTTP/1, from the method to the empty line (431 above it).
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
