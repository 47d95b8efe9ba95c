//! Resources, field by field in the words of their files, with the files they are made of and what a
//! change brings about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::text::TextChange;
use super::{Change, Cut, Marked, Side, scan};
use crate::build::Context as BuildContext;
use crate::desired::{Digests, PolicySource};
use crate::manifest::{Declared, Field, Place, RepoPath, TreeEntry};
use crate::resource::server::ServerSource;
use crate::resource::{Kind, ResourceId, Spec};
use crate::wording;

/// Fields told of one resource; a person reads no more of one thing.
const MAX_FIELDS: usize = 60;
/// Files told of one resource.
const MAX_FILES: usize = 40;
/// Characters of a value that is told whole; longer ones are told by what changed in them.
const SHORT: usize = 80;
/// Characters of a value that is told at all.
const MAX_VALUE: usize = 400;

/// What a change brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Its image is built anew.
    Builds,
    /// A server is started anew; a tool runs something else.
    Restarts,
    /// Clients see something else.
    Offers,
}

impl Effect {
    pub fn told(self) -> &'static str {
        match self {
            Self::Builds => "builds",
            Self::Restarts => "restarts",
            Self::Offers => "offers something else",
        }
    }
}

/// One field that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// `spec.source.package.version`
    pub path: String,
    /// As written; none where it was not there, or where `text` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What changed in a long value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextChange>,
    /// Where it stands now; of what is gone, where it stood.
    pub place: Place,
}

/// One file that a resource is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    pub path: RepoPath,
    pub change: Change,
    /// Of rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextChange>,
}

/// One resource that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceChange {
    pub id: ResourceId,
    pub change: Change,
    pub place: Place,
    pub fields: Cut<FieldChange>,
    pub files: Cut<FileChange>,
    pub effects: Vec<Effect>,
}

pub(super) fn compare((before, after): (&Side<'_>, &Side<'_>)) -> (Vec<ResourceChange>, Vec<Marked>) {
    let (mut changes, mut marks) = (Vec::new(), Vec::new());
    let (was, now) = (&before.manifest.resources, &after.manifest.resources);
    let ids: BTreeSet<&ResourceId> = was.keys().chain(now.keys()).collect();
    for id in ids {
        let (change, declared) = match (was.get(id), now.get(id)) {
            (Some(_), Some(declared)) => (Change::Changed, declared),
            (None, Some(declared)) => (Change::Added, declared),
            (Some(declared), None) => (Change::Removed, declared),
            (None, None) => continue,
        };
        // A resource that is only faulty now is not gone: its previous version stays.
        if change == Change::Removed && after.manifest.faulty.contains(id) {
            continue;
        }
        let pair = (was.get(id), now.get(id));
        let fields = match change {
            Change::Removed => Vec::new(),
            _ => fields(pair),
        };
        let files = if change == Change::Changed { files(id, declared, (before, after)) } else { Vec::new() };
        let effects = if change == Change::Changed { effects(id, (before, after)) } else { Vec::new() };
        if change == Change::Changed && fields.is_empty() && files.is_empty() && effects.is_empty() {
            continue;
        }
        marks.extend(marked(declared, pair));
        changes.push(ResourceChange {
            id: id.clone(),
            change,
            place: declared.place.clone(),
            fields: Cut::at(fields, MAX_FIELDS),
            files: Cut::at(files, MAX_FILES),
            effects,
        });
    }
    (changes, marks)
}

type Pair<'a> = (Option<&'a Arc<Declared>>, Option<&'a Arc<Declared>>);

/// Whether both say the same for certain.
fn same((before, after): Pair<'_>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            // What was laid over a document stands in another file than its own.
            let alone = !before.is_patched() && !after.is_patched();
            let equal = before.text == after.text && before.document == after.document;
            Arc::ptr_eq(before, after) || alone && equal
        }
        _ => false,
    }
}

