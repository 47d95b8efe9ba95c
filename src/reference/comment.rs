//! What a comment says beside its description: a default and examples.

use serde_json::Value;

/// A comment, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comment {
    /// Without examples and code; paragraphs are apart by an empty line.
    pub(super) text: String,
    /// After `Default: `, as people read it.
    pub(super) default: Option<String>,
    /// After `Example: `, each as written.
    pub(super) examples: Vec<String>,
    /// A block of code: an example of a whole document.
    pub(super) document: Option<String>,
}

impl Comment {
    pub(super) fn read(comment: &str) -> Self {
        let mut read = Self::default();
        let mut paragraphs = Vec::new();
        let mut blocks = comment.split("```");
        if let Some(text) = blocks.next() {
            paragraphs.extend(
                text.split("\n\n")
                    .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" ")),
            );
        }
        read.document =
            blocks.next().map(|block| block.trim_start_matches("yaml").trim_start_matches('\n').to_owned());
        let mut kept = Vec::new();
        for paragraph in paragraphs {
            let paragraph = cut(&paragraph, "Example: ", |example| read.examples = quoted(example));
            let _ = cut(&paragraph, "Default: ", |default| {
                let bare = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
                let bare = bare.filter(|rest| !rest.contains('`'));
                read.default = Some(bare.unwrap_or(default).to_owned());
            });
            if !paragraph.is_empty() {
                kept.push(paragraph);
            }
        }
        read.text = kept.join("\n\n");
        read
    }

    /// The text without the sentence about the default.
    pub(super) fn body(&self) -> String {
        let paragraphs = self.text.split("\n\n").map(|paragraph| cut(paragraph, "Default: ", |_| {}));
        paragraphs.filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("\n\n")
    }

    /// The default as written, where it is a value and not words about one.
    pub(super) fn default_value(&self) -> Option<&str> {
        let text = self.default.as_deref()?;
        let word = !text.contains([' ', ',', '`']) || text.starts_with(['{', '[']);
        (word && !["none", "all", "any", "unknown", "one"].contains(&text)).then_some(text)
    }
}

/// What an example means as YAML.
pub(super) fn value(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}

/// Takes the sentence that begins with `mark` out of a paragraph. It ends with a full stop outside of
/// quotes, or with the paragraph.
fn cut(paragraph: &str, mark: &str, mut take: impl FnMut(&str)) -> String {
    let Some(at) = paragraph.find(mark) else { return paragraph.to_owned() };
    let sentence = &paragraph[at + mark.len()..];
    let mut quoted = false;
    let end = sentence.char_indices().find(|(at, c)| {
        quoted ^= *c == '`';
        !quoted && *c == '.' && sentence[at + 1..].chars().next().is_none_or(char::is_whitespace)
    });
    let end = end.map_or(sentence.len(), |(at, _)| at);
    take(&sentence[..end]);
    let rest = sentence.get(end + 1..).unwrap_or_default().trim();
    let before = paragraph[..at].trim_end();
    if before.is_empty() || rest.is_empty() { format!("{before}{rest}") } else { format!("{before} {rest}") }
}

/// The parts between backticks.
fn quoted(sentence: &str) -> Vec<String> {
    sentence.split('`').skip(1).step_by(2).filter(|part| !part.contains('…')).map(str::to_owned).collect()
}
