//! Contract tests before a version is published: the calls, one after the other.
//!
//! A server is tested when it has answered and before it is served; a tool when it can be run. What
//! passed is remembered by digest, so that no pass and no restart tests the same version again.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::backoff::What;
use super::job::{self, Done, Key, Proven};
use super::serve::Serving;
use super::{Ports, Reconciler};
use crate::catalog::ReadyTool;
use crate::contract::{self, Failed, Report};
use crate::desired::{Desired, Location, Server};
use crate::live::UpstreamKey;
use crate::manifest::Manifest;
use crate::ports::{CallContext, Offer, PortError, PortResult, ToolCall};
use crate::resource::contract::ContractTest;
use crate::resource::{Digest, EnvValue, Kind, ResourceId, Spec};
use crate::schema::Schemas;

/// All tests of one version together: a revision waits for them.
const LONGEST: Duration = Duration::from_mins(15);

/// What is known of the tests of one tool.
pub(super) struct Rehearsal {
    /// Of [`contract::digest`].
    digest: Digest,
    passed: bool,
}

/// Where it is remembered that a version passed.
fn key(digest: Digest) -> String {
    format!("contract/{}", digest.hex())
}

/// Tests a server that has answered. `known`: it was served before, when its tests were the same or others.
pub(super) async fn server(
    ports: &Ports,
    mut proven: Box<Proven>,
    known: bool,
    cancel: &CancellationToken,
) -> PortResult<Box<Proven>> {
    let server = Arc::clone(&proven.server);
    if server.tests.is_empty() {
        return Ok(proven);
    }
    let digest = contract::digest(&server.digests, &server.tests);
    let before = key(server.digests.workload);
    let passed = job::recall(ports, &before);
    if passed.is_some_and(|passed| known || passed == digest.hex().as_bytes()) {
        return Ok(proven);
    }
    proven.reports = ask(ports, &server, (&proven.key, &proven.offer), cancel).await?;
    job::remember(ports, &before, digest.hex().as_bytes());
    Ok(proven)
}

/// What all tests of a server come to; an error when some fail.
async fn ask(
    ports: &Ports,
    server: &Server,
    instance: (&UpstreamKey, &Offer),
    cancel: &CancellationToken,
) -> PortResult<Vec<Report>> {
    let shown = !holds_secrets(server);
    let all = async {
        let mut reports = Vec::new();
        for test in server.tests.iter() {
            let answer = call(ports, instance, test, cancel).await?;
            let answer = answer.as_deref().map_err(Clone::clone);
            reports.push(contract::judge(&server.id, test, answer, shown));
        }
        Ok(reports)
    };
    let tested = cancel.run_until_cancelled(bounded(all)).await;
    settle(tested.unwrap_or_else(|| Err(cancelled()))?)
}

/// Tests a server that is served, because its tests are others than before.
async fn again(
    ports: Ports,
    server: Arc<Server>,
    (key, offer): (UpstreamKey, Arc<Offer>),
    cancel: CancellationToken,
) -> Done {
    let digest = contract::digest(&server.digests, &server.tests);
    let result = ask(&ports, &server, (&key, &offer), &cancel).await;
    if result.is_ok() {
        job::remember(&ports, &self::key(server.digests.workload), digest.hex().as_bytes());
    }
    Done::Rehearsed { id: server.id.clone(), digest, cancelled: cancel.is_cancelled(), result }
}

async fn bounded(tests: impl Future<Output = PortResult<Vec<Report>>>) -> PortResult<Vec<Report>> {
    let late = || PortError::stalled(format!("the tests took longer than {} min", LONGEST.as_secs() / 60));
    tokio::time::timeout(LONGEST, tests).await.unwrap_or_else(|_| Err(late()))
}

fn cancelled() -> PortError {
    PortError::retry("the tests were not finished: nobody wants this version any more")
}

/// All reports, or the failure that some of them are.
fn settle(reports: Vec<Report>) -> PortResult<Vec<Report>> {
    let failed = reports.iter().filter(|report| !report.passed).count();
    if failed == 0 {
        return Ok(reports);
    }
    let message = format!("{failed} of {} tests failed", reports.len());
    let failed = Failed { reports };
    Err(PortError::stalled(message).detail(failed.detail()).caused_by(failed))
}

/// The result of a test's call; the inner error is a failure of the test.
async fn call(
    ports: &Ports,
    (key, offer): (&UpstreamKey, &Offer),
    test: &ContractTest,
    cancel: &CancellationToken,
) -> PortResult<Result<String, String>> {
    let tool = test.tool.as_deref().unwrap_or_default();
    let names: Vec<String> = offer.tools.iter().filter_map(|definition| name(definition)).collect();
    if !names.iter().any(|name| name == tool) {
        let offered = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        return Ok(Err(format!("the server has no tool `{tool}`; it has {offered}")));
    }
    let params = serde_json::json!({"name": tool, "arguments": test.arguments});
    let params = RawValue::from_string(params.to_string())
        .map_err(|error| PortError::stalled("the arguments of a test cannot be written").caused_by(error))?;
    match ports.prober.call(key, &params, contract::limit(test), cancel).await {
        Ok(result) => Ok(Ok(result)),
        Err(error) => Ok(Err(error.chain())),
    }
}

