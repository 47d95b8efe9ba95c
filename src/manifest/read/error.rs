//! What serde says of a fault, in our words.

use std::fmt;

use serde::de::{Expected, Unexpected};

use super::super::suggest::nearest;
use super::super::tree::Mark;
use super::Fault;

/// How types say what could be written instead.
const INSTEAD: &str = "; write ";

/// A fault on its way up, while it gathers its place.
#[derive(Debug)]
pub(super) struct ReadError {
    pub(super) code: &'static str,
    message: String,
    hint: Option<String>,
    pub(super) mark: Option<Mark>,
    /// The entry to leave out so that the rest can be read.
    pub(super) culprit: Option<usize>,
    /// It is there only because something else was left out.
    pub(super) consequent: bool,
    /// Its place was moved from a mapping to the key of it.
    pub(super) at_key: bool,
    /// The field that is missing.
    pub(super) missing: Option<&'static str>,
}

impl ReadError {
    pub(super) fn plain(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            mark: None,
            culprit: None,
            consequent: false,
            at_key: false,
            missing: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn into_fault(self, otherwise: Mark) -> Fault {
        let Self { code, message, hint, mark, culprit: _, consequent: _, at_key: _, missing: _ } = self;
        Fault { mark: mark.unwrap_or(otherwise), code, message, hint }
    }
}

/// "one of `a`, `b` and `c`", or "`a`".
pub(super) fn names(known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// The hint for a word that is not one of `known`.
fn instead(word: &str, known: &[&str], plural: &str) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None => format!("{plural} here: {}", names(known)),
    }
}

pub(super) fn unknown_field(field: &str, known: &[&str]) -> ReadError {
    ReadError::plain("unknown-field", format!("there is no field `{field}` here"))
        .hint(instead(field, known, "known"))
}

pub(super) fn unknown_variant(variant: &str, known: &[&str]) -> ReadError {
    let message = format!("`{variant}` is not {}", names(known));
    let near = nearest(variant, known.iter().copied());
    ReadError {
        hint: near.map(|near| format!("did you mean `{near}`?")),
        ..ReadError::plain("unknown-value", message)
    }
}

/// What a visitor wants, in words of YAML.
fn wanted(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        text if text.starts_with("struct ") => "a mapping of fields".to_owned(),
        text if text.starts_with("enum ") => "one of its forms".to_owned(),
        text => text.to_owned(),
    }
}

fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) if text.chars().count() > 40 => "a long text".to_owned(),
        Unexpected::Str(text) => format!("the text `{}`", text.escape_debug()),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

fn way_out(unexpected: &Unexpected<'_>, wanted: &str) -> Option<String> {
    let text = wanted.contains("string");
    match unexpected {
        Unexpected::Bool(_) | Unexpected::Float(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_)
            if text =>
        {
            Some("put it in quotes to make it text".to_owned())
        }
        Unexpected::Unit if wanted.contains("mapping") => {
            Some("write `{}` for the defaults, or remove the key".to_owned())
        }
        Unexpected::Unit => Some("write a value after the `:`, or remove the key".to_owned()),
        Unexpected::Str(text) if wanted == "a list" && text.chars().count() <= 40 => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            // Words of a command line are elements each: `wc -w` is meant as two.
            let items = if text.chars().all(|c| plain(c) || c == ' ') {
                text.split_whitespace().collect::<Vec<_>>().join(", ")
            } else {
                format!("{text:?}")
            };
            Some(format!("write `[{items}]`, or one `- …` a line"))
        }
        _ if wanted == "a list" => Some("write `[…]`, or one `- …` a line".to_owned()),
        _ => None,
    }
}

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        match message.rsplit_once(INSTEAD) {
            Some((what, instead)) => Self::plain("invalid-value", what).hint(format!("write {instead}")),
            None => Self::plain("invalid-value", message),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let wanted = wanted(expected);
        let error = Self::plain("wrong-type", format!("expected {wanted}, found {}", found(&unexpected)));
        Self { hint: way_out(&unexpected, &wanted), ..error }
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let message = format!("expected {}, found {}", wanted(expected), found(&unexpected));
        Self::plain("invalid-value", message)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        unknown_variant(variant, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        unknown_field(field, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        let error = Self::plain("missing-field", format!("the field `{field}` is missing"));
        Self { missing: Some(field), ..error.hint(format!("add `{field}: …`")) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::plain("duplicate-key", format!("the key `{field}` is there twice")).hint("keep one of them")
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}
