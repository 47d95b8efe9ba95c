//! YAML as a person writes it: short things on one line, long text in blocks, comments where they belong.
//!
//! Input: a tree with remarks. Output: text. Invariant: what is read back is what was put in, whatever
//! characters it holds; equal trees give equal text. Not here: reading YAML, or what any of it means.

use std::fmt::Write as _;

use serde_json::Value;

/// Columns a line is kept within, where it can be broken at all: what the examples are written in.
const WIDTH: usize = 100;
/// Spaces of one level.
const STEP: usize = 2;

/// A value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yaml {
    /// A string, quoted only where it has to be.
    Text(String),
    /// A number, `true`, `false` or `null`, as it stands.
    Plain(String),
    List(Vec<Self>),
    Map(Map),
}

/// Fields in the order in which they are written, with remarks between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    entries: Vec<Entry>,
    /// Remarks that no field followed yet.
    remarks: Vec<String>,
    /// Whether it may stand on one line: `{type: streamable-http, port: 8080}`.
    inline: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    remarks: Vec<String>,
    key: String,
    value: Yaml,
}

impl Map {
    pub fn new() -> Self {
        Self::default()
    }

    /// One that stands on one line where it fits.
    pub fn inline() -> Self {
        Self { inline: true, ..Self::default() }
    }

    pub fn put(&mut self, key: &str, value: impl Into<Yaml>) -> &mut Self {
        let remarks = std::mem::take(&mut self.remarks);
        self.entries.push(Entry { remarks, key: key.to_owned(), value: value.into() });
        self
    }

    /// A comment before the next field, or after the last one.
    pub fn remark(&mut self, text: impl Into<String>) -> &mut Self {
        let text = text.into();
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
        self
    }

