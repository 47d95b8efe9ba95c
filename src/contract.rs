//! What a tool answered against what its contract tests expect.
//!
//! Input: declared tests, and results as tools gave them. Output: [`Report`]s. Invariant: a test passes
//! only when everything it names holds. Not here: calling anything, which [`crate::reconcile`] does
//! before a version is published, and the command `test`.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use regex::Regex;
use serde::Serialize;
use serde_json::Value;

use crate::desired::{Desired, Digests};
use crate::lock::Definition;
use crate::manifest::suggest::nearest;
use crate::manifest::{Declared, Diagnostic, Manifest};
use crate::resource::contract::{ContractTest, Expectation};
use crate::resource::{Digest, ResourceId};
use crate::schema::{SchemaError, Schemas};

/// Of the call of one test, where it says nothing else.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of an answer that a difference shows.
const MAX_SHOWN: usize = 400;

/// What a test came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub resource: ResourceId,
    pub test: String,
    /// Of a server: which of its tools was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    pub passed: bool,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
}

/// The cause of a version that is not published: some of its tests failed.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Failed {
    /// Of all its tests.
    pub reports: Vec<Report>,
}

impl fmt::Display for Failed {
    /// The first test that failed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.reports.iter().find(|report| !report.passed);
        match first {
            Some(first) => write!(f, "`{}`: {}", first.test, first.difference.as_deref().unwrap_or("failed")),
            None => f.write_str("none failed"),
        }
    }
}

