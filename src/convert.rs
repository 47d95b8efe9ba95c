//! What others call their servers and tools, to resources of ours and back.
//!
//! Input: the text of a foreign file. Output: [`Imported`]: documents as a person would have written
//! them, with remarks where something had no counterpart, and notes for whoever imports. Invariants:
//! nothing that looks like a secret gets into a document or a note; equal input gives equal output;
//! every bound is that of [`MAX_BYTES`] and of the parsers. Not here: files and the network.

pub mod yaml;
pub mod connect;
pub mod export;
pub mod listing;
pub mod publish;
pub mod server_json;
mod clients;
mod command;
mod definitions;
mod docker;
mod document;
mod catalog;
mod detect;
mod environment;
mod fields;
mod header;
mod name;
mod parameters;
mod registry;
mod remote;
mod secrets;
mod sync;

use serde_json::Value;

pub use detect::Format;
pub use document::{Document, Note, Target};
pub use fields::Problem;

use document::Draft;

/// Bytes of a foreign file. The largest catalog in use has about 2 MB.
pub const MAX_BYTES: usize = 8 << 20;

/// Where a repository keeps the schema of all documents, from its root on.
pub const SCHEMA_FILE: &str = ".toolcrib/resource.schema.json";

/// The first line of a file, by which editors find the schema of what follows; `depth` is how many folders
/// the file is below the one that holds [`SCHEMA_FILE`].
pub fn schema_line(depth: usize) -> String {
    format!("# yaml-language-server: $schema={}{SCHEMA_FILE}\n", "../".repeat(depth))
}

/// What came of a foreign file.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// In the order of the file, after what they need (a runner, base images).
    pub documents: Vec<Document>,
    /// What whoever imports has to know.
    pub notes: Vec<Note>,
}

/// Why a foreign file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("the file has {0} bytes, and {MAX_BYTES} are the most")]
    TooLarge(usize),
    #[error("the file is not UTF-8")]
    NotText(#[source] std::str::Utf8Error),
    #[error("failed to read the file as {format}")]
    Syntax {
        format: &'static str,
        #[source]
        source: SyntaxError,
    },
    #[error("it is not clear what kind of file this is")]
    Unknown,
    #[error("the file has faults")]
    Faults(Vec<Problem>),
    #[error("the file names no server or tool")]
    Empty,
}

/// Where a file stops being what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(pub String);

impl ConvertError {
    /// The next step.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge(_) => Some("split the file"),
            Self::NotText(_) => Some("save it as UTF-8"),
            Self::Syntax { .. } | Self::Faults(_) => {
                Some("correct the file and import it again; nothing was written")
            }
            Self::Unknown => {
                Some("name it with --format: servers-to-sync, clients, server-json, catalog or definitions")
            }
            Self::Empty => Some("is it the right file? --format says how it is read"),
        }
    }
}

/// Converts a foreign file; without `format`, its kind is found out from what it holds.
///
/// # Errors
/// When it cannot be read, or something in it is not what its format asks for: then nothing of it is
/// converted.
pub fn import(bytes: &[u8], format: Option<Format>, target: &Target) -> Result<Imported, ConvertError> {
    if bytes.len() > MAX_BYTES {
        return Err(ConvertError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(ConvertError::NotText)?;
    let value = detect::parse(text.trim_start_matches('\u{feff}'))?;
    let format = format.or_else(|| detect::format(&value)).ok_or(ConvertError::Unknown)?;
    let mut draft = Draft::new(target);
    match format {
        Format::ServersToSync => sync::import(&value, &mut draft),
        Format::Clients => clients::import(&value, &mut draft),
        Format::ServerJson => registry::import(&value, &mut draft),
        Format::Catalog => catalog::import(&value, &mut draft),
        Format::Definitions => definitions::import(&value, &mut draft),
    }
    draft.finish()
}

/// A compact form of a value for a remark, without what looks like a secret.
fn shown(key: &str, value: &Value) -> String {
    const MOST: usize = 120;
    let text = match value {
        Value::String(text) => text.clone(),
        other => secrets::masked(key, other).to_string(),
    };
    if matches!(value, Value::String(_)) && secrets::is_secret(key, &text) {
        return "(left out)".to_owned();
    }
    let text = text.replace(['\n', '\r'], " ");
    if text.chars().count() <= MOST { text } else { text.chars().take(MOST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests;
