//! The document a policy sees as `input`.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// What is asked about. Parts that are not known yet are left out of the document, so that rules
/// that need them are undefined.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    pub entry: Option<EntryFacts<'a>>,
    pub tool: Option<ToolFacts<'a>>,
    pub user: Option<&'a Principal>,
    pub runner: Option<RunnerFacts<'a>>,
}

/// `input.entry`: one thing that a list may hold.
#[derive(Clone, Copy, Debug)]
pub struct EntryFacts<'a> {
    /// `tool`, `prompt`, `resource` or `template`.
    pub kind: &'a str,
    /// The published name, or the URI.
    pub name: &'a str,
    /// `Tool/kubectl` or `Server/weather`.
    pub resource: &'a str,
    /// The server's name, where it is a server's.
    pub server: Option<&'a str>,
}

/// `input.tool`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToolFacts<'a> {
    /// The published name.
    pub name: &'a str,
    /// `Tool/kubectl` or `Server/weather`.
    pub resource: &'a str,
    /// The server's name, of a server's tool.
    pub server: Option<&'a str>,
    pub image: Option<&'a str>,
    pub annotations: Option<&'a Map<String, Value>>,
    pub args: Option<&'a Map<String, Value>>,
    pub argv: Option<&'a [String]>,
}

/// `input.user`: who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Principal {
    pub name: String,
    pub groups: Vec<String>,
    /// Of its token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// `input.runner`. Attributes stand below `attributes`, and also beside `name` and `type` where the
/// names do not clash: `input.runner.cluster`.
#[derive(Clone, Copy, Debug)]
pub struct RunnerFacts<'a> {
    pub name: &'a str,
    /// `docker` or `process`.
    pub kind: &'a str,
    pub attributes: &'a Map<String, Value>,
}

impl Input<'_> {
    pub fn document(&self) -> Value {
        let mut document = Map::new();
        if let Some(entry) = &self.entry {
            document.insert("entry".to_owned(), entry.document());
        }
        if let Some(tool) = &self.tool {
            document.insert("tool".to_owned(), tool.document());
        }
        if let Some(user) = self.user {
            document.insert("user".to_owned(), json!(user));
        }
        if let Some(runner) = &self.runner {
            document.insert("runner".to_owned(), runner.document());
        }
        Value::Object(document)
    }
}

impl EntryFacts<'_> {
    fn document(&self) -> Value {
        let Self { kind, name, resource, server } = *self;
        let mut entry = json!({"kind": kind, "name": name, "resource": resource});
        if let (Some(server), Some(entry)) = (server, entry.as_object_mut()) {
            entry.insert("server".to_owned(), server.into());
        }
        entry
    }
}

impl ToolFacts<'_> {
    fn document(&self) -> Value {
        let Self { name, resource, server, image, annotations, args, argv } = *self;
        let mut tool = Map::new();
        tool.insert("name".to_owned(), name.into());
        tool.insert("resource".to_owned(), resource.into());
        let parts = [
            ("server", server.map(Value::from)),
            ("image", image.map(Value::from)),
            ("annotations", annotations.cloned().map(Value::Object)),
            ("args", args.cloned().map(Value::Object)),
            ("argv", argv.map(|argv| json!(argv))),
        ];
        tool.extend(parts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        Value::Object(tool)
    }
}

impl RunnerFacts<'_> {
    pub(super) fn document(&self) -> Value {
        let mut runner = self.attributes.clone();
        runner.insert("name".to_owned(), self.name.into());
        runner.insert("type".to_owned(), self.kind.into());
        runner.insert("attributes".to_owned(), Value::Object(self.attributes.clone()));
        Value::Object(runner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_stand_beside_name_and_type_unless_they_clash() {
        let attributes = json!({"cluster": "production", "name": "liar"});
        let attributes = attributes.as_object().unwrap();
        let user =
            Principal { name: "ada".to_owned(), groups: vec!["admin".to_owned()], ..Principal::default() };
        let input = Input {
            entry: None,
            tool: Some(ToolFacts { name: "kubectl", resource: "Tool/kubectl", ..ToolFacts::default() }),
            user: Some(&user),
            runner: Some(RunnerFacts { name: "local", kind: "docker", attributes }),
        };
        let expected = json!({
            "tool": {"name": "kubectl", "resource": "Tool/kubectl"},
            "user": {"name": "ada", "groups": ["admin"]},
            "runner": {
                "name": "local", "type": "docker", "cluster": "production",
                "attributes": {"cluster": "production", "name": "liar"},
            },
        });
        assert_eq!(input.document(), expected);
    }
}
