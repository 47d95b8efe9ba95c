//! Definitions of containerised tools: `tool_definition` with its image, arguments and parameters.

use serde_json::Value;

use super::document::{Document, Draft, Need};
use super::environment::{self, Setting};
use super::fields::Fields;
use super::parameters::{self, Parameters};
use super::yaml::{Map, Yaml};
use super::{clients, name, shown};
use crate::resource::{Kind, Period};

pub(super) fn import(value: &Value, draft: &mut Draft<'_>) {
    match value {
        Value::Array(entries) => {
            for (at, entry) in entries.iter().enumerate() {
                one(entry, &format!("[{at}]"), None, draft);
            }
        }
        Value::Object(fields) if named(fields) => {
            for (name, entry) in fields {
                one(entry, name, Some(name), draft);
            }
        }
        other => one(other, "", None, draft),
    }
}

/// Whether the tools stand under their names: `kubectl: {image: …}`.
fn named(fields: &serde_json::Map<String, Value>) -> bool {
    let own = ["name", "image", "container", "tool_definition", "tools"];
    !own.iter().any(|key| fields.contains_key(*key)) && fields.values().all(Value::is_object)
}

fn one(entry: &Value, path: &str, name: Option<&str>, draft: &mut Draft<'_>) {
    let inner = entry.get("tool_definition").unwrap_or(entry);
    if let Some(tools) = inner.get("tools").and_then(Value::as_array) {
        for (at, tool) in tools.iter().enumerate() {
            one(tool, &format!("{path}tools[{at}]"), None, draft);
        }
        return;
    }
    if let Some(fields) = Fields::of(inner, path, &mut draft.problems) {
        tool(fields, name, draft);
    }
}

/// What is executed.
struct Program {
    image: Option<String>,
    command: Vec<String>,
    args: Vec<String>,
}

pub(super) fn tool(mut fields: Fields<'_>, under: Option<&str>, draft: &mut Draft<'_>) {
    let hint = "give the tool a name, such as `kubectl`";
    let own = match under {
        Some(name) => fields.text("name", &mut draft.problems).unwrap_or_else(|| name.to_owned()),
        None => match fields.required("name", hint, &mut draft.problems) {
            Some(name) => name,
            None => return,
        },
    };
    fields.ignore(&["type", "mermaid", "version"]);
    if fields.has("content") || fields.has("script") {
        draft.skip(
            &own,
            "it is a script that reads its arguments from variables: write the command and its `args`",
        );
        return;
    }
    let Some(program) = program(&own, &mut fields, draft) else { return };
    let mut spec = Map::new();
    let label = draft.name(Kind::Tool, &own);
    if label.as_str() != own && parameters::is_published(&own) {
        spec.put("publishAs", own.as_str());
    }
    if let Some(title) = fields.text("title", &mut draft.problems) {
        spec.put("title", title);
    }
    describe(&own, &mut fields, &program, &mut spec, draft);
    if let Some(annotations) = fields.get("annotations").filter(|value| value.is_object()) {
        spec.put("annotations", annotations);
    }
    let mut parameters = parameters::read(&own, &mut fields, draft);
    execution(&own, program, &mut parameters, &mut spec, draft);
    parameters.write(&mut spec);
    integrations(&own, &mut fields, &mut spec, draft);
    environment(&own, &mut fields, &mut spec, draft);
    limits(&mut fields, &mut spec, draft);
    for (key, value) in fields.rest() {
        spec.remark(format!("`{key}` has no counterpart: {}", shown(key, value)));
        draft.note(&own, format!("the field `{key}` has no counterpart"));
    }
    draft.add(Document::new(Kind::Tool, label, spec));
}

fn program(own: &str, fields: &mut Fields<'_>, draft: &mut Draft<'_>) -> Option<Program> {
    let problems = &mut draft.problems;
    let mut container = fields.object("container", problems);
    // A list of objects in `args` declares parameters.
    let declares = |value: &Value| value.as_array().is_some_and(|items| items.iter().any(Value::is_object));
    let source = container.as_mut().unwrap_or(fields);
    let image = source.text("image", problems);
    let command = source.any(&["command", "entrypoint"]).cloned();
    let command = match command {
        Some(Value::String(line)) => line.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(super::fields::scalar).collect(),
        _ => Vec::new(),
    };
    let listed = source.entries().any(|(key, value)| key == "args" && declares(value));
    let args = if listed { Vec::new() } else { source.texts("args", problems).unwrap_or_default() };
    if let Some(container) = container {
        for (key, value) in container.rest() {
            draft.note(own, format!("`container.{key}` has no counterpart: {}", shown(key, value)));
        }
    }
    if image.is_none() && command.is_empty() {
        draft.problems.add(
            &fields.path,
            format!("`{own}` says nothing to run"),
            "name an `image` or a `command`",
        );
        return None;
    }
    Some(Program { image, command, args })
}

