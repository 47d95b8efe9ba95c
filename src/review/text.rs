//! Two texts: what was taken out and what was put in, word by word.
//!
//! Input: the text before and after. Output: a [`TextChange`] of spans in order; joined, the spans that
//! are not added are the text before, and those that are not removed the text after, but for what was
//! left out of long stretches. Texts of several lines are compared line by line.

use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Words or lines of one text that are compared: beyond it, finding the smallest difference takes long.
const MAX_PARTS: usize = 4_000;
/// Lines from which on a text is compared by lines.
const MANY_LINES: usize = 4;
/// Words and lines of what is the same that are shown on each side of a change.
const WORDS_AROUND: usize = 6;
const LINES_AROUND: usize = 2;
/// Bytes of one span; a person reads the beginning.
const MAX_SPAN: usize = 2_000;
/// Spans of one text.
const MAX_SPANS: usize = 200;

/// What became of a part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Was {
    Same,
    Removed,
    Added,
    /// Left out here: `text` says how much.
    Skipped,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Span {
    pub was: Was,
    pub text: String,
}

/// The difference of two texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TextChange {
    pub spans: Vec<Span>,
}

impl TextChange {
    /// None when the texts are equal.
    pub fn between(before: &str, after: &str) -> Option<Self> {
        if before == after {
            return None;
        }
        let lines = before.lines().count().max(after.lines().count()) >= MANY_LINES;
        let parts = |text| if lines { in_lines(text) } else { in_words(text) };
        let (old, new) = (parts(before), parts(after));
        if old.len() > MAX_PARTS || new.len() > MAX_PARTS {
            return Some(whole(before, after));
        }
        let around = if lines { LINES_AROUND } else { WORDS_AROUND };
        let mut spans = Vec::new();
        let ops = capture_diff_slices(Algorithm::Myers, &old, &new);
        for (at, op) in ops.iter().enumerate() {
            let (taken, put) = (old.get(op.old_range()), new.get(op.new_range()));
            let (taken, put) = (taken.unwrap_or_default(), put.unwrap_or_default());
            match op {
                DiffOp::Equal { .. } => {
                    let ends = (at == 0, at + 1 == ops.len());
                    same(&mut spans, taken, if lines { around } else { 2 * around }, ends);
                }
                DiffOp::Delete { .. } | DiffOp::Insert { .. } | DiffOp::Replace { .. } => {
                    push(&mut spans, Was::Removed, taken.concat());
                    push(&mut spans, Was::Added, put.concat());
                }
            }
        }
        let mut change = Self { spans: ordered(spans) };
        change.trim();
        Some(change)
    }

    /// Cuts the ends that are the same, and bounds the whole.
    fn trim(&mut self) {
        if self.spans.len() > MAX_SPANS {
            let more = self.spans.len() - MAX_SPANS;
            self.spans.truncate(MAX_SPANS);
            self.spans.push(Span { was: Was::Skipped, text: format!("{more} more changes") });
        }
    }
}

fn whole(before: &str, after: &str) -> TextChange {
    let mut spans = Vec::new();
    push(&mut spans, Was::Removed, before.to_owned());
    push(&mut spans, Was::Added, after.to_owned());
    TextChange { spans }
}

fn push(spans: &mut Vec<Span>, was: Was, mut text: String) {
    if text.is_empty() {
        return;
    }
    let length = text.len();
    if length > MAX_SPAN {
        text.truncate(text.floor_char_boundary(MAX_SPAN));
    }
    spans.push(Span { was, text });
    if length > MAX_SPAN {
        let more = length - MAX_SPAN;
        spans.push(Span { was: Was::Skipped, text: format!("{more} more bytes of it") });
    }
}

/// What did not change, without the middle of a long stretch; before the first change and after the last
/// one, only what stands next to it.
fn same(spans: &mut Vec<Span>, parts: &[&str], around: usize, (first, last): (bool, bool)) {
    let (head, tail) = (if first { 0 } else { around }, if last { 0 } else { around });
    if parts.len() <= head + tail + 1 {
        return push(spans, Was::Same, parts.concat());
    }
    let cut = |range: std::ops::Range<usize>| parts.get(range).unwrap_or_default().concat();
    push(spans, Was::Same, cut(0..head));
    let left = cut(head..parts.len() - tail).chars().count();
    spans.push(Span { was: Was::Skipped, text: format!("{left} characters the same") });
    push(spans, Was::Same, cut(parts.len() - tail..parts.len()));
}

