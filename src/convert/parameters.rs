//! Parameters of a foreign tool, and the placeholders that they fill.

use serde_json::{Map as Json, Value, json};

use super::document::Draft;
use super::fields::Fields;
use super::shown;
use super::yaml::{Map, Yaml};

/// Keywords of JSON Schema that pass as they are.
const KEYWORDS: [&str; 17] = [
    "title",
    "description",
    "default",
    "enum",
    "const",
    "examples",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "items",
    "minItems",
    "maxItems",
    "properties",
    "additionalProperties",
];
/// A parameter of that name that fills one argument alone is a whole command line, by custom.
const LINES: [&str; 5] = ["command", "cmd", "args", "arguments", "command_line"];

/// In their order, with what has to be said about the arguments they fill.
#[derive(Default)]
pub(super) struct Parameters {
    list: Vec<(String, Json<String, Value>)>,
    pub(super) remarks: Vec<String>,
    /// What has no counterpart, said before the parameters.
    left: Vec<String>,
}

/// Whether a name can be published as it is.
pub(super) fn is_published(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// From `parameters` by name or as JSON Schema, `input_schema`, or a list `args` of objects.
pub(super) fn read(own: &str, fields: &mut Fields<'_>, draft: &mut Draft<'_>) -> Parameters {
    let mut found = Parameters::default();
    match fields.any(&["parameters", "inputSchema", "input_schema"]) {
        Some(Value::Object(schema)) if schema.get("properties").is_some_and(Value::is_object) => {
            let required: Vec<&str> = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (name, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                found.add(name, value, required.contains(&name.as_str()));
            }
        }
        Some(Value::Object(parameters)) => {
            for (name, value) in parameters {
                found.add(name, value, false);
            }
        }
        Some(Value::Array(list)) => found.listed(list),
        Some(_) => {
            let hint = "write them by name: `{city: {type: string}}`";
            draft.problems.add(
                &fields.place("parameters"),
                format!("the parameters of `{own}` are no object"),
                hint,
            );
        }
        None => {}
    }
    if let Some(Value::Array(list)) = fields.any(&["args", "arguments"])
        && list.iter().any(Value::is_object)
    {
        found.listed(list);
    }
    found
}

impl Parameters {
    fn listed(&mut self, list: &[Value]) {
        for entry in list {
            if let Some(name) = entry.get("name").and_then(Value::as_str) {
                let mut schema = entry.clone();
                if let Some(schema) = schema.as_object_mut() {
                    schema.shift_remove("name");
                    if schema.shift_remove("optional") == Some(json!(false)) {
                        schema.insert("required".to_owned(), json!(true));
                    }
                }
                self.add(name, &schema, false);
            }
        }
    }

    fn add(&mut self, name: &str, declared: &Value, required: bool) {
        let empty = Json::new();
        let fields = declared.as_object().unwrap_or(&empty);
        let kind =
            declared.as_str().or_else(|| fields.get("type").and_then(Value::as_str)).unwrap_or("string");
        let kind = type_of(kind);
        let mut schema = Json::new();
        if kind != "string" {
            schema.insert("type".to_owned(), json!(kind));
        }
        for (key, value) in fields {
            let key = match key.as_str() {
                "desc" => "description",
                "options" | "choices" => "enum",
                key => key,
            };
            match key {
                "type" | "required" => {}
                "default" => {
                    if let Some(value) = typed(value, kind) {
                        schema.insert(key.to_owned(), value);
                    }
                }
                "description" => {
                    schema.insert(key.to_owned(), json!(value.as_str().unwrap_or_default().trim_end()));
                }
                key if KEYWORDS.contains(&key) => {
                    schema.insert(key.to_owned(), value.clone());
                }
                key => {
                    self.left.push(format!("`{key}` of `{name}` has no counterpart: {}", shown(key, value)));
                }
            }
        }
        if required || fields.get("required").and_then(Value::as_bool) == Some(true) {
            schema.insert("required".to_owned(), json!(true));
        }
        self.list.push((spelled(name), schema));
    }

    fn find(&self, name: &str) -> Option<usize> {
        let exact = self.list.iter().position(|(other, _)| other == name);
        exact.or_else(|| self.list.iter().position(|(other, _)| other.eq_ignore_ascii_case(name)))
    }

    /// An argument with the placeholders of ours: `${COMMAND}` and `{{command}}` as `${command}`. What
    /// fits no parameter stays as it is written.
    pub(super) fn fill(&mut self, own: &str, arg: &str, draft: &mut Draft<'_>) -> String {
        let (mut out, mut rest, mut filled) = (String::new(), arg, Vec::new());
        while let Some((before, open, inner, after)) = placeholder(rest) {
            out.push_str(before);
            let word = inner.split('|').next().unwrap_or(inner).trim();
            if let Some(at) = self.find(word) {
                let (name, schema) = &self.list[at];
                let whole = before.is_empty() && after.is_empty() && out.is_empty();
                let spread = if whole && schema.get("type") == Some(&json!("array")) { "..." } else { "" };
                out.extend(["${", name, spread, "}"]);
                filled.push(at);
            } else {
                let literal = if open == "${" { ["$${", inner, "}"] } else { ["{{", inner, "}}"] };
                out.extend(literal);
                self.remarks
                    .push(format!("`{inner}` is no parameter of this tool: it is passed as it is written."));
                draft.note(own, format!("`{inner}` is no parameter, and is passed as it is written"));
            }
            rest = after;
        }
        out.push_str(rest);
        if let [at] = filled.as_slice()
            && out == format!("${{{}}}", self.list[*at].0)
        {
            self.line(*at);
        }
        out
    }

    /// A parameter that holds a whole command line is split in words, as its author meant it.
    fn line(&mut self, at: usize) {
        let (name, schema) = &mut self.list[at];
        let text = !schema.contains_key("type");
        if text && LINES.contains(&name.to_ascii_lowercase().as_str()) {
            schema.insert("split".to_owned(), json!("words"));
            schema.insert("allowDash".to_owned(), json!(true));
            self.remarks.push(format!(
                "`{name}` is a whole command line: it is split in words (no shell), and options are let through."
            ));
        }
    }

    /// The parameter an argument consists of, when calls may leave it out and it then has no value.
    pub(super) fn only_optional(&self, arg: &str) -> Option<&str> {
        let inside: Vec<&str> = arg.split("${").skip(1).filter_map(|part| part.split('}').next()).collect();
        let optional = |(name, schema): &&(String, Json<String, Value>)| {
            inside.contains(&name.as_str())
                && !schema.contains_key("required")
                && !schema.contains_key("default")
        };
        let (name, _) = self.list.iter().filter(|_| !arg.contains("$${")).find(optional)?;
        // An argument that is nothing else is left out by itself.
        (arg != format!("${{{name}}}")).then_some(name)
    }

    pub(super) fn write(self, spec: &mut Map) {
        for remark in self.left {
            spec.remark(remark);
        }
        if self.list.is_empty() {
            return;
        }
        let mut parameters = Map::new();
        for (name, schema) in &self.list {
            parameters.put(name, &Value::Object(schema.clone()));
        }
        spec.put("parameters", Yaml::Map(parameters));
    }
}

/// What stands before a placeholder, how it begins, what is in it, and what follows.
fn placeholder(text: &str) -> Option<(&str, &str, &str, &str)> {
    let dollar = text.find("${").and_then(|at| Some((at, "${", text[at + 2..].find('}')? + at + 2, 1)));
    let braces = text.find("{{").and_then(|at| Some((at, "{{", text[at + 2..].find("}}")? + at + 2, 2)));
    let (at, open, end, length) = match (dollar, braces) {
        (Some(one), Some(other)) => {
            if one.0 < other.0 {
                one
            } else {
                other
            }
        }
        (one, other) => one.or(other)?,
    };
    Some((&text[..at], open, &text[at + 2..end], &text[end + length..]))
}

/// A name that parameters can have; all capitals were those of the shell.
fn spelled(name: &str) -> String {
    let capitals = !name.chars().any(char::is_lowercase);
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' })
        .collect();
    if capitals { name.to_ascii_lowercase() } else { name }
}

fn type_of(kind: &str) -> &'static str {
    match kind.to_ascii_lowercase().as_str() {
        "int" | "integer" => "integer",
        "float" | "double" | "number" => "number",
        "bool" | "boolean" => "boolean",
        "list" | "array" => "array",
        "dict" | "map" | "object" => "object",
        _ => "string",
    }
}

