//! The head of one part of a multipart form: the names of its field and its file (RFC 7578, section 4).

use super::parameters::{Parameters, extended_text, text};

/// Lines that the head of a part may have.
pub(super) const MAX_HEAD_LINES: usize = 32;

/// Why a body is not a form: a clause for people.
pub(super) type Malformed = &'static str;

/// The fields in the head of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartHead {
    pub name: String,
    pub filename: Option<String>,
    pub content_type: Option<String>,
}

impl PartHead {
    /// Parses the head of a part, which ends with an empty line.
    pub(super) fn parse(head: &[u8]) -> Result<Self, Malformed> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEAD_LINES];
        let lines = match httparse::parse_headers(head, &mut lines) {
            Ok(httparse::Status::Complete((_, lines))) => lines,
            Err(httparse::Error::TooManyHeaders) => {
                return Err("the head of a part has too many lines");
            }
            Ok(httparse::Status::Partial) | Err(_) => {
                return Err("the head of a part has a line that is not a header");
            }
        };
        let value = |name: &str| {
            let line = lines
                .iter()
                .find(|line| line.name.eq_ignore_ascii_case(name));
            line.map(|line| line.value)
        };
        let disposition = value("content-disposition")
            .ok_or("a part has no Content-Disposition, which names its field")?;
        let (mut name, mut filename, mut extended) = (None, None, None);
        for (key, value) in Parameters::of(disposition) {
            match key.to_ascii_lowercase().as_slice() {
                b"name" => name = name.or(Some(text(&value))),
                b"filename" => filename = filename.or(Some(text(&value))),
                b"filename*" => extended = extended.or_else(|| extended_text(&value)),
                _ => {}
            }
        }
        Ok(Self {
            name: name.ok_or("a part has no name in its Content-Disposition")?,
            filename: extended.or(filename), // RFC 6266, 4.3: it says more
            content_type: value("content-type").map(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &[u8]) -> PartHead {
        PartHead::parse(&[head, b"\r\n\r\n"].concat()).expect("a head")
    }

    fn filename(parameters: &str) -> Option<String> {
        parse(format!("Content-Disposition: form-data; name=a; {parameters}").as_bytes()).filename
    }

    #[test]
    fn a_file_may_be_named_in_the_extended_form_alone() {
        assert_eq!(
            filename("filename*=UTF-8''na%C3%AFve%20%22a%22.txt").as_deref(),
            Some("naïve \"a\".txt")
        );
        assert_eq!(
            filename("filename*=iso-8859-1'en'%E4").as_deref(),
            Some("ä")
        );
        assert_eq!(
            filename("filename=\"a\"; filename*=utf-8''b").as_deref(),
            Some("b")
        );
        assert_eq!(
            filename("filename=\"a\"; filename*=koi8-r''b").as_deref(),
            Some("a")
        );
        assert_eq!(
            filename("filename=\"a\"; filename*=utf-8''%ff").as_deref(),
            Some("a")
        );
        assert_eq!(filename("x=y"), None);
    }

    #[test]
    fn backslashes_and_semicolons_stay_in_names() {
        assert_eq!(
            filename(r#"filename="C:\dir\a.txt""#).as_deref(),
            Some(r"C:\dir\a.txt")
        );
        assert_eq!(
            filename(r#"filename="a\"b; c.txt""#).as_deref(),
            Some("a\"b; c.txt")
        );
        assert_eq!(filename(r#"filename="\\x""#).as_deref(), Some(r"\\x"));
        assert_eq!(filename("filename= a.txt ; z=1").as_deref(), Some("a.txt"));
        assert_eq!(filename("FileName=\"\"").as_deref(), Some(""));
    }

    #[test]
    fn names_that_are_not_utf_8_are_read_as_latin_1() {
        let head = parse(b"Content-Disposition: form-data; name=\"\xe4\"; filename=\"\xfc\"");
        assert_eq!(head.name, "ä");
        assert_eq!(head.filename.as_deref(), Some("ü"));
        let head = parse("Content-Disposition: form-data; name=\"ü\"".as_bytes());
        assert_eq!(head.name, "ü");
    }
}
