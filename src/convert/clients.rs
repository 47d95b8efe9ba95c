//! What desktop clients and editors are configured with: `mcpServers` and its kin.

use serde_json::{Map as Json, Value};

use super::command::{self, Launch, Package};
use super::detect::CLIENT_KEYS;
use super::docker;
use super::document::{Document, Draft, Need};
use super::environment::{self, Setting};
use super::fields::Fields;
use super::header::{self, Header};
use super::shown;
use super::yaml::Map;
use crate::resource::Kind;

pub(super) fn import(value: &Value, draft: &mut Draft<'_>) {
    let Some(top) = value.as_object() else {
        let hint = "the file begins with `{ \"mcpServers\": {`, or the like";
        draft.problems.add("", "the file is not an object", hint);
        return;
    };
    inputs(top, draft);
    let (servers, path) = servers(top);
    for (name, entry) in servers {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if let Some(fields) = Fields::of(entry, path, &mut draft.problems) {
            server(name, fields, draft);
        }
    }
    let projects = top.get("projects").and_then(Value::as_object).into_iter().flatten();
    for (folder, project) in projects {
        if project.get("mcpServers").and_then(Value::as_object).is_some_and(|servers| !servers.is_empty()) {
            draft.note(
                "",
                format!("servers of the project `{folder}` were not imported: give that part as a file"),
            );
        }
    }
}

/// The servers, and where they were.
fn servers(top: &Json<String, Value>) -> (&Json<String, Value>, &'static str) {
    for key in CLIENT_KEYS {
        match (key, top.get(key).and_then(Value::as_object)) {
            ("projects", _) | (_, None) => {}
            // Settings of VS Code hold `mcp: {inputs, servers}`.
            ("mcp", Some(mcp)) => match mcp.get("servers").and_then(Value::as_object) {
                Some(servers) => return (servers, "mcp.servers"),
                None => return (mcp, "mcp"),
            },
            (key, Some(servers)) => return (servers, key),
        }
    }
    (top, "")
}

/// What VS Code asks its user for.
fn inputs(top: &Json<String, Value>, draft: &mut Draft<'_>) {
    let nested = top.get("mcp").and_then(|mcp| mcp.get("inputs"));
    for input in top.get("inputs").or(nested).and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| input.get(key).and_then(Value::as_str);
        if let Some((id, about)) = text("id").zip(text("description")) {
            draft.inputs.insert(id.to_owned(), about.to_owned());
        }
    }
}

fn server(name: &str, mut fields: Fields<'_>, draft: &mut Draft<'_>) {
    if fields.truth("disabled") == Some(true) || fields.truth("enabled") == Some(false) {
        draft.note(name, "it is switched off in the file, and imported all the same");
    }
    // What says when a client asks its user, or how long it waits for the start, is the client's.
    fields.ignore(&[
        "source",
        "gallery",
        "version",
        "alwaysAllow",
        "autoApprove",
        "trust",
        "dev",
        "startup_timeout_sec",
    ]);
    let url = fields.any(&["url", "serverUrl", "httpUrl", "server_url"]).and_then(Value::as_str);
    let mut spec = Map::new();
    let written = match url {
        Some(url) => remote(name, url, &mut fields, &mut spec, draft),
        None => local(name, &mut fields, &mut spec, draft),
    };
    if !written {
        return;
    }
    filters(&mut fields, &mut spec, draft);
    timeout(&mut fields, &mut spec);
    for (key, value) in fields.rest() {
        spec.remark(format!("`{key}` has no counterpart: {}", shown(key, value)));
    }
    let label = draft.name(Kind::Server, name);
    draft.add(Document::new(Kind::Server, label, spec));
}

