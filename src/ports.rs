//! The traits between the core and the world. Effects implement them; [`crate::reconcile`],
//! [`crate::execute`] and [`crate::gateway`] use them; tests may stand in for them.

mod call;
mod error;
mod execute;
mod instances;
mod prober;
mod remote;
mod runner;
mod secret;
mod severity;
mod source;
mod telling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::live::Inventory;
pub use crate::live::Offer;
use crate::policy::{PolicySet, Remote};
use crate::resource::ResourceId;
use crate::resource::policy::Point;

pub use call::{CallContext, CallEvent, ClientAnswer, ClientLine, ClientRequest};
pub use error::{Disposition, PortError, PortResult};
pub use execute::{Ahead, Executed, Prepared, Start, ToolCall, ToolExecutor};
pub use instances::{Lender, Lent, Starter, Unmet};
pub use prober::{Channel, Greeting, Handshake, NotModern, Prober};
pub use remote::{Credentials, Identities, Refusal};
pub use runner::{
    BuildFiles, BuildInput, DeclaredRunners, Identity, Progress, Run, RunEvent, Runner, RunnerPool, Runners,
    Running,
};
pub use secret::{Mask, Material, SecretValue, Secrets};
pub use severity::{Logs, Severity};
pub use source::{Lookup, Source};
pub use telling::{Teller, Told, heard, telling};

/// Policies that are answered elsewhere.
#[async_trait]
pub trait Judge: Send + Sync {
    /// The document of the policy's package for this input, within its time limit.
    ///
    /// # Errors
    /// Whenever there is none: the caller refuses then. The message goes to whoever asked.
    async fn ask(&self, remote: &Remote, input: &serde_json::Value) -> PortResult<serde_json::Value>;
}

/// What every policy of `point` that is answered elsewhere says, in the order of
/// [`PolicySet::remotes`].
pub async fn judged(
    judge: &dyn Judge,
    policies: &PolicySet,
    point: Point,
    input: &serde_json::Value,
) -> Vec<Result<serde_json::Value, String>> {
    let asked = policies.remotes(point).map(|remote| judge.ask(remote, input));
    let said = futures::future::join_all(asked).await;
    said.into_iter().map(|said| said.map_err(|error| error.chain())).collect()
}

/// What survives the daemon.
pub trait Store: Send + Sync {
    fn inventory(&self) -> PortResult<Inventory>;
    fn save_inventory(&self, inventory: &Inventory) -> PortResult<()>;
    /// Small values by key, such as the era of a digest or the last applied revision.
    fn get(&self, key: &str) -> PortResult<Option<Vec<u8>>>;
    fn put(&self, key: &str, value: &[u8]) -> PortResult<()>;
    /// As `put`, and it is on the disk when the call returns.
    fn put_durably(&self, key: &str, value: &[u8]) -> PortResult<()> {
        self.put(key, value)
    }
}

/// Time, passed in so that the core never asks for it.
pub trait Clock: Send + Sync {
    /// Since the Unix epoch.
    fn now(&self) -> Duration;
}

/// Where a pass puts what it made.
pub trait Publisher: Send + Sync {
    /// What is served now.
    fn current(&self) -> Option<Arc<crate::catalog::Catalog>>;
    /// Serves this from now on. Rules first, so that nobody sees an entry its rules would hide.
    fn publish(
        &self,
        catalog: Arc<crate::catalog::Catalog>,
        policies: Arc<crate::policy::PolicySet>,
        runners: &DeclaredRunners,
    );
    /// Outside registration APIs that have to be told of what is served.
    fn register(&self, _registrations: &Arc<[crate::resource::crib::Registration]>) {}
    /// Says how everything is.
    fn status(&self, status: Arc<crate::status::Status>);
    /// Details of what failed: logs of builds and of instances that did not start.
    fn failures(&self, failures: BTreeMap<ResourceId, String>);
    /// Counts definitions that a server changed by itself, without a commit.
    fn definitions_changed(&self, _server: &ResourceId, _count: u64) {}
    /// Says whether anything is left to do: `Some` with how the pass ended and how long it took.
    fn quiet(&self, pass: Option<(&'static str, Duration)>);
}
