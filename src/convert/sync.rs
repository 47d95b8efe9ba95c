//! `servers_to_sync.json` of the metatool document: FastMCP servers in Git repositories.

use serde_json::Value;

use super::document::{Document, Draft, Need};
use super::fields::Fields;
use super::yaml::Map;
use super::{name, secrets, shown};
use crate::manifest::suggest::nearest;
use crate::resource::Kind;

const MODES: [&str; 2] = ["sync", "deploy"];

pub(super) fn import(value: &Value, draft: &mut Draft<'_>) {
    let one = std::slice::from_ref(value);
    let (entries, listed) = match value {
        Value::Array(entries) => (entries.as_slice(), true),
        _ => (one, false),
    };
    for (at, entry) in entries.iter().enumerate() {
        let path = if listed { format!("[{at}]") } else { String::new() };
        if let Some(fields) = Fields::of(entry, path, &mut draft.problems) {
            server(fields, draft);
        }
    }
}

/// Where the code of a server is.
struct Code {
    url: String,
    reference: String,
    file: String,
    instance: String,
}

fn server(mut fields: Fields<'_>, draft: &mut Draft<'_>) {
    let problems = &mut draft.problems;
    let id = fields.required("id", "give the server a name, such as `weather`", problems);
    let mode = mode(&mut fields, draft);
    let problems = &mut draft.problems;
    let image = fields.text("docker_image", problems);
    let deployed = mode.as_deref() == Some("deploy");
    if deployed && image.is_none() {
        let hint = "name the image, or use mode `sync`, which runs the server from its repository";
        problems.add(&fields.path, "mode `deploy` needs `docker_image`", hint);
    }
    let code = code(&mut fields, deployed && image.is_some(), draft);
    let port = port(&mut fields, draft);
    let icon = fields.text("tool_icon_url", &mut draft.problems);
    let (Some(id), Some(port)) = (id, port) else { return };
    let label = draft.name(Kind::Server, &id);

    let mut spec = Map::new();
    let mut source = Map::new();
    match (deployed, image) {
        (true, Some(image)) => {
            draft.need(Need::Docker);
            if let Some(Code { url, reference, file, instance }) = &code {
                source.remark(format!(
                    "Made of {} at {reference}: `{instance}` in {file}.",
                    without_password(url)
                ));
            }
            source.put("image", image);
        }
        (_, image) => {
            let Some(code) = code else { return };
            source.put("git", git(&id, code, draft));
            if let Some(image) = image {
                spec.remark(format!("`docker_image` counts in deploy mode only; it was {image}."));
            }
        }
    }
    let mut transport = Map::inline();
    transport.put("type", "streamable-http").put("port", port);
    spec.put("source", source).put("transport", transport);
    if deployed {
        spec.put("mode", "deploy");
    } else if label.as_str() != id {
        prefix(&id, &mut spec);
    }
    if let Some(icon) = icon {
        spec.put("icon", icon);
    }
    for (key, value) in fields.rest() {
        spec.remark(format!("`{key}` has no counterpart: {}", shown(key, value)));
        draft.note(&id, format!("the field `{key}` has no counterpart"));
    }
    draft.add(Document::new(Kind::Server, label, spec));
}

/// Tools keep the names they had: `{id}_{tool}`.
fn prefix(id: &str, spec: &mut Map) {
    if id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        let mut tools = Map::inline();
        tools.put("prefix", id);
        spec.remark(format!("The id was `{id}`; its tools keep the names they had.")).put("tools", tools);
    } else {
        spec.remark(format!("The id was `{id}`."));
    }
}

fn mode(fields: &mut Fields<'_>, draft: &mut Draft<'_>) -> Option<String> {
    let mode = fields.text("mode", &mut draft.problems)?;
    if !MODES.contains(&mode.as_str()) {
        let hint = match nearest(&mode, MODES) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "the modes are `sync` and `deploy`".to_owned(),
        };
        draft.problems.add(&fields.place("mode"), format!("there is no mode `{mode}`"), hint);
    }
    Some(mode)
}

/// The code; for an image that is deployed as it is, only as far as it is told.
fn code(fields: &mut Fields<'_>, optional: bool, draft: &mut Draft<'_>) -> Option<Code> {
    let hints = [
        ("git_repo_url", "write the HTTPS or SSH address of the repository"),
        ("git_branch_or_tag", "name a branch, a tag or a commit, such as `main`"),
        ("server_file_path", "name the file that holds the FastMCP server, such as `src/server.py`"),
        ("mcp_instance_name", "name the variable that is the FastMCP server, such as `mcp`"),
    ];
    let problems = &mut draft.problems;
    let mut read =
        hints.map(
            |(key, hint)| {
                if optional { fields.text(key, problems) } else { fields.required(key, hint, problems) }
            },
        );
    let [url, reference, file, instance] = &mut read;
    Some(Code {
        url: url.take()?,
        reference: reference.take()?,
        file: file.take()?,
        instance: instance.take()?,
    })
}

fn port(fields: &mut Fields<'_>, draft: &mut Draft<'_>) -> Option<u16> {
    let hint = "write the port the server listens on, from 1 to 65535";
    let text = fields.required("service_port", hint, &mut draft.problems)?;
    let port = text.trim().parse().ok().filter(|port| *port != 0);
    if port.is_none() {
        draft.problems.add(&fields.place("service_port"), format!("`{text}` is not a port"), hint);
    }
    port
}

fn git(id: &str, code: Code, draft: &mut Draft<'_>) -> Map {
    let Code { url, reference, file, instance } = code;
    let mut git = Map::new();
    let (url, signed_in) = address(id, &url, draft);
    git.put("url", url.as_str()).put("ref", reference);
    let path = file.trim_start_matches("./");
    git.put("file", path).put("instance", instance);
    if let Some((user, variable)) = signed_in {
        let (mut credentials, mut secret) = (Map::inline(), Map::inline());
        secret.put("env", variable);
        if let Some(user) = user {
            credentials.put("username", user);
        }
        credentials.put("password", secret);
        git.put("credentials", credentials);
    } else if !url.starts_with("https:") {
        git.remark("Where ssh needs a key of its own, a file of the daemon's machine:");
        git.remark("  credentials: {sshKey: {file: /etc/toolcrib/git.key}}");
    }
    draft.base(Need::Python, &mut git);
    git
}

/// The address without the password in it, and how to sign in instead: a user, and the variable that
/// has to hold the password.
fn address(id: &str, url: &str, draft: &mut Draft<'_>) -> (String, Option<(Option<String>, String)>) {
    let url = url.trim();
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let scheme = scheme.to_ascii_lowercase();
    if !["http", "https"].contains(&scheme.as_str()) {
        return (url.to_owned(), None);
    }
    if scheme == "http" {
        draft.note(id, "repositories are fetched over https or ssh: `http://` became `https://`");
    }
    let Some((user, host)) = authority.rsplit_once('@') else {
        return (format!("https://{rest}"), None);
    };
    let variable = format!("{}_GIT_PASSWORD", name::variable(id));
    draft.note(id, format!("the address held a password: give it to the daemon as the variable {variable}"));
    let user = user.split_once(':').map(|(user, _)| user.to_owned()).filter(|user| !user.is_empty());
    (format!("https://{host}/{path}"), Some((user, variable)))
}

fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if secrets::has_password(url) => {
            format!("{scheme}://{}", rest.split_once('@').map_or(rest, |(_, host)| host))
        }
        _ => url.to_owned(),
    }
}
