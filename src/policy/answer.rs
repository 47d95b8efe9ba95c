//! What rules answer to their part of a decision.

use std::collections::BTreeSet;

use regorus::{Engine, Value};

use super::compile::{self, Compiled};
use super::limit::LIMITS;
use super::{Answer, Cause, Decision, MAX_MESSAGE, MAX_REFUSALS, Recorded, Refusal};
use crate::resource::ResourceId;
use crate::resource::policy::Enforcement;

/// Whose rules answer.
#[derive(Clone, Copy)]
pub(super) struct Voice<'a> {
    pub(super) id: &'a ResourceId,
    pub(super) package: &'a str,
    pub(super) enforcement: Enforcement,
}

impl Voice<'_> {
    pub(super) fn rule(&self, answer: &str) -> String {
        format!("data.{}.{answer}", self.package)
    }

    fn refusal(&self, answer: &str, cause: Cause, message: Option<String>) -> Refusal {
        Refusal { policy: self.id.clone(), rule: self.rule(answer), cause, message }
    }
}

/// One question to all policies: what they have said so far.
pub(super) struct Round<'h> {
    decision: Decision,
    /// The first rule `allow` there is.
    first: Option<Refusal>,
    /// Whether any `allow` holds.
    holds: bool,
    /// Where to write what each rule answers, when somebody wants to know.
    heard: Option<&'h mut Vec<Answer>>,
}

impl<'h> Round<'h> {
    pub(super) fn new(heard: Option<&'h mut Vec<Answer>>) -> Self {
        let decision = Decision { visible: true, ..Decision::default() };
        Self { decision, first: None, holds: false, heard }
    }

    /// Refuses also when there are `allow` rules, and none holds.
    pub(super) fn settle(mut self) -> Decision {
        if let Some(refusal) = self.first.filter(|_| !self.holds) {
            push(&mut self.decision.refusals, refusal);
        }
        self.decision.allowed = self.decision.refusals.is_empty();
        self.decision
    }

    /// Something of a policy could not be evaluated.
    pub(super) fn fail(&mut self, voice: &Voice<'_>, answer: &str, message: &str) {
        let message = Some(bounded(message));
        self.refuse(voice, voice.refusal(answer, Cause::Failed, message));
    }

    /// A policy as a whole could not be asked.
    pub(super) fn fail_whole(&mut self, voice: &Voice<'_>, message: &str) {
        let (rule, cause) = (format!("data.{}", voice.package), Cause::Failed);
        if let Some(heard) = &mut self.heard {
            heard.push(Answer {
                policy: voice.id.clone(),
                rule: rule.clone(),
                enforcement: voice.enforcement,
                value: None,
                error: Some(message.to_owned()),
                printed: Vec::new(),
            });
        }
        let message = Some(bounded(message));
        self.refuse(voice, Refusal { policy: voice.id.clone(), rule, cause, message });
    }

    /// Notes and takes what one rule said.
    pub(super) fn heard(
        &mut self,
        voice: &Voice<'_>,
        answer: &str,
        said: Result<Value, String>,
        printed: Vec<String>,
    ) {
        self.note(voice, answer, &said, printed);
        match said {
            Ok(value) => self.take(voice, answer, &value),
            Err(message) => self.fail(voice, answer, &message),
        }
    }

    fn refuse(&mut self, voice: &Voice<'_>, refusal: Refusal) {
        match voice.enforcement {
            Enforcement::Deny => push(&mut self.decision.refusals, refusal),
            Enforcement::Audit => push(&mut self.decision.audited, refusal),
        }
    }

    fn note(&mut self, voice: &Voice<'_>, answer: &str, said: &Result<Value, String>, printed: Vec<String>) {
        let Some(heard) = &mut self.heard else { return };
        let value = said.as_ref().ok().filter(|value| !matches!(value, Value::Undefined));
        heard.push(Answer {
            policy: voice.id.clone(),
            rule: voice.rule(answer),
            enforcement: voice.enforcement,
            value: value.and_then(|value| serde_json::to_value(value).ok()),
            error: said.as_ref().err().cloned(),
            printed,
        });
    }

    /// Takes what one rule says.
    fn take(&mut self, voice: &Voice<'_>, answer: &str, value: &Value) {
        let audit = voice.enforcement == Enforcement::Audit;
        let understood = match answer {
            "deny" => {
                for message in denials(value) {
                    self.refuse(voice, voice.refusal(answer, Cause::Denied, message));
                }
                true
            }
            "allow" if audit => {
                if !is_true(value) {
                    self.refuse(voice, voice.refusal(answer, Cause::NotAllowed, None));
                }
                true
            }
            "allow" => {
                self.holds |= is_true(value);
                self.first.get_or_insert_with(|| voice.refusal(answer, Cause::NotAllowed, None));
                true
            }
            "visible" => {
                self.decision.visible &= audit || *value != Value::Bool(false);
                true
            }
            _ if audit || matches!(value, Value::Undefined) => true,
            "allowed_runners" => runners(value, &mut self.decision),
            "recorded" => recorded(value, &mut self.decision),
            _ => limits(value, &mut self.decision),
        };
        if !understood {
            self.fail(voice, answer, &format!("`{answer}` has a form that is not understood"));
        }
    }
}

/// Asks one policy everything it answers.
pub(super) fn ask(policy: &Compiled, engine: &mut Engine, input: &Value, round: &mut Round<'_>) {
    engine.set_input(input.clone());
    let voice = policy.voice();
    for answer in &policy.answers {
        let said = engine
            .eval_rule(voice.rule(answer))
            .map_err(|error| compile::message(&error.to_string()).to_owned());
        // What rules print is for whoever writes them; it is gathered so that it does not fill the log.
        let printed = compile::printed(&policy.source, engine.take_prints().unwrap_or_default());
        round.heard(&voice, answer, said, printed);
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

/// Narrows the arguments that may be recorded to those this policy names, too.
fn recorded(value: &Value, decision: &mut Decision) -> bool {
    let named: Option<BTreeSet<String>> = match value {
        Value::Bool(true) => {
            decision.recorded.get_or_insert(Recorded::All);
            return true;
        }
        Value::Bool(false) => Some(BTreeSet::new()),
        Value::Set(names) => names.iter().map(text).collect(),
        Value::Array(names) => names.iter().map(text).collect(),
        _ => None,
    };
    let Some(mut named) = named else { return false };
    if let Some(Recorded::Only(before)) = &decision.recorded {
        named.retain(|name| before.contains(name));
    }
    decision.recorded = Some(Recorded::Only(named));
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
        // One that nobody obeys would be a promise.
        if !LIMITS.contains(&name.as_str()) || limit <= 0.0 {
            return false;
        }
        let lowest = decision.limits.entry(name).or_insert(limit);
        *lowest = lowest.min(limit);
    }
    true
}
