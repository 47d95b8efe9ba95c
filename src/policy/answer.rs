//! One policy's rules to its part of a decision.

use std::collections::BTreeSet;

use regorus::{Engine, Value};

use super::compile::{self, Compiled};
use super::{Cause, Decision, MAX_MESSAGE, MAX_REFUSALS, Refusal};
use crate::resource::policy::Enforcement;

/// What is known of `allow` over all policies.
#[derive(Default)]
pub(super) struct Tally {
    /// The first rule `allow` there is.
    first: Option<Refusal>,
    holds: bool,
}

impl Tally {
    /// Refuses when there are `allow` rules, and none holds.
    pub(super) fn settle(self, decision: &mut Decision) {
        if let Some(refusal) = self.first.filter(|_| !self.holds) {
            push(&mut decision.refusals, refusal);
        }
    }
}

/// Asks one policy everything it answers.
pub(super) fn ask(
    policy: &Compiled,
    engine: &mut Engine,
    input: &Value,
    decision: &mut Decision,
    tally: &mut Tally,
) {
    engine.set_input(input.clone());
    for answer in &policy.answers {
        let rule = policy.rule(answer);
        let refusal =
            |cause, message| Refusal { policy: policy.source.id.clone(), rule: rule.clone(), cause, message };
        let value = match engine.eval_rule(rule.clone()) {
            Ok(value) => value,
            Err(error) => {
                refuse(policy, decision, policy.failed(answer, compile::message(&error.to_string())));
                continue;
            }
        };
        let audit = policy.source.enforcement == Enforcement::Audit;
        let understood = match *answer {
            "deny" => {
                for message in denials(&value) {
                    refuse(policy, decision, refusal(Cause::Denied, message));
                }
                true
            }
            "allow" if audit => {
                if !is_true(&value) {
                    refuse(policy, decision, refusal(Cause::NotAllowed, None));
                }
                true
            }
            "allow" => {
                tally.holds |= is_true(&value);
                tally.first.get_or_insert_with(|| refusal(Cause::NotAllowed, None));
                true
            }
            "visible" => {
                decision.visible &= audit || value != Value::Bool(false);
                true
            }
            _ if audit || matches!(value, Value::Undefined) => true,
            "allowed_runners" => runners(&value, decision),
            _ => limits(&value, decision),
        };
        if !understood {
            let message = format!("`{answer}` has a form that is not understood");
            refuse(policy, decision, policy.failed(answer, &message));
        }
    }
    // What rules print is for whoever writes them; it is gathered so that it does not fill the log.
    drop(engine.take_prints());
}

fn refuse(policy: &Compiled, decision: &mut Decision, refusal: Refusal) {
    match policy.source.enforcement {
        Enforcement::Deny => push(&mut decision.refusals, refusal),
        Enforcement::Audit => push(&mut decision.audited, refusal),
    }
}

fn push(refusals: &mut Vec<Refusal>, refusal: Refusal) {
    if refusals.len() < MAX_REFUSALS {
        refusals.push(refusal);
    }
}

fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true)
}

/// What a `deny` says: nothing, one refusal without words, or messages.
fn denials(value: &Value) -> Vec<Option<String>> {
    match value {
        Value::Undefined | Value::Null | Value::Bool(false) => Vec::new(),
        Value::Set(messages) => messages.iter().take(MAX_REFUSALS).map(message).collect(),
        Value::Array(messages) => messages.iter().take(MAX_REFUSALS).map(message).collect(),
        Value::Object(messages) => messages.keys().take(MAX_REFUSALS).map(message).collect(),
        other => vec![message(other)],
    }
}

fn message(value: &Value) -> Option<String> {
    match value {
        Value::Bool(_) => None,
        Value::String(text) => Some(bounded(text)),
        Value::Object(object) => {
            let named = ["msg", "message"].into_iter().find_map(|key| object.get(&Value::from(key)));
            Some(
                named
                    .and_then(|text| text.as_string().ok())
                    .map_or_else(|| bounded(&value.to_string()), |text| bounded(text)),
            )
        }
        other => Some(bounded(&other.to_string())),
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).collect()
}

/// Narrows the runners to those this policy names, too.
fn runners(value: &Value, decision: &mut Decision) -> bool {
    let names: Option<BTreeSet<String>> = match value {
        Value::Set(names) => names.iter().map(text).collect(),
        Value::Array(names) => names.iter().map(text).collect(),
        _ => None,
    };
    let Some(mut names) = names else { return false };
    if let Some(before) = &decision.allowed_runners {
        names.retain(|name| before.contains(name));
    }
    decision.allowed_runners = Some(names);
    true
}

fn text(value: &Value) -> Option<String> {
    value.as_string().ok().map(ToString::to_string)
}

/// Lowers the limits to those this policy gives.
fn limits(value: &Value, decision: &mut Decision) -> bool {
    let Value::Object(limits) = value else { return false };
    for (name, limit) in limits.iter() {
        let (Some(name), Ok(limit)) = (text(name), limit.as_f64()) else { return false };
        let lowest = decision.limits.entry(name).or_insert(limit);
        *lowest = lowest.min(limit);
    }
    true
}
