//! The retention rules: which topics are retained, and how many records of each.
//!
//! Rules are stored in the segment, so that every program that publishes knows them. They are only added and changed,
//! with the door locked, and are removed with the bus.

use super::area::{Area, RULE_WORDS, Words};
use crate::ipc::BusError;
use crate::ipc::copy::{Packer, append};
use crate::ipc::layout::{MAX_RULES, MAX_TOPIC_BYTES, WORD_BYTES};
use crate::ipc::sync::Ordering;

const SETTING: usize = 0;
const SINCE: usize = 1;
const PATTERN_BYTES: usize = 2;
const PATTERN: usize = 3;

/// A retention rule: how much of the topics that match a pattern is retained.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetentionRule {
    /// The name of a topic. `{anything in braces}` stands for one or more characters, as in `room:{room}`.
    pub pattern: String,
    /// The minimum of records that are retained of each topic. 0: none.
    pub records: u32,
    /// The largest age of a retained record, in seconds. 0: no limit.
    pub seconds: u32,
}

/// The retention of one topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::ipc) struct TopicRetention {
    pub(in crate::ipc) records: u32,
    pub(in crate::ipc) seconds: u32,
    /// The end of the bus when the rule was made: earlier records may have been lost.
    pub(in crate::ipc) since: u64,
}

impl RetentionRule {
    /// Checks the pattern.
    pub fn check(&self) -> Result<(), BusError> {
        if is_pattern(&self.pattern) {
            return Ok(());
        }
        Err(BusError::Pattern {
            pattern: self.pattern.clone(),
        })
    }
}

impl<'a> Area<'a> {
    fn rule(&self, number: usize) -> Words<'a> {
        Words(&self.rules[number * RULE_WORDS..][..RULE_WORDS])
    }

    fn number_of_rules(&self) -> usize {
        // [H10] Pairs with [H9]: this number of rules is complete.
        (self.rules_made.load(Ordering::Acquire) as u32 as usize).min(MAX_RULES)
    }

    /// A number that changes with the rules.
    pub(super) fn rules_version(&self) -> u64 {
        self.rules_made.load(Ordering::Acquire)
    }

    fn set_number_of_rules(&self, count: usize) {
        let changes = (self.rules_made.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // [H9] Pairs with [H10].
        let word = count as u64 | changes << 32;
        self.rules_made.store(word, Ordering::Release);
    }

    /// Makes a rule, or changes the one of the same pattern. The caller holds the door, and `end` is the end of the
    /// bus. False: there are too many rules.
    pub(in crate::ipc) fn make_rule(&self, rule: &RetentionRule, end: u64) -> bool {
        let setting = u64::from(rule.records) | u64::from(rule.seconds) << 32;
        let count = self.number_of_rules();
        for number in 0..count {
            if self.read_rule(number).pattern == rule.pattern {
                let words = self.rule(number);
                let before = words.get(SETTING) as u32;
                if before < rule.records {
                    words.set(SINCE, end); // fewer records were retained so far
                }
                if words.get(SETTING) != setting {
                    words.set(SETTING, setting);
                    self.set_number_of_rules(count);
                }
                return true;
            }
        }
        if count == MAX_RULES {
            return false;
        }
        let words = self.rule(count);
        words.set(SETTING, setting);
        words.set(SINCE, end);
        words.set(PATTERN_BYTES, rule.pattern.len() as u64);
        let mut pattern = Packer::new(&words.0[PATTERN..]);
        pattern.write(rule.pattern.as_bytes());
        pattern.finish();
        self.set_number_of_rules(count + 1);
        true
    }

    fn read_rule(&self, number: usize) -> RetentionRule {
        let words = self.rule(number);
        let setting = words.get(SETTING);
        let mut bytes = Vec::with_capacity(MAX_TOPIC_BYTES + WORD_BYTES);
        let count = (words.get(PATTERN_BYTES) as usize).min(MAX_TOPIC_BYTES);
        append(&words.0[PATTERN..], count, &mut bytes);
        RetentionRule {
            pattern: String::from_utf8(bytes).unwrap_or_default(),
            records: setting as u32,
            seconds: (setting >> 32) as u32,
        }
    }

    /// All rules, in the order of their creation.
    pub(in crate::ipc) fn rules(&self) -> Vec<RetentionRule> {
        (0..self.number_of_rules())
            .map(|number| self.read_rule(number))
            .collect()
    }

    /// The retention of a topic: of the rules that match, the one with the most records.
    pub(in crate::ipc) fn rule_for(&self, topic: &str) -> Option<TopicRetention> {
        let rules = (0..self.number_of_rules()).map(|number| (number, self.read_rule(number)));
        rules
            .filter(|(_, rule)| rule.records > 0 && matches(&rule.pattern, topic))
            .max_by_key(|(_, rule)| rule.records)
            .map(|(number, rule)| TopicRetention {
                records: rule.records,
                seconds: rule.seconds,
                since: self.rule(number).get(SINCE),
            })
    }
}

