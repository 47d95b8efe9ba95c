//! What a person does not see: invisible characters, letters that look like others, text out of sight.

use super::{Kind, Part};

/// Line ends one after the other that move text out of sight; nobody leaves so many lines empty.
const MANY_LINES: usize = 12;
/// Blanks one after the other that do.
const MANY_BLANKS: usize = 80;
/// Characters of what tag characters spell that are told.
const MAX_SPELLED: usize = 60;

/// Whether a character takes no place of its own, turns the direction of others, or means something only
/// to whoever agreed on it.
pub fn invisible(c: char) -> bool {
    name(c).is_some()
}

/// What an invisible character is called.
fn name(c: char) -> Option<&'static str> {
    Some(match c {
        '\t' | '\n' | '\r' => return None,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => "control character",
        '\u{ad}' => "soft hyphen",
        '\u{34f}' => "combining grapheme joiner",
        '\u{61c}' | '\u{200e}' | '\u{200f}' => "mark of direction",
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => "Hangul filler",
        '\u{17b4}' | '\u{17b5}' => "Khmer inherent vowel",
        '\u{180b}'..='\u{180f}' => "Mongolian separator",
        '\u{200b}' => "zero width space",
        '\u{200c}' => "zero width non-joiner",
        '\u{200d}' => "zero width joiner",
        '\u{2028}' | '\u{2029}' => "Unicode line separator",
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => "bidirectional control",
        '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' => "invisible operator",
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => "variation selector",
        '\u{feff}' => "zero width no-break space",
        '\u{fff0}'..='\u{fffb}' => "interlinear annotation",
        '\u{1d173}'..='\u{1d17a}' => "musical format character",
        '\u{e0000}'..='\u{e007f}' => "tag character",
        '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}' => "private use character",
        _ => return None,
    })
}

/// Letters whose shape depends on joiners.
fn joining(c: char) -> bool {
    matches!(c, '\u{600}'..='\u{8ff}' | '\u{900}'..='\u{dff}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}')
}

/// Symbols that are put together of several.
fn pictograph(c: char) -> bool {
    matches!(c, '\u{23}' | '\u{2a}' | '0'..='9' | '\u{a9}' | '\u{ae}' | '\u{2100}'..='\u{2bff}'
        | '\u{3030}'..='\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}' | '\u{fe0f}' | '\u{20e3}')
}

/// Whether an invisible character does what it is there for.
pub(super) fn needed(before: Option<char>, c: char, after: Option<char>) -> bool {
    let both = |is: fn(char) -> bool| before.is_some_and(is) && after.is_some_and(is);
    match c {
        '\u{200c}' => both(joining),
        '\u{200d}' => both(joining) || both(pictograph) && !after.is_some_and(|c| c.is_ascii()),
        '\u{fe0e}' | '\u{fe0f}' => before.is_some_and(|c| c != '\u{fe0f}' && pictograph(c)),
        _ => false,
    }
}

pub(super) fn find(text: &str) -> Vec<Part> {
    let mut found = invisible_runs(text);
    found.extend(out_of_sight(text));
    found.extend(mixed_words(text));
    found.extend(comments(text));
    found
}

fn hidden(what: String, start: usize, end: usize) -> Part {
    Part { kind: Kind::HiddenText, what, start, end }
}

/// Runs of invisible characters, each told once.
fn invisible_runs(text: &str) -> Vec<Part> {
    let mut found = Vec::new();
    let mut run: Option<(usize, usize)> = None;
    let mut before = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map(|(_, c)| *c);
        if invisible(c) && !needed(before, c, after) {
            let start = run.map_or(at, |(start, _)| start);
            run = Some((start, at + c.len_utf8()));
        } else if let Some((start, end)) = run.take() {
            found.push(tell_run(text, start, end));
        }
        before = Some(c);
    }
    found.extend(run.map(|(start, end)| tell_run(text, start, end)));
    found
}

fn tell_run(text: &str, start: usize, end: usize) -> Part {
    let run = text.get(start..end).unwrap_or_default();
    let count = run.chars().count();
    let first = run.chars().next().unwrap_or_default();
    let code = u32::from(first);
    let kind = name(first).unwrap_or_default();
    let many = if count == 1 {
        "an invisible character".to_owned()
    } else {
        format!("{count} invisible characters")
    };
    let mut what = format!("{many} (U+{code:04X} {kind})");
    // Tag characters and, by custom, variation selectors carry one byte each.
    let spelled: String = run.chars().filter_map(carried).take(MAX_SPELLED).collect();
    if spelled.chars().any(|c| c.is_ascii_alphanumeric()) {
        what = format!("{what} that spell `{}`", spelled.trim());
    }
    hidden(what, start, end)
}

/// The ASCII character that an invisible one stands for.
fn carried(c: char) -> Option<char> {
    let code = u32::from(c);
    let ascii = match code {
        0xe_0020..=0xe_007e => code - 0xe_0000,
        0xe_0100..=0xe_01ef => code - 0xe_0100 + 16,
        _ => return None,
    };
    char::from_u32(ascii).filter(|c| c.is_ascii_graphic() || *c == ' ')
}

/// White space so long that what comes after it is not looked at.
fn out_of_sight(text: &str) -> Vec<Part> {
    let mut found = Vec::new();
    let (mut start, mut lines, mut blanks) = (0, 0, 0);
    for (at, c) in text.char_indices().chain([(text.len(), '\0')]) {
        if c.is_whitespace() {
            if lines + blanks == 0 {
                start = at;
            }
            if c == '\n' {
                lines += 1;
            } else {
                blanks += 1;
            }
            continue;
        }
        if at < text.len() && lines >= MANY_LINES {
            found.push(hidden(format!("{lines} line ends before more text"), start, at));
        } else if at < text.len() && blanks >= MANY_BLANKS && blanks / (lines + 1) >= MANY_BLANKS {
            found.push(hidden(format!("{blanks} blanks before more text"), start, at));
        }
        (lines, blanks) = (0, 0);
    }
    found
}

/// The scripts whose letters are taken for each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Cyrillic,
    Greek,
}

fn script(c: char) -> Option<Script> {
    match c {
        'a'..='z' | 'A'..='Z' => Some(Script::Latin),
        '\u{400}'..='\u{52f}' => Some(Script::Cyrillic),
        // Not `µ` and not the letters that stand alone in formulas: those are words of one letter.
        '\u{370}'..='\u{3ff}' => Some(Script::Greek),
        _ => None,
    }
}

/// Words of letters of two scripts, such as a Latin word with a Cyrillic `о`.
fn mixed_words(text: &str) -> Vec<Part> {
    if text.is_ascii() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut start = 0;
    for word in text.split(|c: char| !c.is_alphabetic()) {
        let mut scripts = word.chars().filter_map(script);
        let first = scripts.next();
        let mixed = scripts.any(|script| Some(script) != first);
        // `Δt` and `λs` are formulas; three letters are a word.
        if mixed && word.chars().count() > 2 {
            let what = "a word of letters of two scripts that look alike".to_owned();
            found.push(hidden(what, start, start + word.len()));
        }
        start += word.len();
        start += text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    }
    found
}

/// Comments of HTML: whoever reads the text as Markdown does not see them.
fn comments(text: &str) -> Vec<Part> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text.get(from..).and_then(|rest| rest.find("<!--")).map(|at| from + at) {
        let rest = text.get(start..).unwrap_or_default();
        let end = start + rest.find("-->").map_or(rest.len(), |at| at + 3);
        found.push(hidden("a comment that is not shown where Markdown is".to_owned(), start, end));
        from = end;
    }
    found
}
