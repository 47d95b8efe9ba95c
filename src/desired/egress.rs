//! What a workload may reach: what it declares, and what its integrations do.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Runner;
use super::context::Context;
use super::place::Findings;
use crate::manifest::Diagnostic;
use crate::resource::Name;
use crate::resource::runner::RunnerKind;
use crate::resource::server::{ServerSpec, Transport};
use crate::resource::workload::Egress;

/// Places one workload may reach: each is a socket that is listened on for as long as it runs.
const MAX_EGRESS: usize = 64;

/// The places that a workload on `runner` may reach. Where nothing can hold it to them, what it declares
/// itself is refused, and what integrations declare is told.
pub(super) fn allowed(
    context: &Context<'_>,
    runner: &Runner,
    (own, integrations): (&[Egress], &[Name]),
    findings: &mut Findings<'_>,
) -> Arc<[Egress]> {
    if runner.kind != RunnerKind::Docker {
        not_held(context, runner, (own, integrations), findings);
        return Arc::default();
    }
    let given = integrations.iter().flat_map(|name| context.integrations.egress(name));
    let lower = |to: &Egress| Egress { host: to.host.to_ascii_lowercase(), port: to.port };
    let all: BTreeSet<Egress> = own.iter().chain(given).map(lower).collect();
    if all.len() > MAX_EGRESS {
        let message = format!("{} places may be reached, and at most {MAX_EGRESS} can be", all.len());
        let hint = "name fewer of them, or split it into several that need less each";
        findings.error(&["egress"], "invalid-value", message, hint);
    }
    all.into_iter().collect()
}

fn not_held(
    context: &Context<'_>,
    runner: &Runner,
    (own, integrations): (&[Egress], &[Name]),
    findings: &mut Findings<'_>,
) {
    let why =
        format!("nothing holds what runs on `{}` to `egress`: it reaches what the machine does", runner.name);
    let hint = "remove `egress`, or run it in a container";
    if !own.is_empty() {
        findings.error(&["egress"], "egress-not-held", why, hint);
        return;
    }
    let mut named = integrations.iter().enumerate();
    let Some((at, name)) = named.find(|(_, name)| !context.integrations.egress(name).is_empty()) else {
        return;
    };
    let message = format!("{why}, whatever the integration `{name}` says");
    let warning = Diagnostic::warning("egress-not-held", message);
    findings.add(
        &["integrations", &at.to_string()],
        warning.hint("run it in a container to have it held to that"),
    );
}

/// A server listens on all addresses of its container: a place it reaches has to be on another port.
pub(super) fn apart(egress: &[Egress], transport: &Transport, findings: &mut Findings<'_>) {
    let (Transport::StreamableHttp { port, .. } | Transport::Sse { port, .. }) = transport else { return };
    if let Some(same) = egress.iter().find(|to| to.port == *port) {
        let message = format!("the server listens on port {port}, on which it is to reach `{}`", same.host);
        let hint = "let the server listen on another port: both are addresses of its container";
        findings.error(&["transport", "port"], "invalid-value", message, hint);
    }
}

/// A server that runs elsewhere reaches what it reaches.
pub(super) fn elsewhere(spec: &ServerSpec, findings: &mut Findings<'_>) {
    if !spec.egress.is_empty() {
        let message = "what a server elsewhere may reach is not decided here";
        findings.error(&["egress"], "egress-not-held", message, "remove it");
    }
}
