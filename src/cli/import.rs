//! `import`: what others call their servers and tools, as resources of ours.

mod place;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use serde_json::json;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::files::{self, Planned};
use super::render::harmless;
use crate::convert::{self, ConvertError, Document, Format, Imported, MAX_BYTES, Note};

/// Write resources from a file of another program.
///
/// Reads `servers_to_sync.json`, the configuration of MCP clients (mcpServers and its kin), server.json of the
/// MCP registry, catalogs of the Docker MCP gateway, and definitions of containerised tools. What has no
/// counterpart is left as a comment and told; what looks like a secret becomes a reference and is written
/// nowhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib import servers_to_sync.json                   print the resources
  toolcrib import ~/.cursor/mcp.json --out servers       a file for each, in the folder servers
  toolcrib import server.json --out servers --dry-run    only say what would be written
  curl -s https://example.com/server.json | toolcrib import - --format server-json")]
pub(super) struct Import {
    /// The file to read, or `-` for standard input.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// How it is read [default: as what it looks like].
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Folder for the files, or `-` for standard output.
    #[arg(long, value_name = "DIR|-", default_value = "-")]
    out: PathBuf,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
    /// Write nothing.
    #[arg(long)]
    dry_run: bool,
}

impl clap::ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl Import {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let bytes = read(&self.file)?;
        let folder = (self.out.as_os_str() != "-").then_some(self.out.as_path());
        let target = place::target(folder.unwrap_or(Path::new(".")), context).await.unwrap_or_default();
        let Imported { documents, notes } =
            convert::import(&bytes, self.format, &target).map_err(|error| refused(&self.file, &error))?;
        match folder {
            Some(folder) => {
                let planned = place::plan(folder, &documents);
                files::check(&planned, self.force)?;
                if !self.dry_run {
                    files::write(&planned)?;
                }
                context
                    .out
                    .print(&value(&planned, &notes, self.dry_run), || said(&planned, &notes, self.dry_run))?;
            }
            None if context.out.is_json() => {
                let planned = place::plan(Path::new(""), &documents);
                context.out.json(&value(&planned, &notes, true))?;
            }
            None => {
                context.out.text(&together(&documents))?;
                super::render::notice(&told(&notes));
                if std::io::stdout().is_terminal() {
                    super::render::notice("note: nothing was written to files: `--out DIR` does that\n");
                }
            }
        }
        Ok(Exit::Success)
    }
}

fn read(file: &Path) -> CliResult<Vec<u8>> {
    let failed = |error: &std::io::Error| {
        CliError::failure(format!("failed to read `{}`", file.display())).caused_by(error)
    };
    let mut bytes = Vec::new();
    let most = MAX_BYTES as u64 + 1;
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    } else {
        let opened = std::fs::OpenOptions::new().read(true).open(file).map_err(|error| failed(&error))?;
        opened.take(most).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    }
    Ok(bytes)
}

fn refused(file: &Path, error: &ConvertError) -> CliError {
    let made = CliError::failure(format!("`{}` cannot be imported", file.display())).caused_by(error);
    let made = match error {
        ConvertError::Faults(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            made.detail(Some(lines.join("\n")))
        }
        _ => made,
    };
    match error.hint() {
        Some(hint) => made.hint(hint),
        None => made,
    }
}

/// All documents as one file.
fn together(documents: &[Document]) -> String {
    let texts: Vec<String> = documents.iter().map(Document::text).collect();
    format!("{}\n{}", convert::schema_line(0), texts.join("---\n"))
}

fn value(planned: &[Planned], notes: &[Note], dry: bool) -> serde_json::Value {
    let files: Vec<serde_json::Value> = planned
        .iter()
        .map(|file| json!({"path": file.path, "resource": file.what, "text": file.text}))
        .collect();
    let notes: Vec<serde_json::Value> =
        notes.iter().map(|note| json!({"subject": note.subject, "text": note.text})).collect();
    json!({"written": !dry, "files": files, "notes": notes})
}

fn said(planned: &[Planned], notes: &[Note], dry: bool) -> String {
    let mut text = String::new();
    for file in planned {
        let verb = if dry { "would write" } else { "wrote" };
        let _ = writeln!(text, "{verb} {} ({})", file.path.display(), file.what);
    }
    text.push_str(&told(notes));
    if !dry {
        text.push_str("\nRead them, then check them with `toolcrib validate`.\n");
    }
    text
}

fn told(notes: &[Note]) -> String {
    notes.iter().fold(String::new(), |mut text, Note { subject, text: note }| {
        let subject = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
        let _ = writeln!(text, "{}", harmless(&format!("note: {subject}{note}")));
        text
    })
}
