//! A review for a terminal.
//!
//! What the repository says is shown with everything invisible written out, and each line of a text that
//! changed begins with a sign of ours: no text can pass for another part of the review.

use std::fmt::Write as _;

use super::schema::SchemaChange;
use super::text::{TextChange, Was};
use super::{
    Access, AccessChange, Change, Concern, Context, Counts, EntryChange, FieldChange, May, ResourceChange,
    Review,
};
use crate::manifest::Place;
pub(super) use crate::status::counted as count;
use crate::wording::{self, reveal};

/// Names told of one role; the rest is counted.
const MAX_NAMES: usize = 40;

/// The review as text.
pub fn render(review: &Review) -> String {
    let mut out = format!("{} -> {}\n", line(&review.before.told()), line(&review.after.told()));
    if review.summary.errors > 0 {
        let _ = writeln!(
            out,
            "\nThe new revision has {}: `toolcrib validate` shows them",
            count(review.summary.errors, "error")
        );
        for error in &review.errors.items {
            let place = error.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            let _ = writeln!(out, "  ! {}{} [{}]", line(&place), line(&error.message), error.code);
        }
        more(&mut out, review.errors.more);
        if review.summary.refused {
            out.push_str("  Nothing of it would be served: what is served before it stays.\n");
        }
    }
    if !review.summary.changed {
        out.push_str("\nNothing changed.\n");
        return out;
    }
    concerns(&mut out, review);
    marks(&mut out, review);
    entries(&mut out, review);
    access(&mut out, &review.access);
    context(&mut out, &review.context);
    resources(&mut out, review);
    out
}

/// One line, with what is invisible written out.
pub(super) fn line(text: &str) -> String {
    reveal(text).replace(['\n', '\r', '\t'], " ")
}

fn more(out: &mut String, more: usize) {
    if more > 0 {
        let _ = writeln!(out, "  … and {more} more");
    }
}

fn at(place: Option<&Place>) -> String {
    place.map(|place| format!("  ({})", line(&place.to_string()))).unwrap_or_default()
}

/// `1 added, 2 changed`.
pub(super) fn counts(counts: Counts) -> String {
    let parts = [(counts.added, "added"), (counts.changed, "changed"), (counts.removed, "removed")];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// What a concern says, the repository's words in quotes.
pub(super) fn told(concern: &Concern, quote: impl Fn(&str) -> String) -> String {
    let mut text = concern.says.clone();
    match (&concern.before, &concern.after) {
        (Some(before), Some(after)) => {
            let _ = write!(text, " {} -> {}", quote(before), quote(after));
        }
        (None, Some(only)) | (Some(only), None) => {
            let _ = write!(text, " {}", quote(only));
        }
        (None, None) => {}
    }
    text
}

fn concerns(out: &mut String, review: &Review) {
    if review.concerns.is_empty() {
        return;
    }
    out.push_str("\nNeeds a careful look\n");
    for concern in &review.concerns.items {
        let sign = if concern.widens { '!' } else { '~' };
        let told = told(concern, line);
        let _ = writeln!(
            out,
            "  {sign} {} {told} [{}]{}",
            concern.resource,
            concern.code,
            at(concern.place.as_ref())
        );
    }
    more(out, review.concerns.more);
}

fn marks(out: &mut String, review: &Review) {
    if review.marks.is_empty() {
        return;
    }
    out.push_str("\nText that hides or instructs\n");
    for marked in &review.marks.items {
        let whose = match &marked.entry {
            Some(entry) => format!("{} ({})", line(entry), marked.resource),
            None => marked.resource.to_string(),
        };
        let code = marked.mark.kind.code();
        let _ = writeln!(
            out,
            "  ! {whose}, {}: {} [{code}]{}",
            line(&marked.field),
            marked.mark.what,
            at(marked.place.as_ref())
        );
        let _ = writeln!(out, "      {}", line(&marked.mark.shown));
    }
    more(out, review.marks.more);
}

fn entries(out: &mut String, review: &Review) {
    if review.entries.is_empty() && review.unlocked.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nOffered to clients: {}", counts(review.summary.entries));
    for entry in &review.entries.items {
        let _ = writeln!(out, "  {}", heading(entry, line));
        for body in details(entry) {
            let _ = writeln!(out, "      {body}");
        }
    }
    more(out, review.entries.more);
    for id in &review.unlocked.items {
        let _ = writeln!(
            out,
            "  ? {id} has no lock: what it offers is not known here (`toolcrib lock {}`)",
            id.name
        );
    }
}

/// The line of an entry; `quote` sets off names.
pub(super) fn heading(entry: &EntryChange, quote: impl Fn(&str) -> String) -> String {
    let mut text = format!("{} {} {}", entry.change.sign(), entry.kind.noun(), quote(&entry.name));
    if let Some(before) = &entry.renamed_from {
        let _ = write!(text, ", called {} before", quote(before));
    }
    let _ = write!(text, " of {}", entry.owner);
    if let Some(place) = &entry.place {
        let _ = write!(text, " at {}", quote(&place.to_string()));
    }
    let (before, after) = entry.tokens;
    let judged = match (entry.change, entry.breaking) {
        (Change::Added, _) => String::new(),
        (_, true) => ": breaking".to_owned(),
        (_, false) => ": compatible".to_owned(),
    };
    if before != after {
        let _ = write!(text, ", {} tokens", signed(before, after));
    }
    text + &judged
}

/// `+12`, `-3`, with the mark of an estimate.
pub(super) fn signed(before: usize, after: usize) -> String {
    if after >= before { format!("~+{}", after - before) } else { format!("~-{}", before - after) }
}

/// What changed in an entry, line by line.
pub(super) fn details(entry: &EntryChange) -> Vec<String> {
    let mut lines = Vec::new();
    for text in &entry.texts {
        lines.push(format!("{}:", line(&text.path)));
        lines.extend(changed(&text.change).into_iter().map(|line| format!("  {line}")));
    }
    for (name, changes) in [("input schema", &entry.input), ("output schema", &entry.output)] {
        lines.extend(changes.iter().map(|change| schema(name, change)));
    }
    for value in &entry.values {
        lines.push(format!(
            "{}: {}",
            line(&value.path),
            values(value.before.as_deref(), value.after.as_deref())
        ));
    }
    lines
}

fn schema(name: &str, change: &SchemaChange) -> String {
    let judged = if change.breaking { "breaking" } else { "compatible" };
    let path = if change.path.is_empty() { String::new() } else { format!(" {}", line(&change.path)) };
    format!("{name}{path}: {} ({judged})", line(&change.what))
}

fn values(before: Option<&str>, after: Option<&str>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("{} -> {}", line(before), line(after)),
        (None, Some(after)) => format!("{} (new)", line(after)),
        (Some(before), None) => format!("{} (removed)", line(before)),
        (None, None) => String::new(),
    }
}

