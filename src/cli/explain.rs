//! `explain`: what can be declared, field by field.

use std::fmt::Write as _;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::{Format, Table};
use crate::manifest::suggest::nearest;
use crate::reference::{self, Field};
use crate::resource::Kind;

/// The forms in which it explains.
pub(super) const FORMATS: &[Format] = &[Format::Text, Format::Json, Format::Markdown];

/// Explain what can be declared: a kind, or a field of one.
///
/// Asks nobody: it comes from the types that read documents. As json it is the JSON Schema of a kind, or
/// without a kind that of any document, which editors use to complete and explain.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib explain                           the kinds
  toolcrib explain server                    what a Server has
  toolcrib explain server.source.git         one field, and what it has inside
  toolcrib explain tool.parameters.city.type
  toolcrib explain --output json > resource.schema.json

A file that begins with this line is completed and explained by editors with yaml-language-server:
  # yaml-language-server: $schema=resource.schema.json")]
pub(super) struct Explain {
    /// Kind, or kind and field, such as `server.source.git` [default: all kinds].
    #[arg(value_name = "KIND[.FIELD]")]
    target: Option<String>,
}

impl Explain {
    pub(super) fn execute(self, context: &Context) -> CliResult<Exit> {
        let out = context.out;
        let Some(target) = self.target else {
            match out.format() {
                Format::Json => out.json(&reference::any())?,
                Format::Markdown => out.text(&reference::index())?,
                _ => out.text(&kinds())?,
            }
            return Ok(Exit::Success);
        };
        let mut steps = target.split('.');
        let kind = kind(steps.next().unwrap_or_default())?;
        let path: Vec<&str> = steps.filter(|step| !step.is_empty()).collect();
        let field = reference::find(kind, &path).map_err(|unknown| {
            let hint = match (&unknown.near, unknown.known.as_slice()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, []) => format!("`{}` has no fields", unknown.inside),
                (None, known) => format!("known there: {}", known.join(", ")),
            };
            CliError::usage(unknown.to_string()).hint(hint)
        })?;
        match out.format() {
            Format::Json if path.is_empty() => out.json(&reference::kind(kind))?,
            Format::Json => out.json(&field)?,
            Format::Markdown => out.text(&reference::page(kind))?,
            _ => out.text(&text(kind, &field))?,
        }
        Ok(Exit::Success)
    }
}

fn kind(word: &str) -> CliResult<Kind> {
    Kind::parse(word).ok_or_else(|| {
        let names = Kind::ALL.map(Kind::as_str);
        let hint = match nearest(word, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("kinds are {}", names.join(", ")),
        };
        CliError::usage(format!("`{word}` is not a kind")).hint(hint)
    })
}

fn kinds() -> String {
    let mut table = Table::new(["KIND", "DECLARES"]);
    for kind in Kind::ALL {
        let description = reference::find(kind, &[]).map(|field| field.description).unwrap_or_default();
        table.row([kind.as_str(), &reference::first_sentence(&description)]);
    }
    format!("{}\n`toolcrib explain KIND` shows what one has.\n", table.text())
}

/// Characters of a line of running text.
const WIDTH: usize = 100;

/// Running text in lines.
fn wrapped(text: &str, indent: &str) -> String {
    let mut wrapped = String::new();
    for paragraph in text.split("\n\n") {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent.len() + line.chars().count() + word.chars().count() >= WIDTH {
                let _ = writeln!(wrapped, "{indent}{line}");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(wrapped, "{indent}{line}\n");
    }
    wrapped
}

fn text(kind: Kind, field: &Field) -> String {
    let Field {
        path,
        kind: words,
        required,
        description,
        default,
        examples,
        document,
        values,
        fields,
        one_of,
        ..
    } = field;
    // Writing to a string cannot fail.
    let mut text = if path.is_empty() {
        format!("{kind}\n\n")
    } else {
        let required = if *required { ", required" } else { "" };
        format!("{kind}.{path} <{words}>{required}\n\n")
    };
    text.push_str(&wrapped(description, "  "));
    if let Some(default) = default {
        let _ = writeln!(text, "DEFAULT\n  {default}\n");
    }
    if !values.is_empty() {
        let width = values.iter().map(|(value, _)| value.len()).max().unwrap_or_default();
        let lines = values
            .iter()
            .map(|(value, meaning)| format!("  {value:width$}   {meaning}").trim_end().to_owned());
        let _ = writeln!(text, "VALUES\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    }
    if !examples.is_empty() {
        let _ = writeln!(text, "EXAMPLES\n  {}\n", examples.join("\n  "));
    }
    if let Some(document) = document {
        let _ = writeln!(text, "EXAMPLE\n  {}\n", document.trim_end().replace('\n', "\n  "));
    }
    if !fields.is_empty() {
        let heading = if *one_of { "EXACTLY ONE OF" } else { "FIELDS" };
        let mut table = Table::new([heading, "TYPE", "DESCRIPTION"]);
        for inner in fields {
            let default = match (&inner.default, inner.required) {
                (_, true) => " [required]".to_owned(),
                (Some(default), false) => format!(" [default: {default}]"),
                (None, false) => String::new(),
            };
            let said = reference::first_sentence(&inner.description) + &default;
            table.row([&inner.name, &inner.kind, &said]);
        }
        text.push_str(&table.text());
    }
    text.trim_end().to_owned() + "\n"
}
