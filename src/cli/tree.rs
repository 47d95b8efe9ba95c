//! `tree`: who depends on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::target::Target;
use super::validate::{self, Loaded};
use crate::config::{Config, Settings};
use crate::manifest::suggest::nearest;
use crate::relation::{Node, Relation, offline, relations};
use crate::resource::{Kind, ResourceId};
use crate::status::{self, ConditionType, ResourceStatus, Status};

/// Levels below what is asked for. Servers that wait for servers nest deeper only by a mistake.
const MAX_DEPTH: usize = 8;

/// Show who depends on whom; start nothing and ask no network.
///
/// Runners with what runs on them, policies, integrations and toolsets with what they are about, and
/// servers and tools with what they publish (of servers, as far as their locks know it). Where a daemon
/// follows this repository, with how everything is.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "public_url", "interval", "name", "worktree"])))]
#[command(after_help = "Examples:
  toolcrib tree                    everything
  toolcrib tree runner/docker      what runs on one runner
  toolcrib tree server/weather     what one server needs, and who needs it
  toolcrib tree weather_forecast   the same for a tool that is published
  toolcrib tree --output json | jq '.relations[]'")]
pub(super) struct Tree {
    /// A resource, or the published name of a tool.
    #[arg(value_name = "KIND/NAME")]
    what: Option<String>,
    /// Folder of manifests inside a Git repository [default: this folder].
    #[arg(long, value_name = "DIR", conflicts_with_all = ["repo", "path"])]
    folder: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Tree {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let target = Target { admin: self.settings.admin.clone(), state: self.settings.state.clone() };
        let (config, loaded) = validate::open(self.settings, self.folder.as_deref(), context).await?;
        let catalog = offline(&loaded.manifest, &loaded.desired);
        let relations = relations(&loaded.manifest, &loaded.desired, &catalog);
        let about = About::new(&loaded, relations, following(&target, &config, context).await.as_ref());
        let root = self.what.as_deref().map(|what| about.find(what)).transpose()?;
        let value = about.value(root.as_ref());
        context.out.print(&value, || match &root {
            Some(root) => about.around(root),
            None => about.whole(),
        })?;
        Ok(Exit::Success)
    }
}

/// The status of a daemon that follows this very repository, when one is there.
pub(super) async fn following(target: &Target, config: &Config, context: &Context) -> Option<Status> {
    let status: Status = target.reads(context).get_json("/api/v1/status").await.ok()?;
    let same =
        status.source.repo == config.repository.to_string() && status.source.path == config.path.as_str();
    same.then_some(status)
}

/// How a resource is.
fn how(resource: &ResourceStatus) -> Option<String> {
    if resource.ready()? {
        return Some("ready".to_owned());
    }
    let ready = status::get(&resource.conditions, ConditionType::Ready)?;
    Some(format!("not ready: {}", ready.reason))
}

/// Everything there is to draw.
struct About {
    nodes: BTreeSet<Node>,
    relations: BTreeSet<Relation>,
    /// Beside a name: whether it is locked, and how it is.
    said: BTreeMap<Node, String>,
    places: BTreeMap<Node, String>,
}

impl About {
    fn new(loaded: &Loaded, relations: BTreeSet<Relation>, status: Option<&Status>) -> Self {
        let (mut nodes, mut said, mut places) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        for (id, declared) in &loaded.manifest.resources {
            let node = Node::Resource(id.clone());
            let mut words = Vec::new();
            if loaded.manifest.locks.contains_key(id) {
                words.push("locked".to_owned());
            } else if id.kind == Kind::Server {
                words.push("not locked".to_owned());
            }
            let resource = status.and_then(|status| status.resources.get(id));
            words.extend(resource.and_then(|resource| how(resource)));
            said.insert(node.clone(), words.join(", "));
            places.insert(node.clone(), declared.place.to_string());
            nodes.insert(node);
        }
        nodes.extend(relations.iter().flat_map(|relation| [relation.from.clone(), relation.to.clone()]));
        Self { nodes, relations, said, places }
    }

