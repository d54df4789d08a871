//! The error that describes a request head which the server refuses.

use std::borrow::Cow;

use actix_http::StatusCode;

/// A head that the server refuses. The connection closes after the response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeadError {
    /// The status of the response.
    pub status: StatusCode,
    /// The rule that the head breaks, as a sentence.
    pub reason: Cow<'static, str>,
}

/// Refuses a head with this status and reason.
pub(super) fn error<T>(
    status: StatusCode,
    reason: impl Into<Cow<'static, str>>,
) -> Result<T, HeadError> {
    let reason = reason.into();
    Err(HeadError { status, reason })
}

/// Refuses a head with 400.
pub(super) fn bad<T>(reason: &'static str) -> Result<T, HeadError> {
    error(StatusCode::BAD_REQUEST, reason)
}