fn name(definition: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str::<Named>(definition).ok().map(|named| named.name)
}

fn holds_secrets(server: &Server) -> bool {
    match &server.location {
        Location::Runner(workload) => workload
            .env
            .values()
            .chain(workload.files.values())
            .any(|value| matches!(value, EnvValue::Secret(_))),
        Location::Remote { .. } => false,
    }
}

/// Tests a tool by running it.
async fn tool(ports: Ports, ready: ReadyTool, revision: Arc<str>, cancel: CancellationToken) -> Done {
    let id = ready.tool.id.clone();
    let digest = contract::digest(&ready.tool.digests, &ready.tool.tests);
    let tested = cancel.run_until_cancelled(bounded(tested(&ports, &ready, &revision))).await;
    let result = tested.unwrap_or_else(|| Err(cancelled()));
    if result.is_ok() {
        job::remember(&ports, &key(digest), b"passed");
    }
    Done::Rehearsed { id, digest, cancelled: cancel.is_cancelled(), result }
}

async fn tested(ports: &Ports, ready: &ReadyTool, revision: &str) -> PortResult<Vec<Report>> {
    let tool = &ready.tool;
    let gone = || PortError::retry(format!("runner `{}` is not set up", tool.runner));
    let runner = ports.runners.get(&tool.runner).ok_or_else(gone)?;
    runner.healthy().await?;
    let mut reports = Vec::new();
    for test in tool.tests.iter() {
        let result = run(ports, ready, test, revision).await;
        // Executors redact what a tool prints.
        reports.push(contract::judge(&tool.id, test, result.as_deref().map_err(Clone::clone), true));
    }
    if reports.iter().any(|report| !report.passed) {
        // Where the runner went away meanwhile, the tests say nothing of the tool.
        runner.healthy().await?;
    }
    settle(reports)
}

/// The result of a test's call, arguments checked as they are for anybody.
async fn run(
    ports: &Ports,
    ready: &ReadyTool,
    test: &ContractTest,
    revision: &str,
) -> Result<String, String> {
    let arguments = Value::Object(test.arguments.clone());
    if let Some(schema) = contract::input_schema(&ready.tool.definition)
        && let Err(error) = Schemas::default().check(&schema, &arguments)
    {
        let said = serde_json::json!({"type": "text", "text": error.to_string()});
        return Ok(serde_json::json!({"isError": true, "content": [said]}).to_string());
    }
    let limit = contract::limit(test);
    let context = CallContext::default();
    let call = ToolCall { arguments: &test.arguments, revision, principal: None };
    let called = tokio::time::timeout(limit, ports.executor.execute(ready, call, &context)).await;
    called.map(|done| done.result).map_err(|_| format!("no answer within {} s", limit.as_secs()))
}

impl Reconciler {
    /// Begins the tests of servers that are served and whose tests are not those they passed. The instance
    /// and what it offers stay meanwhile, and if they fail: it is the version before as well.
    pub(super) fn rehearse_again(&mut self) {
        let servers = self.serving.values().filter(|serving| !serving.server.tests.is_empty());
        // What does not run is tested when it starts.
        let instance = |serving: &Serving| {
            let key = (*self.connections(serving).first()?).clone();
            Some((Arc::clone(&serving.server), (key, Arc::clone(&serving.offer))))
        };
        let served: Vec<_> = servers.filter_map(instance).collect();
        for (server, instance) in served {
            let id = server.id.clone();
            let digest = contract::digest(&server.digests, &server.tests);
            if self.rehearsals.get(&id).is_some_and(|known| known.digest == digest) {
                continue;
            }
            let passed = job::recall(&self.ports, &key(server.digests.workload));
            if passed.is_some_and(|passed| passed == digest.hex().as_bytes()) {
                self.rehearsals.insert(id, Rehearsal { digest, passed: true });
                continue;
            }
            let running = Key::Rehearsal(id);
            if let Some(other) = self.running.get(&running).filter(|other| other.digest != Some(digest)) {
                // Its end begins the tests there are now.
                other.cancel.cancel();
            }
            let ports = self.ports.clone();
            self.spawn(running, Some(digest), |cancel| Box::pin(again(ports, server, instance, cancel)));
        }
    }

    /// Whether this version of a server passed its tests, or failed them and waits for another.
    pub(super) fn is_rehearsed(&self, server: &Server) -> bool {
        if server.tests.is_empty() {
            return true;
        }
        let digest = contract::digest(&server.digests, &server.tests);
        let passed = || job::recall(&self.ports, &key(server.digests.workload));
        self.rehearsals.get(&server.id).is_some_and(|known| known.digest == digest)
            || passed().is_some_and(|passed| passed == digest.hex().as_bytes())
    }

