//! What happened to everything that is declared, as conditions in the style of kstatus.
//!
//! Input: the status before, what a pass found, and the time. Output: the status after, which the
//! admin endpoint serves as JSON. Invariant: `lastTransitionTime` moves only when a condition's
//! `status` does. Not here: asking anything how it is.

pub mod time;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::live::InstanceId;
use crate::resource::{Digest, Name, ResourceId, Revision};

pub use time::Timestamp;

/// Everything the admin endpoint says about the daemon and what it follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The process itself: where it listens.
    pub daemon: Daemon,
    /// The repository it follows.
    pub source: Source,
    /// The revision whose catalog is served.
    pub served: Option<Revision>,
    /// The newest revision that was seen, served or not.
    pub attempted: Option<Revision>,
    /// Who signed the revision that is applied, where somebody had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Of the catalog: counts every swap since the daemon started.
    pub generation: u64,
    /// How many entries the catalog has.
    pub catalog: Counts,
    /// Documents of other API groups, which are skipped.
    pub skipped: u64,
    /// Of the daemon as a whole.
    pub conditions: Vec<Condition>,
    /// Shared with the status before where nothing changed.
    pub resources: BTreeMap<ResourceId, Arc<ResourceStatus>>,
    /// Outside registration APIs, and whether they have what is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registrations: Vec<RegistrationStatus>,
    /// Containers that are started ahead of calls, by tools that want any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub warm: BTreeMap<ResourceId, WarmStatus>,
    /// Of the last pass that ended.
    pub last_pass: Option<PassStatus>,
    /// Passes wait until this is taken back.
    pub suspended: bool,
}

/// The running process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Daemon {
    pub version: String,
    pub pid: u32,
    /// Value of the ownership label: what is ours.
    pub owner: String,
    /// Where MCP is served.
    pub mcp: String,
    /// Where the admin endpoint is served.
    pub admin: String,
    /// The socket that takes the verbs which change something.
    pub socket: String,
    pub started: Option<Timestamp>,
    /// The certificate with which MCP is served, where it is served encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
}

/// A certificate that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateStatus {
    /// Its last second.
    pub not_after: Timestamp,
    /// Why files that changed since are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// The path or address, without credentials.
    pub repo: String,
    pub reference: Option<String>,
    pub path: String,
    pub last_fetch: Option<Timestamp>,
}

/// Entries of the catalog by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub tools: u64,
    pub prompts: u64,
    pub resources: u64,
    pub templates: u64,
}

/// An outside registration API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistrationStatus {
    pub url: String,
    /// Tools that we have registered there.
    pub tools: u64,
    /// Whether that is what is served.
    pub ready: bool,
    /// What failed; empty while it is ready.
    pub message: String,
}

/// Containers of one tool that are started ahead of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WarmStatus {
    /// As declared.
    pub wanted: u32,
    pub waiting: u32,
    pub starting: u32,
    /// That serve a call.
    pub busy: u32,
    /// Why there are fewer than wanted, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl std::fmt::Display for WarmStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { wanted, waiting, starting, busy, problem } = self;
        write!(f, "{waiting} of {wanted} wait for calls, {starting} start, {busy} serve one")?;
        problem.as_ref().map_or(Ok(()), |problem| write!(f, ": {problem}"))
    }
}

/// A pass that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassStatus {
    pub revision: Option<Revision>,
    pub finished: Timestamp,
    pub milliseconds: u64,
    /// `applied`, `unchanged`, `failed` or `superseded`.
    pub result: String,
    pub steps: u64,
    pub failed: u64,
}

/// One declared resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceStatus {
    pub conditions: Vec<Condition>,
    /// The revision its served version was read from.
    pub revision: Option<Arc<Revision>>,
    pub digests: DigestStatus,
    pub runner: Option<Name>,
    pub instances: Vec<InstanceStatus>,
    /// Published names.
    pub offers: Vec<Arc<str>>,
    /// Where it is declared: `file:line:column`.
    pub place: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DigestStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Digest>,
}

/// One running instance of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    pub id: InstanceId,
    pub name: String,
    /// `starting`, `running`, `paused` or `exited`.
    pub state: String,
    pub digest: Digest,
}

/// One statement about a resource, true, false or unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: ConditionType,
    pub status: ConditionStatus,
    /// One word in CamelCase, from [`reason`].
    pub reason: Cow<'static, str>,
    /// A sentence for people.
    pub message: String,
    /// The generation of the catalog (or pass) it speaks of.
    pub observed_generation: u64,
    pub last_transition_time: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// What was asked for is there and served.
    Ready,
    /// Work is under way.
    Reconciling,
    /// Nothing will change by waiting: a new revision is needed.
    Stalled,
    /// What runs, runs well.
    Healthy,
    /// A server lists what was reviewed: what its lock holds. The reasons are those of
    /// [`crate::lock::Verdict`].
    Locked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Healthy => "Healthy",
            Self::Locked => "Locked",
        }
    }
}

