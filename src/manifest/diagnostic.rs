//! A user's mistake: what, where, and what next.
//!
//! Input: whoever found the mistake. Output: [`Diagnostic`], as data for programs and, by `Display`,
//! as text for people. Invariant: one mistake says where it is and what the next step is, or why it
//! cannot. Not here: finding mistakes.

use std::fmt;

use serde::Serialize;

use super::Place;
use crate::resource::ResourceId;
use crate::wording;

/// How bad it is: an error keeps the previous version of its resource (or refuses the revision).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One mistake. Ordered by place, so that a list sorts as a person reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    pub place: Option<Place>,
    pub severity: Severity,
    /// Stable, in kebab case: `unknown-field`.
    pub code: &'static str,
    /// A sentence without its full stop.
    pub message: String,
    /// The line itself, for the excerpt with its caret.
    pub excerpt: Option<String>,
    /// The next step, a sentence without its full stop.
    pub hint: Option<String>,
    /// Whose condition shows it, when that is known.
    pub resource: Option<ResourceId>,
}

impl Diagnostic {
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            place: None,
            severity: Severity::Error,
            code,
            message: message.into(),
            excerpt: None,
            hint: None,
            resource: None,
        }
    }

    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    #[must_use]
    pub fn at(mut self, place: Place, excerpt: Option<String>) -> Self {
        self.place = Some(place);
        self.excerpt = excerpt;
        self
    }

    #[must_use]
    pub fn with_excerpt(mut self, excerpt: Option<String>) -> Self {
        self.excerpt = excerpt;
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the next step where none is known.
    #[must_use]
    pub fn or_hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    #[must_use]
    pub fn of(mut self, resource: ResourceId) -> Self {
        self.resource = Some(resource);
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Characters of an excerpt that are shown. Minified JSON is one line.
const EXCERPT_WIDTH: usize = 120;

/// How many characters from `column` on belong to the word there: up to its closing quote, or to
/// white space or punctuation of YAML.
fn word(line: &[char], column: usize) -> usize {
    let rest = line.get(column..).unwrap_or_default();
    let end = match rest.first() {
        Some(quote @ ('"' | '\'')) => rest.iter().skip(1).position(|c| c == quote).map(|at| at + 2),
        Some('[' | '{' | '-') => Some(1),
        _ => rest.iter().position(|c| c.is_whitespace() || matches!(c, ':' | ',' | ']' | '}')),
    };
    end.unwrap_or(rest.len()).max(1)
}

impl fmt::Display for Diagnostic {
    /// As compilers write it: heading, place, the line with a caret, help. No newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, severity, code, message, excerpt, hint, resource } = self;
        write!(f, "{}[{code}]: {message}", severity.as_str())?;
        let margin = place.as_ref().map_or(1, |place| place.line.to_string().len());
        match (place, resource) {
            (Some(place), Some(resource)) => write!(f, "\n{:margin$}--> {place} ({resource})", "")?,
            (Some(place), None) => write!(f, "\n{:margin$}--> {place}", "")?,
            (None, Some(resource)) => write!(f, "\n{:margin$}--> {resource}", "")?,
            (None, None) => {}
        }
        if let (Some(place), Some(excerpt)) = (place, excerpt) {
            write_excerpt(f, place, excerpt, margin)?;
        }
        if let Some(hint) = hint {
            write!(f, "\n{:margin$} = help: {hint}", "")?;
        }
        Ok(())
    }
}

/// What is shown of a character: one that cannot be seen, or that turns the direction of others, is not.
fn seen(c: char) -> char {
    match c {
        c if c.is_control() => ' ',
        c if wording::invisible(c) => '\u{fffd}',
        c => c,
    }
}

fn write_excerpt(f: &mut fmt::Formatter<'_>, place: &Place, line: &str, margin: usize) -> fmt::Result {
    let line: Vec<char> = line.chars().map(seen).collect();
    let column = (place.column.max(1) - 1) as usize;
    let skip = column.saturating_sub(EXCERPT_WIDTH / 2).min(line.len());
    let skip = if line.len() <= EXCERPT_WIDTH { 0 } else { skip };
    let shown = &line[skip..line.len().min(skip + EXCERPT_WIDTH)];
    let text: String = shown.iter().collect();
    let at = column - skip.min(column);
    let carets = word(shown, at).min(EXCERPT_WIDTH);
    write!(f, "\n{:margin$} |\n{} | {}", "", place.line, text.trim_end())?;
    write!(f, "\n{:margin$} | {:at$}{}", "", "", "^".repeat(carets))
}
