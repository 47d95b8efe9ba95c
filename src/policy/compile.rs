//! One policy's modules to an interpreter, or to diagnostics.

use std::num::NonZeroU32;
use std::time::Duration;

use regorus::Engine;
use regorus::utils::limits::ExecutionTimerConfig;

use super::answer::Voice;
use super::{Source, bound, check, hint};
use crate::manifest::{Diagnostic, Place, Severity};
use crate::resource::policy::{Point, RegoVersion};

/// Rules that answer, as [`super::Decision`] has their answers.
pub(super) const ANSWERS: [&str; 6] = ["deny", "allow", "visible", "allowed_runners", "limits", "recorded"];

/// Of one rule. Decisions take microseconds; what takes this long is stuck in a loop over data.
const TIME_LIMIT: Duration = Duration::from_millis(250);
/// Steps between two looks at the clock.
pub(super) const CHECK_EVERY: NonZeroU32 = NonZeroU32::new(256).unwrap();
/// A policy that compiles.
pub(super) struct Compiled {
    pub(super) source: Source,
    /// Those of [`ANSWERS`] that its package defines, in that order.
    pub(super) answers: Vec<&'static str>,
}

/// The interpreters of all policies, in their order.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) engines: Vec<Engine>,
}

impl Compiled {
    pub(super) fn asked_at(&self, point: Point) -> bool {
        self.source.points.contains(&point)
    }

    /// Another interpreter. What compiled once compiles again; if not, every rule is missing in it
    /// and asking refuses.
    pub(super) fn engine(&self) -> Engine {
        let mut engine = engine(self.source.version);
        for (at, module) in self.source.modules.iter().enumerate() {
            if engine.add_policy(module_name(&self.source, at), module.text.to_string()).is_err() {
                break;
            }
        }
        engine
    }

    pub(super) fn voice(&self) -> Voice<'_> {
        let Source { id, package, enforcement, .. } = &self.source;
        Voice { id, package, enforcement: *enforcement }
    }
}

pub(super) fn engine(version: RegoVersion) -> Engine {
    let mut engine = Engine::new();
    engine.set_rego_v0(version == RegoVersion::V0);
    engine.set_gather_prints(true);
    engine
        .set_execution_timer_config(ExecutionTimerConfig { limit: TIME_LIMIT, check_interval: CHECK_EVERY });
    engine
}

/// What the interpreter knows a module by: its file, and its number since two may stand in one file.
pub(super) fn module_name(source: &Source, at: usize) -> String {
    source.modules.get(at).map_or_else(String::new, |module| format!("{at} {}", module.file))
}

pub(super) fn compile(source: Source) -> Result<(Compiled, Engine), Vec<Diagnostic>> {
    let reporter = Reporter { source: &source };
    let mut engine = engine(source.version);
    let mut packages = Vec::new();
    let mut diagnostics = Vec::new();
    for (at, module) in source.modules.iter().enumerate() {
        if let Err(message) = bound::check(&module.text) {
            let hint = "split the module, or move its data to where policies get their input";
            diagnostics.push(reporter.at(at, 1, 1, ("rego-too-large", message, Some(hint.to_owned()))));
            continue;
        }
        match engine.add_policy(module_name(&source, at), module.text.to_string()) {
            Ok(package) => packages.push(package),
            Err(error) => diagnostics.push(reporter.error(&error.to_string(), at)),
        }
    }
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let found = check::check(engine.get_modules(), &|_| source.version);
    if !found.is_empty() {
        return Err(found.into_iter().map(|finding| reporter.finding(finding)).collect());
    }
    let wanted = format!("data.{}", source.package);
    if !packages.contains(&wanted) {
        let mut names: Vec<_> =
            packages.iter().map(|name| format!("`{}`", name.trim_start_matches("data."))).collect();
        names.dedup();
        let message = format!("no module is in package `{}`", source.package);
        let hint = if names.is_empty() {
            "declare `modules` or `rego`".to_owned()
        } else {
            format!("set `package` to {}", names.join(" or "))
        };
        return Err(vec![reporter.declaration("rego-package", message, &hint)]);
    }
    let defined = check::rules_of(engine.get_modules(), &source.package);
    let answers: Vec<_> = ANSWERS.into_iter().filter(|answer| defined.contains(*answer)).collect();
    if answers.is_empty() {
        let message = format!("package `{}` decides nothing", source.package);
        let hint = format!("define one of {}", ANSWERS.map(|answer| format!("`{answer}`")).join(", "));
        return Err(vec![reporter.declaration("rego-rules", message, &hint)]);
    }
    for answer in &answers {
        if let Err(error) = engine.compile_with_entrypoint(&format!("{wanted}.{answer}").into()) {
            diagnostics.push(reporter.error(&error.to_string(), 0));
        }
    }
    diagnostics.dedup();
    if diagnostics.is_empty() { Ok((Compiled { source, answers }, engine)) } else { Err(diagnostics) }
}

