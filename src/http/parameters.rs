//! The parser of parameters in a header's value, as in `form-data; name="a"`, and of the strings in them.

/// Decodes UTF-8. Other bytes are read as Latin-1, as in headers.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Decodes an extended value such as `UTF-8''na%C3%AFve.txt` (RFC 8187). None: it has another form.
pub(super) fn extended_text(value: &[u8]) -> Option<String> {
    let mut parts = value.splitn(3, |&byte| byte == b'\'');
    let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    let decoded: Vec<u8> = percent_encoding::percent_decode(encoded).collect();
    if charset.eq_ignore_ascii_case(b"utf-8") {
        return String::from_utf8(decoded).ok();
    }
    let is_latin = charset.eq_ignore_ascii_case(b"iso-8859-1");
    is_latin.then(|| decoded.iter().copied().map(char::from).collect())
}

/// The parameters of a header's value: `; name=value` and `; name="value"`.
///
/// In quotes, a backslash escapes only a quote: clients send the backslashes of file names unescaped (the HTML
/// standard, section 4.10.21.8).
pub(super) struct Parameters<'a>(&'a [u8]);

impl<'a> Parameters<'a> {
    pub(super) fn of(value: &'a [u8]) -> Self {
        let first = memchr::memchr(b';', value).unwrap_or(value.len());
        Self(&value[first..])
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.0.strip_prefix(b";")?.trim_ascii_start();
            let end = rest.iter().position(|&byte| matches!(byte, b'=' | b';'));
            let end = end.unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            let Some(rest) = rest.strip_prefix(b"=") else {
                self.0 = rest; // it has no value
                continue;
            };
            let rest = rest.trim_ascii_start();
            let (value, rest) = if let Some(quoted) = rest.strip_prefix(b"\"") {
                unquoted(quoted)
            } else {
                let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
                (rest[..end].trim_ascii_end().to_vec(), &rest[end..])
            };
            // Anything between the value and the next parameter is ignored.
            let next = memchr::memchr(b';', rest).unwrap_or(rest.len());
            self.0 = &rest[next..];
            return Some((name.trim_ascii(), value));
        }
    }
}

/// The string in the quotes, and the bytes after them.
fn unquoted(quoted: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut value = Vec::new();
    let mut bytes = quoted.iter().copied().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some((_, b'"'))) => {
                value.push(b'"');
                bytes.next();
            }
            (b'"', _) => return (value, &quoted[at + 1..]),
            _ => value.push(byte),
        }
    }
    (value, &[])
}
