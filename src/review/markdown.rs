//! A review as a comment on a pull request.
//!
//! Invariants: everything from the repository stands in code, behind fences longer than any in it, so that
//! nothing in it is formatted, mentions anybody, links anywhere, hides text or ends a part of the comment;
//! the first line is a marker by which the comment is found again; the whole keeps within [`MAX_COMMENT`],
//! what needs a look first, and says how much was left out.

use std::fmt::Write as _;

use super::plain::{
    count, counts, details, grouped, heading, line, mark_word, names, resource_details, resource_heading,
    tokens,
};
use super::{Change, Review};

/// The first line of every comment: by it and its author, a job finds the comment to update.
pub const MARKER: &str = "<!-- toolcrib-diff -->";

/// Bytes of a comment. GitHub takes 65,536 characters, GitLab more; a marker and a footer of others
/// may be added.
pub const MAX_COMMENT: usize = 60_000;
/// Bytes kept free for the notes of what was left out and the ends of blocks.
const RESERVE: usize = 1_500;
/// Bytes of the inside of one folded block: one resource does not push out all others.
const MAX_BLOCK: usize = 8_000;
/// Bytes of one line inside a block.
const MAX_LINE: usize = 1_000;
/// Bytes of a word in a heading or a list.
const MAX_WORD: usize = 300;

/// The review as Markdown of GitHub and GitLab.
pub fn render(review: &Review) -> String {
    let mut page = Page::default();
    let (before, after) = (code(&review.before.told()), code(&review.after.told()));
    page.put(&format!("{MARKER}\n## Toolcrib: what {before} → {after} changes\n\n"));
    summary(&mut page, review);
    if review.summary.changed {
        concerns(&mut page, review);
        marks(&mut page, review);
        entries(&mut page, review);
        access(&mut page, review);
        resources(&mut page, review);
        context(&mut page, review);
    }
    page.finish(review)
}

/// A comment that is being written, within its bound.
#[derive(Default)]
struct Page {
    text: String,
    left_out: usize,
}

impl Page {
    /// Adds a piece whole or not at all.
    fn put(&mut self, piece: &str) -> bool {
        let fits = self.text.len() + piece.len() <= MAX_COMMENT - RESERVE;
        if fits {
            self.text.push_str(piece);
        } else {
            self.left_out += 1;
        }
        fits
    }