impl Failed {
    /// Every test that failed, a line or more each.
    pub fn detail(&self) -> String {
        let failed = self.reports.iter().filter(|report| !report.passed);
        let lines = failed
            .map(|report| format!("{}: {}", report.test, report.difference.as_deref().unwrap_or("failed")));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// What tests of a version are known by.
pub fn digest(digests: &Digests, tests: &[ContractTest]) -> Digest {
    Digest::of("contract", &(digests.workload, digests.offer, tests))
}

/// How long the call of a test may take.
pub fn limit(test: &ContractTest) -> Duration {
    test.timeout.map_or(TIMEOUT, |period| period.0)
}

/// A test of a resource and the result of its call (`CallToolResult` as JSON), or why there is none.
///
/// `shown`: whether what was answered may be told; not where the answer may hold a secret.
pub fn judge(
    resource: &ResourceId,
    test: &ContractTest,
    result: Result<&str, String>,
    shown: bool,
) -> Report {
    let difference = match result {
        Ok(result) => compare(&test.expect, result, shown).err(),
        Err(why) => Some(why),
    };
    Report {
        resource: resource.clone(),
        test: test.name.clone(),
        tool: test.tool.clone(),
        passed: difference.is_none(),
        difference,
    }
}

/// The parts of a result that tests speak of.
struct Answered {
    text: String,
    structured: Option<Value>,
    error: bool,
}

fn read(result: &str) -> Option<Answered> {
    let result: Value = serde_json::from_str(result).ok()?;
    let error = result["isError"] == true;
    let blocks = result["content"].as_array().map_or(&[][..], Vec::as_slice);
    // What a command complains of is no part of what it answers, unless it failed.
    let heard = |block: &&Value| error || block["_meta"]["dev.toolcrib/stream"] != "stderr";
    let texts = blocks.iter().filter(heard).filter_map(|block| block["text"].as_str());
    let text = texts.collect::<Vec<_>>().join("\n");
    Some(Answered { text, structured: result.get("structuredContent").cloned(), error })
}

fn compare(expect: &Expectation, result: &str, shown: bool) -> Result<(), String> {
    let Expectation { text, contains, matches, json, structured, error } = expect;
    let answered = read(result).ok_or("the result is not JSON")?;
    let tell = |answer: &str| {
        if shown { excerpt(answer) } else { "not shown, since it may hold a secret".to_owned() }
    };
    let given = || tell(&answered.text);
    match (error, answered.error) {
        (false, true) => return Err(format!("it failed: {}", given())),
        (true, false) => return Err(format!("an error is expected; answered: {}", given())),
        _ => {}
    }
    let found = answered.text.trim_end();
    if let Some(text) = text.as_deref().map(str::trim_end).filter(|text| *text != found) {
        return Err(format!("expected the text {}; answered: {}", excerpt(text), given()));
    }
    if let Some(part) = contains.as_deref().filter(|part| !found.contains(part)) {
        return Err(format!("expected a text with {}; answered: {}", excerpt(part), given()));
    }
    if let Some(pattern) = matches {
        let regex = Regex::new(pattern).map_err(|_| format!("`{pattern}` is not a regular expression"))?;
        if !regex.is_match(found) {
            return Err(format!("expected a text that matches `{pattern}`; answered: {}", given()));
        }
    }
    if let Some(json) = json {
        match serde_json::from_str::<Value>(found) {
            Ok(value) if value == *json => {}
            Ok(value) => return Err(unequal("JSON", json, &tell(&value.to_string()))),
            Err(_) => return Err(format!("expected JSON; answered: {}", given())),
        }
    }
    match (structured, &answered.structured) {
        (Some(wanted), Some(value)) if wanted != value => {
            Err(unequal("structured content", wanted, &tell(&value.to_string())))
        }
        (Some(wanted), None) => Err(unequal("structured content", wanted, "none")),
        _ => Ok(()),
    }
}

fn unequal(what: &str, wanted: &Value, answered: &str) -> String {
    format!("expected the {what} {}; answered: {answered}", excerpt(&wanted.to_string()))
}

/// In quotes, in one line, and not too long.
fn excerpt(text: &str) -> String {
    let mut shown: String = text.trim_end().chars().take(MAX_SHOWN).collect();
    if text.trim_end().chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Tests whose arguments do not fit the tool they call, as far as its schema is declared. A test that
/// expects an error may be about just that.
pub fn check(manifest: &Manifest, desired: &Desired) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let schemas = Schemas::default();
    for tool in desired.tools.values().filter(|tool| !tool.tests.is_empty()) {
        let Some(declared) = manifest.resources.get(&tool.id) else { continue };
        let Some(schema) = input_schema(&tool.definition) else { continue };
        for (at, test) in tool.tests.iter().enumerate().filter(|(_, test)| !test.expect.error) {
            let arguments = Value::Object(test.arguments.clone());
            let Err(SchemaError::Arguments(why)) = schemas.check(&schema, &arguments) else { continue };
            let diagnostic = other_arguments(test, &why);
            found.push(declared.point(diagnostic, &["spec", "tests", &at.to_string(), "arguments"]));
        }
    }
    for server in desired.servers.values().filter(|server| !server.tests.is_empty()) {
        let lock = manifest.locks.get(&server.id).and_then(|lock| lock.offer.as_ref());
        if let (Some(declared), Some(offer)) = (manifest.resources.get(&server.id), lock) {
            found.extend(locked(declared, &server.tests, &offer.tools, &schemas));
        }
    }
    found
}

fn other_arguments(test: &ContractTest, why: &str) -> Diagnostic {
    let message = format!("the test `{}` calls with other arguments than the tool takes: {why}", test.name);
    Diagnostic::error("contract-arguments", message)
        .hint("correct the arguments, or expect an error with `expect: {error: true}`")
}

/// Tests of a server that its lock says cannot pass: of a tool that it does not list, or with arguments
/// that the tool does not take.
fn locked(
    declared: &Declared,
    tests: &[ContractTest],
    tools: &[Definition],
    schemas: &Schemas,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (at, test) in tests.iter().enumerate() {
        let (at, named) = (at.to_string(), test.tool.as_deref().unwrap_or_default());
        let Some(tool) = tools.iter().find(|tool| *tool.name == *named) else {
            let hint = match nearest(named, tools.iter().map(|tool| &*tool.name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("if it is new, write the lock anew: `toolcrib lock {}`", declared.metadata.name)
                }
            };
            let message =
                format!("the test `{}` calls `{named}`, which the server's lock does not list", test.name);
            let diagnostic = Diagnostic::error("contract-tool", message).hint(hint);
            found.push(declared.point(diagnostic, &["spec", "tests", &at, "tool"]));
            continue;
        };
        let arguments = Value::Object(test.arguments.clone());
        let Some(schema) = input_schema(&tool.text).filter(|_| !test.expect.error) else { continue };
        if let Err(SchemaError::Arguments(why)) = schemas.check(&schema, &arguments) {
            found.push(declared.point(other_arguments(test, &why), &["spec", "tests", &at, "arguments"]));
        }
    }
    found
}

/// The schema of a definition's arguments, as text.
pub fn input_schema(definition: &str) -> Option<String> {
    let definition: Value = serde_json::from_str(definition).ok()?;
    Some(definition.get("inputSchema")?.to_string())
}