/// A text that changed: every line with its sign.
pub(super) fn changed(change: &TextChange) -> Vec<String> {
    let mut lines = Vec::new();
    for span in &change.spans {
        let sign = match span.was {
            Was::Same => ' ',
            Was::Removed => '-',
            Was::Added => '+',
            Was::Skipped => '…',
        };
        let text = if span.was == Was::Skipped { span.text.clone() } else { reveal(&span.text) };
        let all = text.split('\n').collect::<Vec<_>>();
        let last = all.len() - 1;
        for (at, one) in all.into_iter().enumerate() {
            // The end of the last line begins no other.
            if at < last || !one.is_empty() || last == 0 {
                lines.push(format!("{sign} {}", one.replace(['\r', '\t'], " ")));
            }
        }
    }
    lines
}

/// Changes of one role in one direction, with the tools they are about.
pub(super) struct RoleChange<'r> {
    pub(super) role: &'r str,
    pub(super) before: May,
    pub(super) after: May,
    pub(super) tools: Vec<&'r str>,
    pub(super) why: Option<&'r str>,
}

impl RoleChange<'_> {
    /// `refused -> may call`, or what it is of tools that are new.
    pub(super) fn direction(&self, arrow: &str) -> String {
        match self.before {
            May::Absent => format!("new, {}", self.after.told()),
            before => format!("{} {arrow} {}", before.told(), self.after.told()),
        }
    }
}

/// Changes with the same role, direction and reason together.
pub(super) fn grouped(access: &Access) -> Vec<RoleChange<'_>> {
    let mut groups: Vec<RoleChange<'_>> = Vec::new();
    let mut changes: Vec<&AccessChange> = access.changes.iter().collect();
    changes.sort_by(|a, b| {
        (&a.role, a.before, a.after, &a.why, &a.tool).cmp(&(&b.role, b.before, b.after, &b.why, &b.tool))
    });
    for change in changes {
        let why = change.why.as_deref();
        let fits = |group: &&mut RoleChange<'_>| {
            (group.role, group.before, group.after, group.why)
                == (change.role.as_str(), change.before, change.after, why)
        };
        match groups.last_mut().filter(fits) {
            Some(group) => group.tools.push(&change.tool),
            None => groups.push(RoleChange {
                role: &change.role,
                before: change.before,
                after: change.after,
                tools: vec![&change.tool],
                why,
            }),
        }
    }
    groups
}

