//! Text that a model will read: what hides in it, and what speaks to the model instead of about the tool.
//!
//! Input: one text. Output: [`Mark`]s with their places. Invariants: nothing is ever removed or changed;
//! what scripts and emoji need (joiners between letters of Arabic or Devanagari, a variation selector
//! after a symbol) is no mark; the number of marks and the length of every part of one is bounded. It
//! looks for what is known to be done, so a text without marks is not thereby honest. Not here: whose
//! text it is, and what is done about it.

mod hidden;
mod phrases;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde::Serialize;

pub use hidden::invisible;

/// Marks of one text: a person looks at the first few.
pub const MAX_MARKS: usize = 16;
/// Bytes of a text that are looked at for phrases. Servers send at most a few KiB of description.
const MAX_TEXT: usize = 256 << 10;
/// Characters of what is shown around a mark, on each side.
const AROUND: usize = 24;
/// Characters of what is shown of a mark itself.
const MAX_SHOWN: usize = 80;

/// What is wrong with a part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A person does not see what a model reads.
    HiddenText,
    /// It tells the model what to do, or what to keep from its user.
    InstructsModel,
}

impl Kind {
    /// The code of diagnostics: `hidden-text`, `instructs-model`.
    pub fn code(self) -> &'static str {
        match self {
            Self::HiddenText => "hidden-text",
            Self::InstructsModel => "instructs-model",
        }
    }
}

/// A part of a text that a reviewer has to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    pub kind: Kind,
    /// What it is: `3 invisible characters (U+200B zero width space)`.
    pub what: String,
    /// The part with what stands around it, with everything hidden written out.
    pub shown: String,
    /// Bytes from the beginning of the text.
    #[serde(skip)]
    pub start: usize,
}

/// Everything in a text that has to be looked at, in the order of the text; at most [`MAX_MARKS`].
pub fn scan(text: &str) -> Vec<Mark> {
    let mut found = hidden::find(text);
    found.extend(phrases::find(text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default()));
    found.sort_by_key(|part| (part.start, part.kind));
    found.truncate(MAX_MARKS);
    found.into_iter().map(|part| part.mark(text)).collect()
}

/// The text with everything that cannot be seen written out: `<U+200B>`. Line ends and tabs stay.
pub fn reveal(text: &str) -> String {
    let mut revealed = String::with_capacity(text.len());
    let mut before = None;
    for c in text.chars() {
        let chooses = matches!(c, '\u{fe0e}' | '\u{fe0f}') && hidden::needed(before, c, None);
        before = Some(c);
        if hidden::invisible(c) && !chooses {
            // Writing to a string cannot fail.
            let _ = write!(revealed, "<U+{:04X}>", u32::from(c));
        } else {
            revealed.push(c);
        }
    }
    revealed
}

/// A part that was found, by its bytes.
struct Part {
    kind: Kind,
    what: String,
    start: usize,
    end: usize,
}

impl Part {
    fn mark(self, text: &str) -> Mark {
        let Self { kind, what, start, end } = self;
        let before = text.get(..start).unwrap_or_default();
        let from = before.char_indices().rev().nth(AROUND - 1).map_or(0, |(at, _)| at);
        let after = text.get(end..).unwrap_or_default();
        let to = end + after.char_indices().nth(AROUND).map_or(after.len(), |(at, _)| at);
        let inner = text.get(start..end).unwrap_or_default();
        let mut shown = String::new();
        if from > 0 {
            shown.push('…');
        }
        shown.push_str(&one_line(text.get(from..start).unwrap_or_default()));
        if inner.chars().count() > MAX_SHOWN {
            let cut: String = inner.chars().take(MAX_SHOWN).collect();
            shown.push_str(&one_line(&cut));
            shown.push('…');
        } else {
            shown.push_str(&one_line(inner));
        }
        shown.push_str(&one_line(text.get(end..to).unwrap_or_default()));
        if to < text.len() {
            shown.push('…');
        }
        Mark { kind, what, shown, start }
    }
}

/// Revealed, with white space folded.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut blank = false;
    for c in reveal(text).chars() {
        if c.is_whitespace() {
            if !blank {
                line.push(' ');
            }
            blank = true;
        } else {
            line.push(c);
            blank = false;
        }
    }
    line
}
