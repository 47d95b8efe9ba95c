//! Catalogs of the Docker MCP gateway: servers as images, servers at addresses, and tools in containers.

use serde_json::Value;

use super::document::{Document, Draft, Need};
use super::environment::{self, Setting};
use super::fields::Fields;
use super::header::{self, Header};
use super::yaml::Map;
use super::{definitions, remote, shown};
use crate::resource::Kind;

pub(super) fn import(value: &Value, draft: &mut Draft<'_>) {
    let registry = value.get("registry").unwrap_or(value);
    let Some(entries) = Fields::of(registry, "registry", &mut draft.problems) else { return };
    for (name, entry) in entries.entries() {
        let path = format!("registry.{name}");
        let Some(mut fields) = Fields::of(entry, path, &mut draft.problems) else { continue };
        let kind = fields.text("type", &mut draft.problems).unwrap_or_default();
        if kind == "poci" {
            tools(name, &mut fields, draft);
        } else {
            server(name, fields, draft);
        }
    }
}

/// What tells about a server and does not run it.
const ABOUT: [&str; 14] = [
    "name",
    "dateAdded",
    "readme",
    "toolsUrl",
    "metadata",
    "tools",
    "prompts",
    "resources",
    "ref",
    "source",
    "upstream",
    "license",
    "policy",
    "longLived",
];

fn server(name: &str, mut fields: Fields<'_>, draft: &mut Draft<'_>) {
    fields.ignore(&ABOUT);
    let remarks = about(name, &mut fields, draft);
    let mut spec = Map::new();
    let remote_at = fields.object("remote", &mut draft.problems);
    let sse = fields.text("sseEndpoint", &mut draft.problems);
    if let Some(mut at) = remote_at.filter(|remote| remote.has("url")) {
        let url =
            at.required("url", "write the address of the server", &mut draft.problems).unwrap_or_default();
        let kind = at.text("transport_type", &mut draft.problems).unwrap_or_default();
        remote::source(name, &url, kind == "sse", &mut spec, draft);
        let headers = at.get("headers").and_then(Value::as_object);
        let headers = headers.into_iter().flatten();
        let header = |(name, value): (&String, &Value)| Some((name.clone(), super::fields::scalar(value)?));
        let headers: Vec<(String, String)> = headers.filter_map(header).collect();
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(name, value)| Header::new(name, value.as_str())).collect();
        header::put(name, &headers, &mut spec, draft);
        // They are for the headers, which name them.
        fields.ignore(&["secrets", "env", "config"]);
    } else if let Some(url) = sse {
        remote::source(name, &url, true, &mut spec, draft);
    } else {
        let hint = "write `image: name@sha256:…`, or `remote: {url: …}`";
        let Some(image) = fields.required("image", hint, &mut draft.problems) else { return };
        container(name, &image, &mut fields, &mut spec, draft);
        environment(name, &mut fields, &mut spec, draft);
    }
    if fields.get("oauth").is_some() {
        spec.remark("It asks each user to sign in (OAuth), for which there is no counterpart yet.");
        draft.note(name, "it asks each user to sign in (OAuth), for which there is no counterpart yet");
    }
    if let Some(prefix) = fields.text("prefix", &mut draft.problems) {
        let mut tools = Map::inline();
        tools.put("prefix", prefix);
        spec.put("tools", tools);
    }
    if let Some(icon) = fields.text("icon", &mut draft.problems).filter(|icon| icon.starts_with("https://")) {
        spec.put("icon", icon);
    }
    for (key, value) in fields.rest() {
        spec.remark(format!("`{key}` has no counterpart: {}", shown(key, value)));
    }
    let label = draft.name(Kind::Server, name);
    let mut document = Document::new(Kind::Server, label, spec);
    document.remarks = remarks;
    draft.add(document);
}

