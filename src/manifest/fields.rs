//! The fields of a document as they are written, each with its place: what two revisions are compared by.

use super::document::{field_of, may_hold_secret, placed, root_of};
use super::tree::{Content, Node, Scalar, meaning};
use super::{Declared, Place, check};

/// Fields of one document that are listed. Schemas of generated tools have some thousands.
const MAX_FIELDS: usize = 20_000;

/// One value of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// `spec.source.package.version`; items of lists by number: `spec.args[2]`.
    pub path: String,
    /// As written; text that would mean something else without its quotes has them. Empty lists and
    /// mappings are `[]` and `{}`, lists of plain values are one value: `[a, b]`.
    pub value: String,
    pub place: Place,
    /// It may be a secret, and is shown nowhere.
    pub secret: bool,
}

impl Declared {
    /// Every field of the document but `apiVersion`, `kind` and `metadata.name`, in the order of the text.
    pub fn fields(&self) -> Vec<Field> {
        let Some((root, before)) = root_of(self) else { return Vec::new() };
        let mut list = List { declared: self, before, fields: Vec::new() };
        list.node("", &root, false);
        let named = |path: &str| matches!(path, "apiVersion" | "kind" | "metadata.name");
        list.fields.retain(|field| !named(&field.path));
        list.fields
    }

    /// The place of a field, or of the nearest one above that is there: `["spec", "image"]`.
    pub fn place_of(&self, path: &[&str]) -> Place {
        field_of(self, path).0
    }
}

struct List<'d> {
    declared: &'d Declared,
    /// Lines of the file before the text that was read.
    before: u32,
    fields: Vec<Field>,
}

impl List<'_> {
    fn node(&mut self, path: &str, node: &Node<'_>, secret: bool) {
        match &node.content {
            Content::Map(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    let name = key.text().unwrap_or_default();
                    let plain = !name.is_empty() && !name.contains(['.', '[', ']', ' ', '\n']);
                    let step = if plain { name.to_owned() } else { format!("[{name:?}]") };
                    let inner = match (path.is_empty(), plain) {
                        (true, _) => step,
                        (false, true) => format!("{path}.{step}"),
                        (false, false) => format!("{path}{step}"),
                    };
                    let shouted = !name.chars().any(|c| c.is_ascii_lowercase());
                    self.node(&inner, value, secret || shouted && check::credential(name));
                }
            }
            Content::List(items) if items.iter().any(|item| item.text().is_none()) => {
                for (at, item) in items.iter().enumerate() {
                    self.node(&format!("{path}[{at}]"), item, secret);
                }
            }
            _ => self.add(path, node, secret),
        }
    }

    fn add(&mut self, path: &str, node: &Node<'_>, secret: bool) {
        if self.fields.len() >= MAX_FIELDS {
            return;
        }
        let value = written(node);
        // A reference to a secret is what a reviewer has to see.
        let reference = path.contains(".secret.") || path.ends_with(".secret");
        let secret = !reference && (secret || value.lines().any(may_hold_secret));
        let (place, _) = placed(self.declared, node.mark, self.before);
        self.fields.push(Field { path: path.to_owned(), value, place, secret });
    }
}

fn written(node: &Node<'_>) -> String {
    match &node.content {
        Content::Map(_) => "{}".to_owned(),
        Content::List(items) => {
            let items: Vec<String> = items.iter().map(written).collect();
            format!("[{}]", items.join(", "))
        }
        Content::Scalar { text, plain } => {
            // In quotes it is text, and without them it would not be.
            let quoted = !plain && !matches!(meaning(text, true), Scalar::Text(_));
            if quoted { format!("{text:?}") } else { text.to_string() }
        }
    }
}
