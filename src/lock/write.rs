//! A lock to its text: one block for each definition, one order, the same bytes every time.

use std::fmt::Write as _;

use serde_json::Value;

use super::json::{hidden, pretty};
use super::{Definition, KIND, Lock, Section, Signer};
use crate::resource::API_VERSION;

const HEADING: &str =
    "# Written by `toolcrib lock`. Review it like code: what stands here is what a model reads.\n";

impl Lock {
    /// The text of the lock's file.
    pub fn write(&self) -> String {
        let mut out = HEADING.to_owned();
        let _ = write!(out, "apiVersion: {API_VERSION}\nkind: {KIND}\nresource: {}\nsource:", self.resource);
        value(&mut out, &self.source, 1);
        if let Ok(resolved @ Value::Object(_)) = serde_json::to_value(&self.resolved)
            && resolved != Value::Object(serde_json::Map::new())
        {
            out.push_str("resolved:");
            value(&mut out, &resolved, 1);
        }
        match &self.signer {
            Signer::Unsigned => out.push_str("unsigned: true\n"),
            Signer::By(name) => {
                let _ = writeln!(out, "signer: {}", scalar(name));
            }
        }
        let Some(offer) = &self.offer else { return out };
        if let Some(instructions) = &offer.instructions {
            out.push_str("instructions: ");
            text(&mut out, instructions, 1);
        }
        for section in Section::ALL {
            let list = offer.list(section);
            // Always there, so that a server with nothing is told from one that was never asked.
            if list.is_empty() {
                let _ = writeln!(out, "{}: []", section.field());
                continue;
            }
            let _ = writeln!(out, "{}:", section.field());
            for Definition { name, text } in list {
                let _ = writeln!(out, "- name: {}\n  definition: |", scalar(name));
                for line in pretty(text).lines() {
                    let _ = writeln!(out, "    {line}");
                }
            }
        }
        out
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// What stands after a key: on its line, or below it.
fn value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            entries(out, map, depth, false);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            for item in list {
                indent(out, depth);
                out.push('-');
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        out.push(' ');
                        entries(out, map, depth + 1, true);
                    }
                    item => self::value(out, item, depth + 1),
                }
            }
        }
        Value::String(text) => {
            let _ = writeln!(out, " {}", scalar(text));
        }
        plain => {
            let _ = writeln!(out, " {plain}");
        }
    }
}

fn entries(out: &mut String, map: &serde_json::Map<String, Value>, depth: usize, inline: bool) {
    for (at, (key, one)) in map.iter().enumerate() {
        if at > 0 || !inline {
            indent(out, depth);
        }
        let _ = write!(out, "{}:", scalar(key));
        value(out, one, depth + 1);
    }
}

/// A block where the text can stand as it is, else quotes.
fn text(out: &mut String, text: &str, depth: usize) {
    let plain = !text.is_empty()
        && !text.starts_with([' ', '\n'])
        && !text.chars().any(|c| c != '\n' && hidden(c))
        && !text.trim_end_matches('\n').is_empty();
    if !plain {
        let _ = writeln!(out, "{}", quoted(text));
        return;
    }
    let breaks = text.len() - text.trim_end_matches('\n').len();
    out.push_str(match breaks {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// Plain where no reader of YAML can take it for anything but text, else in quotes.
fn scalar(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "_-./@+".contains(c);
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(word)
        && !reserved.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if hidden(c) && u32::from(c) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c if hidden(c) => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
