//! The version in a request line that `httparse` does not accept.

use actix_http::StatusCode;

use super::head_error::{HeadError, bad, error};

/// Replaces HTTP/1.2 to HTTP/1.9 in the request line by HTTP/1.1: a server treats a higher minor version as the
/// highest that it knows (RFC 9112, section 2.3).
pub(super) fn as_http11(bytes: &[u8]) -> Option<Vec<u8>> {
    let digit = version_digit(bytes)?;
    let is_minor = bytes[..digit].ends_with(b"HTTP/1.") && matches!(bytes[digit], b'2'..=b'9');
    is_minor.then(|| {
        let mut patched = bytes.to_vec();
        patched[digit] = b'1';
        patched
    })
}

/// The index of the last character of the request line.
pub(super) fn version_digit(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    let line = &bytes[start..];
    let end = line.iter().position(|byte| *byte == b'\n')?;
    let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
    Some(start + line.len().checked_sub(1)?)
}

/// Refuses a version that this server does not speak, or an invalid one.
pub(super) fn bad_version<T>(bytes: &[u8]) -> Result<T, HeadError> {
    let named = version_digit(bytes).is_some_and(|digit| {
        let version = bytes[..=digit].rsplit(|byte| *byte == b' ').next();
        matches!(version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if matches!(major, b'0' | b'2'..=b'9') && minor.is_ascii_digit())
    });
    if named {
        error(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "This port speaks HTTP/1.1 and HTTP/1.0; HTTP/2 needs TLS.",
        )
    } else {
        bad("The request line must end with HTTP/1.1 or HTTP/1.0.")
    }
}
