//! Which rule needs which: no circles, and no towers.
//!
//! The interpreter evaluates a rule that another needs on the stack of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::check::{Finding, RuleFacts, finding};

/// How many rules may stand on each other. The interpreter takes some 10 KiB of stack for each, and
/// threads have 2 MiB.
const MAX_HEIGHT: usize = 48;
/// How often rules may need each other, in one policy.
const MAX_NEEDS: usize = 100_000;

/// The first circle or tower there is.
pub(super) fn check(rules: &[RuleFacts<'_>]) -> Option<Finding> {
    let paths: BTreeSet<&str> = rules.iter().map(|rule| rule.path.as_str()).collect();
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut count = 0;
    for rule in rules {
        for reference in &rule.refers {
            let met = met(reference, &paths);
            count += met.len();
            if count > MAX_NEEDS {
                let message = format!("rules need each other more than {MAX_NEEDS} times");
                let hint = "name the rules that are meant instead of a whole package".to_owned();
                return Some(finding(rule.head, "rego-too-large", message, hint));
            }
            needs.entry(&rule.path).or_default().extend(met);
        }
    }
    let (path, message, hint) = match Search::new(&needs).run(&paths) {
        Ok(()) => return None,
        Err(Trouble::Circle(path)) => (
            path,
            format!("rule `{path}` needs itself to be decided"),
            "Rego has no recursion: write the steps out",
        ),
        Err(Trouble::Tower(path)) => (
            path,
            format!("rule `{path}` stands on more than {MAX_HEIGHT} others"),
            "let rules need each other less deeply",
        ),
    };
    let rule = rules.iter().find(|rule| rule.path == path)?;
    Some(finding(rule.head, "rego-recursion", message, hint.to_owned()))
}

/// The rules a reference reads: the one it names or whose part it names, and all of a package.
fn met<'a>(reference: &str, paths: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let ends = reference.match_indices('.').map(|(at, _)| at).chain([reference.len()]);
    let named = ends.filter_map(|end| paths.get(&reference[..end]).copied());
    let below = format!("{reference}.");
    let after = (Bound::Included(below.as_str()), Bound::Unbounded);
    let inside = paths.range::<str, _>(after).take_while(|path| path.starts_with(&below)).copied();
    named.chain(inside).collect()
}

enum Trouble<'a> {
    Circle(&'a str),
    Tower(&'a str),
}

/// A search in depth with a stack of its own.
struct Search<'a, 'b> {
    needs: &'b BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// How high each finished rule stands.
    heights: BTreeMap<&'a str, usize>,
    /// The rules under way, with those they need that were not looked at yet.
    open: Vec<(&'a str, Vec<&'a str>)>,
    under_way: BTreeSet<&'a str>,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(needs: &'b BTreeMap<&'a str, BTreeSet<&'a str>>) -> Self {
        Self { needs, heights: BTreeMap::new(), open: Vec::new(), under_way: BTreeSet::new() }
    }

    fn needed(&self, path: &str) -> impl Iterator<Item = &'a str> {
        self.needs.get(path).into_iter().flatten().copied()
    }

    fn enter(&mut self, path: &'a str) {
        let needed = self.needed(path).collect();
        self.open.push((path, needed));
        self.under_way.insert(path);
    }

    fn run(mut self, paths: &BTreeSet<&'a str>) -> Result<(), Trouble<'a>> {
        for path in paths {
            if !self.heights.contains_key(path) {
                self.enter(path);
            }
            while let Some((at, rest)) = self.open.last_mut() {
                let at = *at;
                match rest.pop() {
                    Some(next) if self.under_way.contains(next) => return Err(Trouble::Circle(next)),
                    Some(next) if self.heights.contains_key(next) => {}
                    Some(next) => self.enter(next),
                    None => self.leave(at)?,
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, path: &'a str) -> Result<(), Trouble<'a>> {
        let below = self.needed(path).filter_map(|needed| self.heights.get(needed)).max();
        let height = below.map_or(0, |height| height + 1);
        self.open.pop();
        self.under_way.remove(path);
        self.heights.insert(path, height);
        if height > MAX_HEIGHT { Err(Trouble::Tower(path)) } else { Ok(()) }
    }
}
