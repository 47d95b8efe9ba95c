//! A file below `locks/` to a [`Lock`], with every fault and its place.

use std::sync::Arc;

use serde::Deserialize;

use super::document::parse_as;
use super::{Diagnostic, ParsedFile, RepoPath};
use crate::lock::{Definition, Definitions, KIND, Lock, Resolved, Section, Signer, compact};
use crate::resource::{API_VERSION, Kind, ResourceId};

/// The document of a lock.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    resource: ResourceId,
    source: serde_json::Value,
    #[serde(default)]
    resolved: Resolved,
    signer: Option<String>,
    #[serde(default)]
    unsigned: bool,
    instructions: Option<String>,
    tools: Option<Vec<Block>>,
    prompts: Option<Vec<Block>>,
    resources: Option<Vec<Block>>,
    templates: Option<Vec<Block>>,
}

/// One definition.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Block {
    name: String,
    /// JSON.
    definition: String,
}

/// What is wrong, and the field it is in.
type Fault = (Vec<String>, &'static str, String);

/// Reads the lock of `owner`.
pub fn parse(path: &RepoPath, owner: &ResourceId, bytes: &[u8]) -> ParsedFile {
    let hint = format!("restore it from Git, or write it anew with `toolcrib lock {}`", owner.name);
    let read = parse_as::<Document>(path, bytes);
    let lock = read.map_err(|faults| faults.into_iter().map(|fault| fault.or_hint(&hint)).collect());
    let lock = lock.and_then(|(document, place)| {
        checked(document, owner).map_err(|faults| {
            let told = |(field, code, message): Fault| {
                let field: Vec<&str> = field.iter().map(String::as_str).collect();
                place.point(Diagnostic::error(code, message).hint(&hint), &field)
            };
            faults.into_iter().map(told).collect::<Vec<_>>()
        })
    });
    let mut file = ParsedFile { ours: true, lock_of: Some(owner.clone()), ..ParsedFile::default() };
    match lock {
        Ok(lock) => file.lock = Some(Arc::new(lock)),
        Err(faults) => file.diagnostics = faults.into_iter().map(|fault| fault.of(owner.clone())).collect(),
    }
    file.diagnostics.sort();
    file
}

fn checked(document: Document, owner: &ResourceId) -> Result<Lock, Vec<Fault>> {
    let Document { api_version, kind, resource, source, resolved, signer, unsigned, instructions, .. } =
        &document;
    let mut faults: Vec<Fault> = Vec::new();
    let mut note = |field: &str, code, message: String| faults.push((vec![field.to_owned()], code, message));
    if api_version != API_VERSION {
        note(
            "apiVersion",
            "unknown-version",
            format!("`{api_version}` is not an API version that is known here"),
        );
    }
    if kind != KIND {
        note("kind", "unknown-kind", format!("a file of this name is a `{KIND}`, not a `{kind}`"));
    }
    if resource != owner {
        note(
            "resource",
            "wrong-lock",
            format!("the name of this file says that it is the lock of `{owner}`"),
        );
    }
    let signer = match (signer, unsigned) {
        (Some(name), false) if !name.is_empty() => Signer::By(name.clone()),
        (None, true) => Signer::Unsigned,
        _ => {
            note("unsigned", "invalid-value", "a lock says either `signer:` or `unsigned: true`".to_owned());
            Signer::Unsigned
        }
    };
    match (owner.kind, document.tools.is_some()) {
        (Kind::Server, false) => {
            note("tools", "missing-field", "the lock of a server says which `tools` it offers".to_owned());
        }
        (Kind::Tool, true) => {
            note("tools", "unknown-field", "the definition of a `Tool` is in its manifest".to_owned());
        }
        _ => {}
    }
    let (source, resolved) = (source.clone(), resolved.clone());
    let asked = document.tools.is_some();
    let mut offer = Definitions { instructions: instructions.clone(), ..Definitions::default() };
    let lists = [document.tools, document.prompts, document.resources, document.templates];
    for (section, blocks) in Section::ALL.into_iter().zip(lists) {
        *offer.list_mut(section) = definitions(section, blocks.unwrap_or_default(), &mut faults);
    }
    if faults.is_empty() {
        Ok(Lock { resource: owner.clone(), source, resolved, signer, offer: asked.then_some(offer) })
    } else {
        Err(faults)
    }
}

fn definitions(section: Section, blocks: Vec<Block>, faults: &mut Vec<Fault>) -> Vec<Definition> {
    let mut list: Vec<Definition> = Vec::with_capacity(blocks.len());
    for (at, block) in blocks.into_iter().enumerate() {
        let mut note = |field: &str, code, message: String| {
            faults.push((vec![section.field().to_owned(), at.to_string(), field.to_owned()], code, message));
        };
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&block.definition) {
            note("definition", "invalid-value", format!("the definition is not JSON: {error}"));
            continue;
        }
        let definition = Definition::new(section, &compact(&block.definition).into());
        if *definition.name != *block.name {
            let message = format!("the definition has not the `{}` `{}`", section.key(), block.name);
            note("definition", "invalid-value", message);
        }
        if list.iter().any(|other| other.name == definition.name) {
            note("name", "duplicate-name", format!("`{}` is there twice", block.name));
        }
        list.push(definition);
    }
    list
}