fn fields(pair: Pair<'_>) -> Vec<FieldChange> {
    if same(pair) {
        return Vec::new();
    }
    let of =
        |declared: Option<&Arc<Declared>>| declared.map(|declared| declared.fields()).unwrap_or_default();
    let (old, new) = (of(pair.0), of(pair.1));
    let was: BTreeMap<&str, &Field> = old.iter().map(|field| (field.path.as_str(), field)).collect();
    let now: BTreeMap<&str, &Field> = new.iter().map(|field| (field.path.as_str(), field)).collect();
    let changed = new.iter().filter_map(|field| {
        let before = was.get(field.path.as_str()).copied();
        (before.map(|before| &before.value) != Some(&field.value)).then(|| told(before, Some(field), field))
    });
    let gone = old.iter().filter(|field| !now.contains_key(field.path.as_str()));
    changed.chain(gone.map(|field| told(Some(field), None, field))).collect()
}

fn told(before: Option<&Field>, after: Option<&Field>, at: &Field) -> FieldChange {
    let long = |field: Option<&Field>| {
        field.is_some_and(|field| field.value.contains('\n') || field.value.chars().count() > SHORT)
    };
    let secret = |field: Option<&Field>| field.is_some_and(|field| field.secret);
    let value = |field: Option<&Field>| field.map(shown);
    let text = match (before, after) {
        _ if secret(before) || secret(after) || !(long(before) || long(after)) => None,
        (before, after) => {
            let text = |field: Option<&Field>| field.map_or("", |field| field.value.as_str()).to_owned();
            TextChange::between(&text(before), &text(after))
        }
    };
    let place = at.place.clone();
    let path = at.path.clone();
    match text {
        Some(text) => FieldChange { path, before: None, after: None, text: Some(text), place },
        None => FieldChange { path, before: value(before), after: value(after), text: None, place },
    }
}

/// A value for people; what may be a secret is not shown.
fn shown(field: &Field) -> String {
    if field.secret {
        return "(not shown: it may be a secret)".to_owned();
    }
    let mut cut: String = field.value.chars().take(MAX_VALUE).collect();
    if cut.len() < field.value.len() {
        cut.push('…');
    }
    cut
}

fn digests(id: &ResourceId, side: &Side<'_>) -> Option<Digests> {
    match id.kind {
        Kind::Server => side.desired.servers.get(&id.name).map(|server| server.digests),
        Kind::Tool => side.desired.tools.get(&id.name).map(|tool| tool.digests),
        _ => None,
    }
}

fn effects(id: &ResourceId, (before, after): (&Side<'_>, &Side<'_>)) -> Vec<Effect> {
    let (Some(was), Some(now)) = (digests(id, before), digests(id, after)) else { return Vec::new() };
    let effects = [
        (Effect::Builds, was.build != now.build && now.build.is_some()),
        (Effect::Restarts, was.workload != now.workload),
        (Effect::Offers, was.offer != now.offer),
    ];
    effects.into_iter().filter(|(_, holds)| *holds).map(|(effect, _)| effect).collect()
}

/// The files of the repository that a resource is made of, where they changed.
fn files(id: &ResourceId, declared: &Declared, (before, after): (&Side<'_>, &Side<'_>)) -> Vec<FileChange> {
    if id.kind == Kind::Policy {
        let of = |side: &Side<'_>| side.desired.policies.get(&id.name).map(modules).unwrap_or_default();
        return modules_changed(&of(before), &of(after));
    }
    let moved =
        digests(id, before).zip(digests(id, after)).is_some_and(|(was, now)| was.workload != now.workload);
    if !moved {
        return Vec::new();
    }
    let (was, now) = (made_of(id, declared, before), made_of(id, declared, after));
    changed(&was, &now)
}

fn changed(was: &BTreeMap<RepoPath, TreeEntry>, now: &BTreeMap<RepoPath, TreeEntry>) -> Vec<FileChange> {
    let paths: BTreeSet<&RepoPath> = was.keys().chain(now.keys()).collect();
    let change = |path: &RepoPath| match (was.get(path), now.get(path)) {
        (Some(was), Some(now)) if was == now => None,
        (Some(_), Some(_)) => Some(Change::Changed),
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
    };
    let file =
        |path: &RepoPath| change(path).map(|change| FileChange { path: path.clone(), change, text: None });
    paths.into_iter().filter_map(file).collect()
}

