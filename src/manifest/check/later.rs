//! What can be declared and is not there yet: refused, each with what this version does instead.
//!
//! A field is obeyed or refused, never passed over. What comes to work loses its line here.

use super::Check;
use crate::resource::Spec;
use crate::resource::crib::CribSpec;
use crate::resource::runner::RunnerSpec;
use crate::resource::server::{Running, ServerSpec};
use crate::resource::tool::{Isolation, ToolSpec};
use crate::resource::workload::Resources;

/// The code of all of these.
const CODE: &str = "not-supported";

pub(super) fn refuse(check: &mut Check<'_, '_>, spec: &Spec) {
    match spec {
        Spec::Crib(spec) => crib(check, spec),
        Spec::Runner(spec) => runner(check, spec),
        Spec::Server(spec) => server(check, spec),
        Spec::Tool(spec) => tool(check, spec),
        Spec::Integration(spec) => egress(check, !spec.egress.is_empty()),
        Spec::Policy(_) | Spec::Toolset(_) => {}
    }
}

impl Check<'_, '_> {
    /// `what` follows "this version does not support"; `instead` is what it does, or what to do.
    fn later(&mut self, given: bool, path: &[&str], what: &str, instead: &str) {
        if given {
            self.fault(path, CODE, format!("this version does not support {what}"), instead);
        }
    }
}

fn crib(check: &mut Check<'_, '_>, spec: &CribSpec) {
    let CribSpec {
        naming: _,
        defaults,
        bases: _,
        patches: _,
        roles: _,
        operators: _,
        register: _,
        verify: _,
        sync: _,
    } = spec;
    resources(check, &["defaults"], &defaults.resources);
}

fn runner(check: &mut Check<'_, '_>, spec: &RunnerSpec) {
    for kind in spec.later() {
        let what = format!("runners of kind `{kind}`");
        check.later(true, &[kind], &what, "use `docker: {}` or `process: {}`");
    }
}

fn resources(check: &mut Check<'_, '_>, above: &[&str], resources: &Resources) {
    let at = |field| [above, &["resources", field]].concat();
    check.later(
        resources.gpu.is_some_and(|count| count > 0),
        &at("gpu"),
        "graphics processors",
        "remove it: containers see none",
    );
    check.later(
        resources.ephemeral_storage.is_some(),
        &at("ephemeralStorage"),
        "limits of disk space",
        "remove it, and keep the root read-only; what is written goes to `security.tmpfs`, which has sizes",
    );
}

fn egress(check: &mut Check<'_, '_>, given: bool) {
    check.later(
        given,
        &["egress"],
        "egress",
        "remove it: containers reach nothing outside; a server on a process runner reaches what the machine does",
    );
}

fn server(check: &mut Check<'_, '_>, spec: &ServerSpec) {
    egress(check, !spec.egress.is_empty());
    resources(check, &[], &spec.resources);
    if let Some(lifecycle) = spec.lifecycle.as_deref() {
        check.later(
            lifecycle.mode == Running::OnDemand,
            &["lifecycle", "mode"],
            "`on-demand` servers",
            "remove it: a server runs from the revision that declares it on",
        );
        check.later(
            lifecycle.idle_timeout.is_some(),
            &["lifecycle", "idleTimeout"],
            "`idleTimeout`",
            "remove it: a server runs on without calls",
        );
        check.later(
            (lifecycle.replicas.min, lifecycle.replicas.max) != (1, 1)
                && lifecycle.replicas.min <= lifecycle.replicas.max,
            &["lifecycle", "replicas"],
            "replicas",
            "remove it: one instance runs",
        );
    }
}

fn tool(check: &mut Check<'_, '_>, spec: &ToolSpec) {
    egress(check, !spec.egress.is_empty());
    resources(check, &[], &spec.resources);
    check.later(
        spec.isolation != Isolation::Call,
        &["isolation"],
        "containers used again",
        "remove it: each call has a container of its own",
    );
    check.later(
        spec.warm > 0,
        &["warm"],
        "containers started ahead",
        "remove it: a container starts when it is called",
    );
}
