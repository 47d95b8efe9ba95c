//! Documents while they are written, and what they need beside themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::environment::Variables;
use super::fields::{Problem, Problems};
use super::yaml::{self, Map};
use super::{ConvertError, Imported, name};
use crate::manifest::{self, Diagnostic, RepoPath};
use crate::resource::crib::BaseImages;
use crate::resource::runner::RunnerKind;
use crate::resource::{API_VERSION, Kind, Name, ResourceId};

/// What generated Dockerfiles build on where nobody says anything else: small images that are there
/// for every architecture and have a maintained version.
const PYTHON_IMAGE: &str = "python:3.12-slim";
const NODE_IMAGE: &str = "node:22-slim";

/// What is already declared where the documents go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub runners: BTreeSet<RunnerKind>,
    /// The images that the Crib names, when there is one.
    pub crib: Option<BaseImages>,
    /// Everything that is declared there.
    pub taken: BTreeSet<ResourceId>,
}

/// A resource as it will be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub kind: Kind,
    pub name: Name,
    /// Before the document.
    pub remarks: Vec<String>,
    pub spec: Map,
}

impl Document {
    pub fn new(kind: Kind, name: Name, spec: Map) -> Self {
        Self { kind, name, remarks: Vec::new(), spec }
    }

    pub fn id(&self) -> ResourceId {
        ResourceId::new(self.kind, self.name.clone())
    }

    /// Its text, without the line between documents.
    pub fn text(&self) -> String {
        let mut out = String::new();
        yaml::remarks(&mut out, &self.remarks, 0);
        let mut metadata = Map::new();
        metadata.put("name", self.name.as_str());
        let mut map = Map::new();
        map.put("apiVersion", API_VERSION).put("kind", self.kind.as_str()).put("metadata", metadata);
        map.put("spec", self.spec.clone());
        out + &yaml::text(&map)
    }
}

/// Something whoever imports has to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Of what: the name of an entry, or empty.
    pub subject: String,
    /// A sentence without its full stop.
    pub text: String,
}

/// What the workloads of a document need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Docker,
    Process,
    Python,
    Node,
}

/// The outcome as it grows.
pub(super) struct Draft<'t> {
    target: &'t Target,
    documents: Vec<Document>,
    notes: Vec<Note>,
    pub(super) problems: Problems,
    needs: BTreeSet<Need>,
    integrations: Vec<Document>,
    /// Variables that hold secrets of the file.
    pub(super) variables: Variables,
    /// What VS Code asks its user for: the description by id.
    pub(super) inputs: BTreeMap<String, String>,
    /// Entries that were read and have no counterpart at all.
    skipped: usize,
}

impl<'t> Draft<'t> {
    pub(super) fn new(target: &'t Target) -> Self {
        Self {
            target,
            documents: Vec::new(),
            notes: Vec::new(),
            problems: Problems::default(),
            needs: BTreeSet::new(),
            integrations: Vec::new(),
            variables: Variables::default(),
            inputs: BTreeMap::new(),
            skipped: 0,
        }
    }

    pub(super) fn note(&mut self, subject: &str, text: impl Into<String>) {
        self.notes.push(Note { subject: subject.to_owned(), text: text.into() });
    }

    /// An entry that cannot be a resource; why is a note.
    pub(super) fn skip(&mut self, subject: &str, why: impl Into<String>) {
        self.skipped += 1;
        self.note(subject, format!("left out: {}", why.into()));
    }

    /// A name for an entry of a kind: its own as far as possible, and given once.
    pub(super) fn name(&mut self, kind: Kind, own: &str) -> Name {
        let wanted = name::label(own);
        let free =
            |name: &Name| !self.documents.iter().any(|other| other.kind == kind && other.name == *name);
        let name = name::variants(&wanted).find(free).unwrap_or(wanted);
        if name.as_str() != own {
            self.note(own, format!("it is called `{name}` here: names are a-z, 0-9 and `-`, once each"));
        }
        name
    }

    pub(super) fn need(&mut self, need: Need) {
        self.needs.insert(need);
    }

    /// Puts `base` in a source that is built, where the Crib that is there names no image.
    pub(super) fn base(&mut self, need: Need, source: &mut Map) {
        self.needs.insert(Need::Docker);
        let Some(BaseImages { python, node }) = &self.target.crib else {
            self.needs.insert(need);
            return;
        };
        let (named, image) = if need == Need::Python { (python, PYTHON_IMAGE) } else { (node, NODE_IMAGE) };
        if named.is_none() {
            source.put("base", image);
        }
    }

    /// An `Integration` that tools ask for, once; what it stands for is for its author to say.
    pub(super) fn integration(&mut self, name: &Name, of: Option<&str>) {
        let Some(kind) = Kind::parse("Integration") else { return };
        let id = ResourceId::new(kind, name.clone());
        if self.target.taken.contains(&id) || self.integrations.iter().any(|other| other.name == *name) {
            return;
        }
        let mut document = Document::new(kind, name.clone(), Map::new());
        if let Some(of) = of {
            document.remarks.push(format!("Of type {of}."));
        }
        let variable = name::variable(name.as_str());
        document.spec.remark("Say what it stands for, as references to secrets:");
        document.spec.remark(format!("  env: {{{variable}: {{secret: {{env: {variable}}}}}}}"));
        self.integrations.push(document);
    }

