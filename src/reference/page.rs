//! Pages in Markdown, for `schemas/`.

use std::fmt::Write as _;

use super::explain::{At, Field, find};
use super::schema::{self, file_name};
use crate::resource::Kind;

/// Fields inside each other that a page follows: deeper ones are of schemas and patches.
const MAX_DEPTH: usize = 4;

/// What the folder of schemas holds.
pub fn index() -> String {
    let mut text = "\
# What can be declared

One page and one [JSON Schema](https://json-schema.org/draft/2020-12) for each kind of document, and
`resource.schema.json` for a document of any kind. All of them are made from the types that read documents:
`BLESS=1 cargo test --lib reference` writes them anew.

An editor with yaml-language-server completes and explains a file that begins with

```yaml
# yaml-language-server: $schema=resource.schema.json
```

`toolcrib explain --output json > resource.schema.json` writes that file for any repository, and `toolcrib
explain KIND.FIELD` explains a single field in the terminal.

| kind | declares |
|---|---|
"
    .to_owned();
    for kind in Kind::ALL {
        let page = page_name(kind);
        let declares = first_sentence(&description(kind));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| [`{kind}`]({page}) | {} |", cell(&declares));
    }
    text
}

/// The name of a kind's page.
pub(super) fn page_name(kind: Kind) -> String {
    format!("{}.md", kind.as_str().to_lowercase())
}

fn description(kind: Kind) -> String {
    find(kind, &[]).map(|field| field.description).unwrap_or_default()
}

/// The first sentence of a description.
pub fn first_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let end = paragraph.find(". ").map_or(paragraph.len(), |at| at + 1);
    paragraph[..end].to_owned()
}

/// The page of one kind.
pub fn page(kind: Kind) -> String {
    let Ok(Field { description, document, .. }) = find(kind, &[]) else { return String::new() };
    let mut text = format!("# {kind}\n\n{description}\n");
    if let Some(document) = document {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n```yaml\n# yaml-language-server: $schema={}\n{document}```\n",
            file_name(Some(kind))
        );
    }
    let root = schema::kind(kind);
    for (part, name) in [("Metadata", "metadata"), (&format!("{kind}Spec"), "spec")] {
        let _ = write!(text, "\n## `{name}`\n\n| field | type | default | |\n|---|---|---|---|\n");
        rows(At::of(&root, &root["$defs"][part]), "", 1, &mut text);
    }
    text
}

fn rows(at: At<'_>, above: &str, depth: usize, text: &mut String) {
    for (name, inner) in at.inner() {
        let path = if above.is_empty() { name } else { format!("{above}.{name}") };
        let field = inner.field(path.clone());
        let mut said = field.description.replace("\n\n", " ");
        let values: Vec<String> = field
            .values
            .iter()
            .filter(|(_, meaning)| !meaning.is_empty())
            .map(|(value, meaning)| format!("`{value}`: {meaning}"))
            .collect();
        if !values.is_empty() && field.values.len() == values.len() {
            let _ = write!(said, " {}", values.join(" "));
        }
        if !field.examples.is_empty() {
            let examples: Vec<String> = field.examples.iter().map(|example| format!("`{example}`")).collect();
            let _ = write!(said, " Example: {}.", examples.join(", "));
        }
        let default = match (field.required, &field.default) {
            (true, _) => "required".to_owned(),
            (false, Some(default)) => default.clone(),
            (false, None) => String::new(),
        };
        let _ = writeln!(text, "| `{path}` | {} | {} | {} |", cell(&field.kind), cell(&default), cell(&said));
        if depth < MAX_DEPTH {
            rows(inner, &path, depth + 1, text);
        }
    }
}

/// What stands in one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