    fn finish(mut self, review: &Review) -> String {
        if self.left_out > 0 {
            let command =
                format!("toolcrib diff {} {}", short(&review.before.commit), short(&review.after.commit));
            let left = count(self.left_out, "part");
            let _ = write!(
                self.text,
                "\n> **{left} left out**: a comment has a bound. All of it: {}\n",
                code(&command)
            );
        }
        self.text
    }
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// Text of the repository as a span of code, on one line.
fn code(text: &str) -> String {
    let text = line(text);
    let mut cut: String = text.get(..text.floor_char_boundary(MAX_WORD)).unwrap_or_default().to_owned();
    if cut.len() < text.len() {
        cut.push('…');
    }
    if cut.trim().is_empty() {
        return "`(empty)`".to_owned();
    }
    let fence = "`".repeat(longest_run(&cut, '`') + 1);
    let pad = if cut.starts_with(['`', ' ']) || cut.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{pad}{cut}{pad}{fence}")
}

fn longest_run(text: &str, mark: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == mark { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Lines as a fenced block, coloured by their signs.
fn block(lines: &[String]) -> String {
    let mut text = String::new();
    let mut more = 0;
    for line in lines {
        // The sign of a changed line has to be the first of it to be coloured.
        let line = line.strip_prefix("  ").unwrap_or(line);
        let cut = line.get(..line.floor_char_boundary(MAX_LINE)).unwrap_or_default();
        if text.len() + cut.len() > MAX_BLOCK {
            more += 1;
            continue;
        }
        text.push_str(cut);
        text.push_str(if cut.len() < line.len() { "…\n" } else { "\n" });
    }
    if more > 0 {
        let _ = writeln!(text, "… {} more", count(more, "line"));
    }
    let fence = "`".repeat(longest_run(&text, '`').max(2) + 1);
    format!("{fence}diff\n{text}{fence}\n")
}

/// A folded part. `title` is ours, but for spans of code.
fn folded(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return format!("- {title}\n");
    }
    let inside = block(lines);
    format!("- {title}\n\n<details>\n<summary>Details</summary>\n\n{inside}\n</details>\n\n")
}

fn summary(page: &mut Page, review: &Review) {
    let found = &review.summary;
    if found.errors > 0 {
        let errors = count(found.errors, "error");
        let mut text =
            format!("> [!CAUTION]\n> The new revision has {errors}; what is below is told without them.\n");
        for error in review.errors.items.iter().take(10) {
            let place = error
                .place
                .as_ref()
                .map(|place| format!("{} ", code(&place.to_string())))
                .unwrap_or_default();
            let _ = writeln!(text, "> - {place}{} ({})", code(&error.message), error.code);
        }
        if found.refused {
            text.push_str("> Nothing of it would be served: what is served before it stays.\n");
        }
        text.push('\n');
        page.put(&text);
    }
    if !found.changed {
        page.put("Nothing changed in what is declared or offered.\n");
        return;
    }
    let mut text = String::from("| | |\n|---|---|\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    let look = match found.widening {
        0 if review.concerns.is_empty() => "nothing".to_owned(),
        0 => format!("{}, none widens", count(review.concerns.items.len() + review.concerns.more, "thing")),
        1 => "**1 thing that widens**".to_owned(),
        widening => format!("**{} that widen**", count(widening, "thing")),
    };
    row("Needs a careful look", look);
    if found.hidden_text + found.instructs_model > 0 {
        row(
            "Text that hides or instructs",
            format!("**{} hidden, {} instructing**", found.hidden_text, found.instructs_model),
        );
    }
    let breaking =
        if found.breaking > 0 { format!(", **{} breaking**", found.breaking) } else { String::new() };
    row("Offered to clients", format!("{}{breaking}", counts(found.entries)));
    row("Resources", counts(found.resources));
    row(
        "Context of a model",
        format!(
            "{} (estimated within {} %)",
            tokens(review.context.before, review.context.after),
            review.context.error_percent
        ),
    );
    text.push('\n');
    page.put(&text);
}

fn more(page: &mut Page, more: usize) {
    if more > 0 {
        page.put(&format!("- … and {more} more\n"));
    }
}

fn concerns(page: &mut Page, review: &Review) {
    if review.concerns.is_empty() {
        return;
    }
    page.put("### Needs a careful look\n\n");
    for concern in &review.concerns.items {
        let sign = if concern.widens { "⚠️ " } else { "" };
        let place = concern
            .place
            .as_ref()
            .map(|place| format!(" — {}", code(&place.to_string())))
            .unwrap_or_default();
        let told = super::plain::told(concern, code);
        page.put(&format!("- {sign}**{}** {told} ({}){place}\n", concern.resource, concern.code));
    }
    more(page, review.concerns.more);
    page.put("\n");
}

fn marks(page: &mut Page, review: &Review) {
    if review.marks.is_empty() {
        return;
    }
    page.put("### Text that hides or instructs\n\n");
    for marked in &review.marks.items {
        let entry = marked.entry.as_ref().map(|entry| format!(" {}", code(entry))).unwrap_or_default();
        let place =
            marked.place.as_ref().map(|place| format!(" — {}", code(&place.to_string()))).unwrap_or_default();
        let mark = &marked.mark;
        page.put(&format!(
            "- ⚠️ **{}**{entry}, {} {}: {}{place}\n  {}\n",
            marked.resource,
            code(&marked.field),
            mark_word(mark.kind),
            code(&mark.what),
            code(&mark.shown),
        ));
    }
    more(page, review.marks.more);
    page.put("\n");
}

fn entries(page: &mut Page, review: &Review) {
    if review.entries.is_empty() && review.unlocked.is_empty() {
        return;
    }
    page.put(&format!("### Offered to clients: {}\n\n", counts(review.summary.entries)));
    for entry in &review.entries.items {
        let title = heading(entry, code).replacen(&entry.change.sign().to_string(), word(entry.change), 1);
        page.put(&folded(&title, &details(entry)));
    }
    more(page, review.entries.more);
    for id in &review.unlocked.items {
        page.put(&format!("- **{id}** has no lock: what it offers is not known here\n"));
    }
    page.put("\n");
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "**new**",
        Change::Changed => "**changed**",
        Change::Removed => "**removed**",
    }
}

fn access(page: &mut Page, review: &Review) {
    let access = &review.access;
    if access.changes.is_empty() {
        return;
    }
    page.put("### Who may call what\n\n");
    for id in &access.elsewhere {
        page.put(&format!("- **{id}** is answered by a server elsewhere, which was not asked\n"));
    }
    for group in grouped(access) {
        let why = group.why.map(|why| format!(" ({})", code(why))).unwrap_or_default();
        let tools = names(&group.tools, code);
        page.put(&format!("- {}: {}: {tools}{why}\n", code(group.role), group.direction("→")));
    }
    more(page, access.more);
    if access.unasked > 0 {
        page.put(&format!(
            "- {} questions were not asked: there are too many roles and tools\n",
            access.unasked
        ));
    }
    page.put("\n");
}

fn resources(page: &mut Page, review: &Review) {
    if review.resources.is_empty() {
        return;
    }
    page.put(&format!("### Resources: {}\n\n", counts(review.summary.resources)));
    for resource in &review.resources.items {
        let sign = resource.change.sign().to_string();
        let title = resource_heading(resource, code).replacen(&sign, word(resource.change), 1);
        page.put(&folded(&title, &resource_details(resource)));
    }
    more(page, review.resources.more);
    page.put("\n");
}

fn context(page: &mut Page, review: &Review) {
    if review.context.toolsets.is_empty() {
        return;
    }
    page.put("### Context by toolset\n\n");
    for toolset in &review.context.toolsets {
        let (before, after) = (toolset.before.unwrap_or(0), toolset.after.unwrap_or(0));
        page.put(&format!("- **{}**: {}\n", toolset.name, tokens(before, after)));
    }
}
