//! The upgrade that opens a WebSocket (RFC 6455 section 4), and the meaning of a refusal.

use super::error::{BenchError, Outcome};
use super::options::Options;
use super::target::Target;

/// The key of RFC 6455 section 1.3, and its answer. A secret key would protect against caches, and
/// there are none here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The limit for a response's head, in bytes; a longer head is an error.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

pub(super) const MAX_HEADERS: usize = 128;

/// A request that opens a WebSocket, with the requirements for its response.
pub(super) struct Upgrade {
    pub(super) request: Vec<u8>,
    url: String,
    subprotocol: Option<String>,
    compressed: bool,
}

impl Upgrade {
    pub(super) fn new(target: &Target, options: &Options) -> Self {
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n",
            target.path, target.host
        );
        if let Some(protocol) = &options.subprotocol {
            request.extend(["Sec-WebSocket-Protocol: ", protocol, "\r\n"]);
        }
        if options.compressed {
            // One decompressor is enough for all connections if no message depends on an earlier
            // one.
            request += "Sec-WebSocket-Extensions: permessage-deflate; \
                        server_no_context_takeover; client_no_context_takeover\r\n";
        }
        for (name, value) in &options.headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request += "\r\n";
        Self {
            request: request.into_bytes(),
            url: target.url.clone(),
            subprotocol: options.subprotocol.clone(),
            compressed: options.compressed,
        }
    }

    /// The length of the response's head, once it is complete. An error if it does not open a
    /// WebSocket.
    pub(super) fn check(&self, bytes: &[u8]) -> Outcome<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let url = &self.url;
        let refused = |why: String| Err(BenchError::Server(format!("{url}: {why}")));
        let len = match response.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) => {
                return refused(format!(
                    "the response's head has more than {MAX_HEAD_BYTES} bytes."
                ));
            }
            Err(error) => {
                return refused(format!(
                    "the response is not HTTP ({error}). Check the port, and whether it \
                     wants TLS (wss://)."
                ));
            }
        };
        let status = response.code.unwrap_or_default();
        if status != 101 {
            let reason = response.reason.unwrap_or_default();
            return refused(format!(
                "the server answered {status} {reason}, {}",
                meaning(status)
            ));
        }
        let header = |name: &str| {
            let found = response
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
        };
        if header("sec-websocket-accept").as_deref() != Some(ACCEPT) {
            return refused(
                "the server answered 101, but its Sec-WebSocket-Accept is wrong: \
                 the peer is not a WebSocket server."
                    .to_owned(),
            );
        }
        if let Some(wanted) = &self.subprotocol
            && header("sec-websocket-protocol").as_deref() != Some(wanted)
        {
            return refused(format!(
                "the server did not agree on the subprotocol {wanted}."
            ));
        }
        let extensions = header("sec-websocket-extensions").unwrap_or_default();
        if self.compressed && !extensions.contains("server_no_context_takeover") {
            return refused(
                "the server did not agree on permessage-deflate. Leave out \
                 --compressed, or switch compression on there."
                    .to_owned(),
            );
        }
        Ok(Some(len))
    }
}

/// The meaning of a status other than 101, for the user.
fn meaning(status: u16) -> &'static str {
    match status {
        404 => "so there is no WebSocket at this path.",
        401 | 403 => "so it needs credentials. Pass them with --header.",
        400 | 426 => "so the request is not what it wants. Look at --subprotocol and --header.",
        429 | 503 => "so it has too many connections, or is not ready.",
        300..400 => "so the WebSocket is elsewhere: redirects are not followed.",
        500..600 => "so it failed. Look at its log.",
        _ => "and not 101: this path is not a WebSocket.",
    }
}

/// The meaning of a close code, for the user (RFC 6455 section 7.4, and the IANA registry).
pub(super) fn close_meaning(code: u16) -> &'static str {
    match code {
        1000 => "it was done",
        1001 => "it goes away",
        1002 => "it saw a protocol error",
        1003 | 1007 => "it does not take such messages: try --binary",
        1008 => "a policy or a rate limit of its own was broken",
        1009 => "the message was too big: try a smaller --bytes",
        1011 => "it failed: look at its log",
        1012 => "it restarts",
        1013 => "it has too much to do, or a client was too slow: try again later, or with less",
        _ => "a code of its own",
    }
}
