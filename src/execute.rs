//! Tool calls: prepare, launch, stream, collect.
//!
//! Input: a resolved tool and the arguments of a call that was allowed. Output: the JSON of its
//! `CallToolResult`. Invariant: every call ends within its tool's timeout, with what it printed so
//! far; no secret leaves in what a tool prints, nor in why it failed. Not here: policy, schemas,
//! choosing a runner.

mod output;
mod result;
mod tell;
mod warm;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::catalog::ReadyTool;
use crate::desired::argv::{self, Filled};
use crate::desired::{Program, Tool};
use crate::policy::{PolicySet, Principal};
use crate::ports::{
    CallContext, Executed, Material, PortError, PortResult, Run, RunEvent, Runner, Runners, Running, Secrets,
    Start, ToolCall, ToolExecutor,
};
use crate::resource::ResourceId;
use crate::status::WarmStatus;

use output::Output;
use result::{End, Report};
use tell::Teller;
use warm::{Lease, Stock, Warm};

/// Bytes a tool may print in all. What is above `max_output` is read and dropped, so that a tool
/// that prints a lot can finish; one that prints forever is ended here rather than by its timeout.
const MAX_PRINTED: u64 = 64 << 20;
/// What the runner gets above the tool's timeout: the executor's clock began before the runner's,
/// and decides.
const MARGIN: Duration = Duration::from_secs(5);

/// Runs tools on the runners there are.
pub struct Executor {
    runners: Arc<dyn Runners>,
    secrets: Arc<dyn Secrets>,
    warm: Warm,
}

impl Executor {
    /// `ahead`: containers that wait for calls, of all tools together, at most.
    pub fn new(runners: Arc<dyn Runners>, secrets: Arc<dyn Secrets>, ahead: usize) -> Self {
        Self { warm: Warm::new(Arc::clone(&runners), ahead), runners, secrets }
    }
}

/// A run that goes on, and what it goes on in.
struct Started {
    running: Running,
    /// None: the container is of this run alone.
    lease: Option<Lease>,
}

#[async_trait]
impl ToolExecutor for Executor {
    async fn execute(&self, ready: &ReadyTool, call: ToolCall<'_>, cx: &CallContext) -> Executed {
        let tool = &*ready.tool;
        let started = Instant::now();
        let mut output = Output::new(tool.max_output);
        let mut teller = Teller::new(&tool.published, cx.events.clone());
        let mut start = None;
        let end = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => End::Cancelled,
            () = tokio::time::sleep(tool.timeout) => End::TimedOut,
            end = self.attempt(ready, call, &mut output, &mut teller, &mut start) => {
                end.unwrap_or_else(End::Failed)
            }
        };
        // What was dropped by the select ended with it: a run ends when nobody holds it.
        output.finish();
        let result = Report { tool, end, output: &output, took: started.elapsed() }.json();
        Executed { result, start }
    }

    fn keep_warm(&self, tools: &[Arc<Tool>], revision: &str, rules: &Arc<PolicySet>) {
        self.warm.keep(tools, revision, rules);
    }

    fn warm(&self) -> BTreeMap<ResourceId, WarmStatus> {
        self.warm.pools()
    }
}

impl Executor {
    async fn attempt(
        &self,
        ready: &ReadyTool,
        call: ToolCall<'_>,
        output: &mut Output,
        teller: &mut Teller,
        start: &mut Option<Start>,
    ) -> PortResult<End> {
        let tool = &*ready.tool;
        let filled = match argv::fill(&tool.command, call.arguments) {
            Ok(filled) => filled,
            Err(error) => return Ok(End::Refused(error.to_string())),
        };
        let material = Material::resolve(self.secrets.as_ref(), &tool.env, &tool.files)?;
        output.redact(&material.secrets);
        let runner = self.runners.get(&tool.runner).ok_or_else(|| {
            PortError::retry(format!("the runner `{}` is not there", tool.runner))
                .hint("`toolcrib status` says what it waits for")
        })?;
        let Filled { argv, fixed, stdin } = filled;
        let run = Run {
            name: unique(tool),
            resource: tool.id.clone(),
            revision: call.revision.to_owned(),
            digest: tool.digests.workload,
            program: program(ready, argv, fixed),
            stdin: stdin.map(Into::into),
            material,
            limits: tool.limits.clone(),
            security: tool.security.clone(),
            volumes: Arc::clone(&tool.volumes),
            egress: Arc::clone(&tool.egress),
            timeout: tool.timeout + MARGIN,
        };
        let begin = self.begin(&*runner, run, call.principal, start);
        let Started { running, lease } = teller.while_waiting("starting", begin).await?;
        let end = follow(running, output, teller).await;
        if let (Some(lease), Ok(End::Exited(_))) = (lease, &end) {
            lease.finish().await;
        }
        end
    }

    /// Begins a run in a container that waits for it, else in one of its own.
    async fn begin(
        &self,
        runner: &dyn Runner,
        run: Run,
        principal: Option<&Principal>,
        start: &mut Option<Start>,
    ) -> PortResult<Started> {
        // Those that turn out to be gone are not there the next time.
        while let Some(stock) = self.warm.take(&run, principal, &|| self.secrets.tag(&run.material)) {
            *start = Some(Start::Cold);
            let Stock::Waits(lease) = stock else { break };
            if let Some(running) = lease.run(&run).await? {
                *start = Some(Start::Warm);
                return Ok(Started { running, lease: Some(lease) });
            }
        }
        Ok(Started { running: runner.run(run).await?, lease: None })
    }
}

/// Collects what a run prints, up to its end.
async fn follow(mut running: Running, output: &mut Output, teller: &mut Teller) -> PortResult<End> {
    loop {
        match teller.while_waiting("running", running.events.recv()).await {
            Some(Ok(RunEvent::Stdout(bytes))) => teller.printed("stdout", &output.stdout.take(&bytes)),
            Some(Ok(RunEvent::Stderr(bytes))) => teller.printed("stderr", &output.stderr.take(&bytes)),
            Some(Ok(RunEvent::Exit(code))) => return Ok(End::Exited(code)),
            Some(Err(error)) => return Err(error),
            None => return Err(PortError::retry("the run ended without saying how")),
        }
        if output.printed() > MAX_PRINTED {
            return Ok(End::TooMuch(MAX_PRINTED));
        }
    }
}

fn program(ready: &ReadyTool, mut command: Vec<String>, fixed: usize) -> Program {
    let Some((reference, id)) = ready.tool.image.clone() else {
        let dir = ready.folder.as_deref().unwrap_or(&ready.tool.dir).to_owned();
        return Program::Command { argv: command, dir };
    };
    let args = command.split_off(fixed);
    // Without either, the image's own entry point and command stay.
    let entrypoint = (!command.is_empty()).then_some(command);
    let args = (entrypoint.is_some() || !args.is_empty()).then_some(args);
    Program::Image { reference, id, entrypoint, args }
}

/// A name no other run has.
#[expect(clippy::disallowed_methods, reason = "randomness names runs")]
fn unique(tool: &Tool) -> String {
    let random: u64 = rand::Rng::next_u64(&mut rand::rng());
    format!("{}-{}-{random:016x}", tool.id.name, tool.digests.workload.short())
}