fn describe(own: &str, fields: &mut Fields<'_>, program: &Program, spec: &mut Map, draft: &mut Draft<'_>) {
    let description = fields.text("description", &mut draft.problems).filter(|text| !text.trim().is_empty());
    if let Some(description) = description {
        spec.put("description", description.trim_end());
        return;
    }
    let what = program.image.clone().unwrap_or_else(|| program.command.join(" "));
    spec.remark("Say what it does and when to use it: models choose by this.");
    spec.put("description", format!("Runs {own} ({what})."));
    draft.note(own, "it had no description: models choose by it");
}

fn execution(
    own: &str,
    program: Program,
    parameters: &mut Parameters,
    spec: &mut Map,
    draft: &mut Draft<'_>,
) {
    let Program { image, command, args } = program;
    draft.need(if image.is_some() { Need::Docker } else { Need::Process });
    if let Some(image) = image {
        spec.put("image", image);
    }
    // Placeholders in the command itself are arguments like others.
    let fixed =
        command.iter().position(|word| word.contains("${") || word.contains("{{")).unwrap_or(command.len());
    let (command, more) = command.split_at(fixed);
    if !command.is_empty() {
        spec.put("command", command.to_vec());
    }
    let args: Vec<String> = more.iter().chain(&args).map(|arg| parameters.fill(own, arg, draft)).collect();
    if args.is_empty() {
        return;
    }
    for remark in parameters.remarks.drain(..) {
        spec.remark(remark);
    }
    let optional = |arg: &String| parameters.only_optional(arg);
    let args = args.iter().map(|arg| match optional(arg) {
        Some(name) => {
            let mut when = Map::inline();
            when.put("if", name).put("args", vec![arg.clone()]);
            Yaml::Map(when)
        }
        None => Yaml::Text(arg.clone()),
    });
    spec.put("args", Yaml::List(args.collect()));
}

fn integrations(own: &str, fields: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    let mut names = Vec::new();
    for entry in fields.list("integrations", &mut draft.problems) {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let Some(wanted) = entry.as_str().or(text("name")).or(text("type")) else { continue };
        let label = name::label(wanted);
        if entry.get("required").and_then(Value::as_bool) == Some(false) {
            spec.remark(format!("`{label}` was not required."));
        }
        draft.integration(&label, text("type"));
        names.push(label.to_string());
    }
    if !names.is_empty() {
        draft.note(own, format!("say what it gets from: {}", names.join(", ")));
        spec.put("integrations", names);
    }
}

fn environment(own: &str, fields: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    let mut env = Map::new();
    for key in ["env", "environment", "secrets"] {
        let secret = key == "secrets";
        match fields.get(key) {
            Some(Value::Object(variables)) => {
                for (name, value) in variables {
                    let value = super::fields::scalar(value);
                    let setting = Setting { name, value: value.as_deref(), secret, about: None };
                    environment::put(&mut env, own, &setting, draft);
                }
            }
            Some(Value::Array(names)) => {
                for entry in names {
                    let text = |key: &str| entry.get(key).and_then(Value::as_str);
                    let Some(name) = entry.as_str().or(text("name")) else { continue };
                    let (name, value) = match name.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (name, text("value")),
                    };
                    environment::put(&mut env, own, &Setting { name, value, secret, about: None }, draft);
                }
            }
            _ => {}
        }
    }
    if !env.is_empty() {
        spec.put("env", env);
    }
}

fn limits(fields: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    let key = if fields.has("resource_requirements") { "resource_requirements" } else { "resources" };
    if let Some(mut wanted) = fields.object(key, &mut draft.problems) {
        let mut resources = Map::inline();
        let (memory, cpu) =
            (wanted.text("memory", &mut draft.problems), wanted.text("cpu", &mut draft.problems));
        if let Some(memory) = memory {
            let ours = crate::resource::Memory::parse(&memory).is_ok();
            resources.put("memory", if ours { memory } else { clients::quantity(&memory).unwrap_or(memory) });
        }
        if let Some(cpu) = cpu {
            let plain = cpu.parse::<f64>().is_ok();
            resources.put("cpu", if plain { Yaml::Plain(cpu) } else { Yaml::Text(cpu) });
        }
        if let Some(disk) = wanted.text("ephemeral-storage", &mut draft.problems) {
            let ours = crate::resource::Memory::parse(&disk).is_ok();
            resources
                .put("ephemeralStorage", if ours { disk } else { clients::quantity(&disk).unwrap_or(disk) });
        }
        for (key, value) in wanted.rest() {
            spec.remark(format!("`{key}` of the resources has no counterpart: {}", shown(key, value)));
        }
        if !resources.is_empty() {
            spec.put("resources", resources);
        }
    }
    let key = if fields.has("execution_timeout") { "execution_timeout" } else { "timeout" };
    if let Some(timeout) = fields.text(key, &mut draft.problems) {
        match Period::parse(&timeout) {
            Ok(_) if timeout.ends_with(|c: char| c.is_ascii_digit()) => {
                spec.put("timeout", format!("{timeout}s"))
            }
            Ok(_) => spec.put("timeout", timeout),
            Err(_) => {
                let message = format!("`{timeout}` is not a length of time");
                draft.problems.add(&fields.place(key), message, "write `300s` or `5m`");
                spec
            }
        };
    }
}
