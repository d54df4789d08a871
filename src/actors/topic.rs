//! The topic that messages are published to: a validated name with its hash, and templates of such names.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::ipc::{MAX_TOPIC_BYTES, topic_hash};

/// A topic's name: 1 to [`MAX_TOPIC_BYTES`] bytes of UTF-8 without control characters. Cheap to
/// clone.
///
/// ```
/// use fanbus::actors::topic::Topic;
///
/// let topic = Topic::new("room:lobby")?;
/// assert_eq!(topic.as_str(), "room:lobby");
/// assert!(Topic::new("").is_err());
/// # Ok::<(), fanbus::actors::topic::TopicError>(())
/// ```
#[derive(Clone)]
pub struct Topic {
    name: Arc<str>,
    /// The bus's hash of `name`; computed once, since every message needs it.
    hash: u64,
}

/// The reason why a topic or a template of topics cannot be used.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum TopicError {
    /// The name is empty.
    #[error("A topic must be 1 to {MAX_TOPIC_BYTES} bytes long; this one is empty.")]
    Empty,
    /// The name is longer than [`MAX_TOPIC_BYTES`].
    #[error(
        "The topic \"{beginning}…\" has {bytes} bytes; a topic has at most {MAX_TOPIC_BYTES}. \
         Shorten it, or publish to a hash of it."
    )]
    TooLong {
        /// The beginning of the name, to recognise it by.
        beginning: String,
        /// Its length.
        bytes: usize,
    },
    /// The name has a control character.
    #[error("The topic {0:?} contains a control character; use printable ones.")]
    ControlCharacter(String),
    /// A template names a parameter that the path does not have.
    #[error(
        "The topic \"{template}\" uses {{{parameter}}}, but the path has {}.",
        ParameterList(.parameters)
    )]
    UnknownParameter {
        /// The template.
        template: String,
        /// The parameter that it names.
        parameter: String,
        /// The parameters that the path has.
        parameters: Vec<String>,
    },
    /// A template has a brace without its partner.
    #[error(
        "The topic \"{0}\" has an unmatched brace: write a parameter as {{name}}, and a \
         brace of the topic itself twice, as {{{{ or }}}}."
    )]
    UnpairedBrace(String),
}

impl Topic {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, TopicError> {
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if name.len() > MAX_TOPIC_BYTES {
            let beginning = name.chars().take(40).collect();
            return Err(TopicError::TooLong {
                beginning,
                bytes: name.len(),
            });
        }
        if name.chars().any(char::is_control) {
            return Err(TopicError::ControlCharacter(name.to_owned()));
        }
        Ok(Self {
            name: name.into(),
            hash: topic_hash(name.as_bytes()),
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The hash that names it on the bus, the same in every process.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

// The hash decides nearly always; the name is only compared for topics that share one.
impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.name == other.name
    }
}

impl Eq for Topic {}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({:?})", &*self.name)
    }
}

/// A topic with parameters of the path in it, as in `room:{room}`.
///
/// ```
/// use fanbus::actors::topic::TopicTemplate;
///
/// let template = TopicTemplate::parse("room:{room}", &["room"])?;
/// assert_eq!(template.fill(&["lobby"])?.as_str(), "room:lobby");
/// # Ok::<(), fanbus::actors::topic::TopicError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TopicTemplate {
    pieces: Vec<Piece>,
    /// The topic itself, if it has no parameters: then filling it costs nothing.
    fixed: Option<Topic>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    /// The value of the path's parameter with this number.
    Parameter(usize),
}

