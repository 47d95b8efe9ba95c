//! What a container may use beyond memory and processor: disk and graphics processors, as far as its runner
//! can hold it to that.

use super::place::Findings;
use super::{Limits, Runner};
use crate::resource::Memory;
use crate::resource::runner::RunnerKind;
use crate::resource::workload::{Resources, Security};

/// Checks limits against the runner. `own` are those of the resource itself: what a Crib says for all is for
/// those alone that can have it.
pub(super) fn fit(
    limits: &mut Limits,
    own: &Resources,
    runner: &Runner,
    security: &Security,
    findings: &mut Findings<'_>,
) {
    if runner.kind == RunnerKind::Docker {
        disk(limits, security, findings);
        return gpu(limits, runner, findings);
    }
    let kind = runner.kind.as_str();
    if own.ephemeral_storage.is_some() {
        let message = format!("a {kind} runner cannot limit disk space");
        let hint = "remove it, or run the program in a container";
        findings.error(&["resources", "ephemeralStorage"], "not-supported", message, hint);
    }
    if own.gpu.is_some_and(|count| count > 0) {
        let message =
            format!("a {kind} runner hands out no graphics processors: its programs see all there are");
        let hint = "remove it, or run the program in a container";
        findings.error(&["resources", "gpu"], "not-supported", message, hint);
    }
    (limits.ephemeral_storage, limits.gpu) = (None, 0);
}

/// What is in memory is of a size that is known beforehand.
fn disk(limits: &Limits, security: &Security, findings: &mut Findings<'_>) {
    let Some(most) = limits.ephemeral_storage else { return };
    let sum = security.tmpfs.values().fold(0_u64, |sum, size| sum.saturating_add(size.0));
    if sum > most.0 {
        let sum = Memory(sum);
        let message = format!("the file systems in memory have {sum} together, and {most} may be written");
        let hint =
            "make those of `security.tmpfs` smaller (`/tmp` has 64Mi where nothing is said), or allow more";
        findings.error(&["resources", "ephemeralStorage"], "conflict", message, hint);
    }
}

fn gpu(limits: &Limits, runner: &Runner, findings: &mut Findings<'_>) {
    let has = runner.gpu.unwrap_or(0);
    if limits.gpu > has {
        let (name, asked) = (&runner.name, limits.gpu);
        let declares = if has == 0 { "none".to_owned() } else { format!("`gpu: {has}`") };
        let message =
            format!("`gpu: {asked}` is asked for, and the `capacity` of runner `{name}` has {declares}");
        let hint = format!(
            "choose a runner that has so many graphics processors, or say `capacity: {{gpu: {asked}}}` of `{name}` if it does"
        );
        findings.error(&["resources", "gpu"], "not-supported", message, &hint);
    }
}
