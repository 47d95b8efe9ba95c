//! `get`: declared resources and their state.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::{Table, harmless};
use super::status::resources;
use super::target::Target;
use crate::resource::{Kind, Name, ResourceId};
use crate::status::{ResourceStatus, Status};

/// List resources, or show one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib get                   everything
  toolcrib get servers           one kind
  toolcrib get server weather    the same as server/weather
  toolcrib get server/weather    one resource, with its conditions and instances")]
pub(super) struct Get {
    /// A kind, or one resource of it.
    #[arg(value_name = "KIND[/NAME]")]
    what: Option<String>,
    /// One resource of that kind.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Get {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let what = match (self.what, self.name) {
            (Some(kind), Some(name)) => Some(format!("{kind}/{name}")),
            (what, _) => what.filter(|what| what != "all"),
        };
        let (kind, name) = what.as_deref().map(wanted).transpose()?.unzip();
        let status: Status = self.target.reads(context).get_json("/api/v1/status").await?;
        if status.attempted.is_none() {
            return Err(CliError::failure("no revision was read yet")
                .hint("`toolcrib status` says what is waited for"));
        }
        if let (Some(kind), Some(name)) = (kind, name.flatten()) {
            let id = ResourceId { kind, name };
            let Some(resource) = status.resources.get(&id) else {
                return Err(CliError::failure(format!("there is no {id}"))
                    .hint(format!("`toolcrib get {}` lists what there is", kind.as_str().to_lowercase())));
            };
            context.out.print(resource, || one(&id, resource))?;
            return Ok(Exit::Success);
        }
        let found: BTreeMap<&ResourceId, &Arc<ResourceStatus>> =
            status.resources.iter().filter(|(id, _)| kind.is_none_or(|kind| id.kind == kind)).collect();
        context.out.print(&found, || {
            if found.is_empty() {
                "No resources.\n".to_owned()
            } else {
                resources(found.iter().map(|(id, resource)| (*id, *resource))).text()
            }
        })?;
        Ok(Exit::Success)
    }
}

fn wanted(text: &str) -> CliResult<(Kind, Option<Name>)> {
    let (kind, name) = text.split_once('/').map_or((text, None), |(kind, name)| (kind, Some(name)));
    let found = Kind::parse(kind).ok_or_else(|| {
        let kinds = Kind::ALL.map(|kind| kind.as_str().to_lowercase()).join(", ");
        CliError::usage(format!("`{kind}` is not a kind")).hint(format!("kinds are {kinds}"))
    })?;
    let name = name.map(Name::parse).transpose().map_err(|error| CliError::usage(error.to_string()))?;
    Ok((found, name))
}

fn one(id: &ResourceId, resource: &ResourceStatus) -> String {
    let mut text = format!("{id}\n");
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<11}{value}");
        }
    };
    line("declared", resource.place.clone());
    line("revision", resource.revision.as_ref().map(ToString::to_string));
    line("runner", resource.runner.as_ref().map(ToString::to_string));
    line("build", resource.digests.build.map(|digest| digest.to_string()));
    line("workload", resource.digests.workload.map(|digest| digest.to_string()));
    line("offer", resource.digests.offer.map(|digest| digest.to_string()));
    line("offers", Some(resource.offers.join(", ")).filter(|offers| !offers.is_empty()));
    for condition in &resource.conditions {
        let _ = write!(
            text,
            "\n{} {} ({}) since {}\n",
            condition.kind.as_str(),
            condition.status.as_str(),
            condition.reason,
            condition.last_transition_time
        );
        for line in harmless(&condition.message).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    if !resource.instances.is_empty() {
        let mut table = Table::new(["INSTANCE", "ID", "STATE", "WORKLOAD"]);
        for instance in &resource.instances {
            table.row([&instance.name, &instance.id.to_string(), &instance.state, &instance.digest.short()]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_names_are_understood_as_people_write_them() {
        assert_eq!(wanted("servers").unwrap(), (Kind::Server, None));
        assert_eq!(wanted("policies").unwrap(), (Kind::Policy, None));
        let name = Name::parse("weather").unwrap();
        assert_eq!(wanted("Server/weather").unwrap(), (Kind::Server, Some(name)));
        assert_eq!(wanted("pods").unwrap_err().exit(), Exit::Usage);
        assert_eq!(wanted("server/Not A Name").unwrap_err().exit(), Exit::Usage);
    }
}
