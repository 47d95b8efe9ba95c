//! One file to resources: whose documents these are, and what they declare.

mod overlay;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::read::{Fault, read};
use super::suggest::nearest;
use super::tree::{Content, Document, Mark, Node, SyntaxFault, documents};
use super::{Declared, Diagnostic, MAX_MANIFEST_BYTES, ParsedFile, Place, RepoPath, check};
use crate::resource::{API_GROUP, API_VERSION, Kind, Metadata, Name, ResourceId, Spec};

pub(super) use overlay::{Overlay, Overlays, patched};

/// A word by which a file is ours even when nothing else in it can be read.
const OURS: &str = "toolcrib";

/// Reads one file.
pub fn parse_file(path: &RepoPath, bytes: &[u8]) -> ParsedFile {
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(fault) => return undecoded(path, bytes, &fault),
    };
    let ours = text.contains(OURS);
    let text: Arc<str> = text.into();
    let mut file =
        File { path, text: &text, parsed: ParsedFile { ours, ..ParsedFile::default() }, document: 0 };
    for document in documents(&text) {
        file.document(document);
        file.document += 1;
    }
    file.parsed.diagnostics.sort();
    file.parsed
}

/// The text of a document of one type, by which a field's place is found.
pub(super) struct Placed {
    path: RepoPath,
    text: String,
}

impl Placed {
    /// Gives a diagnostic the place of a field, or of the nearest one above that is there.
    pub(super) fn point(&self, diagnostic: Diagnostic, field: &[&str]) -> Diagnostic {
        let (line, column) = locate(&self.text, 0, field).unwrap_or((1, 1));
        let place = Place { file: self.path.clone(), line, column };
        diagnostic.at(place, excerpt(&self.text, line))
    }
}

/// Reads a file that is one document of one type.
pub(super) fn parse_as<T: DeserializeOwned>(
    path: &RepoPath,
    bytes: &[u8],
) -> Result<(T, Placed), Vec<Diagnostic>> {
    let text = decode(bytes).map_err(|fault| vec![diagnostic(path, fault)])?;
    let fault = |mark, code, message: String, hint| Fault { mark, code, message, hint };
    let mut found = documents(&text);
    let (first, second) = (found.next(), found.next());
    let outcome = match (first, second) {
        (Some(Document { root: Some(root), faults }), None) if faults.is_empty() => {
            read::<T>(&root, root.mark).map_err(|faults| faults.into_iter().collect::<Vec<_>>())
        }
        (Some(Document { faults, .. }), _) if !faults.is_empty() => Err(faults
            .into_iter()
            .map(|SyntaxFault { mark, code, message, hint }| fault(mark, code, message, hint))
            .collect()),
        _ => {
            let message = "the file has to be exactly one document".to_owned();
            Err(vec![fault(Mark::START, "wrong-type", message, None)])
        }
    };
    match outcome {
        Ok(value) => Ok((value, Placed { path: path.clone(), text: text.into_owned() })),
        Err(faults) => {
            let told = |fault: Fault| {
                let line = excerpt(&text, fault.mark.line);
                diagnostic(path, fault).with_excerpt(line)
            };
            Err(faults.into_iter().map(told).collect())
        }
    }
}

/// The text of a file, without the mark of byte order.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Fault> {
    let fault = |mark, code, message: String, hint: &str| {
        Err(Fault { mark, code, message, hint: Some(hint.to_owned()) })
    };
    if bytes.len() > MAX_MANIFEST_BYTES {
        let message = format!("the file has more than {} MiB", MAX_MANIFEST_BYTES >> 20);
        let hint = "split it, or name it in `.toolcribignore`";
        return fault(Mark::START, "too-large", message, hint);
    }
    let at = |offset: usize| {
        let before = String::from_utf8_lossy(&bytes[..offset]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Mark {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            source: 0,
        }
    };
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        let hint = "save it as UTF-8 text, or name it in `.toolcribignore`";
        return fault(at(offset), "not-text", "the file holds a NUL byte".to_owned(), hint);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text))),
        Err(error) => {
            let hint = "save it as UTF-8";
            fault(at(error.valid_up_to()), "not-text", "the file is not UTF-8 from here on".to_owned(), hint)
        }
    }
}

