//! Calls of tools, and containers that are started ahead of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{CallContext, PortResult, Run, Running};
use crate::desired::{Limits, Program};
use crate::policy::{PolicySet, Principal};
use crate::resource::workload::{Egress, Mounts, Security};
use crate::resource::{Digest, ResourceId};
use crate::status::WarmStatus;

/// A container to start ahead of the calls that it is for.
#[derive(Clone)]
pub struct Ahead {
    /// Unique name, as in [`super::Identity::name`].
    pub name: String,
    pub resource: ResourceId,
    /// Written on it; runs of any revision with the same digest may use it.
    pub revision: String,
    pub digest: Digest,
    /// Its image; the command comes with each run.
    pub program: Program,
    /// Paths of the files that a run will bring. Their contents are not known before.
    pub files: Vec<String>,
    pub limits: Limits,
    pub security: Arc<Security>,
    pub volumes: Arc<Mounts>,
    /// As in [`crate::desired::Workload::egress`].
    pub egress: Arc<[Egress]>,
    /// Whether it is cleaned after a run and waits for another; else it is of one run.
    pub reuse: bool,
}

/// A container that waits for a run. Dropping it removes it.
#[async_trait]
pub trait Prepared: Send + Sync {
    /// Runs in it what it was made for: same digest, limits, confinement and image. `None`: it was gone,
    /// and certainly nothing was started.
    ///
    /// # Errors
    /// As [`super::Runner::run`].
    async fn run(&self, run: &Run) -> PortResult<Option<Running>>;
    /// After a run that ended with its exit: waits until nothing of it is left. False: it cannot be used again.
    async fn cleaned(&self) -> bool;
    /// Cancelled when it is gone.
    fn gone(&self) -> &CancellationToken;
}

/// A call of a tool that was allowed.
#[derive(Clone, Copy, Debug)]
pub struct ToolCall<'a> {
    pub arguments: &'a serde_json::Map<String, serde_json::Value>,
    /// The one served, written on what is started.
    pub revision: &'a str,
    /// Who calls; none: the daemon itself.
    pub principal: Option<&'a Principal>,
}

/// What a call of a tool came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// The raw JSON of a `CallToolResult`. What goes wrong is in it (`isError`), as MCP wants errors of tools.
    pub result: String,
    /// Of tools with containers that are started ahead: whether there was one.
    pub start: Option<Start>,
}

/// What a call ran in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A container that was started ahead, or used before.
    Warm,
    /// One that was started for it.
    Cold,
}

impl Start {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

/// Runs a `Tool` for one call. Implemented by [`crate::execute`], used by the gateway.
#[async_trait]
pub trait ToolExecutor: Send + Sync {
    async fn execute(
        &self,
        tool: &crate::catalog::ReadyTool,
        call: ToolCall<'_>,
        cx: &CallContext,
    ) -> Executed;
    /// From now on containers of these tools are started ahead, as many as each declares, and of no others.
    /// `rules`: what was used under other rules is not used again.
    fn keep_warm(&self, _tools: &[Arc<crate::desired::Tool>], _revision: &str, _rules: &Arc<PolicySet>) {}
    /// What there is of each tool that wants any.
    fn warm(&self) -> BTreeMap<ResourceId, WarmStatus> {
        BTreeMap::new()
    }
}
