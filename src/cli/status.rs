//! `status`: what a daemon serves, and how everything is.

use std::fmt::Write as _;
use std::sync::Arc;

use super::Context;
use super::error::CliResult;
use super::exit::Exit;
use super::render::{Table, cell};
use super::target::Target;
use crate::resource::{ResourceId, Revision};
use crate::status::{ConditionStatus, ConditionType, Counts, ResourceStatus, counted, get};

/// Show what the daemon serves and what is not ready.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib status
  toolcrib status --output json | jq .served
  toolcrib status --state /var/lib/toolcrib/tools")]
pub(super) struct Status {
    #[command(flatten)]
    target: Target,
}

impl Status {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let status: crate::status::Status = self.target.reads(context).get_json("/api/v1/status").await?;
        context.out.print(&status, || text(&status))?;
        Ok(Exit::Success)
    }
}

fn text(status: &crate::status::Status) -> String {
    let revision =
        |revision: &Option<Revision>| revision.as_ref().map_or("-".to_owned(), ToString::to_string);
    let source = &status.source;
    let mut lines = vec![
        ("repository", format!("{} {}", source.repo, source.path).trim_end().to_owned()),
        ("served", revision(&status.served)),
    ];
    if status.attempted != status.served {
        lines.push(("seen", revision(&status.attempted)));
    }
    if let Some(who) = &status.signed_by {
        lines.push(("signed by", cell(who)));
    }
    lines.push(("catalog", catalog(status)));
    lines.push(("MCP", status.daemon.mcp.clone()));
    if let Some(certificate) = &status.daemon.certificate {
        let problem = certificate.problem.as_deref().map(|why| format!("; a newer one is not used: {why}"));
        let text = format!("certificate until {}{}", certificate.not_after, problem.unwrap_or_default());
        lines.push(("TLS", cell(&text)));
    }
    lines.push(("admin", status.daemon.admin.clone()));
    if let Some(pass) = &status.last_pass {
        lines.push((
            "last pass",
            format!(
                "{} at {}, {} ({} failed), {} ms",
                pass.result,
                pass.finished,
                of(pass.steps, "step"),
                pass.failed,
                pass.milliseconds
            ),
        ));
    }
    for registration in &status.registrations {
        let state = if registration.ready { "in step" } else { registration.message.as_str() };
        lines.push((
            "registered",
            cell(&format!("{} at {}, {state}", of(registration.tools, "tool"), registration.url)),
        ));
    }
    for (tool, warm) in &status.warm {
        lines.push(("warm", cell(&format!("{tool}: {warm}"))));
    }
    if status.suspended {
        lines.push(("passes", "suspended: `toolcrib reconcile --resume` lets them go on".to_owned()));
    }
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<11} {value}");
    }
    if !status.conditions.is_empty() {
        let mut table = Table::new(["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"]);
        for condition in &status.conditions {
            let since = condition.last_transition_time.to_string();
            let (kind, state) = (condition.kind.as_str(), condition.status.as_str());
            table.row([kind, state, &condition.reason, &since, &condition.message]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    if !status.resources.is_empty() {
        text.push('\n');
        text.push_str(&resources(&status.resources).text());
    }
    text
}

fn catalog(status: &crate::status::Status) -> String {
    let Counts { tools, prompts, resources, templates } = status.catalog;
    let counts = [(tools, "tool"), (prompts, "prompt"), (resources, "resource"), (templates, "template")];
    let counts = counts.map(|(count, noun)| of(count, noun)).join(", ");
    format!("{counts} (generation {})", status.generation)
}

fn of(count: u64, noun: &str) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), noun)
}

/// Resources and their readiness, one row each.
pub(super) fn resources<'a>(
    resources: impl IntoIterator<Item = (&'a ResourceId, &'a Arc<ResourceStatus>)>,
) -> Table {
    let mut table = Table::new(["RESOURCE", "READY", "REASON", "REVISION", "RUNNING", "MESSAGE"]);
    for (id, resource) in resources {
        let ready = get(&resource.conditions, ConditionType::Ready);
        let running = resource.instances.iter().filter(|instance| instance.state == "running").count();
        let running = if resource.instances.is_empty() {
            "-".to_owned()
        } else {
            format!("{running}/{}", resource.instances.len())
        };
        table.row([
            &id.to_string(),
            ready.map_or("Unknown", |ready| ready.status.as_str()),
            ready.map_or("-", |ready| &ready.reason),
            resource.revision.as_ref().map_or("-", |revision| revision.short()),
            &running,
            ready.map_or("-", |ready| &ready.message),
        ]);
    }
    table
}

/// Resources that are certainly not ready, and why.
pub(super) fn not_ready(status: &crate::status::Status) -> Vec<(String, String)> {
    let why = |(id, resource): (&ResourceId, &Arc<ResourceStatus>)| {
        let ready = get(&resource.conditions, ConditionType::Ready)?;
        (ready.status == ConditionStatus::False).then(|| (id.to_string(), ready.message.clone()))
    };
    status.resources.iter().filter_map(why).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Condition, Timestamp, reason};

    #[test]
    fn what_is_seen_but_not_served_is_said() {
        let revision =
            |digit: &str| Some(Revision { reference: "main".into(), commit: digit.repeat(40), dirty: false });
        let condition = Condition::new(
            ConditionType::Ready,
            ConditionStatus::False,
            reason::BUILD_FAILED,
            "failed to build `Server/x`\nsecond line",
            Timestamp(0),
        );
        let mut status =
            crate::status::Status { served: revision("a"), attempted: revision("b"), ..Default::default() };
        let resource = ResourceStatus { conditions: vec![condition.clone()], ..Default::default() };
        status.resources.insert(ResourceId::parse("Server/x").unwrap(), Arc::new(resource));
        status.conditions.push(condition);
        let text = text(&status);
        assert!(
            text.contains("served      main@sha1:aaaa") && text.contains("seen        main@sha1:bbbb"),
            "{text}"
        );
        assert!(
            text.contains("Server/x   False   BuildFailed   -          -         failed to build"),
            "{text}"
        );
        assert!(!text.contains("second line"));
        assert_eq!(not_ready(&status).len(), 1);
    }
}
