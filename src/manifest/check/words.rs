//! What a model will read of a resource: text that hides something, or that gives the model orders.

use std::collections::BTreeSet;

use super::super::document::excerpt;
use super::super::tree::{Content, Node};
use super::super::{Declared, Diagnostic, Place};
use super::warn::place;
use crate::resource::Kind;
use crate::wording::{self, Mark};

/// Texts of one resource that are told of; one of them is enough to look at it.
const MAX_TOLD: usize = 8;

/// The fields below `spec` that clients put before a model.
fn fields(kind: Kind) -> &'static [&'static [&'static str]] {
    match kind {
        Kind::Tool => &[
            &["title"],
            &["description"],
            &["annotations"],
            &["parameters"],
            &["inputSchema"],
            &["outputSchema"],
        ],
        _ => &[&["instructions"], &["tools", "overrides"]],
    }
}

pub(in crate::manifest) fn warnings(root: &Node<'_>, declared: &Declared) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let Some((_, spec)) = root.get("spec") else { return found };
    for field in fields(declared.spec.kind()) {
        let node = field.iter().try_fold(spec, |node, step| node.get(step).map(|(_, value)| value));
        let mut path: Vec<String> =
            std::iter::once("spec").chain(field.iter().copied()).map(str::to_owned).collect();
        if let Some(node) = node {
            look(root, declared, node, &mut path, &mut found);
        }
    }
    found.truncate(MAX_TOLD);
    found
}

fn look(
    root: &Node<'_>,
    declared: &Declared,
    node: &Node<'_>,
    path: &mut Vec<String>,
    found: &mut Vec<Diagnostic>,
) {
    match &node.content {
        Content::Scalar { text, .. } => {
            let mut told = BTreeSet::new();
            let steps: Vec<&str> = path.iter().map(String::as_str).collect();
            for mark in wording::scan(text).iter().filter(|mark| told.insert((mark.kind, mark.what.clone())))
            {
                let warning = place(root, declared, warning(mark), &steps);
                found.push(line_of(declared, text, mark).map_or(warning.clone(), |at| {
                    let file = declared.place.file.clone();
                    warning.at(Place { file, line: at.0, column: at.1 }, excerpt(&declared.text, at.0))
                }));
            }
        }
        Content::List(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at.to_string());
                look(root, declared, item, path, found);
                path.pop();
            }
        }
        Content::Map(entries) => {
            for (key, value) in entries {
                path.push(key.text().unwrap_or_default().to_owned());
                look(root, declared, value, path, found);
                path.pop();
            }
        }
    }
}

/// The line and column of a mark in a text over several lines, when they are written as they are read.
fn line_of(declared: &Declared, text: &str, mark: &Mark) -> Option<(u32, u32)> {
    let before = text.get(..mark.start)?;
    let (line, rest) = (before.rsplit('\n').next()?, text.get(mark.start..)?.lines().next()?);
    let (index, whole) = (before.matches('\n').count(), format!("{line}{rest}"));
    if index == 0 || whole.trim().is_empty() {
        return None;
    }
    let mut lines = declared.text.lines().enumerate().filter(|(_, found)| found.trim() == whole.trim());
    let (Some((at, found)), None) = (lines.next(), lines.next()) else { return None };
    let indent = found.chars().count() - found.trim_start().chars().count();
    let column = indent + line.trim_start().chars().count() + 1;
    Some((u32::try_from(at + 1).ok()?, u32::try_from(column).ok()?))
}

fn warning(Mark { kind, what, shown, .. }: &Mark) -> Diagnostic {
    match kind {
        wording::Kind::HiddenText => {
            let message = format!("a model reads here what a person does not see: {what}");
            Diagnostic::warning("hidden-text", message).hint(format!("remove it; written out: `{shown}`"))
        }
        wording::Kind::InstructsModel => {
            let message = format!("this text gives the model orders: {what}");
            let hint = format!("say what the tool does, not what the model has to do: `{shown}`");
            Diagnostic::warning("instructs-model", message).hint(hint)
        }
    }
}
