//! Checks of `lifecycle`: what contradicts itself, and what would have no effect.

use std::time::Duration;

use super::Check;
use crate::resource::server::{
    Lifecycle, Mode, Running, ServerSource, ServerSpec, Sessions, Strategy, Transport,
};

/// Instances of one server: each is a process or a container, and all of them are on one machine.
const MAX_REPLICAS: u32 = 32;
/// What is stopped sooner is stopped between two calls of one conversation.
const LEAST_IDLE: Duration = Duration::from_secs(1);

pub(super) fn lifecycle(check: &mut Check<'_, '_>, spec: &ServerSpec) {
    let Some(declared) = spec.lifecycle.as_deref() else { return };
    numbers(check, declared);
    idle(check, declared);
    let on_demand = declared.mode == Running::OnDemand;
    let several = declared.most() > 1;
    if matches!(spec.source, ServerSource::Url(_)) && (on_demand || several) {
        let message = "a server at an address is run by somebody else: it is neither started nor stopped";
        check.invalid(&["lifecycle"], message, "remove it, or say where the server comes from in `source`");
    }
    if on_demand && spec.mode == Mode::Deploy {
        let message = "a server that is not in the catalog is never called, and would never start";
        check.invalid(&["lifecycle", "mode"], message, "write `always`, or `mode: sync` for the server");
    }
    if several && spec.sessions == Sessions::PerClient && spec.transport == Transport::Stdio {
        let message = "each client has an instance of its own already (`sessions: perClient` over stdio)";
        check.invalid(&["lifecycle", "replicas"], message, "remove one of the two");
    }
    let writes = spec.volumes.iter().flat_map(|all| all.values()).any(|volume| !volume.read_only);
    if several && writes && spec.strategy != Some(Strategy::Surge) {
        let message = "several instances would write the same volume at the same time";
        let hint =
            "let one run, make the volume `readOnly`, or write `strategy: surge` if they get on with that";
        check.invalid(&["lifecycle", "replicas"], message, hint);
    }
}

fn numbers(check: &mut Check<'_, '_>, declared: &Lifecycle) {
    let (least, most) = (declared.least(), declared.most());
    let at = ["lifecycle", "replicas"];
    if least > most {
        let message = format!("at least {least} and at most {most} replicas cannot be had");
        check.invalid(&at, message, "make `min` at most `max`");
    } else if most == 0 {
        let hint = "make `max` at least 1, or remove the server";
        check.invalid(&at, "with no instance at most it never runs", hint);
    } else if most > MAX_REPLICAS {
        let message = format!("{most} instances of a server are more than {MAX_REPLICAS}");
        check.invalid(&at, message, &format!("make `max` at most {MAX_REPLICAS}"));
    } else if declared.mode == Running::OnDemand && least > 0 {
        let message = format!("on demand none runs while nobody calls, and {least} run at least");
        check.invalid(&at, message, "remove `min`, or write `mode: always`");
    } else if declared.mode == Running::Always && least == 0 {
        let message = "`always` says that it runs, and it may have no instance";
        check.invalid(&at, message, "make `min` at least 1, or write `mode: on-demand`");
    }
}

fn idle(check: &mut Check<'_, '_>, declared: &Lifecycle) {
    let Some(limit) = declared.idle_timeout else { return };
    let at = ["lifecycle", "idleTimeout"];
    if declared.mode == Running::Always && declared.most() <= declared.least() {
        let message = "a server that always runs never ends for want of calls";
        check.invalid(&at, message, "write `mode: on-demand`, or remove it");
    } else if limit.0 < LEAST_IDLE {
        let message = "a server goes on at least 1 s without calls";
        check.invalid(&at, message, "write a length of time such as `5m`");
    }
}