/// A file that is no text. Whether it is ours is seen from its bytes.
fn undecoded(path: &RepoPath, bytes: &[u8], fault: &Fault) -> ParsedFile {
    let ours = bytes.windows(OURS.len()).any(|window| window == OURS.as_bytes());
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_MANIFEST_BYTES)]);
    let line = excerpt(&text, fault.mark.line).map(|line| line.chars().take(MAX_EXCERPT).collect());
    let diagnostic = diagnostic(path, fault.clone()).with_excerpt(line);
    ParsedFile { diagnostics: vec![diagnostic], broken: true, ours, ..ParsedFile::default() }
}

/// Characters of a line that are kept in a diagnostic.
const MAX_EXCERPT: usize = 2_000;

/// A line of a text, counted from 1. A line that may hold a secret is not shown.
pub(super) fn excerpt(text: &str, line: u32) -> Option<String> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    (!may_hold_secret(line)).then(|| line.chars().take(MAX_EXCERPT).collect())
}

/// Whether a line looks as if a credential stood in it: then it is shown nowhere.
pub(super) fn may_hold_secret(line: &str) -> bool {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    line.contains("://") && line.contains('@')
        || words.filter(|word| !word.chars().any(|c| c.is_ascii_lowercase())).any(check::credential)
}

/// The line and column of a field of one document of a text.
pub(super) fn locate(text: &str, document: usize, path: &[&str]) -> Option<(u32, u32)> {
    let mark = documents(text).nth(document)?.root?.locate(path);
    Some((mark.line, mark.column))
}

/// The document of a resource, and the lines of its file before the text it was read from. Of a file of
/// many documents only this one is read.
pub(super) fn root_of(declared: &Declared) -> Option<(Node<'_>, u32)> {
    if let Some(overlays) = &declared.overlays {
        return Some((overlays.root()?, 0));
    }
    let before = declared.place.line.checked_sub(1)?;
    let start = match usize::try_from(before).ok()? {
        0 => 0,
        lines => declared.text.match_indices('\n').nth(lines - 1)?.0 + 1,
    };
    let root = documents(declared.text.get(start..)?).next()?.root?;
    Some((root, before))
}

/// The place of a mark in the document of a resource that was read `before` lines into its file, and
/// the text of that file.
pub(super) fn placed(declared: &Declared, mark: Mark, before: u32) -> (Place, &Arc<str>) {
    let from = declared.overlays.as_ref().map_or(declared, |overlays| overlays.source(mark));
    let place = Place { file: from.place.file.clone(), line: mark.line + before, column: mark.column };
    (place, &from.text)
}

/// The place of a field of a resource, and the text of the file it stands in.
pub(super) fn field_of<'d>(declared: &'d Declared, path: &[&str]) -> (Place, &'d Arc<str>) {
    match root_of(declared) {
        Some((root, before)) => placed(declared, root.locate(path), before),
        None => (declared.place.clone(), &declared.text),
    }
}

fn diagnostic(path: &RepoPath, fault: Fault) -> Diagnostic {
    let Fault { mark, code, message, hint } = fault;
    let place = Place { file: path.clone(), line: mark.line, column: mark.column };
    Diagnostic { hint, ..Diagnostic::error(code, message).at(place, None) }
}

/// Whose a document is.
enum Owner {
    Ours,
    Others,
    /// Ours by every sign but one.
    Slip(Fault),
}

struct File<'f> {
    path: &'f RepoPath,
    text: &'f Arc<str>,
    parsed: ParsedFile,
    document: usize,
}

