//! Rules that test rules: `test_*` of `*_test.rego`, as `opa test` knows them.
//!
//! Input: modules. Output: what each test came to, and which lines of the others were reached.
//! Invariants: what the daemon would refuse is refused here too; a test passes when its rule is true
//! and in no other way. Not here: which files.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regorus::unstable::{Module as Parsed, Ref, Rule};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use serde::Serialize;

use super::compile::{self, Reporter};
use super::{Module, Source, bound, check};
use crate::manifest::{Diagnostic, Place, RepoPath};
use crate::resource::policy::{Enforcement, RegoVersion};
use crate::resource::{Kind, Name, ResourceId};

/// What ends the name of a file of tests.
const TESTS: &str = "_test.rego";
/// What the name of a test begins with, and of one that is still to be made true.
const TEST: &str = "test_";
const LATER: &str = "todo_test_";
/// Of one test, which asks many questions; each alone has far less where it decides.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Modules with their tests, compiled together.
pub struct Suite {
    engine: Engine,
    source: Source,
    tests: Vec<Test>,
    /// Lines of each module that some test reached.
    covered: BTreeMap<usize, BTreeSet<u32>>,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Test {
    pub package: String,
    pub name: String,
    pub place: Place,
    /// The last line it has.
    #[serde(skip)]
    last: u32,
    #[serde(skip)]
    module: usize,
}

/// What a test came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    #[serde(flatten)]
    pub test: Test,
    pub outcome: Outcome,
    /// Of a failure: the last line of the test that was reached, with its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// Why it could not be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What `print` said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub printed: Vec<String>,
}

/// Where a test failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    pub line: u32,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Pass,
    /// Its rule is undefined or not true.
    Fail,
    Error,
    /// Its name begins with `todo_test_`.
    Skipped,
}

/// The lines of one file that tests reached and did not reach. Only lines that decide are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    pub file: RepoPath,
    pub covered: Vec<u32>,
    pub not_covered: Vec<u32>,
}

impl Coverage {
    /// Of several files together, in percent; everything where nothing decides.
    pub fn percent(files: &[Self]) -> f64 {
        let count = |lines: fn(&Self) -> usize| files.iter().map(lines).sum::<usize>();
        let (reached, missed) = (count(|file| file.covered.len()), count(|file| file.not_covered.len()));
        let part = |lines: usize| u32::try_from(lines).map_or(f64::MAX, f64::from);
        if missed == 0 { 100.0 } else { 100.0 * part(reached) / part(reached + missed) }
    }
}

/// Whether a file of this name holds tests.
pub fn holds_tests(file: &RepoPath) -> bool {
    file.as_str().ends_with(TESTS)
}

impl Suite {
    /// Each module is Rego v1 or, where it reads only so, v0.
    ///
    /// # Errors
    /// Everything that is wrong with any module.
    pub fn compile(modules: Vec<Module>) -> Result<Self, Vec<Diagnostic>> {
        let mut engine = compile::engine(RegoVersion::V1);
        engine.set_enable_coverage(true);
        let (limit, check_interval) = (TIME_LIMIT, compile::CHECK_EVERY);
        engine.set_execution_timer_config(ExecutionTimerConfig { limit, check_interval });
        let source = source(modules)?;
        let mut versions = BTreeMap::new();
        let mut found = Vec::new();
        for at in 0..source.modules.len() {
            match add(&mut engine, &source, at) {
                Ok(version) => drop(versions.insert(at, version)),
                Err(diagnostic) => found.push(*diagnostic),
            }
        }
        let reporter = Reporter { source: &source };
        if found.is_empty() {
            let version = |name: &str| versions.get(&compile::number(name)).copied().unwrap_or_default();
            let findings = check::check(engine.get_modules(), &version);
            found.extend(findings.into_iter().map(|finding| reporter.finding(finding)));
        }
        let tests = tests(engine.get_modules(), &source);
        if found.is_empty() {
            // Compiles everything, so that what is wrong has a place; tests would only say that they fail.
            for test in &tests {
                if let Err(error) = engine.compile_with_entrypoint(&test.rule().into()) {
                    found.push(reporter.error(&error.to_string(), test.module));
                }
            }
        }
        if found.is_empty() {
            return Ok(Self { engine, source, tests, covered: BTreeMap::new() });
        }
        for diagnostic in &mut found {
            diagnostic.resource = None;
        }
        found.sort();
        found.dedup();
        Err(found)
    }

    /// All tests, in the order of their files and lines.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// Runs one of [`Suite::tests`].
    pub fn run(&mut self, test: &Test) -> Report {
        let mut report = Report {
            test: test.clone(),
            outcome: Outcome::Skipped,
            stopped: None,
            error: None,
            printed: Vec::new(),
        };
        if test.name.starts_with(LATER) {
            return report;
        }
        self.engine.clear_coverage_data();
        match self.engine.eval_rule(test.rule()) {
            Ok(Value::Bool(true)) => report.outcome = Outcome::Pass,
            Ok(_) => report.outcome = Outcome::Fail,
            Err(error) => {
                report.outcome = Outcome::Error;
                report.error = Some(compile::message(&error.to_string()).to_owned());
            }
        }
        report.printed = compile::printed(&self.source, self.engine.take_prints().unwrap_or_default());
        let reached = self.reached();
        if report.outcome != Outcome::Pass {
            let lines = reached.get(&test.module);
            report.stopped = lines.and_then(|lines| self.stopped(test, lines));
        }
        for (module, lines) in reached {
            self.covered.entry(module).or_default().extend(lines);
        }
        report
    }

