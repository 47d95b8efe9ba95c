//! Values that were secrets since the daemon started, so that records can be kept without them.
//!
//! Found are values of at least [`MIN_BYTES`] bytes as they are, as JSON escapes them, and in base64 (both
//! alphabets, also in the midst of something longer, as in `Basic` credentials). Not found are pieces of
//! a value, values in hex or percent encoding, with `\u` escapes inside of an escaped text, compressed,
//! hashed or in another case. Invariant: what cannot be looked for is not shown at all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use super::redact::MIN_BYTES;
use crate::ports::{Mask, SecretValue};
use crate::resource::SecretRef;

/// What stands where a secret stood.
const MASKED: &str = "[secret]";
/// Secrets that are looked for, each with the values it had lately: more than a repository declares. The
/// automaton takes a few KiB for each.
const MAX_SECRETS: usize = 1024;
/// Values kept of one secret: the one there is, and those that were rotated out and may still come by.
const MAX_VALUES: usize = 4;
/// Bytes of a value that are looked for. Of a longer one everything after its beginning is taken.
const MAX_BYTES: usize = 1024;
/// Bytes of a value from which on it is looked for in base64: shorter ones leave too little that is certain.
const MIN_ENCODED: usize = 8;

/// The values of secrets. It has no `Debug`, on purpose.
#[derive(Default)]
pub struct Known(Mutex<Held>);

#[derive(Default)]
struct Held {
    values: BTreeMap<SecretRef, VecDeque<SecretValue>>,
    /// There were more than are looked for.
    full: bool,
    /// None: values came since it was made.
    finder: Option<Arc<Finder>>,
}

/// All patterns at once.
enum Finder {
    /// There is nothing to look for.
    Nothing,
    Values {
        patterns: AhoCorasick,
        /// By pattern: whether it is only the beginning of a value.
        beginnings: Vec<bool>,
    },
    /// Too much to look for.
    Everything,
}

impl Known {
    /// Notes the value that a secret has now.
    pub(super) fn note(&self, reference: &SecretRef, value: &SecretValue) {
        if value.expose().len() < MIN_BYTES {
            return;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = held.values.get_mut(reference) {
            if values.iter().any(|known| known.expose() == value.expose()) {
                return;
            }
            values.push_back(value.clone());
            if values.len() > MAX_VALUES {
                values.pop_front();
            }
        } else if held.values.len() < MAX_SECRETS {
            held.values.insert(reference.clone(), VecDeque::from([value.clone()]));
        } else {
            held.full = true;
        }
        held.finder = None;
    }

    fn finder(&self) -> Arc<Finder> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(finder) = &held.finder {
            return Arc::clone(finder);
        }
        let values = held.values.values().flatten();
        let finder = Arc::new(if held.full { Finder::Everything } else { Finder::of(values) });
        held.finder = Some(Arc::clone(&finder));
        finder
    }
}

impl Mask for Known {
    fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &*self.finder() {
            Finder::Nothing => Cow::Borrowed(text),
            Finder::Everything => Cow::Borrowed(MASKED),
            Finder::Values { patterns, beginnings } => {
                let mut found = patterns.find_iter(text).peekable();
                if found.peek().is_none() {
                    return Cow::Borrowed(text);
                }
                let (mut clean, mut at) = (String::with_capacity(text.len()), 0);
                for place in found {
                    clean.push_str(text.get(at..place.start()).unwrap_or_default());
                    clean.push_str(MASKED);
                    at = place.end();
                    if beginnings.get(place.pattern().as_usize()) == Some(&true) {
                        at = text.len();
                        break;
                    }
                }
                clean.push_str(text.get(at..).unwrap_or_default());
                Cow::Owned(clean)
            }
        }
    }
}

impl Finder {
    fn of<'v>(values: impl Iterator<Item = &'v SecretValue>) -> Self {
        let mut all = BTreeSet::new();
        for value in values {
            let (bytes, whole) = (value.expose(), value.expose().len() <= MAX_BYTES);
            let looked_for = bytes.get(..MAX_BYTES).unwrap_or(bytes);
            forms(looked_for, |form| {
                all.insert((form, !whole));
            });
        }
        if all.is_empty() {
            return Self::Nothing;
        }
        let (patterns, beginnings): (Vec<String>, Vec<bool>) = all.into_iter().unzip();
        match AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns) {
            Ok(patterns) => Self::Values { patterns, beginnings },
            Err(_) => Self::Everything,
        }
    }
}