impl File<'_> {
    fn report(&mut self, fault: Fault, resource: Option<&ResourceId>) {
        let excerpt = excerpt(self.text, fault.mark.line);
        let diagnostic = diagnostic(self.path, fault).with_excerpt(excerpt);
        self.parsed.diagnostics.push(Diagnostic { resource: resource.cloned(), ..diagnostic });
    }

    fn document(&mut self, document: Document<'_>) {
        let Document { root, faults } = document;
        let owner = root.as_ref().map_or(Owner::Others, owner);
        let id = root.as_ref().and_then(identity);
        if matches!(owner, Owner::Ours) {
            let folder = self.path.parent();
            let named = root.iter().flat_map(bases).filter_map(|base| folder.join(base));
            self.parsed.bases.extend(named);
        }
        if faults.is_empty() {
            match (owner, root) {
                (Owner::Ours, Some(root)) => self.resource(&root, id.as_ref()),
                (Owner::Slip(fault), _) => self.fault([fault], id.as_ref()),
                (Owner::Others, Some(root)) => self.parsed.skipped += usize::from(!root.is_null()),
                (_, None) => {}
            }
            return;
        }
        if matches!(owner, Owner::Others) && root.is_some() && names_a_group(root.as_ref()) {
            // A slip of somebody else's document.
            self.parsed.skipped += 1;
            return;
        }
        let faults = faults.into_iter().map(|SyntaxFault { mark, code, message, hint }| Fault {
            mark,
            code,
            message,
            hint,
        });
        let id = id.filter(|_| matches!(owner, Owner::Ours));
        self.fault(faults, id.as_ref());
    }

    /// Reports the faults of one document; without an id, of the whole file.
    fn fault(&mut self, faults: impl IntoIterator<Item = Fault>, id: Option<&ResourceId>) {
        for fault in faults {
            self.report(fault, id);
        }
        match id {
            Some(id) => {
                self.parsed.faulty.insert(id.clone());
            }
            None => self.parsed.broken = true,
        }
    }

    fn resource(&mut self, root: &Node<'_>, id: Option<&ResourceId>) {
        let mut faults = BTreeSet::new();
        let Parts { metadata, spec, refusing } = parts(root, &mut faults);
        let (Some(metadata), Some(spec), true) = (metadata, spec, faults.is_empty()) else {
            self.parsed.refusing.extend(id.filter(|_| refusing).cloned());
            return self.fault(faults, id);
        };
        let place = Place { file: self.path.clone(), line: root.mark.line, column: root.mark.column };
        let (text, document) = (self.text.clone(), self.document);
        let declared = Declared { metadata, spec, place, text, document, overlays: None };
        self.parsed.diagnostics.extend(check::warnings(root, &declared));
        self.parsed.resources.push(Arc::new(declared));
    }
}

/// What a document says, typed, as far as it can be read.
struct Parts {
    metadata: Option<Metadata>,
    spec: Option<Spec>,
    /// Whether its faults, if there are any, refuse the whole revision.
    refusing: bool,
}

fn parts(root: &Node<'_>, faults: &mut BTreeSet<Fault>) -> Parts {
    envelope(root, faults);
    let kind = kind(root, faults);
    let metadata: Option<Metadata> = part(root, "metadata", faults);
    let spec = kind.and_then(|kind| spec(root, kind, faults));
    if let Some(spec) = &spec {
        check::spec(root, spec, faults);
    }
    let refusing = kind == Some(Kind::Toolset) && !faults.is_empty() && check::access_fails(root);
    Parts { metadata, spec, refusing }
}

/// The kind and name of a document, when they can be read whatever else is wrong.
fn identity(root: &Node<'_>) -> Option<ResourceId> {
    let kind = root.get("kind")?.1.text()?;
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
    let name = root.get("metadata")?.1.get("name")?.1.text()?;
    Some(ResourceId::new(kind, Name::parse(name).ok()?))
}

/// The bases of a `Crib`, whatever else is wrong with it.
fn bases<'n>(root: &'n Node<'_>) -> impl Iterator<Item = &'n str> {
    let crib = root.get("kind").and_then(|(_, kind)| kind.text()) == Some(Kind::Crib.as_str());
    let listed = root.get("spec").filter(|_| crib).and_then(|(_, spec)| spec.get("bases"));
    let items = listed.map_or(&[][..], |(_, bases)| match &bases.content {
        Content::List(items) => items.as_slice(),
        _ => &[],
    });
    items.iter().filter_map(Node::text)
}

fn names_a_group(root: Option<&Node<'_>>) -> bool {
    root.is_some_and(|root| root.get("apiVersion").is_some_and(|(_, version)| version.text().is_some()))
}

fn owner(root: &Node<'_>) -> Owner {
    let slip = |mark, message: String, hint: String| {
        Owner::Slip(Fault { mark, code: "unknown-version", message, hint: Some(hint) })
    };
    let Some((_, version)) = root.get("apiVersion") else { return unversioned(root) };
    let Some(text) = version.text() else { return Owner::Others };
    let (group, number) = text.split_once('/').unwrap_or((text, ""));
    if text == API_VERSION {
        Owner::Ours
    } else if group == API_GROUP {
        let message = format!("`{number}` is not a version of {API_GROUP} that is known here");
        slip(version.mark, message, format!("write `apiVersion: {API_VERSION}`"))
    } else if group.contains(OURS) || nearest(group, [API_GROUP]).is_some() {
        let message = format!("`{text}` is not an API version that is known here");
        slip(version.mark, message, format!("did you mean `{API_VERSION}`?"))
    } else {
        Owner::Others
    }
}