impl TopicTemplate {
    /// Parses a template for a path that has these parameters. `{{` and `}}` are braces of the
    /// topic itself.
    pub fn parse(template: &str, parameters: &[impl AsRef<str>]) -> Result<Self, TopicError> {
        let unpaired = || TopicError::UnpairedBrace(template.to_owned());
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(unpaired());
            }
            let (name, after) = rest.split_once('}').ok_or_else(unpaired)?;
            let number = parameters
                .iter()
                .position(|parameter| parameter.as_ref() == name);
            let number = number.ok_or_else(|| TopicError::UnknownParameter {
                template: template.to_owned(),
                parameter: name.to_owned(),
                parameters: parameters
                    .iter()
                    .map(|name| name.as_ref().to_owned())
                    .collect(),
            })?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Parameter(number));
            rest = after;
        }
        text.push_str(rest);
        let fixed = if pieces.is_empty() {
            Some(Topic::new(&text)?)
        } else {
            None
        };
        pieces.push(Piece::Text(text));
        Ok(Self { pieces, fixed })
    }

    /// The topic for these values of the path's parameters, in the path's order. It may be too long, or contain a
    /// control character that a client put there.
    ///
    /// # Panics
    /// If there are fewer values than the path has parameters.
    pub fn fill(&self, values: &[impl fmt::Display]) -> Result<Topic, TopicError> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Parameter(number) => {
                    use fmt::Write as _;
                    write!(name, "{}", values[*number]).expect("writing to a String cannot fail");
                }
            }
        }
        Topic::new(&name)
    }
}

/// "no parameters" or "the parameters a, b", for a sentence.
struct ParameterList<'a>(&'a [String]);

impl fmt::Display for ParameterList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("no parameters"),
            [only] => write!(f, "only the parameter {{{only}}}"),
            several => write!(f, "only the parameters {{{}}}", several.join("}, {")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str) -> String {
        Topic::new(name).expect_err("not a topic").to_string()
    }

    #[test]
    fn a_topic_is_1_to_255_bytes_without_control_characters() {
        for name in ["a", "room:lobby", "größe/€", "with space", &"x".repeat(255)] {
            assert_eq!(Topic::new(name).expect(name).as_str(), name);
        }
        assert!(error("").contains("empty"));
        assert!(error(&"é".repeat(128)).contains("has 256 bytes"));
        assert!(error("a\nb").contains("\"a\\nb\" contains a control character"));
        assert!(error("a\u{0}").contains("control"));
        assert!(error("a\u{85}").contains("control"));
    }

    #[test]
    fn equal_names_are_equal_topics() {
        let topic = |name| Topic::new(name).expect("valid");
        assert_eq!(topic("a"), topic("a"));
        assert_ne!(topic("a"), topic("b"));
        assert_eq!(topic("a").hash(), topic("a").hash());
        assert_ne!(topic("a").hash(), topic("b").hash());
        let set = std::collections::HashSet::from([topic("a"), topic("b"), topic("a")]);
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn a_template_is_filled_with_the_paths_values() {
        let fill = |template, values: &[&str]| {
            let template = TopicTemplate::parse(template, &["house", "room"]).expect(template);
            template.fill(values).map(|topic| topic.as_str().to_owned())
        };
        assert_eq!(fill("news", &["1", "2"]).as_deref(), Ok("news"));
        assert_eq!(fill("{room}@{house}", &["1", "2"]).as_deref(), Ok("2@1"));
        assert_eq!(
            fill("h:{house}:all", &["{room}", "2"]).as_deref(),
            Ok("h:{room}:all")
        );
        assert_eq!(fill("{{{room}}}", &["1", "2"]).as_deref(), Ok("{2}"));
        assert_eq!(fill("{room}", &["1", ""]), Err(TopicError::Empty));
        assert!(fill("{room}", &["1", "\r\n"]).is_err());
        assert!(fill("{room}", &["1", &"x".repeat(256)]).is_err());
    }

    #[test]
    fn a_template_that_does_not_fit_the_path_says_what_there_is() {
        let error = |template, parameters: &[&str]| {
            TopicTemplate::parse(template, parameters)
                .expect_err(template)
                .to_string()
        };
        assert_eq!(
            error("room:{rom}", &["room"]),
            "The topic \"room:{rom}\" uses {rom}, but the path has only the parameter {room}."
        );
        assert_eq!(
            error("{}", &["a", "b"]),
            "The topic \"{}\" uses {}, but the path has only the parameters {a}, {b}."
        );
        assert!(error("{room}", &[]).ends_with("but the path has no parameters."));
        for template in ["{room", "room}", "{{room}", "a}b{room}"] {
            assert!(
                error(template, &["room"]).contains("an unmatched brace"),
                "{template}"
            );
        }
        assert!(error("", &["room"]).contains("empty"));
    }
}