    /// Whether this version of a tool passed its tests; begins them where that is not known.
    pub(super) fn rehearsed(&mut self, ready: &ReadyTool) -> Result<(), String> {
        let tool = &ready.tool;
        if tool.tests.is_empty() {
            return Ok(());
        }
        let digest = contract::digest(&tool.digests, &tool.tests);
        match self.rehearsals.get(&tool.id).filter(|known| known.digest == digest) {
            Some(known) if known.passed => return Ok(()),
            Some(_) => return Err("its tests failed".to_owned()),
            None => {}
        }
        if job::recall(&self.ports, &key(digest)).is_some() {
            self.rehearsals.insert(tool.id.clone(), Rehearsal { digest, passed: true });
            return Ok(());
        }
        let now = self.ports.clock.now();
        let wait =
            self.backoff.get(&tool.id).filter(|wait| wait.what == What::Tests && wait.digest == digest);
        if let Some(wait) = wait.filter(|wait| wait.until.is_none_or(|until| until > now)) {
            return Err(format!("its tests could not be run: {}", wait.error));
        }
        let running = Key::Rehearsal(tool.id.clone());
        if let Some(other) = self.running.get(&running).filter(|other| other.digest != Some(digest)) {
            // Its end begins the tests of this version.
            other.cancel.cancel();
        }
        let revision =
            self.snapshot.as_ref().map(|snapshot| snapshot.revision.to_string()).unwrap_or_default();
        let (ports, ready) = (self.ports.clone(), ready.clone());
        self.spawn(running, Some(digest), |cancel| {
            Box::pin(self::tool(ports, ready, revision.into(), cancel))
        });
        Err("its tests run".to_owned())
    }

    /// The tests of a tool ended.
    pub(super) async fn rehearsal_ended(
        &mut self,
        id: ResourceId,
        digest: Digest,
        cancelled: bool,
        result: PortResult<Vec<Report>>,
    ) {
        match result {
            Ok(reports) => {
                tracing::info!(resource = %id, tests = reports.len(), "passed its tests");
                self.backoff.succeeded(&id);
                self.reports.insert(id.clone(), reports);
                self.rehearsals.insert(id, Rehearsal { digest, passed: true });
            }
            Err(_) if cancelled => {}
            Err(error) => {
                if let Some(Failed { reports }) = failed(&error) {
                    self.reports.insert(id.clone(), reports.clone());
                    self.rehearsals.insert(id.clone(), Rehearsal { digest, passed: false });
                }
                self.failed(&id, digest, What::Tests, &error);
            }
        }
        self.publish().await;
        self.look();
        self.stale = true;
    }

    /// Whether the tests of some tool wait to be begun: they could not be run before, or a person asked.
    pub(super) fn rehearsal_due(&self) -> bool {
        let now = self.ports.clock.now();
        let tools = self.desired.iter().flat_map(|desired| desired.tools.values());
        tools.filter(|tool| !tool.tests.is_empty() && self.unoffered.contains_key(&tool.id)).any(|tool| {
            let key = (tool.runner.clone(), tool.build.as_ref().map(|build| build.digest));
            let built = key.1.is_none_or(|digest| self.built.contains(&(key.0, digest)));
            let waits =
                self.backoff.get(&tool.id).is_some_and(|wait| wait.until.is_none_or(|until| until > now));
            let known = self.rehearsals.contains_key(&tool.id);
            built && !known && !waits && !self.running.contains_key(&Key::Rehearsal(tool.id.clone()))
        })
    }
}

/// What a failure of a server waits for: that its workload changes, or where tests failed, that these do.
pub(super) fn digest(desired: Option<&Desired>, id: &ResourceId, workload: Digest, what: What) -> Digest {
    let server = desired.and_then(|desired| desired.servers.get(&id.name));
    match server.filter(|server| what == What::Tests && server.digests.workload == workload) {
        Some(server) => contract::digest(&server.digests, &server.tests),
        None => workload,
    }
}

/// These, and the servers they wait for.
pub(super) fn with_dependencies(only: &BTreeSet<ResourceId>, manifest: &Manifest) -> BTreeSet<ResourceId> {
    let mut needed = only.clone();
    let mut open: Vec<ResourceId> = only.iter().cloned().collect();
    while let Some(id) = open.pop() {
        let Some(Spec::Server(spec)) = manifest.resources.get(&id).map(|declared| &declared.spec) else {
            continue;
        };
        let servers = spec.depends_on.iter().map(|name| ResourceId::new(Kind::Server, name.clone()));
        open.extend(servers.filter(|id| needed.insert(id.clone())));
    }
    needed
}

/// The tests that failed, when that is why.
pub(super) fn failed(error: &PortError) -> Option<&Failed> {
    error.source.as_ref().and_then(|cause| cause.downcast_ref::<Failed>())
}
