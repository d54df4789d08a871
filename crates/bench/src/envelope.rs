//! What a server's own protocol wants around each message, such as `42["message","..."]`.

/// The text before and after a message, the same in both directions.
#[derive(Clone, Default, Eq, PartialEq, Debug)]
pub struct Envelope {
    /// What stands before the message.
    pub before: String,
    /// What stands behind it.
    pub after: String,
}

impl Envelope {
    /// How much it makes a message longer.
    pub(super) fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// The message in it. `None` if it is none of these: the protocol's own, a greeting or a ping.
    pub(super) fn open<'m>(&self, message: &'m [u8]) -> Option<&'m [u8]> {
        let inner = without_prefix(message, &self.before)?;
        if self.after.is_empty() {
            return Some(inner);
        }
        inner.strip_suffix(self.after.as_bytes())
    }
}

/// The message without what it has to begin with, which is nothing most of the time.
///
/// That is worth a question of its own: an empty string lies at an address where nothing is, and
/// glibc's `memcmp` for AVX-512 loads from there with everything masked out, which takes the CPU
/// long. At a fan-out it was 30 % of all that this driver did.
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