fn remote(name: &str, url: &str, fields: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) -> bool {
    let kind = fields.any(&["type", "transport", "transportType"]).and_then(Value::as_str).unwrap_or("http");
    super::remote::source(name, url, kind == "sse", spec, draft);
    let texts = |value: Option<&Value>| -> Vec<(String, String)> {
        let pairs = value.and_then(Value::as_object).into_iter().flatten();
        pairs.filter_map(|(name, value)| Some((name.clone(), super::fields::scalar(value)?))).collect()
    };
    let nested = fields.get("requestInit").and_then(|init| init.get("headers"));
    let mut sent = texts(fields.any(&["headers", "http_headers"]).or(nested));
    // Codex names variables: of whole headers, and of a token.
    let named = texts(fields.get("env_http_headers")).into_iter();
    sent.extend(named.map(|(header, variable)| (header, format!("${{{variable}}}"))));
    if let Some(variable) = fields.get("bearer_token_env_var").and_then(Value::as_str) {
        sent.push(("Authorization".to_owned(), format!("Bearer ${{{variable}}}")));
    }
    let headers: Vec<Header<'_>> =
        sent.iter().map(|(name, value)| Header::new(name, value.as_str())).collect();
    header::put(name, &headers, spec, draft);
    true
}

fn local(name: &str, fields: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) -> bool {
    fields.ignore(&["type", "transport", "transportType"]);
    let hint = "write `\"command\": \"npx\", \"args\": [...]`, or `\"url\": \"https://…\"`";
    // Zed once wrote `command: {path, args, env}`, others write the whole as one list.
    let nested = fields.get("command").and_then(Value::as_object);
    let mut inner = nested.map(|map| Fields::new(map, fields.place("command")));
    let problems = &mut draft.problems;
    let (command, more) = match &mut inner {
        Some(inner) => (inner.required("path", hint, problems), inner.texts("args", problems)),
        None => match fields.get("command") {
            Some(Value::Array(_)) => {
                let mut words = fields.texts("command", problems).unwrap_or_default().into_iter();
                (words.next(), Some(words.collect()))
            }
            _ => (fields.required("command", hint, problems), None),
        },
    };
    let mut args = more.unwrap_or_default();
    args.extend(fields.texts("args", problems).unwrap_or_default());
    let Some(command) = command else { return false };
    let mut settings = environment_of(fields);
    if let Some(mut inner) = inner {
        settings.extend(environment_of(&mut inner));
    }
    let mut env = Map::new();
    match command::launch(&command, &args) {
        Launch::Image(mut run) => {
            // What `-e NAME` passes on is what the entry sets.
            for (name, value) in &mut run.env {
                let own = settings.iter().find(|(other, _)| other == name);
                *value = value.take().or_else(|| own.map(|(_, value)| value.clone()));
            }
            image(name, run, &mut env, spec, draft);
        }
        Launch::Package(found) => package(name, &found, spec, draft),
        Launch::Command { argv, unpinned } => plain(name, argv, unpinned, spec, draft),
    }
    for (key, value) in &settings {
        let setting = Setting { name: key, value: Some(value), secret: false, about: None };
        environment::put(&mut env, name, &setting, draft);
    }
    if let Some(cwd) = fields.text("cwd", &mut draft.problems) {
        spec.remark(format!("It was started in the folder {cwd}; here it starts in this file's folder."));
        draft.note(name, "it was started in a folder of its own, which has no counterpart");
    }
    if let Some(file) = fields.text("envFile", &mut draft.problems) {
        spec.remark(format!("Variables came from the file {file} too: write those it needs below `env`."));
        draft.note(name, format!("variables of the file {file} are not imported"));
    }
    if !env.is_empty() {
        spec.put("env", env);
    }
    true
}

fn environment_of(fields: &mut Fields<'_>) -> Vec<(String, String)> {
    let found = fields.any(&["env", "environment"]).and_then(Value::as_object);
    let pairs = found.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), super::fields::scalar(value)?))).collect()
}

