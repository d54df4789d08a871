//! The parser that splits a multipart body into parts (RFC 2046 section 5.1, RFC 7578).
//!
//! The caller feeds it chunks of any size, and gets events. It knows no sockets and stores no content.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;

use super::parameters::Parameters;
use super::part_head::{Malformed, PartHead};

/// Bytes of the head of a part, and of the padding behind a delimiter.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Characters of a boundary. RFC 2046 allows 70.
const MAX_BOUNDARY_BYTES: usize = 200;

/// The next event of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MultipartEvent {
    /// A part begins.
    Part(PartHead),
    /// A chunk of its content. Never empty.
    Content(Bytes),
    /// The part is complete.
    PartEnd,
    /// The form is complete. Later bytes are ignored.
    End,
    /// The parser needs more input.
    More,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter, before the end of its line.
    Delimiter,
    Head,
    Content,
    Over,
}

/// A parser of one body.
#[derive(Debug)]
pub(super) struct Parser {
    delimiter: Finder<'static>,
    buffer: BytesMut,
    state: State,
    /// The next delimiter ends a part.
    is_in_part: bool,
}

impl Parser {
    /// A parser for a body with this `Content-Type`.
    pub(super) fn new(kind: Option<&[u8]>) -> Result<Self, Malformed> {
        let boundary = Parameters::of(kind.ok_or("it has no Content-Type")?)
            .find(|(name, _)| name.eq_ignore_ascii_case(b"boundary"))
            .map(|(_, value)| value)
            .filter(|boundary| !boundary.is_empty())
            .ok_or("its Content-Type has no boundary")?;
        if boundary.len() > MAX_BOUNDARY_BYTES {
            return Err("its boundary is too long");
        }
        let delimiter = [b"\r\n--", &*boundary].concat();
        Ok(Self {
            delimiter: Finder::new(&delimiter).into_owned(),
            // No line precedes a delimiter at the beginning.
            buffer: BytesMut::from(&b"\r\n"[..]),
            state: State::Preamble,
            is_in_part: false,
        })
    }

    /// Adds a chunk of the body.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        if self.state != State::Over {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// Ends the input. The error names the missing part of an incomplete form.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        match self.state {
            State::Over => Ok(()),
            State::Preamble => Err("it has no line with its boundary"),
            _ => Err("it ends before its last boundary"),
        }
    }

    /// The next event. Call it until it returns `More` or `End`.
    pub(super) fn next(&mut self) -> Result<MultipartEvent, Malformed> {
        loop {
            let found = match self.state {
                State::Preamble => self.preamble(),
                State::Delimiter => self.after_delimiter()?,
                State::Head => self.head()?,
                State::Content => self.content(),
                State::Over => Some(MultipartEvent::End),
            };
            if let Some(event) = found {
                return Ok(event);
            }
        }
    }

    fn preamble(&mut self) -> Option<MultipartEvent> {
        if let Some(at) = self.delimiter.find(&self.buffer) {
            self.buffer.advance(at + self.delimiter.needle().len());
            self.state = State::Delimiter;
            return None;
        }
        self.buffer.advance(self.undelimited_len());
        Some(MultipartEvent::More)
    }

    /// Bytes at the beginning of the buffer in which no delimiter can begin.
    fn undelimited_len(&self) -> usize {
        let last = self.delimiter.needle().len() - 1;
        self.buffer.len().saturating_sub(last)
    }

    /// Reads the rest of a delimiter's line: two hyphens behind the last delimiter, and padding (RFC 2046, section
    /// 5.1.1).
    fn after_delimiter(&mut self) -> Result<Option<MultipartEvent>, Malformed> {
        let padding = |bytes: &[u8]| {
            let is_padding = |byte: &&u8| matches!(byte, b' ' | b'\t');
            bytes.iter().take_while(is_padding).count()
        };
        let line = &self.buffer[..];
        if line.starts_with(b"--") {
            self.state = State::Over;
            self.buffer.clear();
            return Ok(self.is_in_part.then_some(MultipartEvent::PartEnd));
        }
        let end = padding(line);
        if end > MAX_HEAD_BYTES {
            return Err("a line with its boundary is too long");
        }
        if line[end..].starts_with(b"\r\n") {
            // The line's end stays in the buffer: a head without lines begins with the empty line.
            self.buffer.advance(end);
            self.state = State::Head;
            let was_in_part = std::mem::replace(&mut self.is_in_part, false);
            return Ok(was_in_part.then_some(MultipartEvent::PartEnd));
        }
        let may_go_on = match &line[end..] {
            [] | [b'\r'] => true,
            [b'-'] => end == 0,
            _ => false,
        };
        if may_go_on {
            return Ok(Some(MultipartEvent::More));
        }
        // The line only begins like a delimiter.
        if !self.is_in_part {
            self.state = State::Preamble;
            return Ok(None);
        }
        self.state = State::Content;
        Ok(Some(MultipartEvent::Content(Bytes::copy_from_slice(
            self.delimiter.needle(),
        ))))
    }

    fn head(&mut self) -> Result<Option<MultipartEvent>, Malformed> {
        let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err("the head of a part is too long");
            }
            return Ok(Some(MultipartEvent::More));
        };
        if at > MAX_HEAD_BYTES {
            return Err("the head of a part is too long");
        }
        let head = self.buffer.split_to(at + 4).freeze();
        let part = PartHead::parse(&head[2..])?;
        self.state = State::Content;
        self.is_in_part = true;
        Ok(Some(MultipartEvent::Part(part)))
    }

    fn content(&mut self) -> Option<MultipartEvent> {
        let found = self.delimiter.find(&self.buffer);
        let len = found.unwrap_or_else(|| self.undelimited_len());
        let content = self.buffer.split_to(len).freeze();
        if found.is_some() {
            self.buffer.advance(self.delimiter.needle().len());
            self.state = State::Delimiter;
        }
        if !content.is_empty() {
            return Some(MultipartEvent::Content(content));
        }
        found.is_none().then_some(MultipartEvent::More)
    }
}

