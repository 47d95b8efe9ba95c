//! Two revisions: what a reviewer has to know of the change.
//!
//! Input: both revisions, read and resolved, with their locks and compiled rules ([`Side`]). Output: a
//! [`Review`], a plain value, and from it text for a terminal ([`plain`]), a comment for a pull request
//! ([`markdown`]) or JSON. Invariants: it needs nothing but the repository; equal revisions give an empty
//! review and the same revisions the same bytes; every list is bounded and says how much was left out,
//! while [`Summary`] counts everything; what may be a secret is in no review. What clients would be
//! offered comes from [`crate::catalog::compose`], who may call it from [`crate::policy`]: the same code
//! that serves. Not here: reading, and what runs now ([`crate::plan`]).

mod access;
mod context;
mod entries;
pub mod markdown;
mod offered;
pub mod plain;
mod reach;
mod resources;
pub mod schema;
#[cfg(test)]
mod tests;
pub mod text;
pub mod tokens;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::desired::{Desired, Floor, Question, Resolutions};
use crate::manifest::{Diagnostic, Manifest, Place, Snapshot};
use crate::policy::PolicySet;
use crate::resource::server::ServerSource;
use crate::resource::{Kind, ResourceId, Spec};
use crate::wording::{self, Mark};

pub use access::{Access, AccessChange, May, Role};
pub use context::{Context, ToolsetContext};
pub use entries::{EntryChange, EntryKind, NamedText, ValueChange};
pub use resources::{Effect, FieldChange, FileChange, ResourceChange};

/// Items of one list of a review. A change of more is not read item by item.
pub const MAX_ITEMS: usize = 1_000;

/// One revision as it is compared.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// As it was asked for: `main~1`.
    pub name: &'a str,
    pub snapshot: &'a Snapshot,
    pub manifest: &'a Manifest,
    /// Resolved under [`OPEN`] with the answers of [`answers`].
    pub desired: &'a Desired,
    /// None: the rules cannot be compiled, and nobody could call anything.
    pub policies: Option<&'a PolicySet>,
    /// Everything that is wrong with it.
    pub diagnostics: &'a [Diagnostic],
    /// A fault in the Crib or in rules: nothing of it would be served.
    pub refused: bool,
}

/// What a repository may ask for while it is compared: everything. The floor is the operator's, and is not
/// known where a change is reviewed.
pub const OPEN: Floor = Floor { process: true, privileges: true, local_git: true, signers: None };

/// Answers in place of those of engines and networks, which are not asked: what the locks say, else
/// something that changes exactly when the question does.
pub fn answers(questions: BTreeSet<Question>, manifest: &Manifest) -> Resolutions {
    let mut answers = Resolutions::assumed(questions);
    for (id, lock) in &manifest.locks {
        let Some(declared) = manifest.resources.get(id) else { continue };
        let image = match &declared.spec {
            Spec::Server(spec) => match &spec.source {
                ServerSource::Git(git) => {
                    let answer = answers.git.get_mut(&(git.url.clone(), git.reference.clone()));
                    if let (Some(answer), Some(commit)) = (answer, &lock.resolved.commit) {
                        *answer = Ok(commit.clone());
                    }
                    continue;
                }
                ServerSource::Image(image) => &image.reference,
                _ => continue,
            },
            Spec::Tool(spec) => match &spec.image {
                Some(image) => image,
                None => continue,
            },
            _ => continue,
        };
        let Some(found) = &lock.resolved.image else { continue };
        for (_, answer) in answers.images.iter_mut().filter(|((_, reference), _)| reference == image) {
            *answer = Ok(found.clone());
        }
    }
    answers
}

/// At most [`MAX_ITEMS`] of a list, and how many were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cut<T> {
    pub items: Vec<T>,
    pub more: usize,
}

impl<T> Cut<T> {
    fn new(items: Vec<T>) -> Self {
        Self::at(items, MAX_ITEMS)
    }

    fn at(mut items: Vec<T>, most: usize) -> Self {
        let more = items.len().saturating_sub(most);
        items.truncate(most);
        Self { items, more }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// What happened to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Added,
    Changed,
    Removed,
}

impl Change {
    /// `+`, `~` or `-`.
    pub fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Changed => '~',
            Self::Removed => '-',
        }
    }
}

/// Something that needs a careful look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Concern {
    /// Whether it may do more than before; else only something else.
    #[serde(serialize_with = "as_is")]
    pub widens: bool,
    pub resource: ResourceId,
    /// In kebab case: `capability`, `secret`.
    pub code: &'static str,
    /// Our words: "may read the secret".
    pub says: String,
    /// The repository's words it is about, before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    pub place: Option<Place>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn as_is<S: serde::Serializer>(value: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(*value)
}

/// Text that hides something or gives the model orders, in what is new or changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Marked {
    pub resource: ResourceId,
    /// The published name it is told under, when it belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Which text: `description`, `inputSchema.properties.city.description`, `spec.rego`.
    pub field: String,
    pub place: Option<Place>,
    #[serde(flatten)]
    pub mark: Mark,
}