    /// Lines that the test run last reached, by module.
    fn reached(&self) -> BTreeMap<usize, BTreeSet<u32>> {
        let files = self.engine.get_coverage_report().map(|report| report.files).unwrap_or_default();
        files.into_iter().map(|file| (compile::number(&file.path), file.covered)).collect()
    }

    fn stopped(&self, test: &Test, reached: &BTreeSet<u32>) -> Option<Stopped> {
        let module = self.source.modules.get(test.module)?;
        let first = test.place.line + 1 - module.line;
        let line = *reached.range(first..=test.last).next_back()?;
        let said = module.text.lines().nth(line.saturating_sub(1) as usize)?.trim();
        Some(Stopped { line: line + module.line - 1, text: said.to_owned() })
    }

    /// What the tests run so far reached, of every module that holds no tests.
    pub fn coverage(&mut self) -> Vec<Coverage> {
        let nothing = BTreeSet::new();
        let mut files = Vec::new();
        let parsed = self.engine.get_modules();
        for (at, module) in self.source.modules.iter().enumerate() {
            if holds_tests(&module.file) {
                continue;
            }
            let covered = self.covered.get(&at).unwrap_or(&nothing);
            let here = parsed.iter().filter(|parsed| number(parsed) == at);
            let all: BTreeSet<u32> = here.flat_map(|parsed| deciding(parsed)).collect();
            let shown = |line: &u32| line + module.line - 1;
            files.push(Coverage {
                file: module.file.clone(),
                covered: all.intersection(covered).map(shown).collect(),
                not_covered: all.difference(covered).map(shown).collect(),
            });
        }
        files.retain(|file| !file.covered.is_empty() || !file.not_covered.is_empty());
        files.sort_by(|a, b| a.file.cmp(&b.file));
        files
    }
}

impl Test {
    fn rule(&self) -> String {
        format!("data.{}.{}", self.package, self.name)
    }

    /// `toolcrib.images_test.test_pinned`, as `--run` is matched against it.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.package, self.name)
    }
}

/// The modules as one source, which knows where everything stands.
fn source(modules: Vec<Module>) -> Result<Source, Vec<Diagnostic>> {
    let name = Name::parse("tests").map_err(|error| vec![Diagnostic::error("rego", error.to_string())])?;
    let root = RepoPath::parse("").unwrap_or_else(|| modules[0].file.clone());
    Ok(Source {
        id: ResourceId::new(Kind::Policy, name),
        place: Place { file: root, line: 1, column: 1 },
        package: String::new(),
        version: RegoVersion::V1,
        modules,
        opa: None,
        points: Vec::new(),
        enforcement: Enforcement::Deny,
    })
}

/// Adds a module, in the version of Rego it reads in.
fn add(engine: &mut Engine, source: &Source, at: usize) -> Result<RegoVersion, Box<Diagnostic>> {
    let reporter = Reporter { source };
    let Some(module) = source.modules.get(at) else { return Ok(RegoVersion::V1) };
    if let Err(message) = bound::check(&module.text) {
        let hint = Some("split the module".to_owned());
        return Err(reporter.at(at, 1, 1, ("rego-too-large", message, hint)).into());
    }
    let mut first = None;
    for version in [RegoVersion::V1, RegoVersion::V0] {
        engine.set_rego_v0(version == RegoVersion::V0);
        match engine.add_policy(compile::module_name(source, at), module.text.to_string()) {
            Ok(_) => return Ok(version),
            Err(error) => drop(first.get_or_insert_with(|| reporter.error(&error.to_string(), at))),
        }
    }
    Err(first.unwrap_or_else(|| Diagnostic::error("rego", "the module cannot be read")).into())
}

/// The number of a module among those of its source.
fn number(module: &Parsed) -> usize {
    compile::number(module.package.refr.span().source.get_path())
}

fn tests(modules: &[Ref<Parsed>], source: &Source) -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    for parsed in modules {
        let at = number(parsed);
        let Some(module) = source.modules.get(at).filter(|module| holds_tests(&module.file)) else {
            continue;
        };
        for rule in &parsed.policy {
            let Some(name) = check::rule_name(rule) else { continue };
            let package = check::package_of(parsed);
            let known = tests.iter_mut().find(|test| test.name == name && test.package == package);
            if let Some(test) = known.filter(|test| test.module == at) {
                test.last = test.last.max(last(rule));
            } else if name.starts_with(TEST) || name.starts_with(LATER) {
                let head = check::rule_head(rule).span();
                let line = head.line + module.line - 1;
                let place = Place { file: module.file.clone(), line, column: module.indent + head.col };
                tests.push(Test { package, name, place, last: last(rule), module: at });
            }
        }
    }
    tests.sort_by(|a, b| a.place.cmp(&b.place));
    tests
}

/// The last line of a rule.
fn last(rule: &Rule) -> u32 {
    let lines = check::expressions_of(rule).into_iter().map(|expr| expr.span().line);
    lines.max().unwrap_or_else(|| check::rule_head(rule).span().line)
}

/// Lines of a module that decide something, as coverage counts them: those of the expressions in
/// bodies and of values.
fn deciding(module: &Parsed) -> BTreeSet<u32> {
    let rules = module.policy.iter();
    rules.flat_map(|rule| check::expressions_of(rule)).map(|expr| expr.span().line).collect()
}