#[cfg(test)]
mod tests {
    use super::super::part_head::MAX_HEAD_LINES;
    use super::*;
    use proptest::prelude::*;

    fn parser(kind: &str) -> Result<Parser, Malformed> {
        Parser::new(Some(kind.as_bytes()))
    }

    /// The parts of a body that arrives in chunks of these lengths, with their contents.
    fn parts(body: &[u8], lengths: &[usize]) -> Result<Vec<(PartHead, Vec<u8>)>, Malformed> {
        let mut parser = parser("multipart/form-data; boundary=b")?;
        let mut lengths = lengths.iter().copied().cycle();
        let (mut rest, mut parts, mut is_open) = (body, Vec::<(PartHead, Vec<u8>)>::new(), false);
        loop {
            match parser.next()? {
                MultipartEvent::Part(head) => {
                    assert!(!is_open, "one after the other");
                    is_open = true;
                    parts.push((head, Vec::new()));
                }
                MultipartEvent::Content(content) => {
                    assert!(is_open && !content.is_empty());
                    parts.last_mut().expect("it is open").1.extend(content);
                }
                MultipartEvent::PartEnd => assert!(std::mem::take(&mut is_open)),
                MultipartEvent::End => return Ok(parts),
                MultipartEvent::More if rest.is_empty() => {
                    parser.finish()?;
                    return Ok(parts);
                }
                MultipartEvent::More => {
                    let len = lengths.next().unwrap_or(1).clamp(1, rest.len());
                    parser.feed(&rest[..len]);
                    rest = &rest[len..];
                }
            }
        }
    }

    const FIELD: &str = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";

    #[test]
    fn padding_behind_a_boundary_is_ignored() {
        for padding in ["", " ", " \t  "] {
            let body =
                format!("--b{padding}\r\n{FIELD}1\r\n--b{padding}\r\n{FIELD}2\r\n--b--{padding}");
            let found = parts(body.as_bytes(), &[3]).expect("a form");
            let contents: Vec<_> = found.into_iter().map(|(_, content)| content).collect();
            assert_eq!(contents, [b"1", b"2"], "{padding:?}");
        }
    }

    #[test]
    fn an_empty_form_needs_no_line_end() {
        for body in [
            "--b--",
            "--b--\r\n",
            "\r\n--b--",
            "--b-- ",
            "preamble\r\n--b--\r\nepilogue",
        ] {
            for length in [1, 2, 100] {
                assert_eq!(
                    parts(body.as_bytes(), &[length]),
                    Ok(Vec::new()),
                    "{body:?}"
                );
            }
        }
    }