/// A default of its parameter's type; `"5"` of a number is 5, and the empty text of one is none.
fn typed(value: &Value, kind: &str) -> Option<Value> {
    let Some(text) = value.as_str() else { return Some(value.clone()) };
    match kind {
        "integer" | "number" | "boolean" | "array" | "object" => serde_json::from_str(text).ok(),
        _ => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_find_their_parameter() {
        let mut parameters = Parameters::default();
        parameters.add("command", &json!({"type": "string", "required": true}), false);
        parameters.add("PATHS", &json!({"type": "list"}), false);
        parameters.add("namespace", &json!("str"), false);
        let target = super::super::Target::default();
        let mut draft = Draft::new(&target);
        let mut check =
            |arg: &str, expected: &str| assert_eq!(parameters.fill("x", arg, &mut draft), expected, "{arg}");
        check("${COMMAND}", "${command}");
        check("${paths}", "${paths...}");
        check("-n=${NAMESPACE}", "-n=${namespace}");
        check("{{namespace}}", "${namespace}");
        check("${HOME}/x", "$${HOME}/x");
        check("plain", "plain");
        assert_eq!(parameters.only_optional("-n=${namespace}"), Some("namespace"));
        assert_eq!(parameters.only_optional("${namespace}"), None);
        assert_eq!(parameters.only_optional("x ${command}"), None);
        assert_eq!(parameters.list[0].1["split"], "words");
        assert_eq!(typed(&json!("5"), "integer"), Some(json!(5)));
        assert_eq!(typed(&json!(""), "integer"), None);
    }
}
