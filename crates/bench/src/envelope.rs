//! The envelope that a server's own protocol puts around each message, such as
//! `42["message","..."]`.

/// The text before and after a message, the same in both directions.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub struct Envelope {
    /// The text before the message.
    pub before: String,
    /// The text after the message.
    pub after: String,
}

impl Envelope {
    /// The number of bytes that it adds to a message.
    pub(super) fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// The message inside. `None` if there is no such message: the protocol itself sent a greeting
    /// or a ping, for example.
    pub(super) fn open<'m>(&self, message: &'m [u8]) -> Option<&'m [u8]> {
        let inner = without_prefix(message, &self.before)?;
        if self.after.is_empty() {
            return Some(inner);
        }
        inner.strip_suffix(self.after.as_bytes())
    }
}

/// The message without its prefix, which is usually empty.
///
/// The empty prefix is a separate case because of its cost. An empty string has a dangling address.
/// The `memcmp` of glibc for AVX-512 loads from there with everything masked out, which is slow on
/// the CPU. In a fan-out this took 30 % of all time of this driver.
pub(super) fn without_prefix<'m>(message: &'m [u8], prefix: &str) -> Option<&'m [u8]> {
    if prefix.is_empty() {
        return Some(message);
    }
    message.strip_prefix(prefix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_envelope_is_a_message() {
        let envelope = Envelope {
            before: "42[\"".to_owned(),
            after: "\"]".to_owned(),
        };
        assert_eq!(envelope.open(b"42[\"hello\"]"), Some(&b"hello"[..]));
        for other in [&b"2"[..], b"0{\"sid\":\"\"}", b"42[\"]", b"42[\"hello", b""] {
            assert_eq!(envelope.open(other), None, "{other:?}");
        }
        assert_eq!(Envelope::default().open(b""), Some(&b""[..]));
    }
}
