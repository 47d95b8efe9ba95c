//! `export --format servers`: each `Server` as a `server.json`, and why some are none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::super::Context;
use super::super::error::{CliError, CliResult};
use super::super::render::{harmless, notice};
use super::super::validate::Loaded;
use super::Export;
use crate::convert::Note;
use crate::convert::publish::{self, As};
use crate::convert::server_json::{ServerJson, is_namespace};
use crate::desired::{self, Location};
use crate::manifest::suggest::nearest;
use crate::resource::{EnvValue, Spec};

pub(super) async fn execute(asked: &Export, context: &Context) -> CliResult<()> {
    let hint = "pass --namespace io.github.OWNER";
    let namespace = asked
        .namespace
        .as_deref()
        .ok_or_else(|| CliError::usage("names of servers begin with who publishes them").hint(hint))?;
    if !is_namespace(namespace) {
        return Err(CliError::usage(format!("names cannot begin with `{namespace}`")).hint(hint));
    }
    let folder = asked.offline.as_deref().unwrap_or(Path::new("."));
    let loaded = super::loaded(folder, context).await?;
    let called = As { namespace, version: &asked.version };
    let (servers, notes) = published(&loaded, asked.server.as_deref(), called)?;
    match (&asked.server, servers.as_slice()) {
        (Some(_), [server]) => context.out.json(server)?,
        (_, []) => {
            let lines: Vec<String> = notes.iter().map(said).collect();
            return Err(CliError::failure("no server has a `server.json`")
                .detail((!lines.is_empty()).then(|| lines.join("\n")))
                .hint(
                    "`toolcrib export --format server-json` makes one of the endpoint that serves them all",
                ));
        }
        (_, servers) => {
            let listed: Vec<_> = servers.iter().map(|server| json!({"server": server})).collect();
            context.out.json(&json!({"servers": listed, "metadata": {"count": listed.len()}}))?;
        }
    }
    let told = notes.iter().fold(String::new(), |mut text, note| {
        let _ = writeln!(text, "note: {}", said(note));
        text
    });
    notice(&told);
    Ok(())
}

fn said(Note { subject, text }: &Note) -> String {
    harmless(&format!("{subject}: {text}"))
}

fn published(loaded: &Loaded, only: Option<&str>, called: As<'_>) -> CliResult<(Vec<ServerJson>, Vec<Note>)> {
    let (mut servers, mut notes, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for (id, declared) in &loaded.manifest.resources {
        let (Spec::Server(spec), Some(desired)) = (&declared.spec, loaded.desired.servers.get(&id.name))
        else {
            continue;
        };
        known.push(id.name.as_str());
        if only.is_some_and(|only| only != id.name.as_str()) {
            continue;
        }
        let source = desired::source_of(&declared.spec);
        // What was locked of another source says nothing of this one.
        let locked = loaded.manifest.locks.get(id);
        let lock = locked.filter(|lock| Some(&lock.source) == source.as_ref()).map(|lock| &**lock);
        let none = BTreeMap::new();
        let env = variables(desired).unwrap_or(&none);
        let server = publish::Server { name: &id.name, spec, env, lock };
        match publish::publish(&server, called) {
            Ok((one, mut said)) => {
                servers.push(one);
                notes.append(&mut said);
            }
            Err(why) => notes.push(Note { subject: id.name.to_string(), text: format!("left out: {why}") }),
        }
    }
    if let Some(only) = only.filter(|only| !known.contains(only)) {
        let hint = match nearest(only, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`toolcrib tree` shows what is declared".to_owned(),
        };
        return Err(CliError::failure(format!("there is no server `{only}`")).hint(hint));
    }
    Ok((servers, notes))
}

fn variables(server: &desired::Server) -> Option<&BTreeMap<String, EnvValue>> {
    match &server.location {
        Location::Runner(workload) => Some(&workload.env),
        Location::Remote { credentials, .. } => credentials.as_ref().map(|credentials| &credentials.env),
    }
}
