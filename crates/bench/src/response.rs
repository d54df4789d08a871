//! The reader that finds the end of an HTTP/1.1 response (RFC 9112 section 6) while bytes arrive.

use super::upgrade::{MAX_HEAD_BYTES, MAX_HEADERS};

/// The state of a response that is still incomplete.
#[derive(Debug)]
pub(super) struct Reader {
    state: State,
    is_head: bool,
    status: u16,
    stays: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Head,
    Body {
        left: u64,
    },
    ChunkSize,
    /// The chunk data, with the line end after it.
    Chunk {
        left: u64,
    },
    Trailer,
    /// The body ends with the connection.
    Rest,
}

/// The result of a complete response.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    pub(super) status: u16,
    /// Whether the server accepts another request on this connection.
    pub(super) stays: bool,
}

impl Reader {
    /// A reader for responses to this method.
    pub(super) fn new(method: &str) -> Self {
        Self {
            state: State::Head,
            is_head: method == "HEAD",
            status: 0,
            stays: true,
        }
    }

    /// Takes as many bytes as it can. Returns their number, and the result if the response is
    /// complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Outcome>), &'static str> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let (len, next) = match self.state {
                State::Head => match self.head(rest)? {
                    Some((len, next)) => (len, next),
                    None => return Ok((taken, None)),
                },
                State::Body { left: 1.. } | State::Chunk { .. } if rest.is_empty() => {
                    return Ok((taken, None));
                }
                State::Body { left } => {
                    let len = left.min(rest.len() as u64);
                    let left = left - len;
                    (len as usize, (left > 0).then_some(State::Body { left }))
                }
                State::Chunk { left } => {
                    let len = left.min(rest.len() as u64);
                    let next = match left - len {
                        0 => State::ChunkSize,
                        left => State::Chunk { left },
                    };
                    (len as usize, Some(next))
                }
                State::ChunkSize => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((len, 0))) => (len, Some(State::Trailer)),
                    Ok(httparse::Status::Complete((len, size))) => {
                        let left = size.checked_add(2).ok_or("a chunk without an end")?;
                        (len, Some(State::Chunk { left }))
                    }
                    Ok(httparse::Status::Partial) if rest.len() < MAX_HEAD_BYTES => {
                        return Ok((taken, None));
                    }
                    _ => return Err("a chunk without a size"),
                },
                State::Trailer => match rest.iter().position(|byte| *byte == b'\n') {
                    None if rest.len() < MAX_HEAD_BYTES => return Ok((taken, None)),
                    None => return Err("a trailer without an end"),
                    Some(end) if matches!(&rest[..end], b"" | b"\r") => (end + 1, None),
                    Some(end) => (end + 1, Some(State::Trailer)),
                },
                State::Rest => return Ok((bytes.len(), None)),
            };
            taken += len;
            match next {
                Some(next) => self.state = next,
                None => return Ok((taken, Some(self.finish()))),
            }
        }
    }

    /// Handles the end of the connection. Returns the result if that end completes the response.
    pub(super) fn end(&mut self) -> Option<Outcome> {
        (self.state == State::Rest).then(|| self.finish())
    }

    fn finish(&mut self) -> Outcome {
        self.state = State::Head;
        Outcome {
            status: self.status,
            stays: self.stays,
        }
    }

    /// The head's length and the next state; the state is `None` if nothing follows.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<(usize, Option<State>)>, &'static str> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) => return Err("a head without an end"),
            Err(_) => return Err("a response that is not HTTP"),
        };
        self.status = response.code.unwrap_or_default();
        self.stays = response.version == Some(1);
        if (100..200).contains(&self.status) {
            return if self.status == 101 {
                Err("an unexpected 101")
            } else {
                Ok(Some((len, Some(State::Head))))
            };
        }
        let (mut length, mut is_chunked) = (None, false);
        for header in response.headers.iter() {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let text = std::str::from_utf8(header.value).unwrap_or_default();
                length = Some(
                    text.trim()
                        .parse()
                        .map_err(|_| "a Content-Length that is not a number")?,
                );
            } else if is("transfer-encoding") {
                is_chunked = header.value.to_ascii_lowercase().ends_with(b"chunked");
            } else if is("connection") {
                let value = header.value.to_ascii_lowercase();
                let says = |word: &[u8]| value.windows(word.len()).any(|part| part == word);
                self.stays = !says(b"close") && (self.stays || says(b"keep-alive"));
            }
        }
        let has_body = !self.is_head && !matches!(self.status, 204 | 304);
        let next = match (has_body, is_chunked, length) {
            (false, ..) | (true, false, Some(0)) => None,
            (true, true, _) => Some(State::ChunkSize),
            (true, false, Some(left)) => Some(State::Body { left }),
            (true, false, None) => Some(State::Rest),
        };
        Ok(Some((len, next)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Outcome = Outcome {
        status: 200,
        stays: true,
    };

    /// Reads a response that arrives in two reads, split at every position.
    fn read(method: &str, response: &[u8], outcome: Outcome) {
        for cut in 0..=response.len() {
            let mut reader = Reader::new(method);
            let mut kept = Vec::new();
            let mut done = None;
            for part in [&response[..cut], &response[cut..]] {
                kept.extend_from_slice(part);
                let (taken, whole) = reader.take(&kept).expect("a response");
                kept.drain(..taken);
                done = done.or(whole);
            }
            assert_eq!((done, kept.len()), (Some(outcome), 0), "cut at {cut}");
        }
    }

    #[test]
    fn a_response_ends_where_its_length_says() {
        read(
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            DONE,
        );
        read("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", DONE);
        read(
            "HEAD",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            DONE,
        );
        let none = Outcome {
            status: 204,
            ..DONE
        };
        read("GET", b"HTTP/1.1 204 No Content\r\n\r\n", none);
        read(
            "GET",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            none,
        );
    }

    #[test]
    fn a_chunked_response_ends_with_its_trailer() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
            "1\r\na\r\n0\r\nT: x\r\n\r\n",
        ] {
            read("GET", format!("{head}{body}").as_bytes(), DONE);
        }
    }

    #[test]
    fn a_response_without_a_length_ends_with_its_connection() {
        let mut reader = Reader::new("GET");
        let response = b"HTTP/1.0 200 OK\r\n\r\nhello";
        assert_eq!(reader.take(response), Ok((response.len(), None)));
        assert_eq!(
            reader.end(),
            Some(Outcome {
                stays: false,
                ..DONE
            })
        );
        assert_eq!(Reader::new("GET").end(), None);
    }

    #[test]
    fn a_connection_that_closes_says_so() {
        let closing = Outcome {
            stays: false,
            ..DONE
        };
        read(
            "GET",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            closing,
        );
        read(
            "GET",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            closing,
        );
        read(
            "GET",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
            DONE,
        );
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        for wrong in [
            &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ] {
            assert!(Reader::new("GET").take(wrong).is_err());
        }
    }
}
