//! The path of a route: text and typed parameters, as in `/users/{id:int}` or `/users/<int:id>`.
//!
//! Percent-encoding is decoded before matching, so `/café` and `/caf%C3%A9` are one path. Two bytes are exceptions:
//! `%2F` stays, so that a slash inside a value does not split it, and `%25` stays, so that the remaining escapes
//! are unambiguous. The values have both decoded.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode,
};
use smallvec::SmallVec;

/// Characters that a value need not escape in a URL: the unreserved ones (RFC 3986, section 2.3) are left out here.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The same for a parameter that takes the rest of a path.
const SEGMENTS: &AsciiSet = &SEGMENT.remove(b'/');

/// Characters that a route's own text escapes. The percent sign is not one: a remaining percent sign is an escape.
const TEXT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The converters and their names, for error messages.
const CONVERTERS: &str = "str, int, float, path, uuid";

/// The converter of a parameter: the strings that it accepts, and the type of the value.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Converter {
    /// One segment of the path. The default; Flask's `string` is the same.
    Str,
    /// Decimal digits that fit 64 bits. No sign, as in Flask and Starlette.
    Int,
    /// Decimal digits, optionally with a fraction.
    Float,
    /// The rest of the path with its slashes: at least one byte.
    Path,
    /// A UUID with its hyphens. Its value is lower case.
    Uuid,
}

/// The value of a parameter.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A value of [`Converter::Str`] or [`Converter::Path`].
    Str(String),
    /// A value of [`Converter::Int`].
    Int(i64),
    /// A finite value of [`Converter::Float`].
    Float(f64),
    /// A value of [`Converter::Uuid`] in its canonical form: lower case, with hyphens.
    Uuid(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) | Self::Uuid(text) => f.write_str(text),
            Self::Int(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

/// The values of a path's parameters, in the path's order.
pub type Values = SmallVec<[Value; 2]>;

/// Why a path cannot be registered.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum PathError {
    /// The path is relative.
    #[error("The path {0:?} must begin with a slash: write \"/{0}\".")]
    NoSlash(String),
    /// The path has a query or a fragment.
    #[error("The path {0:?} contains '?' or '#', which end a path: a route is only the path.")]
    Query(String),
    /// A bracket is not closed or not opened.
    #[error("The path {0:?} has an unmatched bracket: write a parameter as {{name}}.")]
    UnpairedBracket(String),
    /// A parameter's name is not an identifier.
    #[error(
        "The path {path:?} has a parameter named {name:?}: use letters, digits and underscores, \
         and no digit first."
    )]
    BadName {
        /// The path.
        path: String,
        /// The name.
        name: String,
    },
    /// The converter does not exist.
    #[error("The path {path:?} uses the unknown converter {converter:?}: use {CONVERTERS}.")]
    UnknownConverter {
        /// The path.
        path: String,
        /// The name of the converter.
        converter: String,
    },
    /// Two parameters have the same name.
    #[error("The path {path:?} has two parameters named {name:?}: rename one.")]
    Duplicate {
        /// The path.
        path: String,
        /// The name.
        name: String,
    },
    /// Two parameters share a segment.
    #[error("The path {0:?} has two parameters in one segment: put a slash between them.")]
    SharedSegment(String),
    /// A `path` parameter is not the path's end.
    #[error(
        "The path {path:?} goes on after {{{name}:path}}, which takes all the rest: put it last."
    )]
    PathNotLast {
        /// The path.
        path: String,
        /// The parameter.
        name: String,
    },
}

/// Why these values do not form a path.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum UrlError {
    /// A parameter has no value.
    #[error("The path {path:?} needs a value for {name:?}.")]
    Missing {
        /// The path.
        path: String,
        /// The parameter.
        name: String,
    },
    /// A request with this value would not match the path.
    #[error("{value:?} cannot be {name:?} in the path {path:?}: no request could have it there.")]
    Unfit {
        /// The path.
        path: String,
        /// The parameter.
        name: String,
        /// Its value.
        value: String,
    },
}