impl ConditionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Condition {
    /// A statement made at `now`.
    pub fn new(
        kind: ConditionType,
        status: ConditionStatus,
        reason: &'static str,
        message: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            kind,
            status,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            observed_generation: 0,
            last_transition_time: now,
        }
    }

    #[must_use]
    pub fn observed(mut self, generation: u64) -> Self {
        self.observed_generation = generation;
        self
    }
}

/// The condition after `new` was found: it keeps the time of `old` unless the status changed.
pub fn transition(old: Option<&Condition>, mut new: Condition) -> Condition {
    if let Some(old) = old.filter(|old| old.kind == new.kind && old.status == new.status) {
        new.last_transition_time = old.last_transition_time;
    }
    new
}

/// Puts `new` in the place of the condition of its type; conditions are in the order of their types.
pub fn set(conditions: &mut Vec<Condition>, new: Condition) {
    match conditions.binary_search_by_key(&new.kind, |condition| condition.kind) {
        Ok(at) => conditions[at] = transition(conditions.get(at), new),
        Err(at) => conditions.insert(at, new),
    }
}

/// The condition of one type.
pub fn get(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

impl ResourceStatus {
    /// `Some` when it is known whether the resource is ready.
    pub fn ready(&self) -> Option<bool> {
        match get(&self.conditions, ConditionType::Ready)?.status {
            ConditionStatus::True => Some(true),
            ConditionStatus::False => Some(false),
            ConditionStatus::Unknown => None,
        }
    }
}

/// `1 tool`, `2 tools`: of nouns that take an `s`.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The reasons there are: one word each, the same in status, logs and documents.
pub mod reason {
    pub const WAITING_FOR_SOURCE: &str = "WaitingForSource";
    pub const FETCH_FAILED: &str = "FetchFailed";
    pub const INVALID_MANIFEST: &str = "InvalidManifest";
    pub const REFUSED: &str = "Refused";
    pub const HEALTH_GATE: &str = "HealthGate";
    pub const VERIFICATION_FAILED: &str = "VerificationFailed";
    pub const BUILDING: &str = "Building";
    pub const BUILD_FAILED: &str = "BuildFailed";
    pub const LOOKUP_FAILED: &str = "LookupFailed";
    pub const STARTING: &str = "Starting";
    pub const START_FAILED: &str = "StartFailed";
    /// Contract tests of the newest version failed; the one before stays.
    pub const TESTS_FAILED: &str = "TestsFailed";
    pub const PROBE_FAILED: &str = "ProbeFailed";
    pub const CRASH_LOOP: &str = "CrashLoop";
    pub const UNHEALTHY: &str = "Unhealthy";
    pub const DRIFTED: &str = "Drifted";
    pub const RUNNER_UNREACHABLE: &str = "RunnerUnreachable";
    pub const NAME_COLLISION: &str = "NameCollision";
    pub const UNPUBLISHABLE: &str = "Unpublishable";
    pub const PRUNE_BLOCKED: &str = "PruneBlocked";
    pub const WAITING_FOR_OTHERS: &str = "WaitingForOthers";
    pub const SERVED: &str = "Served";
    pub const RUNNING: &str = "Running";
    pub const SUSPENDED: &str = "Suspended";
    pub const PROGRESSING: &str = "Progressing";
    pub const IDLE: &str = "Idle";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, at: u64) -> Condition {
        Condition::new(ConditionType::Ready, status, reason::SERVED, "m", Timestamp(at))
    }

    #[test]
    fn time_of_transition_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, ready(ConditionStatus::False, 1));
        set(&mut conditions, ready(ConditionStatus::False, 2));
        assert_eq!(conditions[0].last_transition_time, Timestamp(1));
        set(&mut conditions, ready(ConditionStatus::True, 3));
        assert_eq!(conditions[0].last_transition_time, Timestamp(3));
        assert_eq!(conditions.len(), 1);
        let other =
            Condition::new(ConditionType::Reconciling, ConditionStatus::True, "Idle", "", Timestamp(9));
        assert_eq!(transition(Some(&conditions[0]), other.clone()), other);
    }

    #[test]
    fn status_reads_back_what_it_wrote() {
        let mut status = Status { generation: 3, ..Status::default() };
        let id = ResourceId::parse("Server/weather").unwrap();
        let one = ResourceStatus { conditions: vec![ready(ConditionStatus::True, 5)], ..Default::default() };
        status.resources.insert(id, Arc::new(one));
        let text = serde_json::to_string(&status).unwrap();
        assert!(
            text.contains(r#""Server/weather":{"conditions":[{"type":"Ready","status":"True""#),
            "{text}"
        );
        assert!(text.contains(r#""lastTransitionTime":"1970-01-01T00:00:05Z""#), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