pub(super) fn image(name: &str, run: docker::Run, env: &mut Map, spec: &mut Map, draft: &mut Draft<'_>) {
    let docker::Run { image, entrypoint, args, env: declared, user, memory, cpu, ports, other } = run;
    let args = environment::arguments(name, args, spec, draft);
    let mut source = Map::new();
    if args.is_empty() && entrypoint.is_none() {
        source.put("image", image);
    } else {
        let mut full = Map::inline();
        full.put("ref", image);
        if let Some(entrypoint) = entrypoint {
            full.put("command", vec![entrypoint]);
        }
        if !args.is_empty() {
            full.put("args", args);
        }
        source.put("image", full);
    }
    spec.put("source", source);
    draft.need(Need::Docker);
    for (key, value) in declared {
        let setting = Setting { name: &key, value: value.as_deref(), secret: false, about: None };
        environment::put(env, name, &setting, draft);
    }
    if let Some(user) = user {
        let mut security = Map::inline();
        security.put("user", user);
        spec.put("security", security);
    }
    let mut resources = Map::inline();
    if let Some(memory) = memory.and_then(|memory| quantity(&memory)) {
        resources.put("memory", memory);
    }
    if let Some(cpu) = cpu {
        resources.put("cpu", cpu);
    }
    if !resources.is_empty() {
        spec.put("resources", resources);
    }
    for text in other.into_iter().chain(ports.into_iter().map(|port| format!("-p {port}"))) {
        spec.remark(format!("`docker run {text}` has no counterpart here."));
        draft.note(name, format!("`docker run {text}` has no counterpart"));
    }
}

/// `512m` of Docker as `512Mi`.
pub(super) fn quantity(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => "",
        "k" => "Ki",
        "m" => "Mi",
        "g" => "Gi",
        _ => return None,
    };
    (!number.is_empty()).then(|| format!("{number}{unit}"))
}

pub(super) fn package(name: &str, package: &Package, spec: &mut Map, draft: &mut Draft<'_>) {
    let args = environment::arguments(name, package.args.clone(), spec, draft);
    let need = if package.registry == "pypi" { Need::Python } else { Need::Node };
    let mut map = package_map(package, args);
    draft.base(need, &mut map);
    let mut source = Map::new();
    source.put("package", map);
    spec.put("source", source);
}

fn package_map(package: &Package, args: Vec<String>) -> Map {
    let mut map = Map::inline();
    map.put("registry", package.registry)
        .put("name", package.name.as_str())
        .put("version", package.version.as_str());
    if let Some(bin) = &package.bin {
        map.put("bin", bin.as_str());
    }
    if !args.is_empty() {
        map.put("args", args);
    }
    map
}

fn plain(name: &str, argv: Vec<String>, unpinned: Option<Package>, spec: &mut Map, draft: &mut Draft<'_>) {
    let argv = environment::arguments(name, argv, spec, draft);
    let mut source = Map::new();
    if let Some(package) = unpinned {
        let text = "No version was named, so it stays a command, which takes whatever is the newest. With a version \
                    it runs in a container, and what runs is what was reviewed:";
        source.remark(text);
        source.remark(format!(
            "  package: {{registry: {}, name: \"{}\", version: …}}",
            package.registry, package.name
        ));
        draft.note(name, format!("it stays a command: `{}` has no exact version", package.name));
    }
    source.put("command", argv);
    spec.put("source", source);
    draft.need(Need::Process);
}

/// Which tools a client shows: what Gemini, Codex and others filter by.
fn filters(fields: &mut Fields<'_>, spec: &mut Map, draft: &mut Draft<'_>) {
    let mut tools = Map::inline();
    for (ours, theirs) in [
        ("include", ["includeTools", "enabled_tools", "tools"]),
        ("exclude", ["excludeTools", "disabled_tools", "disabledTools"]),
    ] {
        let found = theirs.iter().find(|key| fields.has(key));
        let Some(names) = found.and_then(|key| fields.texts(key, &mut draft.problems)) else { continue };
        if !names.is_empty() && !names.iter().any(|name| name == "*") {
            tools.put(ours, names);
        }
    }
    if !tools.is_empty() {
        spec.put("tools", tools);
    }
}

/// Cline counts in seconds, Gemini in milliseconds, Codex says which.
fn timeout(fields: &mut Fields<'_>, spec: &mut Map) {
    let seconds = fields.get("tool_timeout_sec").and_then(Value::as_f64);
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
        spec.put("timeout", format!("{seconds}s"));
    }
    if let Some(number) = fields.get("timeout").and_then(Value::as_u64).filter(|number| *number > 0) {
        let text = if number >= 1000 { format!("{number}ms") } else { format!("{number}s") };
        spec.put("timeout", text);
    }
}
