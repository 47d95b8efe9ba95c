//! `policy test`: runs rules that test rules.

use std::fmt::Write as _;
use std::path::PathBuf;

use regex::Regex;
use serde_json::json;

use super::modules;
use crate::cli::Context;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::policy::suite::{Coverage, Outcome, Report, Suite};

/// Run the tests of rules: every rule `test_…` of every file `*_test.rego`.
///
/// Reads `*.rego` and the rules inside manifests. A test passes when its rule is true. What a revision
/// would be refused for is an error here, too: unsafe negation, recursion, functions that are not there.
/// A rule `todo_test_…` is skipped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib policy test
  toolcrib policy test policies --run kubectl -v
  toolcrib policy test policies --coverage --threshold 90
  toolcrib policy test --output json | jq '.tests[] | select(.outcome != \"pass\")'")]
pub(in crate::cli) struct Test {
    /// Files and folders [default: this folder].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only tests whose name (`package.test_name`) matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    run: Option<Regex>,
    /// Name the tests that pass, too, and what they print.
    #[arg(long, short)]
    verbose: bool,
    /// Tell which lines of the rules no test reaches.
    #[arg(long)]
    coverage: bool,
    /// Fail when less than this many percent of the lines are reached.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    threshold: Option<u8>,
}

impl Test {
    pub(super) fn execute(self, context: &Context) -> CliResult<Exit> {
        let modules = modules::find(&self.paths)?;
        let mut suite = match Suite::compile(modules) {
            Ok(suite) => suite,
            Err(found) => {
                let value = json!({"tests": [], "diagnostics": found});
                let text = || found.iter().fold(String::new(), |text, one| text + &format!("{one}\n\n"));
                context.out.print(&value, text)?;
                return Err(CliError::failure("the rules do not compile"));
            }
        };
        let wanted = |name: String| self.run.as_ref().is_none_or(|run| run.is_match(&name));
        let tests: Vec<_> = suite.tests().iter().filter(|test| wanted(test.full_name())).cloned().collect();
        if tests.is_empty() {
            let hint = match (&self.run, suite.tests().len()) {
                (Some(_), count @ 1..) => format!("none of {count} tests matches `--run`"),
                _ => "write a rule `test_…` in a file `*_test.rego`".to_owned(),
            };
            return Err(CliError::failure("there is no test").hint(hint));
        }
        let reports: Vec<Report> = tests.iter().map(|test| suite.run(test)).collect();
        let coverage = (self.coverage || self.threshold.is_some()).then(|| suite.coverage());
        let count = |outcome| reports.iter().filter(|report| report.outcome == outcome).count();
        let mut value = json!({
            "tests": reports,
            "passed": count(Outcome::Pass),
            "failed": count(Outcome::Fail),
            "errors": count(Outcome::Error),
            "skipped": count(Outcome::Skipped),
        });
        if let Some(files) = &coverage {
            value["coverage"] = json!({"files": files, "percent": Coverage::percent(files)});
        }
        context.out.print(&value, || {
            let covered = coverage.as_deref().map(reached).unwrap_or_default();
            listed(&reports, self.verbose) + &covered
        })?;
        if count(Outcome::Fail) + count(Outcome::Error) > 0 {
            return Ok(Exit::Failure);
        }
        match (self.threshold, coverage) {
            (Some(least), Some(files)) if Coverage::percent(&files) < f64::from(least) => {
                let reached = Coverage::percent(&files);
                Err(CliError::failure(format!(
                    "tests reach {reached:.1} % of the lines, less than {least} %"
                ))
                .hint("write a test for the lines that are not reached"))
            }
            _ => Ok(Exit::Success),
        }
    }
}

fn listed(reports: &[Report], verbose: bool) -> String {
    let mut text = String::new();
    let mut file = None;
    for report in reports {
        let word = match report.outcome {
            Outcome::Pass => "PASS",
            Outcome::Fail => "FAIL",
            Outcome::Error => "ERROR",
            Outcome::Skipped => "SKIP",
        };
        if report.outcome == Outcome::Pass && !verbose {
            continue;
        }
        // Writing to a string cannot fail.
        if file.replace(&report.test.place.file) != Some(&report.test.place.file) {
            let _ = writeln!(text, "{}", report.test.place.file);
        }
        let _ = writeln!(text, "  {word:<5} {}.{}", report.test.package, report.test.name);
        if let Some(error) = &report.error {
            let _ = writeln!(text, "        {error}");
        }
        if let Some(stopped) = &report.stopped {
            let at = if report.outcome == Outcome::Fail { "not true at" } else { "at" };
            let _ = writeln!(text, "        {at} line {}: {}", stopped.line, stopped.text);
        }
        for line in &report.printed {
            let _ = writeln!(text, "        print: {line}");
        }
    }
    let count = |outcome| reports.iter().filter(|report| report.outcome == outcome).count();
    let mut counts = vec![format!("{} passed", count(Outcome::Pass))];
    for (outcome, word) in
        [(Outcome::Fail, "failed"), (Outcome::Error, "with errors"), (Outcome::Skipped, "skipped")]
    {
        if count(outcome) > 0 {
            counts.push(format!("{} {word}", count(outcome)));
        }
    }
    let _ = writeln!(text, "{}", counts.join(", "));
    text
}

/// Coverage for people: one line a file.
fn reached(files: &[Coverage]) -> String {
    let mut text = String::from("\n");
    let width = files.iter().map(|file| file.file.as_str().chars().count()).max().unwrap_or(0).max(5);
    for file in files {
        let percent = Coverage::percent(std::slice::from_ref(file));
        let missed = match file.not_covered.as_slice() {
            [] => String::new(),
            lines => format!("   not reached: {}", ranges(lines)),
        };
        let _ = writeln!(text, "{:<width$} {percent:6.1} %{missed}", file.file.as_str());
    }
    let _ = writeln!(text, "{:<width$} {:6.1} %", "total", Coverage::percent(files));
    text
}

/// `3, 5-8`.
fn ranges(lines: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => parts.push((*line, *line)),
        }
    }
    let shown = parts.iter().map(
        |(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        },
    );
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_follow_each_other_are_a_range() {
        assert_eq!(ranges(&[1, 3, 4, 5, 9, 10]), "1, 3-5, 9-10");
        assert_eq!(ranges(&[7]), "7");
    }
}
