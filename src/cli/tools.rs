//! `tools`: the catalog as it is served.

use serde_json::Value;
use std::fmt::Write as _;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::{Table, harmless};
use super::target::Target;

/// List the tools that are served, or show one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib tools
  toolcrib tools hello             its description and what it takes
  toolcrib tools --all             prompts, resources and templates too
  toolcrib tools --output json | jq '.tools[].name'")]
pub(super) struct Tools {
    /// Published name of one tool.
    name: Option<String>,
    /// Prompts, resources and templates too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    target: Target,
}

impl Tools {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let catalog: Value = self.target.reads(context).get_json("/api/v1/catalog").await?;
        if let Some(name) = &self.name {
            let entry = entries(&catalog, "tools").iter().find(|entry| entry["name"] == **name);
            let Some(entry) = entry else {
                return Err(CliError::failure(format!("there is no tool `{name}`")).hint(
                    "`toolcrib tools` lists what is served; `toolcrib status` says what is not ready",
                ));
            };
            context.out.print(entry, || one(entry))?;
        } else {
            context.out.print(&catalog, || list(&catalog, self.all))?;
        }
        Ok(Exit::Success)
    }
}

fn entries<'a>(catalog: &'a Value, kind: &str) -> &'a [Value] {
    catalog[kind].as_array().map_or(&[][..], Vec::as_slice)
}

fn list(catalog: &Value, all: bool) -> String {
    let mut text = String::new();
    for (kind, title) in
        [("tools", "TOOL"), ("prompts", "PROMPT"), ("resources", "RESOURCE"), ("templates", "TEMPLATE")]
    {
        let mut table = Table::new([title, "FROM", "DESCRIPTION"]);
        for entry in entries(catalog, kind) {
            let definition = &entry["definition"];
            let about = definition["description"].as_str().or(definition["title"].as_str());
            let word = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
            table.row([&word("name"), &word("owner"), about.unwrap_or("-")]);
        }
        if !table.is_empty() && (all || kind == "tools") {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&table.text());
        }
    }
    if text.is_empty() { "No tools.\n".to_owned() } else { text }
}

fn one(entry: &Value) -> String {
    let definition = &entry["definition"];
    let mut text =
        format!("{} ({})\n", entry["name"].as_str().unwrap_or("-"), entry["owner"].as_str().unwrap_or("-"));
    if let Some(about) = definition["description"].as_str() {
        let _ = writeln!(text, "\n{}", harmless(about.trim_end()));
    }
    let schema = &definition["inputSchema"];
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let mut table = Table::new(["ARGUMENT", "TYPE", "REQUIRED", "DESCRIPTION"]);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let values = property["enum"].as_array().map(|values| {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            values.iter().map(text).collect::<Vec<_>>().join(" | ")
        });
        let kind = match &property["type"] {
            _ if values.is_some() => values.unwrap_or_default(),
            Value::String(kind) => kind.clone(),
            Value::Null => "any".to_owned(),
            other => other.to_string(),
        };
        let needed = if required.iter().any(|other| other == name) { "yes" } else { "no" };
        table.row([name, &kind, needed, property["description"].as_str().unwrap_or("-")]);
    }
    text.push('\n');
    text.push_str(&if table.is_empty() { "It takes no arguments.\n".to_owned() } else { table.text() });
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_shows() {
        let entry = json!({"name": "greet", "owner": "Tool/greet", "definition": {
            "description": "Says hello.\nTwice.",
            "inputSchema": {"properties": {"name": {"type": "string", "description": "Whom"}}, "required": ["name"]}
        }});
        let catalog =
            json!({"tools": [entry], "prompts": [{"name": "p", "owner": "Server/s", "definition": {}}]});
        assert_eq!(
            list(&catalog, false),
            "TOOL    FROM         DESCRIPTION\ngreet   Tool/greet   Says hello.\n"
        );
        assert!(list(&catalog, true).ends_with("\nPROMPT   FROM       DESCRIPTION\np        Server/s   -\n"));
        assert_eq!(list(&json!({"tools": []}), true), "No tools.\n");
        let text = one(&catalog["tools"][0]);
        assert!(
            text.contains("Says hello.\nTwice.") && text.contains("name       string   yes        Whom"),
            "{text}"
        );
    }
}