    /// Turns a field into remarks: why it is not there, and how it would be written.
    pub fn withdraw(&mut self, key: &str, why: &str) -> bool {
        let Some(at) = self.entries.iter().position(|entry| entry.key == key) else { return false };
        let Entry { mut remarks, key, value } = self.entries.remove(at);
        let mut alone = Self::new();
        alone.put(&key, value);
        remarks.push(format!("{why}:"));
        remarks.extend(text(&alone).lines().map(|line| format!("  {line}")));
        let after = self.entries.get_mut(at).map_or(&mut self.remarks, |next| &mut next.remarks);
        remarks.append(after);
        *after = remarks;
        true
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.remarks.is_empty()
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    fn remarked(&self) -> bool {
        !self.remarks.is_empty() || self.entries.iter().any(|entry| !entry.remarks.is_empty())
    }
}

impl From<&str> for Yaml {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Yaml {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u16> for Yaml {
    fn from(number: u16) -> Self {
        Self::Plain(number.to_string())
    }
}

impl From<bool> for Yaml {
    fn from(truth: bool) -> Self {
        Self::Plain(truth.to_string())
    }
}

impl From<Vec<String>> for Yaml {
    fn from(list: Vec<String>) -> Self {
        Self::List(list.into_iter().map(Self::Text).collect())
    }
}

impl From<Map> for Yaml {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl From<&Value> for Yaml {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Plain(value.to_string()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(fields) => {
                let mut map = Map::inline();
                for (key, value) in fields {
                    map.put(key, value);
                }
                Self::Map(map)
            }
        }
    }
}

/// The text of a document.
pub fn text(map: &Map) -> String {
    let mut out = String::new();
    fields(&mut out, map, 0);
    out
}

/// Comment lines, broken between words.
pub fn remarks(out: &mut String, remarks: &[String], indent: usize) {
    for line in remarks.iter().flat_map(|remark| remark.lines()) {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // What is indented is an example of YAML, which is not broken.
        let broken = if line.starts_with(' ') { vec![line] } else { folded(&line, WIDTH - indent - 2) };
        for line in broken {
            let text = format!("{:indent$}# {line}", "");
            let _ = writeln!(out, "{}", text.trim_end());
        }
    }
}

fn fields(out: &mut String, map: &Map, indent: usize) {
    for Entry { remarks: before, key, value } in &map.entries {
        remarks(out, before, indent);
        let _ = write!(out, "{:indent$}{}:", "", scalar(key, false));
        field_value(out, value, indent, indent + key.len() + 2);
    }
    remarks(out, &map.remarks, indent);
}

/// What stands after `key:` (or `-`), up to the end of its last line.
fn field_value(out: &mut String, value: &Yaml, indent: usize, column: usize) {
    if let Yaml::Text(text) = value
        && let Some(block) = block(text, indent + STEP, column)
    {
        out.push(' ');
        out.push_str(&block);
        return;
    }
    if let Some(line) = line(value, column) {
        let _ = writeln!(out, " {line}");
        return;
    }
    match value {
        Yaml::Map(map) => {
            out.push_str(if map.entries.is_empty() { " {}\n" } else { "\n" });
            fields(out, map, indent + STEP);
        }
        Yaml::List(items) => {
            out.push('\n');
            list(out, items, indent + STEP);
        }
        Yaml::Text(_) | Yaml::Plain(_) => {}
    }
}

fn list(out: &mut String, items: &[Yaml], indent: usize) {
    for item in items {
        let _ = write!(out, "{:indent$}-", "");
        let column = indent + 2;
        match (item, line(item, column)) {
            (Yaml::Map(map), None) => {
                let mut nested = String::new();
                fields(&mut nested, map, indent + STEP);
                out.push(' ');
                out.push_str(nested.trim_start());
            }
            (Yaml::List(items), None) => {
                let mut nested = String::new();
                list(&mut nested, items, indent + STEP);
                out.push(' ');
                out.push_str(nested.trim_start());
            }
            _ => field_value(out, item, indent, column),
        }
    }
}

/// The value on one line, when that is how it is written.
fn line(value: &Yaml, column: usize) -> Option<String> {
    match value {
        Yaml::Text(text) => Some(scalar(text, false)),
        Yaml::Plain(text) => Some(text.clone()),
        Yaml::List(_) | Yaml::Map(_) => {
            let text = flow(value)?;
            let short = column + text.chars().count() <= WIDTH;
            (short || matches!(text.as_str(), "[]" | "{}")).then_some(text)
        }
    }
}

fn flow(value: &Yaml) -> Option<String> {
    match value {
        Yaml::Text(text) => (!text.contains('\n')).then(|| scalar(text, true)),
        Yaml::Plain(text) => Some(text.clone()),
        Yaml::List(items) => {
            let items: Option<Vec<String>> = items.iter().map(flow).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        Yaml::Map(map) => {
            if map.remarked() || !(map.inline || map.entries.is_empty()) {
                return None;
            }
            let field =
                |entry: &Entry| Some(format!("{}: {}", scalar(&entry.key, true), flow(&entry.value)?));
            let fields: Option<Vec<String>> = map.entries.iter().map(field).collect();
            Some(format!("{{{}}}", fields?.join(", ")))
        }
    }
}

/// Text of several lines, or one that is too long for a line, as a block that keeps every character.
fn block(text: &str, indent: usize, column: usize) -> Option<String> {
    let odd = |c: char| {
        c != '\n' && (c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}'))
    };
    if text.contains(odd) || text.starts_with([' ', '\n']) || text.ends_with(' ') {
        return None;
    }
    if text.contains('\n') {
        let body = text.strip_suffix('\n').unwrap_or(text);
        if body.ends_with('\n') {
            return None;
        }
        let mut out = if body.len() == text.len() { "|-\n".to_owned() } else { "|\n".to_owned() };
        for line in body.split('\n') {
            let line = format!("{:indent$}{line}", "");
            // Spaces at the end of a line are text, those of an empty line are not.
            out.push_str(if line.trim().is_empty() { "" } else { &line });
            out.push('\n');
        }
        let kept = body.split('\n').all(|line| line.is_empty() || !line.trim().is_empty());
        return kept.then_some(out);
    }
    if column + text.chars().count() <= WIDTH + STEP || text.contains("  ") || !text.contains(' ') {
        return None;
    }
    let mut out = ">-\n".to_owned();
    for line in folded(text, WIDTH - indent) {
        let _ = writeln!(out, "{:indent$}{line}", "");
    }
    Some(out)
}

/// A line broken at spaces; a word that is too long stands alone.
fn folded(line: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= width => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A string on one line: as it is where that is read back as this string, else in quotes.
fn scalar(text: &str, flow: bool) -> String {
    if is_plain(text, flow) { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_plain(text: &str, flow: bool) -> bool {
    let mut chars = text.chars();
    let begins = match chars.next() {
        Some('-') => text == "--" || text.trim_start_matches('-').starts_with(|c: char| c.is_alphanumeric()),
        Some(c) => c.is_alphanumeric() || matches!(c, '/' | '_' | '$' | '(' | '.'),
        None => false,
    };
    let odd = |c: char| {
        c.is_control()
            || (c.is_whitespace() && c != ' ')
            || matches!(c, '\u{feff}')
            || (flow && matches!(c, ',' | '[' | ']' | '{' | '}'))
    };
    begins
        && !text.ends_with([' ', ':'])
        && !text.contains(odd)
        && !text.contains(": ")
        // Between braces both end what stands before them.
        && !(flow && (text.contains(":?") || text.contains("? ")))
        && !text.contains(" #")
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !is_other(text)
}

/// Whether a reader, of YAML 1.1 or 1.2, would take it for something else than a string.
fn is_other(text: &str) -> bool {
    const WORDS: [&str; 10] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "~"];
    if WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return true;
    }
    let digits = text.trim_start_matches(['-', '+', '.']);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return digits.eq_ignore_ascii_case("inf") || digits.eq_ignore_ascii_case("nan");
    }
    let bare: String = text.chars().filter(|c| *c != '_').collect();
    let radix = |prefix: &str| digits.len() > 2 && digits.to_ascii_lowercase().starts_with(prefix);
    let date = digits.len() >= 8 && digits.as_bytes().get(4) == Some(&b'-');
    let sexagesimal =
        digits.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | '_')) && digits.contains(':');
    bare.parse::<f64>().is_ok() || radix("0x") || radix("0o") || radix("0b") || date || sexagesimal
}

#[cfg(test)]
mod tests;