/// A document without an API version is ours only if it looks like one of ours in all else.
fn unversioned(root: &Node<'_>) -> Owner {
    if let Content::List(items) = &root.content {
        let ours = |item: &&Node<'_>| {
            item.get("apiVersion")
                .and_then(|(_, version)| version.text())
                .is_some_and(|text| text == API_VERSION)
        };
        let Some(item) = items.iter().find(ours) else { return Owner::Others };
        return Owner::Slip(Fault {
            mark: item.mark,
            code: "wrong-type",
            message: "the document is a list of resources".to_owned(),
            hint: Some("write each as a document of its own, with a line `---` between two".to_owned()),
        });
    }
    let kind = root.get("kind").and_then(|(_, kind)| kind.text());
    let looks = kind.is_some_and(|kind| Kind::ALL.iter().any(|known| known.as_str() == kind))
        && root.get("metadata").is_some()
        && root.get("spec").is_some();
    if !looks {
        return Owner::Others;
    }
    Owner::Slip(Fault {
        mark: root.mark,
        code: "missing-field",
        message: "the field `apiVersion` is missing".to_owned(),
        hint: Some(format!("add `apiVersion: {API_VERSION}`")),
    })
}

/// The fields of a document, in the order in which they are written.
const ENVELOPE: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];

fn envelope(root: &Node<'_>, faults: &mut BTreeSet<Fault>) {
    let Content::Map(entries) = &root.content else { return };
    for (key, _) in entries {
        let name = key.text().unwrap_or_default();
        if !ENVELOPE.contains(&name) {
            let hint = match nearest(name, ENVELOPE) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "known here: `apiVersion`, `kind`, `metadata` or `spec`; the rest goes below `spec`"
                    .to_owned(),
            };
            let message = format!("there is no field `{name}` here");
            faults.insert(Fault { mark: key.mark, code: "unknown-field", message, hint: Some(hint) });
        }
    }
}

fn kind(root: &Node<'_>, faults: &mut BTreeSet<Fault>) -> Option<Kind> {
    let known = || Kind::ALL.map(Kind::as_str);
    let Some((key, node)) = root.get("kind") else {
        faults.insert(missing(root.mark, "kind", &format!("add `kind:` with one of {}", known().join(", "))));
        return None;
    };
    let text = node.text().unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    if kind.is_none() {
        let hint = match nearest(text, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the kinds are {}", known().join(", ")),
        };
        let mark = if node.is_null() { key.mark } else { node.mark };
        let message = format!("there is no kind `{text}`");
        faults.insert(Fault { mark, code: "unknown-kind", message, hint: Some(hint) });
    }
    kind
}

fn missing(mark: Mark, field: &str, hint: &str) -> Fault {
    let message = format!("the field `{field}` is missing");
    Fault { mark, code: "missing-field", message, hint: Some(hint.to_owned()) }
}

/// One part of a document, typed.
fn part<T: DeserializeOwned>(root: &Node<'_>, field: &str, faults: &mut BTreeSet<Fault>) -> Option<T> {
    let Some((key, node)) = root.get(field) else {
        let hint = if field == "metadata" {
            "add `metadata: {name: …}`"
        } else {
            "add `spec:` with the resource's fields"
        };
        faults.insert(missing(root.mark, field, hint));
        return None;
    };
    read(node, key.mark).map_err(|found| faults.extend(found)).ok()
}

fn spec(root: &Node<'_>, kind: Kind, faults: &mut BTreeSet<Fault>) -> Option<Spec> {
    Some(match kind {
        Kind::Crib => Spec::Crib(Box::new(part(root, "spec", faults)?)),
        Kind::Runner => Spec::Runner(Box::new(part(root, "spec", faults)?)),
        Kind::Policy => Spec::Policy(Box::new(part(root, "spec", faults)?)),
        Kind::Integration => Spec::Integration(Box::new(part(root, "spec", faults)?)),
        Kind::Server => Spec::Server(Box::new(part(root, "spec", faults)?)),
        Kind::Tool => Spec::Tool(Box::new(part(root, "spec", faults)?)),
        Kind::Toolset => Spec::Toolset(Box::new(part(root, "spec", faults)?)),
    })
}
