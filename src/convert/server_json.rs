//! `server.json` of the MCP registry: the types, as its schema of 2025-12-11 has them.
//!
//! What is written by `export` and served by the registry of the daemon. What others wrote is read field by
//! field instead ([`super::registry`]), since a file of a person has faults to tell of.

use serde::Serialize;
use std::collections::BTreeMap;

/// The schema that a `server.json` names.
pub const SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";
/// Characters of a title or description: what the schema allows.
pub const MAX_TEXT: usize = 100;
/// Characters of an icon's address: what the schema allows.
const MAX_ICON: usize = 255;
/// Characters of a name: what the schema allows.
const MAX_NAME: usize = 200;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerJson {
    #[serde(rename = "$schema")]
    pub schema: &'static str,
    /// Reverse DNS, one slash, and a word: `io.github.owner/name`.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub description: String,
    pub version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub icons: Vec<Icon>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<Transport>,
}

/// An image for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Icon {
    pub src: String,
}

/// One way to start it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// `pypi`, `npm` or `oci`.
    pub registry_type: &'static str,
    /// The name of a package, or the whole reference of an image.
    pub identifier: String,
    /// None of an image, whose reference has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_hint: Option<&'static str>,
    pub transport: Transport,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_arguments: Vec<Argument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub package_arguments: Vec<Argument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment_variables: Vec<Named>,
}

/// How it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Transport {
    Stdio,
    StreamableHttp {
        url: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        headers: Vec<Named>,
    },
    Sse {
        url: String,
    },
}

/// An argument of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Argument {
    /// A word as it stands.
    Positional(Word),
    /// An option and its value.
    Named { name: &'static str, value: String },
}

/// A word of a command, or what somebody has to put there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Word {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_hint: Option<String>,
    #[serde(flatten)]
    pub input: Input,
}

/// A variable of the environment, or a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    pub name: String,
    #[serde(flatten)]
    pub input: Input,
    /// What `{curly_braces}` in its value stand for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Input>,
}

/// Something that is given, or asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As it is, and nobody is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What holds unless somebody says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub is_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub is_secret: bool,
}

impl Input {
    /// A secret that has to be given.
    pub fn secret() -> Self {
        Self { is_required: true, is_secret: true, ..Self::default() }
    }
}

impl ServerJson {
    /// One with nothing but what each has.
    pub fn new(name: String, description: &str, version: &str) -> Self {
        Self {
            schema: SCHEMA,
            name,
            title: None,
            description: text(description),
            version: version.to_owned(),
            icons: Vec::new(),
            packages: Vec::new(),
            remotes: Vec::new(),
        }
    }
}

/// Text on one line, as long as the schema allows.
pub fn text(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_TEXT {
        return line;
    }
    line.chars().take(MAX_TEXT - 1).chain(['…']).collect()
}

/// An icon, if its address is one that a `server.json` may name.
pub fn icon(src: &str) -> Option<Icon> {
    (src.starts_with("https://") && src.len() <= MAX_ICON).then(|| Icon { src: src.to_owned() })
}

/// Whether the registry takes a name: reverse DNS, one slash, and a word.
pub fn is_name(name: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    (3..=MAX_NAME).contains(&name.len())
        && name.split_once('/').is_some_and(|(space, own)| is_namespace(space) && word(own))
}

/// Whether names can begin with it: reverse DNS, such as `io.github.owner`.
pub fn is_namespace(space: &str) -> bool {
    !space.is_empty() && space.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(truth: &bool) -> bool {
    !truth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_registry() {
        for (name, fits) in [
            ("io.github.acme/tools", true),
            ("acme/x", true),
            ("acme", false),
            ("a/b/c", false),
            ("a b/c", false),
            ("a_b/c", false),
            ("/c", false),
        ] {
            assert_eq!(is_name(name), fits, "{name}");
        }
        assert_eq!(text(" a\n b "), "a b");
        assert_eq!(text(&"x".repeat(101)).chars().count(), MAX_TEXT);
    }
}