    fn find(&self, what: &str) -> CliResult<Node> {
        let wanted = ResourceId::parse(what).map(|id| id.to_string());
        let wanted = wanted.as_deref().unwrap_or(what);
        let names: Vec<String> = self.nodes.iter().map(ToString::to_string).collect();
        let exact = self.nodes.iter().find(|node| node.to_string() == wanted);
        let mut short =
            self.nodes.iter().filter(|node| matches!(node, Node::Resource(id) if id.name.as_str() == what));
        match (exact, short.next(), short.next()) {
            (Some(node), _, _) | (None, Some(node), None) => Ok(node.clone()),
            (None, Some(one), Some(other)) => {
                Err(CliError::usage(format!("`{what}` may be {one} or {other}"))
                    .hint("write it as KIND/NAME"))
            }
            _ => {
                let error = CliError::failure(format!("there is no `{what}`"));
                Err(match nearest(wanted, names.iter().map(String::as_str)) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint("`toolcrib tree` shows everything there is"),
                })
            }
        }
    }

    fn note(&self, node: &Node) -> String {
        match self.said.get(node).filter(|words| !words.is_empty()) {
            Some(words) => format!("{node} ({words})"),
            None => node.to_string(),
        }
    }

    /// Who needs a node, or whom it needs.
    fn next(&self, node: &Node, down: bool, leave_out: &[&str]) -> Vec<(&Node, &'static str)> {
        let all = self.relations.iter().filter(|relation| !leave_out.contains(&relation.why));
        all.filter_map(|relation| match down {
            true if relation.from == *node => Some((&relation.to, relation.why)),
            false if relation.to == *node => Some((&relation.from, relation.why)),
            _ => None,
        })
        .collect()
    }

    fn draw(
        &self,
        node: &Node,
        down: bool,
        leave_out: &[&str],
        trail: &mut Vec<Node>,
        prefix: &str,
        text: &mut String,
    ) {
        if trail.len() >= MAX_DEPTH {
            return;
        }
        let next = self.next(node, down, leave_out);
        for (at, (child, why)) in next.iter().enumerate() {
            let last = at + 1 == next.len();
            text.push_str(prefix);
            text.push_str(if last { "└── " } else { "├── " });
            text.push_str(&self.note(child));
            if !matches!(*why, "runs-on" | "offered-by") || down {
                text.push_str("  [");
                text.push_str(why);
                text.push(']');
            }
            text.push('\n');
            if trail.contains(child) {
                continue;
            }
            trail.push((*child).clone());
            let deeper = format!("{prefix}{}", if last { "    " } else { "│   " });
            self.draw(child, down, leave_out, trail, &deeper, text);
            trail.pop();
        }
    }

    /// One node: what it needs, and who needs it.
    fn around(&self, root: &Node) -> String {
        let mut text = self.note(root) + "\n";
        if let Some(place) = self.places.get(root) {
            text = format!("{text}declared at {place}\n");
        }
        for (title, down) in [("needs", true), ("needed by", false)] {
            let mut part = String::new();
            self.draw(root, down, &[], &mut vec![root.clone()], "", &mut part);
            if !part.is_empty() {
                let _ = write!(text, "\n{title}:\n{part}");
            }
        }
        text
    }

    /// All of it: what nothing else stands on is under what it stands on.
    fn whole(&self) -> String {
        let mut text = String::new();
        let kind = |kind: Kind| {
            self.nodes.iter().filter(move |node| matches!(node, Node::Resource(id) if id.kind == kind))
        };
        let quiet = ["defaults", "decided-by", "uses", "selects", "waits-for"];
        let mut shown: BTreeSet<&Node> = BTreeSet::new();
        for root in kind(Kind::Runner) {
            text.push_str(&(self.note(root) + "\n"));
            self.draw(root, false, &quiet, &mut vec![root.clone()], "", &mut text);
            shown.extend(self.next(root, false, &quiet).into_iter().map(|(node, _)| node));
        }
        for root in kind(Kind::Server).chain(kind(Kind::Tool)).filter(|node| !shown.contains(node)) {
            text.push_str(&(self.note(root) + "\n"));
            self.draw(root, false, &quiet, &mut vec![root.clone()], "", &mut text);
        }
        for root in kind(Kind::Integration) {
            text.push_str(&(self.note(root) + "\n"));
            let only = ["defaults", "decided-by", "runs-on", "selects", "waits-for", "offered-by"];
            self.draw(root, false, &only, &mut vec![root.clone()], "", &mut text);
        }
        for root in kind(Kind::Toolset) {
            text.push_str(&(self.note(root) + "\n"));
            let only = ["decided-by", "offered-by"];
            self.draw(root, true, &only, &mut vec![root.clone()], "", &mut text);
        }
        for root in kind(Kind::Policy).chain(kind(Kind::Crib)) {
            let word = if matches!(root, Node::Resource(id) if id.kind == Kind::Crib) {
                "defaults of everything"
            } else {
                "asked about every tool"
            };
            let _ = writeln!(text, "{}: {word}", self.note(root));
        }
        if text.is_empty() { "No resources.\n".to_owned() } else { text }
    }

    fn value(&self, root: Option<&Node>) -> Value {
        let (mut nodes, mut relations) = (self.nodes.clone(), self.relations.clone());
        if let Some(root) = root {
            let mut near = BTreeSet::from([root.clone()]);
            for down in [true, false] {
                let mut open = vec![root.clone()];
                let mut seen = BTreeSet::new();
                while let Some(node) = open.pop() {
                    for (next, _) in self.next(&node, down, &[]) {
                        if seen.insert(next.clone()) {
                            open.push(next.clone());
                        }
                    }
                }
                near.extend(seen);
            }
            nodes.retain(|node| near.contains(node));
            relations.retain(|relation| near.contains(&relation.from) && near.contains(&relation.to));
        }
        let node =
            |node: &Node| json!({"name": node, "place": self.places.get(node), "note": self.said.get(node)});
        json!({"nodes": nodes.iter().map(node).collect::<Vec<_>>(), "relations": relations})
    }
}
