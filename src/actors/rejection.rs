//! The HTTP response that a client gets instead of a session.

/// The response to a handshake that is not accepted.
#[derive(Debug)]
pub struct Rejection {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// The body: a sentence for the client, unless the headers name another content type.
    pub body: String,
    /// Further headers. Invalid ones are left out.
    pub headers: Vec<(String, String)>,
}

impl Rejection {
    /// A status with a sentence.
    pub fn new(status: u16, sentence: impl Into<String>) -> Self {
        Self {
            status,
            body: sentence.into(),
            headers: Vec::new(),
        }
    }
}
