//! `test`: the contract tests that servers and tools declare.

mod junit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::{Format, harmless};
use super::status::not_ready;
use super::{Context, interrupt, validate};
use crate::config::Settings;
use crate::contract::Report;
use crate::daemon::rehearse::{self, Tested};
use crate::desired::Desired;
use crate::manifest::suggest;
use crate::resource::{Name, ResourceId};

/// The forms in which it prints.
pub(super) const FORMATS: &[Format] = &[Format::Text, Format::Json, Format::Junit];

/// Run the contract tests that servers and tools declare.
///
/// What they need is built and started as a daemon would, under a name of its own, and stopped
/// afterwards; images that were built stay. Reads the work tree, or with --ref a commit. A daemon does not
/// publish a version whose tests fail: this tells beforehand.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "admin", "public_url", "state", "interval", "name", "worktree"])))]
#[command(after_help = "Examples:
  toolcrib test                                  everything that declares tests, below this folder
  toolcrib test weather Tool/kubectl             these alone
  toolcrib test --folder tools --output junit > report.xml
  toolcrib test --ref main                       as committed")]
pub(super) struct Test {
    /// Servers and tools [default: all that declare tests].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Folder of manifests inside a Git repository [default: this folder].
    #[arg(long, value_name = "PATH", conflicts_with_all = ["repo", "path"])]
    folder: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Test {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let (config, loaded) = validate::open(self.settings, self.folder.as_deref(), context).await?;
        let faults: Vec<_> = loaded.diagnostics.iter().filter(|found| found.is_error()).collect();
        if !faults.is_empty() {
            let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n");
            return Err(CliError::failure("the manifests have errors").detail(Some(text)));
        }
        let wanted = wanted(&self.names, &loaded.desired)?;
        if wanted.is_empty() {
            return Err(CliError::failure("nothing declares tests")
                .hint("add `tests: [{name: …, arguments: {…}, expect: {…}}]` to a server or tool"));
        }
        let cancel = CancellationToken::new();
        let testing = Box::pin(rehearse::test(config, wanted.clone(), cancel.clone()));
        let Tested { status, reports } = interrupt::until_done(&cancel, testing).await??;
        // What did not get as far as its tests.
        let tested: BTreeSet<&ResourceId> = reports.iter().map(|report| &report.resource).collect();
        let untested: BTreeMap<String, String> = not_ready(&status)
            .into_iter()
            .filter(|(id, _)| {
                ResourceId::parse(id).is_some_and(|id| wanted.contains(&id) && !tested.contains(&id))
            })
            .collect();
        let passed = reports.iter().filter(|report| report.passed).count();
        let failed = reports.len() - passed;
        match context.out.format() {
            Format::Junit => context.out.text(&junit::document(&reports, &untested))?,
            _ => context.out.print(
                &json!({"tests": reports, "passed": passed, "failed": failed, "notRun": untested}),
                || harmless(&text(&reports, &untested)),
            )?,
        }
        Ok(if failed == 0 && untested.is_empty() { Exit::Success } else { Exit::Failure })
    }
}

/// The resources of these names that declare tests.
fn wanted(names: &[String], desired: &Desired) -> CliResult<BTreeSet<ResourceId>> {
    let servers = desired.servers.values().map(|server| (&server.id, server.tests.len()));
    let tools = desired.tools.values().map(|tool| (&tool.id, tool.tests.len()));
    let all: BTreeMap<&ResourceId, usize> = servers.chain(tools).collect();
    if names.is_empty() {
        let with_tests = all.into_iter().filter(|(_, tests)| *tests > 0);
        return Ok(with_tests.map(|(id, _)| id.clone()).collect());
    }
    let mut wanted = BTreeSet::new();
    for text in names {
        let is_it = |id: &ResourceId| match ResourceId::parse(text) {
            Some(whole) => *id == whole,
            None => Name::parse(text).is_ok_and(|name| id.name == name),
        };
        let found: Vec<_> = all.iter().filter(|(id, _)| is_it(id)).collect();
        if found.is_empty() {
            let error = CliError::usage(format!("no server or tool `{text}` is declared"));
            let near = suggest::nearest(text, all.keys().map(|id| id.name.as_str()));
            return Err(match near {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            });
        }
        if let Some((id, _)) = found.iter().find(|(_, tests)| **tests == 0) {
            return Err(CliError::usage(format!("`{id}` declares no tests"))
                .hint("add `tests: [{name: …, arguments: {…}, expect: {…}}]`"));
        }
        wanted.extend(found.into_iter().map(|(id, _)| (*id).clone()));
    }
    Ok(wanted)
}

fn text(reports: &[Report], untested: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut resource = None;
    for report in reports {
        if resource.replace(&report.resource) != Some(&report.resource) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", report.resource);
        }
        let word = if report.passed { "PASS" } else { "FAIL" };
        let tool = report.tool.as_ref().map(|tool| format!(" ({tool})")).unwrap_or_default();
        let _ = writeln!(text, "  {word}  {}{tool}", report.test);
        for line in report.difference.iter().flat_map(|difference| difference.lines()) {
            let _ = writeln!(text, "        {line}");
        }
    }
    for (id, why) in untested {
        let _ = writeln!(text, "{id}\n  not tested: {why}");
    }
    let passed = reports.iter().filter(|report| report.passed).count();
    let _ = write!(text, "{passed} passed");
    for (count, word) in [(reports.len() - passed, "failed"), (untested.len(), "not tested")] {
        if count > 0 {
            let _ = write!(text, ", {count} {word}");
        }
    }
    text.push('\n');
    text
}