/// Code, message and hint of a diagnostic.
pub(super) type Said = (&'static str, String, Option<String>);

/// Puts what is wrong where it is.
pub(super) struct Reporter<'a> {
    pub(super) source: &'a Source,
}

impl Reporter<'_> {
    /// Line and column count from 1 inside module `at`.
    pub(super) fn at(&self, at: usize, line: u32, column: u32, (code, message, hint): Said) -> Diagnostic {
        let module = self.source.modules.get(at);
        let text = self.line(at, line);
        let column = text.map_or(column, |text| characters(text, column));
        let place = module.map(|module| Place {
            file: module.file.clone(),
            line: module.line + line.saturating_sub(1),
            column: module.indent + column,
        });
        let indent = " ".repeat(module.map_or(0, |module| module.indent as usize));
        Diagnostic {
            place: Some(place.unwrap_or_else(|| self.source.place.clone())),
            severity: Severity::Error,
            code,
            message,
            excerpt: text.map(|text| indent + text),
            hint,
            resource: Some(self.source.id.clone()),
        }
    }

    /// A line of a module, counted from 1.
    fn line(&self, at: usize, line: u32) -> Option<&str> {
        self.source.modules.get(at)?.text.lines().nth(line.saturating_sub(1) as usize)
    }

    /// At the resource itself.
    fn declaration(&self, code: &'static str, message: String, hint: &str) -> Diagnostic {
        let place = Some(self.source.place.clone());
        Diagnostic { place, excerpt: None, ..self.at(0, 1, 1, (code, message, Some(hint.to_owned()))) }
    }

    pub(super) fn finding(&self, finding: check::Finding) -> Diagnostic {
        let check::Finding { module, line, column, code, message, hint } = finding;
        self.at(number(&module), line, column, (code, message, Some(hint)))
    }

    /// An error of the library: `--> NAME:LINE:COLUMN`, an excerpt, then `error: MESSAGE`.
    pub(super) fn error(&self, text: &str, at: usize) -> Diagnostic {
        let located = location(text);
        let message = message(text).to_owned();
        let (module, line) = located.map_or((at, 1), |(name, line, _)| (number(name), line));
        let line = self.line(module, line).unwrap_or_default();
        let hint = hint::of(&message, line, &self.source.package, self.source.version);
        let message = if message.contains("Missing package") {
            "the module does not say its package".to_owned()
        } else {
            message
        };
        match located {
            Some((name, line, column)) => self.at(number(name), line, column, ("rego", message, hint)),
            None => self.at(at, 1, 1, ("rego", message, hint)),
        }
    }
}

/// The column of the library, which counts a tab as four, in characters.
fn characters(text: &str, column: u32) -> u32 {
    let (mut width, mut characters) = (1, 1);
    for c in text.chars() {
        if width >= column {
            break;
        }
        width += if c == '\t' { TAB } else { 1 };
        characters += 1;
    }
    characters + column.saturating_sub(width)
}

/// Columns that the library counts for a tab.
const TAB: u32 = 4;

/// What `print` said, with the place it has for people: the library tells `NUMBER FILE:LINE: TEXT`.
pub(super) fn printed(source: &Source, lines: Vec<String>) -> Vec<String> {
    let placed = |line: String| {
        let module = source.modules.get(number(&line))?;
        let (place, text) = line.split_once(": ")?;
        let (_, at) = place.rsplit_once(':')?;
        Some(format!("{}:{}: {text}", module.file, at.parse::<u32>().ok()? + module.line - 1))
    };
    lines.into_iter().map(|line| placed(line.clone()).unwrap_or(line)).collect()
}

/// The number in a [`module_name`].
pub(super) fn number(name: &str) -> usize {
    name.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// The first place an error of the library names.
fn location(text: &str) -> Option<(&str, u32, u32)> {
    let line = text.lines().find_map(|line| line.strip_prefix("--> "))?;
    let mut parts = line.rsplitn(3, ':');
    let (column, line, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name, line.parse().ok()?, column.parse().ok()?))
}

/// What an error of the library says, without places and excerpts.
pub(super) fn message(text: &str) -> &str {
    let said = text.lines().find_map(|line| line.strip_prefix("error: "));
    said.or_else(|| text.lines().find(|line| !line.is_empty()))
        .unwrap_or("it cannot be evaluated")
        .trim_end_matches('.')
}