fn about(name: &str, fields: &mut Fields<'_>, draft: &mut Draft<'_>) -> Vec<String> {
    let title = fields.text("title", &mut draft.problems).unwrap_or_else(|| name.to_owned());
    match fields.text("description", &mut draft.problems) {
        Some(description) => vec![format!("{title}: {}", description.trim())],
        None => Vec::new(),
    }
}

fn container(name: &str, image: &str, fields: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    draft.need(Need::Docker);
    let command = fields.texts("command", &mut draft.problems).unwrap_or_default();
    let args = environment::arguments(name, command, spec, draft);
    let mut source = Map::new();
    if args.is_empty() {
        source.put("image", image);
    } else {
        let mut full = Map::inline();
        full.put("ref", image).put("args", args);
        source.put("image", full);
    }
    spec.put("source", source);
    if let Some(user) = fields.text("user", &mut draft.problems).filter(|user| !user.contains("{{")) {
        let mut security = Map::inline();
        security.put("user", user);
        spec.put("security", security);
    }
    let volumes = fields.texts("volumes", &mut draft.problems).unwrap_or_default();
    for volume in &volumes {
        spec.remark(format!("It mounted a folder of the machine, `{volume}`: containers here see none."));
        draft.note(name, format!("the mount `{volume}` has no counterpart"));
    }
    let hosts = fields.texts("allowHosts", &mut draft.problems).unwrap_or_default();
    let isolated = fields.truth("disableNetwork") == Some(true);
    if !hosts.is_empty() && !isolated {
        spec.put("egress", hosts);
    } else if !isolated {
        spec.remark("It could reach the whole network; here a container reaches only what `egress` names.");
    }
}

fn environment(name: &str, fields: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    let mut env = Map::new();
    for entry in fields.list("secrets", &mut draft.problems) {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let Some(own) = text("env").or(text("name")) else { continue };
        let about = text("description").map(|about| about.trim().to_owned());
        let setting = Setting { name: own, value: None, secret: true, about };
        environment::put(&mut env, name, &setting, draft);
    }
    let config = fields.list("config", &mut draft.problems);
    for entry in fields.list("env", &mut draft.problems) {
        let text = |key: &str| entry.get(key).and_then(super::fields::scalar);
        let Some(own) = text("name") else { continue };
        let value = text("value").unwrap_or_default();
        let (value, about) = configured(&value, config);
        let setting = Setting { name: &own, value: Some(&value), secret: false, about };
        environment::put(&mut env, name, &setting, draft);
    }
    if !env.is_empty() {
        spec.put("env", env);
    }
}

/// `{{server.field}}` and `{{server.field|or:"text"}}`: the default that is told, and what the field is.
fn configured(value: &str, config: &[Value]) -> (String, Option<String>) {
    let Some(inner) = value.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else {
        return (value.to_owned(), None);
    };
    let (path, filters) = inner.split_once('|').unwrap_or((inner, ""));
    let field = path.rsplit('.').next().unwrap_or(path);
    let property = config.iter().find_map(|entry| entry.get("properties")?.get(field));
    let about = property.and_then(|property| property.get("description")).and_then(Value::as_str);
    let about = about.map(|about| about.trim().to_owned());
    let given = filters.strip_prefix("or:").map(|text| text.trim_matches(['"', '\'']).to_owned());
    let default = property.and_then(|property| property.get("default")).and_then(super::fields::scalar);
    (given.or(default).unwrap_or_else(|| value.to_owned()), about)
}

/// Tools that run in a container for each call are ours already, but for the spelling.
fn tools(name: &str, fields: &mut Fields<'_>, draft: &mut Draft<'_>) {
    let place = fields.place("tools");
    for (at, entry) in fields.list("tools", &mut draft.problems).iter().enumerate() {
        let path = format!("{place}[{at}]");
        if let Some(tool) = Fields::of(entry, path, &mut draft.problems) {
            definitions::tool(tool, None, draft);
        }
    }
    if fields.has("secrets") || fields.has("env") {
        draft.note(name, "secrets and variables of these tools are not imported: write them below `env`");
    }
}