/// The parsed path of a route.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    /// The path as the user wrote it.
    source: String,
    /// The text before each parameter, and the text after the last one, as in a URL.
    texts: Vec<String>,
    /// The path in the syntax of `matchit`.
    pattern: String,
    /// The pattern without the names of the parameters.
    shape: String,
    /// The parameters in the path's order.
    parameters: Vec<Parameter>,
}

#[derive(Clone, Debug)]
struct Parameter {
    name: String,
    converter: Converter,
}

impl PathTemplate {
    /// Parses a path.
    pub fn parse(source: &str) -> Result<Self, PathError> {
        let path = || source.to_owned();
        if !source.starts_with('/') {
            return Err(PathError::NoSlash(path()));
        }
        let mut template = Self {
            source: path(),
            texts: Vec::new(),
            pattern: String::new(),
            shape: String::new(),
            parameters: Vec::new(),
        };
        // The current segment already has a parameter.
        let mut has_parameter = false;
        let mut rest = source;
        while let Some(at) = rest.find(['{', '}', '<', '>']) {
            let (text, bracket) = rest.split_at(at);
            has_parameter &= !text.contains('/');
            template.push_text(text)?;

            let is_flask = bracket.starts_with('<');
            let closing = if is_flask { '>' } else { '}' };
            let inside = bracket
                .strip_prefix(['{', '<'])
                .and_then(|text| text.split_once(closing));
            let (inside, after) = inside.ok_or_else(|| PathError::UnpairedBracket(path()))?;
            let (name, converter) = match inside.split_once(':') {
                Some((converter, name)) if is_flask => (name, converter),
                Some((name, converter)) => (name, converter),
                None => (inside, "str"),
            };
            if has_parameter {
                return Err(PathError::SharedSegment(path()));
            }
            has_parameter = true;
            template.push_parameter(name.trim(), converter.trim(), after.is_empty())?;
            rest = after;
        }
        template.push_text(rest)?;
        Ok(template)
    }

    fn push_text(&mut self, text: &str) -> Result<(), PathError> {
        if text.contains(['?', '#']) {
            return Err(PathError::Query(self.source.clone()));
        }
        // A user's path is UTF-8, but its escapes might not be. Such a path matches no request.
        let text = normalize(text).unwrap_or(Cow::Borrowed(text));
        self.texts
            .push(utf8_percent_encode(&text, TEXT).to_string());
        let text = text.replace('{', "{{").replace('}', "}}");
        self.pattern.push_str(&text);
        self.shape.push_str(&text);
        Ok(())
    }

    fn push_parameter(
        &mut self,
        name: &str,
        converter: &str,
        is_last: bool,
    ) -> Result<(), PathError> {
        let (path, name) = (self.source.clone(), name.to_owned());
        let Some(converter) = Converter::named(converter) else {
            return Err(PathError::UnknownConverter {
                path,
                converter: converter.to_owned(),
            });
        };
        let is_identifier = name.chars().all(|c| c.is_alphanumeric() || c == '_')
            && name.chars().next().is_some_and(|c| !c.is_numeric());
        if !is_identifier {
            return Err(PathError::BadName { path, name });
        }
        if self.names().any(|other| other == name) {
            return Err(PathError::Duplicate { path, name });
        }
        if converter == Converter::Path && !is_last {
            return Err(PathError::PathNotLast { path, name });
        }
        let star = if converter == Converter::Path {
            "*"
        } else {
            ""
        };
        for part in ["{", star, &name, "}"] {
            self.pattern.push_str(part);
        }
        for part in ["{", star, "}"] {
            self.shape.push_str(part);
        }
        self.parameters.push(Parameter { name, converter });
        Ok(())
    }