/// What a value looks like in text.
fn forms(value: &[u8], mut found: impl FnMut(String)) {
    // What is no text stands in none. The end may be within a character, where a long value was cut.
    let text = match std::str::from_utf8(value) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(value.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => "",
    };
    if text.len() >= MIN_BYTES {
        let quoted = serde_json::Value::from(text).to_string();
        let escaped = quoted.trim_start_matches('"');
        let escaped = escaped.strip_suffix('"').unwrap_or(escaped);
        found(text.to_owned());
        found(escaped.to_owned());
        found(escaped.replace('/', "\\/"));
    }
    if value.len() >= MIN_ENCODED {
        // Wherever it stands among other bytes, the characters that are its alone are one of three texts.
        for before in 0..3_usize {
            let bytes = [&vec![0; before], value].concat();
            let own = before.div_ceil(3) * (before + 1)..bytes.len() * 4 / 3;
            for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                found(engine.encode(&bytes).get(own.clone()).unwrap_or_default().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(values: &[&[u8]]) -> Known {
        let known = Known::default();
        for (n, value) in values.iter().enumerate() {
            known.note(&SecretRef::Env(n.to_string()), &SecretValue::new(*value));
        }
        known
    }

    #[test]
    fn values_are_found_inside_of_others_and_encoded() {
        let known = known(&[b"s3cret\"/key", b"s3cret", b"abc", "schl\u{fc}ssel".as_bytes()]);
        let encoded = |text: &str| BASE64_STANDARD_NO_PAD.encode(text);
        for (text, expected) in [
            ("nothing".to_owned(), "nothing"),
            ("abc: too short to be looked for".to_owned(), "abc: too short to be looked for"),
            ("s3cret".to_owned(), "[secret]"),
            ("https://u:s3cret\"/key@host, s3cret.".to_owned(), "https://u:[secret]@host, [secret]."),
            (r#"{"key":"s3cret\"/key"}"#.to_owned(), r#"{"key":"[secret]"}"#),
            (r#"{"key":"s3cret\"\/key"}"#.to_owned(), r#"{"key":"[secret]"}"#),
            ("ein schl\u{fc}ssel\u{fc}".to_owned(), "ein [secret]\u{fc}"),
        ] {
            assert_eq!(known.masked(&text), expected);
        }
        for before in ["", "u", "us", "usr:"] {
            for after in ["", "1", "12", "\u{fc}"] {
                for value in ["s3cret\"/key", "schl\u{fc}ssel"] {
                    let text = encoded(&format!("{before}{value}{after}"));
                    let masked = known.masked(&text).into_owned();
                    assert!(masked.contains("[secret]") && masked.len() < 24, "{before} {after}: {masked}");
                }
            }
        }
    }

    #[test]
    fn long_values_take_the_rest_with_them_and_rotated_ones_are_remembered() {
        let long = "line of a certificate\n".repeat(200);
        let known = known(&[long.as_bytes()]);
        assert_eq!(known.masked(&format!("before {long} after")), "before [secret]");
        let reference = SecretRef::Env("0".to_owned());
        for n in 0..MAX_VALUES {
            known.note(&reference, &SecretValue::new(format!("value-{n}").into_bytes()));
        }
        assert_eq!(known.masked("value-0 value-3"), "[secret] [secret]");
        known.note(&reference, &SecretValue::new(b"value-4".as_slice()));
        assert_eq!(known.masked("value-0 value-4"), "value-0 [secret]");
    }

    #[test]
    fn more_than_can_be_looked_for_shows_nothing() {
        let known = Known::default();
        for n in 0..=MAX_SECRETS {
            let reference = SecretRef::File(format!("/secrets/{n}"));
            known.note(&reference, &SecretValue::new(format!("value {n}").into_bytes()));
        }
        assert_eq!(known.masked("anything"), "[secret]");
    }
}
