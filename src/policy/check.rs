//! What the library takes and should not: unsafe negation, recursion, functions that are not there.
//!
//! OPA refuses these when it compiles. The library finds them late or not at all: `not x[_] == 1`
//! decides wrongly, a function that calls itself ends the whole daemon.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{AssignOp, BUILTINS, Expr, Literal, Module, Query, Ref, Rule, RuleHead, Span};

use super::{depend, walk};
use crate::resource::policy::RegoVersion;

/// One mistake in a module.
pub(super) struct Finding {
    /// The name the module was added by.
    pub(super) module: String,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: String,
}

pub(super) fn finding(span: &Span, code: &'static str, message: String, hint: String) -> Finding {
    let module = span.source.get_path().clone();
    Finding { module, line: span.line, column: span.col, code, message, hint }
}

/// The names of the rules a package defines.
pub(super) fn rules_of(modules: &[Ref<Module>], package: &str) -> BTreeSet<String> {
    let of_package = modules.iter().filter(|module| package_of(module) == package);
    of_package.flat_map(|module| module.policy.iter()).filter_map(|rule| rule_name(rule)).collect()
}

pub(super) fn package_of(module: &Module) -> String {
    walk::path(&module.package.refr).join(".")
}

/// The first name of a rule's head: `deny` of `deny`, `deny[x]` and `deny.x`.
pub(super) fn rule_name(rule: &Rule) -> Option<String> {
    walk::path(rule_head(rule)).into_iter().next()
}

pub(super) fn rule_head(rule: &Rule) -> &Expr {
    match rule {
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
        Rule::Default { refr, .. } => refr,
    }
}

/// `version` tells in which Rego the module of that name is written.
pub(super) fn check(modules: &[Ref<Module>], version: &dyn Fn(&str) -> RegoVersion) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut rules: Vec<RuleFacts<'_>> = Vec::new();
    for module in modules {
        let package = package_of(module);
        let imports = imports(module);
        let siblings = rules_of(modules, &package);
        let version = version(module.package.refr.span().source.get_path());
        for rule in &module.policy {
            let facts = RuleFacts::new(rule, &package, &imports, &siblings);
            let scope = Safety { known: &siblings, imports: &imports, version };
            scope.rule(rule, &mut findings);
            rules.push(facts);
        }
    }
    let defined: BTreeSet<&str> = rules.iter().map(|rule| rule.path.as_str()).collect();
    for rule in &rules {
        rule.unknown_functions(&defined, &mut findings);
    }
    if findings.is_empty() {
        findings.extend(depend::check(&rules));
    }
    findings
}

/// What each imported name stands for: `groups` for `input.user.groups`.
fn imports(module: &Module) -> BTreeMap<String, String> {
    let named = |import: &regorus::unstable::Import| {
        let path = walk::path(&import.refr);
        let name =
            import.r#as.as_ref().map(|name| name.text().to_owned()).or_else(|| path.last().cloned())?;
        Some((name, path.join(".")))
    };
    module.imports.iter().filter_map(named).collect()
}

/// Whether every variable of a negated expression has a value from elsewhere.
struct Safety<'a> {
    known: &'a BTreeSet<String>,
    imports: &'a BTreeMap<String, String>,
    version: RegoVersion,
}

impl Safety<'_> {
    fn rule(&self, rule: &Rule, findings: &mut Vec<Finding>) {
        let Rule::Spec { head, bodies, .. } = rule else { return };
        let mut outer = BTreeSet::new();
        let mut terms: Vec<&Expr> = Vec::new();
        match head {
            RuleHead::Func { args, assign, .. } => {
                outer.extend(args.iter().flat_map(|argument| walk::flat(argument)).filter_map(walk::name));
                terms.extend(assign.iter().map(|assign| &*assign.value));
            }
            RuleHead::Compr { assign, .. } => terms.extend(assign.iter().map(|assign| &*assign.value)),
            RuleHead::Set { key, .. } => terms.extend(key.iter().map(|key| &**key)),
        }
        for body in bodies {
            let bound = self.query(&body.query, &outer, findings);
            for term in terms.iter().copied().chain(body.assign.iter().map(|assign| &*assign.value)) {
                self.comprehensions(term, &bound, findings);
            }
        }
    }

    /// Checks a query; gives the variables that have a value in it.
    fn query<'q>(
        &self,
        query: &'q Query,
        outer: &BTreeSet<&'q str>,
        findings: &mut Vec<Finding>,
    ) -> BTreeSet<&'q str> {
        let mut bound = outer.clone();
        for statement in &query.stmts {
            if !matches!(statement.literal, Literal::NotExpr { .. }) {
                let expressions = walk::expressions(statement);
                bound.extend(expressions.into_iter().flat_map(walk::flat).filter_map(walk::name));
            }
        }
        for statement in &query.stmts {
            match &statement.literal {
                Literal::NotExpr { expr, .. } => self.negated(expr, &bound, findings),
                Literal::Every { key, value, query, .. } => {
                    let mut inner = bound.clone();
                    inner.extend(key.iter().chain([value]).map(Span::text));
                    self.query(query, &inner, findings);
                }
                _ => {}
            }
            for expr in walk::expressions(statement) {
                self.comprehensions(expr, &bound, findings);
            }
        }
        bound
    }

    fn comprehensions<'q>(&self, expr: &'q Expr, bound: &BTreeSet<&'q str>, findings: &mut Vec<Finding>) {
        for (terms, query) in walk::flat(expr).into_iter().filter_map(walk::comprehension) {
            let inner = self.query(query, bound, findings);
            for term in terms {
                self.comprehensions(term, &inner, findings);
            }
        }
    }

    fn negated(&self, expr: &Expr, bound: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
        let is_known = |name: &str| {
            matches!(name, "input" | "data")
                || self.known.contains(name)
                || self.imports.contains_key(name)
                || bound.contains(name)
        };
        let variables = walk::flat(expr).into_iter().filter(|expr| walk::name(expr).is_some());
        let Some(open) = variables
            .into_iter()
            .find(|variable| walk::name(variable).is_some_and(|name| name == "_" || !is_known(name)))
        else {
            return;
        };
        let (name, text) = (open.span().text(), text_of(expr));
        let rule = match self.version {
            RegoVersion::V0 => format!("found {{ {text} }}"),
            RegoVersion::V1 => format!("found if {{ {text} }}"),
        };
        findings.push(finding(
            open.span(),
            "rego-unsafe",
            format!("`{name}` is unsafe: `not` asks whether the rest fails, and there `{name}` has no value"),
            format!("put the condition in a rule of its own, `{rule}`, and write `not found`"),
        ));
    }
}