/// Whether a pattern is valid for a rule: 1 to 255 bytes, no control characters, and braces in pairs.
fn is_pattern(pattern: &str) -> bool {
    let mut rest = pattern;
    while let Some((literal, tail)) = rest.split_once('{') {
        let Some((name, tail)) = tail.split_once('}') else {
            return false;
        };
        if literal.contains('}') || name.is_empty() || name.contains('{') {
            return false;
        }
        rest = tail;
    }
    !rest.contains('}') && crate::ipc::record::is_topic(pattern)
}

/// Whether a topic matches a pattern.
fn matches(pattern: &str, topic: &str) -> bool {
    let Some((literal, rest)) = pattern.split_once('{') else {
        return pattern == topic;
    };
    let rest = rest.split_once('}').map_or("", |(_, rest)| rest);
    let Some(tail) = topic.strip_prefix(literal) else {
        return false;
    };
    // The literals between braces are searched from left to right, each as early as possible, and the last one at the
    // end. That finds a match if there is one.
    let (mut rest, mut tail) = (rest, tail);
    loop {
        let Some(first) = tail.chars().next() else {
            return false; // nothing left for the braces
        };
        tail = &tail[first.len_utf8()..];
        let Some((literal, more)) = rest.split_once('{') else {
            return tail.ends_with(rest);
        };
        let Some(found) = tail.find(literal) else {
            return false;
        };
        tail = &tail[found + literal.len()..];
        rest = more.split_once('}').map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn braces_stand_for_one_or_more_characters() {
        for (pattern, topic) in [
            ("news", "news"),
            ("room:{room}", "room:lobby"),
            ("room:{room}", "room:a:b"),
            ("{any}", "x"),
            ("{a}:{b}", "x:y"),
            ("{a}:{b}", "x:y:z"),
            ("{a}:{b}", "::x"),
            ("game:{id}:moves", "game:7:moves"),
            ("game:{id}:moves", "game:7:moves:moves"),
            ("{a}ab{b}ab", "xabababab"),
            ("größe:{x}", "größe:ä"),
        ] {
            assert!(matches(pattern, topic), "{pattern} {topic}");
        }
        for (pattern, topic) in [
            ("news", "new"),
            ("room:{room}", "room:"),
            ("room:{room}", "rooms:lobby"),
            ("{a}:{b}", "x:"),
            ("{a}:{b}", ":x"),
            ("game:{id}:moves", "game:moves"),
            ("game:{id}:moves", "game::moves"),
            ("game:{id}:moves", "game:7:moves2"),
        ] {
            assert!(!matches(pattern, topic), "{pattern} {topic}");
        }
    }

    #[test]
    fn a_pattern_has_its_braces_in_pairs() {
        for good in ["news", "room:{room}", "{a}{b}", "größe"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in [
            "",
            "room:{room",
            "room:}",
            "{}",
            "{a{b}}",
            "a\nb",
            "}{",
            &"x".repeat(256),
        ] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_fills_the_braces_matches(parts in prop::collection::vec("[ab:]{0,3}", 2..5), fill in "[ab:]{1,4}") {
            let pattern = parts.join("{x}");
            prop_assert!(matches(&pattern, &parts.join(&fill)), "{pattern}");
        }

        #[test]
        fn anything_may_be_asked(pattern in ".*", topic in ".*") {
            matches(&pattern, &topic);
            is_pattern(&pattern);
        }
    }
}
