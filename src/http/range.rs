//! The range of bytes that a request selects with `Range` (RFC 9110, section 14).

/// The part of a representation that a request selects.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Selection {
    /// All of it.
    Whole,
    /// `count` bytes from `first` on.
    Part { first: u64, count: u64 },
    /// None: the representation has no such bytes.
    Unsatisfiable,
}

impl Selection {
    /// Selects from a representation of this length. An invalid range selects everything, and so does a list of
    /// ranges: a server may always send the whole representation (section 14.2). An empty file is always sent
    /// whole.
    pub(super) fn of(range: &[u8], length: u64) -> Self {
        let Some((first, last)) = bounds(range) else {
            return Self::Whole;
        };
        let (first, end) = match (first, last) {
            _ if length == 0 => return Self::Whole,
            (None, None) => return Self::Whole,
            (None, Some(suffix)) => (length.saturating_sub(suffix), length),
            (Some(first), None) => (first, length),
            (Some(first), Some(last)) => (first, length.min(last.saturating_add(1))),
        };
        if first >= end {
            return Self::Unsatisfiable;
        }
        Self::Part {
            first,
            count: end - first,
        }
    }
}

/// The two numbers of `bytes=1-2`, either of which may be missing.
fn bounds(range: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let text = std::str::from_utf8(range).ok()?;
    let (unit, numbers) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = numbers.trim().split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    (is_number(first) && is_number(last)).then(|| (number(first), number(last)))
}

/// Parses a number. One that exceeds 64 bits is beyond the end of every file, as the largest one is.
fn number(digits: &str) -> Option<u64> {
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_select_bytes_as_the_standard_says() {
        use Selection::{Unsatisfiable, Whole};
        let part = |first, count| Selection::Part { first, count };
        for (range, length, expected) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=2-4", 10, part(2, 3)),
            ("Bytes = 2-4", 10, part(2, 3)),
            ("bytes=2-", 10, part(2, 8)),
            ("bytes=2-99", 10, part(2, 8)),
            ("bytes=2-99999999999999999999999", 10, part(2, 8)),
            ("bytes=2-18446744073709551615", 10, part(2, 8)),
            ("bytes=-3", 10, part(7, 3)),
            ("bytes=-99", 10, part(0, 10)),
            ("bytes=-99999999999999999999999", 10, part(0, 10)),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=4-2", 10, Unsatisfiable),
            ("bytes=-", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1-2,4-5", 10, Whole),
            ("lines=1-2", 10, Whole),
            ("", 10, Whole),
            ("bytes=-1", 0, Whole),
            ("bytes=0-", 0, Whole),
        ] {
            assert_eq!(
                Selection::of(range.as_bytes(), length),
                expected,
                "{range} of {length}"
            );
        }
    }
}
