//! Standard output: text in aligned columns, or JSON.

use std::io::Write;

use serde::Serialize;

use super::error::CliResult;
use crate::telemetry::progress;

/// The form of what commands print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For code scanners: SARIF 2.1.0 (only validate).
    Sarif,
    /// Annotations in a job of GitHub Actions (only validate).
    Github,
    /// Markdown (only diff and explain).
    Markdown,
    /// JUnit XML (only test).
    Junit,
}

impl Format {
    /// What every command prints.
    pub const USUAL: &'static [Self] = &[Self::Text, Self::Json];

    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Sarif => "sarif",
            Self::Github => "github",
            Self::Markdown => "markdown",
            Self::Junit => "junit",
        }
    }
}

/// Where commands print to.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    format: Format,
}

impl Out {
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    pub fn format(self) -> Format {
        self.format
    }

    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints `value` as JSON, or `text` where text is wanted.
    ///
    /// # Errors
    /// When standard output does not take it.
    pub fn print<T: Serialize + ?Sized>(self, value: &T, text: impl FnOnce() -> String) -> CliResult<()> {
        if self.is_json() { self.json(value) } else { self.text(&text()) }
    }

    /// Prints text as it is.
    ///
    /// # Errors
    /// When standard output does not take it.
    pub fn text(self, text: &str) -> CliResult<()> {
        progress::interject(|| {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            Ok(stdout.flush()?)
        })
    }

    /// Prints JSON over several lines.
    ///
    /// # Errors
    /// When standard output does not take it.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> CliResult<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
        text.push('\n');
        self.text(&text)
    }

    /// Prints JSON in one line, for what is read while the command goes on.
    ///
    /// # Errors
    /// When standard output does not take it.
    pub fn json_line<T: Serialize + ?Sized>(self, value: &T) -> CliResult<()> {
        let mut text = serde_json::to_string(value).map_err(std::io::Error::from)?;
        text.push('\n');
        self.text(&text)
    }
}

/// Says something on standard error, beside what is printed.
pub fn notice(text: &str) {
    // There is nowhere else to say it.
    let _ = progress::interject(|| std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Characters between two columns.
const GAP: usize = 3;
/// Characters of one cell. Longer text belongs in `--output json`.
const MAX_CELL: usize = 200;

/// Rows in aligned columns, as `kubectl` prints them.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned).to_vec()] }
    }

    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(cell).to_vec());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The text, one line a row; the last column is not filled up.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The first line of what others wrote, harmless for a terminal.
pub fn cell(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut kept: String = line.chars().take(MAX_CELL).map(plain).collect();
    if line.chars().nth(MAX_CELL).is_some() {
        kept.pop();
        kept.push('…');
    }
    if kept.is_empty() { "-".to_owned() } else { kept }
}

/// Text of others for a terminal: it can hold lines and tabs, and no control sequence.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' { c } else { plain(c) }).collect()
}

fn plain(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_terminals_left_alone() {
        let mut table = Table::new(["NAME", "READY", "MESSAGE"]);
        table.row(["Server/a-long-name", "True", ""]);
        table.row(["Tool/é", "False", "one\u{1b}[31m\ntwo"]);
        assert_eq!(
            table.text(),
            "NAME                 READY   MESSAGE\n\
             Server/a-long-name   True    -\n\
             Tool/é               False   one\u{fffd}[31m\n"
        );
        assert_eq!(cell(&"x".repeat(300)).chars().count(), MAX_CELL);
        assert_eq!(harmless("a\tb\n\u{7}"), "a\tb\n\u{fffd}");
    }
}
