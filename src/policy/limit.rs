//! Limits that rules give, by name, and the declared ones that are above them.
//!
//! A rule `limits` is an object of numbers above zero. A call of a tool is lowered to them; what runs
//! already, and what is declared where admission is asked, is refused when it has more.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::desired::{Limits, Location, Server, Tool};
use crate::resource::{Cpu, Memory};

/// What can be limited: `timeout` (seconds), `memory` and `maxOutput` (bytes), `cpu` (cores) and `pids`.
pub const LIMITS: [&str; 5] = ["timeout", "memory", "cpu", "pids", "maxOutput"];

/// Limits by name, as rules gave them.
pub type Given = BTreeMap<String, f64>;

/// A number of things: less than one is none, and what is beyond every number is no limit.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and limits are above zero"
)]
fn whole(limit: f64) -> u64 {
    limit as u64
}

fn of(given: &Given, name: &str) -> Option<f64> {
    given.get(name).copied()
}

/// A length of time; none where it is beyond every clock.
pub fn timeout(given: &Given) -> Option<Duration> {
    of(given, "timeout").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// Bytes that may be answered.
pub fn output(given: &Given) -> Option<u64> {
    of(given, "maxOutput").map(whole)
}

/// A tool with what is above the limits lowered to them.
pub fn lowered(tool: &Tool, given: &Given) -> Tool {
    let mut tool = tool.clone();
    tool.timeout = timeout(given).map_or(tool.timeout, |most| most.min(tool.timeout));
    tool.max_output = output(given).map_or(tool.max_output, |most| most.min(tool.max_output));
    let Limits { memory, cpu, pids, .. } = &mut tool.limits;
    *memory = of(given, "memory").map_or(*memory, |most| Memory(whole(most)).min(*memory));
    *cpu = of(given, "cpu").map_or(*cpu, |most| Cpu(whole(most * 1000.0)).min(*cpu));
    *pids = of(given, "pids").map_or(*pids, |most| u32::try_from(whole(most)).unwrap_or(*pids).min(*pids));
    tool
}

/// What of declared limits is above the given ones, as a phrase.
fn above(limits: &Limits, given: &Given) -> Option<String> {
    let told = |what: &str, has: String, most: String| format!("it has {what} {has}, and {most} is allowed");
    let memory = of(given, "memory").map(|most| Memory(whole(most))).filter(|most| limits.memory > *most);
    let cpu = of(given, "cpu").map(|most| Cpu(whole(most * 1000.0))).filter(|most| limits.cpu > *most);
    let pids = of(given, "pids").map(whole).filter(|most| u64::from(limits.pids) > *most);
    let memory = memory.map(|most| told("memory", limits.memory.to_string(), most.to_string()));
    let cpu = cpu.map(|most| told("cpu", limits.cpu.to_string(), most.to_string()));
    let pids = pids.map(|most| told("pids", limits.pids.to_string(), most.to_string()));
    memory.or(cpu).or(pids)
}

/// Why a server that runs may not be called: what it runs with cannot be lowered for one call.
pub fn server_above(server: &Server, given: &Given) -> Option<String> {
    match &server.location {
        Location::Runner(workload) => above(&workload.limits, given),
        Location::Remote { .. } => None,
    }
}

/// Why a version of a server may not be run.
pub(super) fn server_declares_more(server: &Server, given: &Given) -> Option<String> {
    server_above(server, given).or_else(|| longer(server.timeout, given))
}

/// Why a version of a tool may not be run.
pub(super) fn tool_declares_more(tool: &Tool, given: &Given) -> Option<String> {
    let output = output(given).filter(|most| tool.max_output > *most);
    let output = output
        .map(|most| format!("it has maxOutput {}, and {} is allowed", Memory(tool.max_output), Memory(most)));
    above(&tool.limits, given).or_else(|| longer(tool.timeout, given)).or(output)
}

fn longer(declared: Duration, given: &Given) -> Option<String> {
    let most = timeout(given).filter(|most| declared > *most)?;
    Some(format!("it has timeout {} s, and {} s are allowed", declared.as_secs_f64(), most.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_limits_are_above_given_ones_or_not() {
        let declared = Limits::default();
        let given = |name: &str, limit: f64| Given::from([(name.to_owned(), limit)]);
        for (name, limit, expected) in [
            ("memory", 1e9, None),
            ("memory", 1_048_576.0, Some("it has memory 512Mi, and 1Mi is allowed")),
            ("cpu", 1.0, None),
            ("cpu", 0.5, Some("it has cpu 1000m, and 500m is allowed")),
            ("pids", 300.0, None),
            ("pids", 20.0, Some("it has pids 256, and 20 is allowed")),
            ("memory", f64::INFINITY, None),
        ] {
            assert_eq!(above(&declared, &given(name, limit)).as_deref(), expected, "{name} {limit}");
        }
        assert_eq!(timeout(&given("timeout", f64::INFINITY)), None);
        assert_eq!(timeout(&given("timeout", 0.5)), Some(Duration::from_millis(500)));
    }
}