/// The marks of one text, each thing once.
fn scan(text: &str) -> Vec<Mark> {
    let mut told = BTreeSet::new();
    let mut marks = wording::scan(text);
    marks.retain(|mark| told.insert((mark.kind, mark.what.clone())));
    marks
}

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
}

impl Counts {
    fn of(changes: impl Iterator<Item = Change>) -> Self {
        let mut counts = Self::default();
        for change in changes {
            match change {
                Change::Added => counts.added += 1,
                Change::Changed => counts.changed += 1,
                Change::Removed => counts.removed += 1,
            }
        }
        counts
    }

    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// The whole in numbers; nothing is left out of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whether anything differs.
    pub changed: bool,
    pub resources: Counts,
    /// Tools, prompts, resources and templates that clients are offered.
    pub entries: Counts,
    /// Entries that callers may have to be changed for.
    pub breaking: usize,
    /// Concerns that widen.
    pub widening: usize,
    pub hidden_text: usize,
    pub instructs_model: usize,
    /// Errors of the new revision.
    pub errors: usize,
    /// Nothing of the new revision would be served: what was before stays.
    pub refused: bool,
}

/// One revision, named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// As it was asked for.
    pub name: String,
    pub commit: String,
    /// A work tree with uncommitted edits.
    pub dirty: bool,
}

impl Named {
    fn of(side: &Side<'_>) -> Self {
        let revision = &side.snapshot.revision;
        Self { name: side.name.to_owned(), commit: revision.commit.clone(), dirty: revision.dirty }
    }

    /// `main~1 (1a2b3c4d)`.
    pub fn told(&self) -> String {
        let short = self.commit.get(..8).unwrap_or(&self.commit);
        let dirty = if self.dirty { "+dirty" } else { "" };
        if self.name == self.commit {
            format!("{short}{dirty}")
        } else {
            format!("{} ({short}{dirty})", self.name)
        }
    }
}

/// What changed from one revision to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    pub before: Named,
    pub after: Named,
    pub summary: Summary,
    /// What needs a careful look; what widens first.
    pub concerns: Cut<Concern>,
    pub marks: Cut<Marked>,
    /// What clients are offered; what breaks first.
    pub entries: Cut<EntryChange>,
    pub resources: Cut<ResourceChange>,
    pub access: Access,
    pub context: Context,
    /// Servers that are new or changed and have no lock: what they offer is not known here.
    pub unlocked: Cut<ResourceId>,
    /// Errors of the new revision.
    pub errors: Cut<Diagnostic>,
}

/// Compares two revisions.
pub fn review(before: &Side<'_>, after: &Side<'_>) -> Review {
    let sides = (before, after);
    let offered = (offered::offered(before), offered::offered(after));
    let (resources, mut marks) = resources::compare(sides);
    let (mut entries, more) = entries::compare((&offered.0, &offered.1), sides);
    marks.extend(more);
    marks.sort();
    let access = access::compare(sides, (&offered.0, &offered.1));
    let mut concerns = reach::compare(sides);
    concerns.extend(entries::concerns(&entries));
    concerns.extend(access::concerns(&access, after, &offered.1));
    concerns.sort_by(|a, b| (!a.widens, a).cmp(&(!b.widens, b)));
    concerns.dedup();
    entries.sort_by(|a, b| (!a.breaking, a.kind, &a.name).cmp(&(!b.breaking, b.kind, &b.name)));
    let errors: Vec<Diagnostic> =
        after.diagnostics.iter().filter(|found| found.is_error()).cloned().collect();
    let count = |kind: wording::Kind| marks.iter().filter(|marked| marked.mark.kind == kind).count();
    let summary = Summary {
        changed: !(resources.is_empty()
            && entries.is_empty()
            && concerns.is_empty()
            && access.changes.is_empty()),
        resources: Counts::of(resources.iter().map(|resource| resource.change)),
        entries: Counts::of(entries.iter().map(|entry| entry.change)),
        breaking: entries.iter().filter(|entry| entry.breaking).count(),
        widening: concerns.iter().filter(|concern| concern.widens).count(),
        hidden_text: count(wording::Kind::HiddenText),
        instructs_model: count(wording::Kind::InstructsModel),
        errors: errors.len(),
        refused: after.refused,
    };
    let changed: BTreeSet<&ResourceId> = resources
        .iter()
        .filter(|resource| resource.change != Change::Removed && resource.id.kind == Kind::Server)
        .map(|resource| &resource.id)
        .collect();
    let unlocked = changed.into_iter().filter(|id| !offered.1.known(id)).cloned().collect();
    Review {
        before: Named::of(before),
        after: Named::of(after),
        summary,
        concerns: Cut::new(concerns),
        marks: Cut::new(marks),
        entries: Cut::new(entries),
        resources: Cut::new(resources),
        access,
        context: context::compare(sides, (&offered.0, &offered.1)),
        unlocked: Cut::new(unlocked),
        errors: Cut::new(errors),
    }
}