/// The source of an expression, in one line. A span of an infix expression may be its sign alone.
fn text_of(expr: &Expr) -> String {
    let range = |expr: &Expr| {
        // Those of strings leave the quotes out.
        let quote = u32::from(matches!(expr, Expr::String { .. } | Expr::RawString { .. }));
        (expr.span().start.saturating_sub(quote), expr.span().end + quote)
    };
    let ranges: Vec<_> = walk::flat(expr).into_iter().map(range).collect();
    let start = ranges.iter().map(|(start, _)| *start).min().unwrap_or(0) as usize;
    let end = ranges.iter().map(|(_, end)| *end).max().unwrap_or(0) as usize;
    let text = expr.span().source.contents().get(start..end).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One rule, and what it speaks of.
pub(super) struct RuleFacts<'a> {
    /// `data.kubiya.tools.deny`
    pub(super) path: String,
    pub(super) head: &'a Span,
    /// Full paths: `data.kubiya.tools.is_admin`.
    pub(super) refers: BTreeSet<String>,
    /// Full path, or name of a builtin; and where it is called.
    calls: Vec<(String, &'a Span)>,
}

impl<'a> RuleFacts<'a> {
    fn new(
        rule: &'a Rule,
        package: &str,
        imports: &BTreeMap<String, String>,
        siblings: &BTreeSet<String>,
    ) -> Self {
        let head = rule_head(rule);
        let expressions = expressions_of(rule);
        let local: BTreeSet<&str> = expressions.iter().filter_map(|expr| declared(expr)).collect();
        let full = |names: &[String]| -> Option<String> {
            let (first, rest) = names.split_first()?;
            let base = if first == "data" || first == "input" {
                first.clone()
            } else if local.contains(first.as_str()) {
                return None;
            } else if let Some(import) = imports.get(first) {
                import.clone()
            } else if siblings.contains(first) {
                format!("data.{package}.{first}")
            } else {
                return None;
            };
            Some(
                std::iter::once(base.as_str())
                    .chain(rest.iter().map(String::as_str))
                    .collect::<Vec<_>>()
                    .join("."),
            )
        };
        let mut facts = Self {
            path: format!("data.{package}.{}", walk::path(head).first().cloned().unwrap_or_default()),
            head: head.span(),
            refers: BTreeSet::new(),
            calls: Vec::new(),
        };
        // Of `data.a.b`, `data.a` is no reference of its own.
        let inner: BTreeSet<*const Expr> = expressions.iter().filter_map(|expr| walk::inner(expr)).collect();
        for expr in expressions.into_iter().filter(|expr| !inner.contains(&std::ptr::from_ref(*expr))) {
            if let Expr::Call { fcn, .. } = expr {
                let names = walk::path(fcn);
                let called = full(&names);
                facts.refers.extend(called.clone().filter(|path| path.starts_with("data.")));
                facts.calls.push((called.unwrap_or_else(|| names.join(".")), walk::root(fcn).span()));
            } else {
                facts.refers.extend(full(&walk::path(expr)).filter(|path| path.starts_with("data")));
            }
        }
        facts
    }

    fn unknown_functions(&self, defined: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
        for (called, span) in &self.calls {
            let chance = called.starts_with("rand.");
            let known = called == "print" || BUILTINS.contains_key(called.as_str());
            if (known && !chance) || defined.contains(called.as_str()) {
                continue;
            }
            let outside = ["http.", "net.", "opa.", "rand.", "time.", "uuid."];
            let hint = if outside.iter().any(|prefix| called.starts_with(prefix)) {
                "a policy decides from its input alone: it has no clock, no network and no chance"
            } else {
                "look whether the name is right, and whether the module that defines it is declared"
            };
            let message = format!("there is no function `{called}`");
            findings.push(finding(span, "rego-function", message, hint.to_owned()));
        }
    }
}

/// Every expression of a rule but its head's path.
pub(super) fn expressions_of(rule: &Rule) -> Vec<&Expr> {
    match rule {
        Rule::Default { value, .. } => walk::deep_in(value),
        Rule::Spec { head, bodies, .. } => {
            let terms: Vec<&Expr> = match head {
                RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                    assign.iter().map(|assign| &*assign.value).collect()
                }
                RuleHead::Set { key, .. } => key.iter().map(|key| &**key).collect(),
            };
            let of_bodies = bodies.iter().flat_map(|body| {
                let assigned = body.assign.iter().flat_map(|assign| walk::deep_in(&assign.value));
                walk::deep(&body.query).into_iter().chain(assigned)
            });
            terms.into_iter().flat_map(walk::deep_in).chain(of_bodies).collect()
        }
    }
}

/// The name that `name := …` declares.
fn declared(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } => walk::name(lhs),
        _ => None,
    }
}