/// Names with commas, and how many more there are.
pub(super) fn names(names: &[&str], quote: impl Fn(&str) -> String) -> String {
    let mut told: Vec<String> = names.iter().take(MAX_NAMES).map(|name| quote(name)).collect();
    if names.len() > MAX_NAMES {
        told.push(format!("and {} more", names.len() - MAX_NAMES));
    }
    told.join(", ")
}

fn access(out: &mut String, access: &Access) {
    if access.changes.is_empty() {
        return;
    }
    out.push_str("\nWho may call what\n");
    for id in &access.elsewhere {
        let _ = writeln!(out, "  ? {id} is answered by a server elsewhere, which was not asked");
    }
    for group in grouped(access) {
        let why = group.why.map(|why| format!(" ({})", line(why))).unwrap_or_default();
        let tools = names(&group.tools, line);
        let _ = writeln!(out, "  {}: {}: {tools}{why}", line(group.role), group.direction("->"));
    }
    more(out, access.more);
    if access.unasked > 0 {
        let _ = writeln!(
            out,
            "  {} questions were not asked: there are too many roles and tools",
            access.unasked
        );
    }
}

/// The line of one figure.
pub(super) fn tokens(before: usize, after: usize) -> String {
    if before == after {
        format!("~{after} tokens, as before")
    } else {
        format!("~{before} -> ~{after} tokens ({})", signed(before, after))
    }
}

fn context(out: &mut String, context: &Context) {
    let _ = writeln!(
        out,
        "\nContext of a model: {}, estimated within {} %",
        tokens(context.before, context.after),
        context.error_percent
    );
    for toolset in &context.toolsets {
        let (before, after) = (toolset.before.unwrap_or(0), toolset.after.unwrap_or(0));
        let gone = if toolset.after.is_none() { ", removed" } else { "" };
        let _ = writeln!(out, "  toolset {}: {}{gone}", toolset.name, tokens(before, after));
    }
}

fn resources(out: &mut String, review: &Review) {
    if review.resources.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nResources: {}", counts(review.summary.resources));
    for resource in &review.resources.items {
        let _ = writeln!(out, "  {}", resource_heading(resource, line));
        for body in resource_details(resource) {
            let _ = writeln!(out, "      {body}");
        }
    }
    more(out, review.resources.more);
}

pub(super) fn resource_heading(resource: &ResourceChange, quote: impl Fn(&str) -> String) -> String {
    let mut text =
        format!("{} {} at {}", resource.change.sign(), resource.id, quote(&resource.place.to_string()));
    if !resource.effects.is_empty() {
        let effects: Vec<&str> = resource.effects.iter().map(|effect| effect.told()).collect();
        let _ = write!(text, ": {}", effects.join(", "));
    }
    text
}

/// What changed in a resource, line by line.
pub(super) fn resource_details(resource: &ResourceChange) -> Vec<String> {
    let mut lines: Vec<String> = resource.fields.items.iter().flat_map(field).collect();
    if resource.fields.more > 0 {
        lines.push(format!("… and {} more fields", resource.fields.more));
    }
    for file in &resource.files.items {
        lines.push(format!("{} file {}", file.change.sign(), line(file.path.as_str())));
        lines.extend(file.text.iter().flat_map(changed).map(|line| format!("  {line}")));
    }
    if resource.files.more > 0 {
        lines.push(format!("… and {} more files", resource.files.more));
    }
    lines
}

fn field(field: &FieldChange) -> Vec<String> {
    let path = line(&field.path);
    let place = format!("{}:{}", line(field.place.file.as_str()), field.place.line);
    match &field.text {
        Some(text) => {
            let mut lines = vec![format!("{path}:  ({place})")];
            lines.extend(changed(text).into_iter().map(|line| format!("  {line}")));
            lines
        }
        None => {
            vec![format!("{path}: {}  ({place})", values(field.before.as_deref(), field.after.as_deref()))]
        }
    }
}

/// What a mark is, for a heading.
pub(super) fn mark_word(kind: wording::Kind) -> &'static str {
    match kind {
        wording::Kind::HiddenText => "hides something",
        wording::Kind::InstructsModel => "gives a model orders",
    }
}