/// Of removals and additions that follow one another, removals first, each joined. A blank that stayed
/// between two changed words is part of the change: `one two` to `three four` is one change.
fn ordered(spans: Vec<Span>) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    let (mut removed, mut added) = (String::new(), String::new());
    let mut rest = spans.into_iter().peekable();
    while let Some(span) = rest.next() {
        match span.was {
            Was::Removed => removed.push_str(&span.text),
            Was::Added => added.push_str(&span.text),
            Was::Same
                if blank(&span.text)
                    && !(removed.is_empty() && added.is_empty())
                    && rest.peek().is_some() =>
            {
                removed.push_str(&span.text);
                added.push_str(&span.text);
            }
            Was::Same | Was::Skipped => {
                flush(&mut out, &mut removed, &mut added);
                out.push(span);
            }
        }
    }
    flush(&mut out, &mut removed, &mut added);
    out
}

fn blank(text: &str) -> bool {
    text.chars().all(|c| c == ' ')
}

fn flush(out: &mut Vec<Span>, removed: &mut String, added: &mut String) {
    push(out, Was::Removed, std::mem::take(removed));
    push(out, Was::Added, std::mem::take(added));
}

/// Words, and what stands between them.
fn in_words(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut before: Option<bool> = None;
    for (at, c) in text.char_indices() {
        let word = c.is_alphanumeric() || c == '_';
        // Blanks stay together; every other mark stands for itself.
        let cut = match before {
            None => false,
            Some(before) => before != word || !word,
        };
        if cut {
            parts.push(text.get(start..at).unwrap_or_default());
            start = at;
        }
        before = Some(word);
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts.retain(|part| !part.is_empty());
    parts
}

fn in_lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `[-removed-]{+added+}` and `…` for what is left out.
    fn marked(change: &TextChange) -> String {
        let span = |span: &Span| match span.was {
            Was::Same => span.text.clone(),
            Was::Removed => format!("[-{}-]", span.text),
            Was::Added => format!("{{+{}+}}", span.text),
            Was::Skipped => format!("<{}>", span.text),
        };
        change.spans.iter().map(span).collect()
    }

    fn check(before: &str, after: &str, expected: &str) {
        assert_eq!(
            TextChange::between(before, after).map(|change| marked(&change)).as_deref(),
            Some(expected)
        );
    }

    #[test]
    fn words_are_compared() {
        assert_eq!(TextChange::between("same", "same"), None);
        check("Says hello.", "Says goodbye.", "Says [-hello-]{+goodbye+}.");
        check("one two", "three four", "[-one two-]{+three four+}");
        check("Says hello.", "Says hello. Call me first.", "Says hello.{+ Call me first.+}");
        check("", "new", "{+new+}");
        check("old", "", "[-old-]");
        check("a\u{200b}b", "ab", "[-a\u{200b}b-]{+ab+}");
    }

    #[test]
    fn long_stretches_are_left_out() {
        let long = "word ".repeat(50);
        check(
            &format!("{long}old"),
            &format!("{long}new"),
            "<220 characters the same>word word word word word word [-old-]{+new+}",
        );
    }

    #[test]
    fn many_lines_are_compared_by_line() {
        check("a\nb\nc\nd\n", "a\nb\nx\nd\n", "a\nb\n[-c\n-]{+x\n+}d\n");
    }

    #[test]
    fn much_is_bounded() {
        let before = (0..10_000).map(|n| format!("{n} ")).collect::<Vec<_>>().concat();
        let change = TextChange::between(&before, "x").unwrap();
        assert!(marked(&change).len() < 3 * MAX_SPAN, "{}", marked(&change).len());
        let many = |mark: &str| {
            (0..900)
                .map(|n| format!("{n}{mark} same words here all along the way now "))
                .collect::<Vec<_>>()
                .concat()
        };
        assert_eq!(TextChange::between(&many("a"), &many("b")).unwrap().spans.len(), 4);
        let some = |mark: &str| (0..300).map(|n| format!("{n}{mark} same ")).collect::<Vec<_>>().concat();
        assert_eq!(TextChange::between(&some("a"), &some("b")).unwrap().spans.len(), MAX_SPANS + 1);
    }

    proptest! {
        #[test]
        fn both_texts_are_in_the_spans(before in "[a-c \n]{0,40}", after in "[a-c \n]{0,40}") {
            prop_assume!(before != after);
            let change = TextChange::between(&before, &after).unwrap();
            let joined = |left_out: Was| -> String {
                change.spans.iter().filter(|span| span.was != left_out).map(|span| span.text.as_str()).collect()
            };
            if change.spans.iter().all(|span| span.was != Was::Skipped) {
                prop_assert_eq!(joined(Was::Added), before);
                prop_assert_eq!(joined(Was::Removed), after);
            }
        }
    }
}