/// The files of a build's context, or of the folders that a command names.
fn made_of(id: &ResourceId, declared: &Declared, side: &Side<'_>) -> BTreeMap<RepoPath, TreeEntry> {
    let folder = declared.place.file.parent();
    let build = match id.kind {
        Kind::Server => side.desired.servers.get(&id.name).and_then(|server| server.build.as_ref()),
        _ => side.desired.tools.get(&id.name).and_then(|tool| tool.build.as_ref()),
    };
    let (context, argv): (Option<&str>, &[String]) = match &declared.spec {
        Spec::Server(spec) => match &spec.source {
            ServerSource::Build(build) => (Some(&build.context), &[]),
            ServerSource::Command(argv) => (None, argv),
            _ => (None, &[]),
        },
        Spec::Tool(spec) => (spec.build.as_ref().map(|build| build.context.as_str()), &spec.command),
        _ => (None, &[]),
    };
    if let (Some(build), Some(context)) = (build, context)
        && let BuildContext::Snapshot { files } = &build.context
    {
        let root = folder.join(context);
        let inside = |path: &RepoPath| root.as_ref().and_then(|root| root.join(path.as_str()));
        return files.iter().filter_map(|(path, entry)| Some((inside(path)?, *entry))).collect();
    }
    let mut files = BTreeMap::new();
    for part in argv {
        let path = part.rsplit_once('=').map_or(part.as_str(), |(_, value)| value);
        let Some(path) = folder.join(path).filter(|_| !path.is_empty() && path != ".") else { continue };
        let named = side.snapshot.files.contains_key(&path);
        let below = if named { path.parent() } else { path };
        let ours = side.snapshot.under(&below).filter(|(path, _)| !side.manifest.declares(path));
        files.extend(ours.map(|(path, entry)| (path.clone(), *entry)));
    }
    files
}

/// The modules of a policy that are files of their own; those in place are fields.
fn modules(policy: &Arc<PolicySource>) -> BTreeMap<RepoPath, Arc<str>> {
    let own = policy.modules.iter().filter(|module| module.file != policy.place.file);
    own.map(|module| (module.file.clone(), Arc::clone(&module.text))).collect()
}

fn modules_changed(
    was: &BTreeMap<RepoPath, Arc<str>>,
    now: &BTreeMap<RepoPath, Arc<str>>,
) -> Vec<FileChange> {
    let paths: BTreeSet<&RepoPath> = was.keys().chain(now.keys()).collect();
    let file = |path: &RepoPath| {
        let (old, new) = (was.get(path), now.get(path));
        let text = |text: Option<&Arc<str>>| text.map(ToString::to_string).unwrap_or_default();
        let difference = TextChange::between(&text(old), &text(new))?;
        let change = match (old, new) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        };
        Some(FileChange { path: path.clone(), change, text: Some(difference) })
    };
    paths.into_iter().filter_map(file).collect()
}

/// Fields of a `Tool` that are told as what clients read of it.
fn told_as_entry(kind: Kind, path: &str) -> bool {
    let fields = ["title", "description", "annotations", "parameters", "inputSchema", "outputSchema"];
    let field = path.strip_prefix("spec.").unwrap_or_default();
    kind == Kind::Tool
        && fields.iter().any(|name| {
            field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
}

/// Fields that clients put before a model; in others, only what hides is marked.
fn read_by_models(path: &str) -> bool {
    path.starts_with("spec.instructions") || path.starts_with("spec.tools.overrides")
}

/// Marks in the fields that are new or changed.
fn marked(declared: &Declared, pair: Pair<'_>) -> Vec<Marked> {
    if pair.1.is_none() || same(pair) {
        return Vec::new();
    }
    let old: BTreeSet<String> = pair
        .0
        .map(|before| before.fields())
        .unwrap_or_default()
        .into_iter()
        .map(|field| field.value)
        .collect();
    let kind = declared.spec.kind();
    let mut marks = Vec::new();
    for field in declared.fields() {
        if told_as_entry(kind, &field.path) || old.contains(&field.value) || field.secret {
            continue;
        }
        let found = scan(&field.value).into_iter();
        let found =
            found.filter(|mark| mark.kind == wording::Kind::HiddenText || read_by_models(&field.path));
        marks.extend(found.map(|mark| Marked {
            resource: declared.id(),
            entry: None,
            field: field.path.clone(),
            place: Some(field.place.clone()),
            mark,
        }));
    }
    marks
}
