//! `audit`: which calls there were, by whom, and what became of them.

use bytes::Bytes;
use http::Method;

use super::Context;
use super::client::READ_TIMEOUT;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::Table;
use super::target::Target;
use crate::admin::audit::{AuditQuery, AuditRecord, MOST, USUAL};
use crate::resource::Period;
use crate::status::Timestamp;

/// Show which tools were called, by whom, and how it ended.
///
/// Records are kept by the daemon in its state directory, the newest 64 MiB of them. Arguments are in
/// them only where a policy's `recorded` names them, and never what looks like a secret.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib audit                                    the last 100 calls
  toolcrib audit --since 1h --decision refused      what was refused in the last hour
  toolcrib audit --user ada --tool 'git_*' --limit 20
  toolcrib audit --since 2026-11-20T08:00:00Z --output json | jq '.[].tool'")]
pub(super) struct Audit {
    /// From then on: a time (2026-11-20T08:00:00Z), or how long ago (90s, 1h, 2d).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before then: written like --since.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Calls of one user.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Calls of one tool; `*` at the end stands for any letters.
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// How they ended, such as success or refused.
    #[arg(long, value_name = "OUTCOME", value_parser = [
        "success", "tool_error", "invalid", "refused", "server_error", "timeout", "unavailable", "cancelled",
    ])]
    outcome: Option<String>,
    /// What was decided: allowed, refused, hidden or unknown.
    #[arg(long, value_name = "DECISION", value_parser = ["allowed", "refused", "hidden", "unknown"])]
    decision: Option<String>,
    /// At most so many, the newest.
    #[arg(long, value_name = "COUNT", default_value_t = USUAL)]
    limit: usize,
    #[command(flatten)]
    target: Target,
}

impl Audit {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        if self.limit > MOST {
            return Err(CliError::usage(format!("`--limit {}` is too many", self.limit))
                .hint(format!("ask for at most {MOST}, and for earlier ones with --until")));
        }
        let query = AuditQuery {
            since: self.since.as_deref().map(time).transpose()?,
            until: self.until.as_deref().map(time).transpose()?,
            user: self.user,
            tool: self.tool,
            outcome: self.outcome,
            decision: self.decision,
            limit: Some(self.limit),
        };
        let client = self.target.changes(context).await?;
        let body = serde_json::to_vec(&query).map_err(std::io::Error::from)?;
        let found: Vec<AuditRecord> =
            client.json(Method::POST, "/api/v1/audit", Bytes::from(body), READ_TIMEOUT).await?;
        context
            .out
            .print(&found, || if found.is_empty() { "No calls.\n".to_owned() } else { text(&found) })?;
        Ok(Exit::Success)
    }
}

/// A point in time, or how long before now it was.
fn time(text: &str) -> CliResult<Timestamp> {
    let ago = || {
        let period: Period = serde_json::from_value(text.into()).ok()?;
        Some(Timestamp(crate::daemon::now().as_secs().saturating_sub(period.0.as_secs())))
    };
    Timestamp::parse(text).or_else(ago).ok_or_else(|| {
        CliError::usage(format!("`{text}` is no time"))
            .hint("write 2026-11-20T08:00:00Z, or 1h for an hour ago")
    })
}

fn text(found: &[AuditRecord]) -> String {
    let mut table = Table::new(["TIME", "USER", "ENDPOINT", "TOOL", "DECISION", "OUTCOME", "TOOK", "WHY"]);
    for record in found {
        let took =
            format!("{:.1}ms", std::time::Duration::from_micros(record.duration_us).as_secs_f64() * 1e3);
        let time = record.time.to_string();
        let why = record.rule.as_deref().unwrap_or_default();
        let AuditRecord { user, endpoint, tool, decision, outcome, .. } = record;
        table.row([&time, user, endpoint, tool, decision, outcome, &took, why]);
    }
    table.text()
}