    /// The path as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The names of the parameters, in the path's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.parameters
            .iter()
            .map(|parameter| parameter.name.as_str())
    }

    /// The converters of the parameters, in the path's order.
    pub fn converters(&self) -> impl ExactSizeIterator<Item = Converter> {
        self.parameters.iter().map(|parameter| parameter.converter)
    }

    /// The path as in a URL, with each parameter as `{name}`: a path template of `OpenAPI`.
    pub fn documented(&self) -> String {
        let mut path = String::new();
        let mut names = self.names();
        for text in &self.texts {
            path.push_str(text);
            if let Some(name) = names.next() {
                path.extend(["{", name, "}"]);
            }
        }
        path
    }

    /// The path with these values, percent-encoded. A request for it matches this path and has the same values.
    pub fn url<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, UrlError> {
        let mut url = String::new();
        let (last, before) = self
            .texts
            .split_last()
            .expect("a path has at least its end");
        for (text, Parameter { name, converter }) in before.iter().zip(&self.parameters) {
            let Some(value) = value(name) else {
                return Err(UrlError::Missing {
                    path: self.source.clone(),
                    name: name.clone(),
                });
            };
            let encoded = match converter {
                Converter::Path => SEGMENTS,
                _ => SEGMENT,
            };
            let encoded = utf8_percent_encode(value, encoded).to_string();
            url.push_str(text);
            url.push_str(&encoded);
            // Clients resolve the segments `.` and `..`, encoded or not, and never send them.
            let is_step = |segment: &str| matches!(segment, "." | "..");
            let normal = normalize(&encoded).unwrap_or_default();
            if value.is_empty()
                || encoded.split('/').any(is_step)
                || converter.convert(&normal).is_none()
            {
                return Err(UrlError::Unfit {
                    path: self.source.clone(),
                    name: name.clone(),
                    value: value.to_owned(),
                });
            }
        }
        url.push_str(last);
        Ok(url)
    }

    /// The path in the syntax of `matchit`.
    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The pattern without names: two paths of the same shape match the same requests.
    pub(super) fn shape(&self) -> &str {
        &self.shape
    }

    /// Converts the parameters' strings, as they are in a normalized path. `None` if a converter does not accept
    /// its string.
    pub(super) fn convert<'v>(&self, texts: impl Iterator<Item = &'v str>) -> Option<Values> {
        let parameters = self.parameters.iter();
        parameters
            .zip(texts)
            .map(|(parameter, text)| parameter.converter.convert(text))
            .collect()
    }
}

impl Converter {
    /// The name of the converter in a path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::Int => "int",
            Self::Float => "float",
            Self::Path => "path",
            Self::Uuid => "uuid",
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "str" | "string" => Some(Self::Str),
            "int" => Some(Self::Int),
            "float" => Some(Self::Float),
            "path" => Some(Self::Path),
            "uuid" => Some(Self::Uuid),
            _ => None,
        }
    }

    fn convert(self, text: &str) -> Option<Value> {
        let are_digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Str | Self::Path => Some(Value::Str(unescape(text))),
            Self::Int if are_digits(text) => text.parse().ok().map(Value::Int),
            Self::Float => {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
                let number: f64 = text.parse().ok()?;
                let is_plain = are_digits(whole) && are_digits(fraction) && number.is_finite();
                is_plain.then_some(Value::Float(number))
            }
            Self::Uuid if is_uuid(text) => Some(Value::Uuid(text.to_ascii_lowercase())),
            Self::Int | Self::Uuid => None,
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Decodes the percent-encoding of all characters except `/` and `%`. `None` if the result is not UTF-8.
pub(super) fn normalize(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut pieces = path.split('%');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let hex = piece
            .get(..2)
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(b'/') => bytes.extend_from_slice(b"%2F"),
            Some(byte) if byte != b'%' => bytes.push(byte),
            // It is an encoded percent sign, or a plain one that encodes nothing.
            _ => bytes.extend_from_slice(b"%25"),
        }
        let encoded = if byte.is_some() { 2 } else { 0 };
        bytes.extend_from_slice(&piece.as_bytes()[encoded..]);
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Decodes the escapes that [`normalize`] left.
fn unescape(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