    #[test]
    fn a_preamble_may_have_any_length_and_is_discarded() {
        let mut parser = parser("multipart/form-data; boundary=b").expect("a boundary");
        for _ in 0..1000 {
            parser.feed(&[b'\r'; 4096]);
            assert_eq!(parser.next(), Ok(MultipartEvent::More));
            assert!(parser.buffer.len() < 8);
        }
        parser.feed(b"\r\n--bc\r\n--b\r\n");
        assert_eq!(parser.next(), Ok(MultipartEvent::More));
        parser.feed(FIELD.as_bytes());
        assert!(matches!(parser.next(), Ok(MultipartEvent::Part(_))));
    }

    #[test]
    fn a_line_that_only_begins_as_a_delimiter_is_content() {
        for content in [
            "\r\n--bc",
            "\r\n--b x\r\n",
            "\r\n--b-",
            "\r\n--b-x",
            "--b--",
            "\r\n--",
            "\r",
            "\r\n--b \t-",
        ] {
            for length in [1, 2, 5, 1000] {
                let body = format!("--b\r\n{FIELD}{content}\r\n--b--");
                let found = parts(body.as_bytes(), &[length]).expect("a form");
                assert_eq!(found.len(), 1);
                assert_eq!(String::from_utf8_lossy(&found[0].1), content, "{length}");
            }
        }
    }

    #[test]
    fn malformed_forms_are_refused_with_a_reason() {
        let long = format!("--b\r\nX: {}", "x".repeat(MAX_HEAD_BYTES));
        let many = format!("--b\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEAD_LINES + 1));
        let padded = format!("--b{}", " ".repeat(MAX_HEAD_BYTES + 1));
        for (body, why) in [
            ("", "it has no line with its boundary"),
            ("x", "it has no line with its boundary"),
            ("--b", "it ends before its last boundary"),
            (
                "--b\r\n\r\nx\r\n--b--",
                "a part has no Content-Disposition, which names its field",
            ),
            (
                "--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--",
                "a part has no name in its Content-Disposition",
            ),
            (
                "--b\r\nno header\r\n\r\n\r\n--b--",
                "the head of a part has a line that is not a header",
            ),
            (
                "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--",
                "it ends before its last boundary",
            ),
            (&long, "the head of a part is too long"),
            (&many, "the head of a part has too many lines"),
            (&padded, "a line with its boundary is too long"),
        ] {
            assert_eq!(parts(body.as_bytes(), &[64]), Err(why), "{body:.40}");
        }
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"; x=y",
        ] {
            assert_eq!(
                parser(kind).err(),
                Some("its Content-Type has no boundary"),
                "{kind}"
            );
        }
        let long = format!(
            "multipart/form-data; boundary={}",
            "b".repeat(MAX_BOUNDARY_BYTES + 1)
        );
        assert_eq!(parser(&long).err(), Some("its boundary is too long"));
        assert!(parser("multipart/form-data; charset=utf-8; BOUNDARY=\"a b\"").is_ok());
    }

    proptest! {
        #[test]
        fn contents_are_read_back_whatever_the_chunks(
            contents in prop::collection::vec(
                prop::collection::vec(prop::sample::select(b"\r\n-b x".to_vec()), 0..40), 0..5),
            lengths in prop::collection::vec(1_usize..30, 1..10),
        ) {
            let is_delimiter = |content: &[u8]| {
                let whole = [b"\r\n", content, b"\r\n"].concat();
                memchr::memmem::find(&whole, b"\r\n--b").is_some()
            };
            prop_assume!(!contents.iter().any(|content| is_delimiter(content)));
            let mut body = Vec::new();
            for content in &contents {
                body.extend([b"--b\r\n", FIELD.as_bytes(), content, b"\r\n"].concat());
            }
            body.extend(b"--b--\r\n");
            let found = parts(&body, &lengths).expect("a form");
            let found: Vec<_> = found.into_iter().map(|(_, content)| content).collect();
            prop_assert_eq!(found, contents);
        }

        #[test]
        fn no_input_causes_a_panic(
            body in prop::collection::vec(prop::sample::select(b"\r\n-b:;=\"\\ aContent-Disposition".to_vec()), 0..200),
            lengths in prop::collection::vec(1_usize..30, 1..10),
        ) {
            let whole = parts(&body, &[1000]);
            prop_assert_eq!(parts(&body, &lengths).is_ok(), whole.is_ok());
        }
    }
}
