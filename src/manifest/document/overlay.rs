//! A document with patches merged in (RFC 7386), each node still knowing whose text it stands in.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::tree::{Content, Mark, Node, documents};
use super::super::{Declared, Diagnostic, check};
use super::{Parts, diagnostic, excerpt, root_of};

/// What one document changes of another: the mapping at `path` of a `Crib`.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct Overlay {
    pub(in crate::manifest) crib: Arc<Declared>,
    /// Where the change stands in the Crib's document. Empty: all of it is laid over, but for what
    /// says what it builds on.
    pub(in crate::manifest) path: Vec<String>,
}

/// A resource as its base has it, and what changes it, in order.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct Overlays {
    pub(in crate::manifest) base: Arc<Declared>,
    pub(in crate::manifest) overlays: Vec<Overlay>,
}

impl PartialEq for Overlays {
    /// Whether all of it was read from the same texts: the very same, not only equal ones.
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Overlay, &Overlay)| Arc::ptr_eq(&a.crib, &b.crib) && a.path == b.path;
        Arc::ptr_eq(&self.base, &other.base)
            && self.overlays.len() == other.overlays.len()
            && self.overlays.iter().zip(&other.overlays).all(same)
    }
}

/// A patched document that is at fault.
pub(in crate::manifest) struct Refused {
    pub(in crate::manifest) diagnostics: Vec<Diagnostic>,
    /// Whether its fault refuses the whole revision.
    pub(in crate::manifest) refusing: bool,
}

impl Overlay {
    /// The mapping that is laid over.
    fn node(&self) -> Option<Node<'_>> {
        let mut node = documents(&self.crib.text).nth(self.crib.document)?.root?;
        for step in &self.path {
            node = match node.content {
                Content::Map(entries) => entries.into_iter().find(|(key, _)| key.text() == Some(step))?.1,
                Content::List(mut items) => {
                    let at = step.parse().ok().filter(|at| *at < items.len())?;
                    items.swap_remove(at)
                }
                Content::Scalar { .. } => return None,
            };
        }
        if self.path.is_empty() {
            strip(&mut node);
        }
        Some(node)
    }
}

impl Overlays {
    /// The document with everything laid over it: lines count from the beginning of each one's file.
    pub(in crate::manifest) fn root(&self) -> Option<Node<'_>> {
        let (mut root, before) = root_of(&self.base)?;
        visit(&mut root, &|mark| mark.line += before);
        if self.overlays.first().is_some_and(|first| first.path.is_empty()) {
            strip(&mut root);
        }
        for (at, overlay) in self.overlays.iter().enumerate() {
            if let Some(mut node) = overlay.node() {
                let source = u8::try_from(at + 1).unwrap_or(u8::MAX);
                visit(&mut node, &|mark| mark.source = source);
                merge(&mut root, node);
            }
        }
        Some(root)
    }

    /// The resource in whose file a node stands.
    pub(in crate::manifest) fn source(&self, mark: Mark) -> &Declared {
        let overlay = usize::from(mark.source).checked_sub(1).and_then(|at| self.overlays.get(at));
        overlay.map_or(&self.base, |overlay| &overlay.crib)
    }
}

fn visit(node: &mut Node<'_>, change: &impl Fn(&mut Mark)) {
    change(&mut node.mark);
    match &mut node.content {
        Content::Scalar { .. } => {}
        Content::List(items) => items.iter_mut().for_each(|item| visit(item, change)),
        Content::Map(entries) => {
            for (key, value) in entries {
                visit(key, change);
                visit(value, change);
            }
        }
    }
}

/// Leaves out what a Crib says of its bases.
fn strip(node: &mut Node<'_>) {
    let Content::Map(entries) = &mut node.content else { return };
    for (key, value) in entries {
        if let (Some("spec"), Content::Map(fields)) = (key.text(), &mut value.content) {
            fields.retain(|(key, _)| !matches!(key.text(), Some("bases" | "patches")));
        }
    }
}

/// Reads a document with everything that is laid over it, and tells its warnings.
pub(in crate::manifest) fn patched(given: &Arc<Overlays>) -> Result<(Declared, Vec<Diagnostic>), Refused> {
    let Some(root) = given.root() else { return Err(Refused { diagnostics: Vec::new(), refusing: false }) };
    let mut faults = BTreeSet::new();
    let Parts { metadata, spec, refusing } = super::parts(&root, &mut faults);
    let (Some(metadata), Some(spec), true) = (metadata, spec, faults.is_empty()) else {
        let tell = |fault: super::Fault| {
            let (from, line) = (given.source(fault.mark), fault.mark.line);
            let said = diagnostic(&from.place.file, fault).with_excerpt(excerpt(&from.text, line));
            said.of(given.base.id())
        };
        return Err(Refused { diagnostics: faults.into_iter().map(tell).collect(), refusing });
    };
    // A Crib is declared where the last one of them is.
    let last = given.overlays.last().filter(|last| last.path.is_empty());
    let place = last.map_or(&given.base, |last| &last.crib).place.clone();
    let (text, document) = (Arc::clone(&given.base.text), given.base.document);
    let overlays = Some(Arc::clone(given));
    let declared = Declared { metadata, spec, place, text, document, overlays };
    let warnings = check::warnings(&root, &declared);
    Ok((declared, warnings))
}

/// RFC 7386: mappings are merged, nothing removes, everything else replaces.
fn merge<'a>(target: &mut Node<'a>, patch: Node<'a>) {
    let Content::Map(changes) = patch.content else {
        *target = patch;
        return;
    };
    if !matches!(target.content, Content::Map(_)) {
        *target = Node { mark: patch.mark, content: Content::Map(Vec::new()) };
    }
    let Content::Map(entries) = &mut target.content else { return };
    for (key, value) in changes {
        let at = entries.iter().position(|(known, _)| known.text() == key.text());
        match at {
            Some(at) if value.is_null() => {
                entries.remove(at);
            }
            Some(at) => {
                // A scalar is shown at its value, a mapping at its key: that of the patch if all of it is.
                if !matches!((&entries[at].1.content, &value.content), (Content::Map(_), Content::Map(_))) {
                    entries[at].0 = key;
                }
                merge(&mut entries[at].1, value);
            }
            None if value.is_null() => {}
            None => {
                let mut fresh = Node { mark: value.mark, content: Content::Map(Vec::new()) };
                merge(&mut fresh, value);
                entries.push((key, fresh));
            }
        }
    }
}