    /// A document of the file. What this version refuses becomes a remark; what is wrong in itself is
    /// a problem of the file.
    pub(super) fn add(&mut self, mut document: Document) {
        for (field, why) in settle(&mut document) {
            self.note(document.name.as_str(), format!("`{field}` became a remark: {}", lower(&why)));
        }
        for fault in faults(&document).iter().filter(|fault| fault.is_error()) {
            let hint = fault.hint.clone().unwrap_or_else(|| "correct it".to_owned());
            self.problems.add(document.name.as_str(), fault.message.clone(), hint);
        }
        if self.target.taken.contains(&document.id()) {
            self.problems.add(
                document.name.as_str(),
                format!("`{}` is already declared there", document.id()),
                "remove or rename one of them",
            );
        }
        self.documents.push(document);
    }

    /// # Errors
    /// With everything that was wrong, or when nothing is left.
    pub(super) fn finish(mut self) -> Result<Imported, ConvertError> {
        let problems = self.problems.take();
        if !problems.is_empty() {
            return Err(ConvertError::Faults(problems));
        }
        if self.documents.is_empty() && self.skipped == 0 {
            return Err(ConvertError::Empty);
        }
        let mut documents = self.surroundings();
        documents.append(&mut self.integrations);
        documents.append(&mut self.documents);
        let mut notes = Vec::new();
        for note in self.notes {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        Ok(Imported { documents, notes })
    }

    /// The runners and base images that are needed and not there.
    fn surroundings(&self) -> Vec<Document> {
        let mut documents = Vec::new();
        let mut images = Map::new();
        for (need, field, image) in [(Need::Python, "python", PYTHON_IMAGE), (Need::Node, "node", NODE_IMAGE)]
        {
            if self.needs.contains(&need) {
                images.put(field, image);
            }
        }
        if !images.is_empty() && self.target.crib.is_none() {
            let (mut defaults, mut spec) = (Map::new(), Map::new());
            defaults.put("images", images);
            spec.put("defaults", defaults);
            documents.extend(self.surrounding(
                Kind::Crib,
                "crib",
                "Images that servers from Git and packages are built on.",
                spec,
            ));
        }
        let runners = [
            (
                Need::Docker,
                RunnerKind::Docker,
                "docker",
                "The Docker engine of the machine the daemon runs on.",
            ),
            (Need::Process, RunnerKind::Process, "process", "Commands beside the daemon: trusted ones only."),
        ];
        for (need, kind, field, remark) in runners {
            if self.needs.contains(&need) && !self.target.runners.contains(&kind) {
                let mut spec = Map::new();
                spec.put(field, Map::inline());
                documents.extend(self.surrounding(Kind::Runner, field, remark, spec));
            }
        }
        documents
    }

    fn surrounding(&self, kind: Kind, own: &str, remark: &str, spec: Map) -> Option<Document> {
        let label = Name::parse(own).ok()?;
        let free = |name: &Name| !self.target.taken.contains(&ResourceId::new(kind, name.clone()));
        let name = name::variants(&label).find(free)?;
        let mut document = Document::new(kind, name, spec);
        document.remarks.push(remark.to_owned());
        Some(document)
    }
}

/// What our own reader says about a document.
fn faults(document: &Document) -> Vec<Diagnostic> {
    let path = RepoPath::parse("imported.yaml");
    path.map_or_else(Vec::new, |path| manifest::parse_file(&path, document.text().as_bytes()).diagnostics)
}

/// Withdraws the fields that this version does not know or support, until none is left; they, and why.
fn settle(document: &mut Document) -> Vec<(String, String)> {
    let mut withdrawn = Vec::new();
    loop {
        let refused = |fault: &Diagnostic| matches!(fault.code, "unknown-field" | "not-supported");
        let Some(fault) = faults(document).into_iter().find(refused) else { return withdrawn };
        let line = fault.place.map_or(0, |place| place.line as usize);
        let text = document.text();
        // Fields of `spec` stand two columns in; the one that is refused is at this line or above it.
        let own =
            |line: &&str| line.starts_with("  ") && line[2..].starts_with(|c: char| c.is_ascii_alphabetic());
        let field = text.lines().take(line).filter(own).last().and_then(|line| line.trim().split(':').next());
        let Some(field) = field.map(str::to_owned) else { return withdrawn };
        let why = match fault.code {
            "unknown-field" => format!("This version has no field `{field}`"),
            _ => capital(&fault.message),
        };
        if !document.spec.withdraw(&field, &why) {
            return withdrawn;
        }
        withdrawn.push((field, why));
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Everything that was wrong with a file, as [`Problem`]s.
impl From<Vec<Problem>> for ConvertError {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Faults(problems)
    }
}
