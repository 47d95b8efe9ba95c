//! Tool calls: prepare, launch, stream, collect.
//!
//! Input: a resolved tool and the arguments of a call that was allowed. Output: the JSON of its
//! `CallToolResult`. Invariant: every call ends within its tool's timeout, with what it printed so
//! far; no secret leaves in what a tool prints, nor in why it failed. Not here: policy, schemas,
//! choosing a runner.

mod output;
mod result;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::catalog::ReadyTool;
use crate::desired::argv::{self, Filled};
use crate::desired::{Program, Tool};
use crate::ports::{
    CallContext, Material, PortError, PortResult, Run, RunEvent, Runners, Running, Secrets, ToolExecutor,
};

use output::Output;
use result::{End, Report};
use tell::Teller;

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
}

impl Executor {
    pub fn new(runners: Arc<dyn Runners>, secrets: Arc<dyn Secrets>) -> Self {
        Self { runners, secrets }
    }
}

#[async_trait]
impl ToolExecutor for Executor {
    async fn execute(
        &self,
        ready: &ReadyTool,
        arguments: &Map<String, Value>,
        revision: &str,
        cx: &CallContext,
    ) -> String {
        let tool = &*ready.tool;
        let started = Instant::now();
        let mut output = Output::new(tool.max_output);
        let mut teller = Teller::new(&tool.published, cx.events.clone());
        let end = tokio::select! {
            biased;
            () = cx.cancel.cancelled() => End::Cancelled,
            () = tokio::time::sleep(tool.timeout) => End::TimedOut,
            end = self.attempt(ready, arguments, revision, &mut output, &mut teller) => {
                end.unwrap_or_else(End::Failed)
            }
        };
        // What was dropped by the select ended with it: a run ends when nobody holds it.
        output.finish();
        Report { tool, end, output: &output, took: started.elapsed() }.json()
    }
}

impl Executor {
    async fn attempt(
        &self,
        ready: &ReadyTool,
        arguments: &Map<String, Value>,
        revision: &str,
        output: &mut Output,
        teller: &mut Teller,
    ) -> PortResult<End> {
        let tool = &*ready.tool;
        let filled = match argv::fill(&tool.command, arguments) {
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
            revision: revision.to_owned(),
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
        let running = teller.while_waiting("starting", runner.run(run)).await?;
        follow(running, output, teller).await
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
