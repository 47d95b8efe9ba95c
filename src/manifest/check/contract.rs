//! Checks of contract tests.

use std::collections::BTreeSet;
use std::time::Duration;

use regex::RegexBuilder;

use super::Check;
use crate::resource::contract::ContractTest;

/// The longest that the call of one test may take: publishing waits for it.
const LONGEST: Duration = Duration::from_mins(5);
/// Tests of one resource: they run one after the other before it is published.
const MOST: usize = 50;
/// Bytes of a compiled expression.
const MAX_REGEX: usize = 1 << 20;

/// `of_server`: whether each test has to say which tool it calls.
pub(super) fn tests(check: &mut Check<'_, '_>, tests: &[ContractTest], of_server: bool) {
    if tests.len() > MOST {
        let message = format!("there are {} tests, and {MOST} are allowed", tests.len());
        check.invalid(&["tests"], message, "keep those that tell whether it works");
    }
    let mut names = BTreeSet::new();
    for (at, test) in tests.iter().enumerate() {
        let at = at.to_string();
        let field = |name| ["tests", at.as_str(), name];
        if test.name.trim().is_empty() {
            check.invalid(&field("name"), "the test has no name", "say what is tested");
        } else if !names.insert(&test.name) {
            let message = format!("there is another test `{}`", test.name);
            check.invalid(&field("name"), message, "give each test a name of its own");
        }
        match (&test.tool, of_server) {
            (None, true) => {
                let message = format!("the test `{}` does not say which tool it calls", test.name);
                check.invalid(&["tests", &at], message, "add `tool: NAME`");
            }
            (Some(_), false) => {
                let message = "a `Tool` is one tool, which its tests need not name";
                check.invalid(&field("tool"), message, "remove the field");
            }
            _ => {}
        }
        if test.timeout.is_some_and(|limit| limit.0.is_zero() || limit.0 > LONGEST) {
            check.invalid(&field("timeout"), "a test takes at most 5 min", "write `30s` or the like");
        }
        if let Some(pattern) = &test.expect.matches
            && let Err(error) = RegexBuilder::new(pattern).size_limit(MAX_REGEX).build()
        {
            let line = error.to_string();
            let line = line.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let message = format!("`{pattern}` is not a regular expression: {line}");
            check.invalid(&["tests", &at, "expect", "matches"], message, "correct it, or use `contains`");
        }
    }
}
