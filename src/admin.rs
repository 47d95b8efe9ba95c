//! The admin endpoint: reads over TCP, and changes over a socket of the state directory.
//!
//! Input: [`Control`], which the daemon implements, and [`Metrics`](crate::telemetry::Metrics). Output: JSON, one page of
//! metrics, and two health checks. Invariant: whoever cannot open the socket (mode 0600) can change
//! nothing. Not here: MCP.

pub mod audit;
pub mod grants;
pub mod listen;
pub mod routes;
pub mod view;
pub mod volumes;
pub mod why;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::ports::PortResult;
use crate::resource::ResourceId;
use crate::status::Status;
use audit::{AuditQuery, AuditRecord};
use grants::{GrantAsk, GrantReply};
use volumes::{VolumeAsk, VolumeReply};
use why::{WhyQuery, WhyReply};

/// What the daemon can be asked and told.
#[async_trait]
pub trait Control: Send + Sync {
    fn status(&self) -> Arc<Status>;
    /// What is served; none before the first publish.
    fn catalog(&self) -> Option<Arc<Catalog>>;
    /// What the next apply would do, computed by the same function.
    async fn plan(&self) -> PortResult<PlanView>;
    /// Starts a pass; with `wait`, answers when it ended.
    async fn reconcile(&self, request: ReconcileRequest) -> PortResult<ReconcileReply>;
    /// The last standard error of a resource's instances, or the log of its failed build.
    async fn logs(&self, resource: &ResourceId) -> PortResult<String>;
    /// Holds passes back, or lets them go on.
    async fn suspend(&self, suspended: bool) -> PortResult<()>;
    /// Records of calls, oldest first.
    async fn audit(&self, query: AuditQuery) -> PortResult<Vec<AuditRecord>>;
    /// Why a tool is listed, hidden, refused or missing for somebody.
    async fn why(&self, query: WhyQuery) -> PortResult<WhyReply>;
    /// Lists what users authorized, begins or revokes an authorization.
    async fn authorizations(&self, ask: GrantAsk) -> PortResult<GrantReply>;
    /// Lists volumes, or deletes one.
    async fn volumes(&self, ask: VolumeAsk) -> PortResult<VolumeReply>;
    /// What the locks of everything that is served would hold.
    async fn locks(&self) -> PortResult<Vec<LockView>>;
}

/// What the lock of one resource would hold, as a running daemon knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockView {
    pub resource: ResourceId,
    /// The text of the lock's file.
    pub lock: Option<String>,
    /// Why there is none.
    pub error: Option<String>,
}

/// A plan as the command line prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// Over the ordered steps.
    pub hash: String,
    /// The revision it was computed for.
    pub revision: String,
    /// How many steps would change something, and how many resources drifted.
    pub changes: usize,
    /// For people.
    pub text: String,
    /// The steps themselves.
    pub plan: serde_json::Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconcileRequest {
    /// Build this resource's image again although its digest has been built.
    pub rebuild: Option<ResourceId>,
    /// Let the plan with this hash prune above its budget.
    pub approve: Option<crate::resource::Digest>,
    /// Answer when the pass ended, not when it was asked for.
    pub wait: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReconcileReply {
    /// The revision that is served now.
    pub revision: Option<String>,
    pub generation: u64,
    /// Whether the pass ended without a failed step; none when nobody waited.
    pub succeeded: Option<bool>,
    /// A line for people.
    pub message: String,
}

/// The answer to a request that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// What failed, and why, in one line.
    pub error: String,
    /// The next step, when one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The log of a failed build and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
