//! Why a tool is listed, hidden, refused or missing for somebody, from what is served and how it is.

use crate::admin::why::{Fact, Fate, WhyQuery, WhyReply};
use crate::catalog::Catalog;
use crate::gateway::{Gateway, Prospect};
use crate::manifest::suggest::nearest;
use crate::policy::{Principal, Refusal};
use crate::resource::{Kind, Name, ResourceId};
use crate::status::{ConditionStatus, ConditionType, Status, get, reason};

/// Facts of one answer: what a person reads.
const MAX_FACTS: usize = 24;

/// Answers from what is served now.
pub(super) async fn why(gateway: &Gateway, status: &Status, query: WhyQuery) -> WhyReply {
    let WhyQuery { tool, user, groups, arguments, toolset } = query;
    let local = user.is_none() && groups.is_empty();
    let user = Principal {
        name: user.unwrap_or_else(|| "local".to_owned()),
        groups: if local { vec!["local".to_owned()] } else { groups },
        ..Principal::default()
    };
    let catalog = gateway.catalogs.current();
    let asked = Asked { tool: &tool, user: &user, toolset: toolset.as_deref(), status, catalog: &catalog };
    let (fate, answer, mut facts) = match gateway.prospect(&catalog, &tool, &user, arguments.as_ref()).await {
        Some(prospect) => asked.served(&prospect, arguments.is_some()),
        None => asked.missing(),
    };
    facts.truncate(MAX_FACTS);
    let Principal { name, groups, .. } = user;
    WhyReply { tool, user: name, groups, fate, answer, facts, revision: catalog.revision.to_string() }
}

struct Asked<'a> {
    tool: &'a str,
    user: &'a Principal,
    toolset: Option<&'a str>,
    status: &'a Status,
    catalog: &'a Catalog,
}

type Said = (Fate, String, Vec<Fact>);

impl Asked<'_> {
    fn fact(&self, id: &ResourceId, says: impl Into<String>) -> Fact {
        let place = self.status.resources.get(id).and_then(|resource| resource.place.clone());
        Fact { resource: Some(id.to_string()), says: says.into(), place }
    }

    fn rule(&self, refusal: &Refusal, what: &str) -> Fact {
        let said = refusal.message.as_deref().map_or_else(String::new, |message| format!(": {message}"));
        self.fact(&refusal.policy, format!("{what} by rule `{}`{said}", refusal.rule))
    }

    /// Of a tool that is in the catalog.
    fn served(&self, prospect: &Prospect, judged: bool) -> Said {
        let (tool, user) = (self.tool, &self.user.name);
        let mut facts = Vec::new();
        let fate = if let Some((fate, answer)) = self.at_toolset(prospect, &mut facts) {
            (fate, answer)
        } else if prospect.hidden {
            facts.extend(prospect.hiding.iter().map(|refusal| self.rule(refusal, "left out of lists")));
            if prospect.hiding.is_empty() {
                facts.push(Fact {
                    resource: None,
                    says: "a policy's `visible` is false".to_owned(),
                    place: None,
                });
            }
            (Fate::Hidden, format!("`{tool}` is hidden from `{user}`: to them there is no such tool"))
        } else if let Some(why) = &prospect.refused {
            facts.extend(prospect.refusing.iter().map(|refusal| self.rule(refusal, "refused")));
            (Fate::Refused, format!("`{tool}` is listed for `{user}`, and this call is refused: {why}"))
        } else if let Some(why) = &prospect.invalid {
            (Fate::Invalid, format!("`{tool}` is listed for `{user}`, and these arguments do not fit: {why}"))
        } else if judged {
            (Fate::Served, format!("`{tool}` is listed for `{user}`, and this call goes through"))
        } else if prospect.ruled {
            let answer = format!(
                "`{tool}` is listed for `{user}`; rules are asked about each call: try one, `toolcrib why {tool} key=value`"
            );
            (Fate::Served, answer)
        } else {
            let answer = format!("`{tool}` is listed for `{user}`, and no rule is asked about calls");
            (Fate::Served, answer)
        };
        facts.extend(prospect.audited.iter().map(|refusal| self.rule(refusal, "only audited")));
        let entry = &prospect.entry;
        let runner =
            prospect.runner.as_ref().map_or_else(String::new, |name| format!(", on runner `{name}`"));
        facts.push(self.fact(&entry.owner, format!("offers it, last changed by {}{runner}", entry.revision)));
        let ready = self.status.resources.get(&entry.owner);
        let ready = ready.and_then(|resource| get(&resource.conditions, ConditionType::Ready));
        if let Some(idle) = ready.filter(|ready| ready.reason == reason::IDLE) {
            facts.push(self.fact(&entry.owner, format!("does not run now: {}", idle.message)));
        }
        if let Some(warm) = self.status.warm.get(&entry.owner) {
            facts.push(self.fact(&entry.owner, format!("its containers are started ahead: {warm}")));
        }
        for toolset in Gateway::toolsets_of(self.catalog, entry) {
            let may = if self.admits(&toolset) { "may" } else { "may not" };
            let scopes = toolset.access.as_ref().map(|access| access.scopes.join(" ")).unwrap_or_default();
            let with = if scopes.is_empty() { scopes } else { format!(" with the scopes `{scopes}`") };
            let says = format!("takes it; `{user}` {may} use /mcp/{}{with}", toolset.id.name);
            facts.push(self.fact(&toolset.id, says));
        }
        (fate.0, fate.1, facts)
    }

    fn admits(&self, toolset: &crate::desired::Toolset) -> bool {
        // Scopes are those of a token, and nobody shows one here.
        toolset.names(&self.user.name, &self.user.groups)
    }

    /// What keeps it from the endpoint that is asked about.
    fn at_toolset(&self, prospect: &Prospect, facts: &mut Vec<Fact>) -> Option<(Fate, String)> {
        let name = self.toolset?;
        let (tool, user) = (self.tool, &self.user.name);
        let Some(toolset) = self.catalog.toolset(name) else {
            let hint = nearest(name, self.catalog.toolsets());
            let hint = hint.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
            return Some((Fate::NotInToolset, format!("there is no toolset `{name}`{hint}")));
        };
        let entry = &prospect.entry;
        if !self.admits(toolset) {
            facts.push(self.fact(&toolset.id, "its `access` names neither the user nor one of the groups"));
            return Some((Fate::Forbidden, format!("`{user}` may not use /mcp/{name}")));
        }
        if !toolset.takes(&entry.owner, entry.labels(), &entry.name) {
            facts.push(self.fact(&toolset.id, format!("no selector takes `{tool}` of {}", entry.owner)));
            return Some((Fate::NotInToolset, format!("`{tool}` is served, and not in toolset `{name}`")));
        }
        None
    }

    /// Of a name that is not in the catalog: what is declared and could be meant.
    fn missing(&self) -> Said {
        let tool = self.tool;
        let quoted = format!("`{tool}`");
        let mut facts = Vec::new();
        let mut guesses = Vec::new();
        for (id, resource) in &self.status.resources {
            let own = id.kind == Kind::Tool && published_by(&id.name, tool);
            let server = id.kind == Kind::Server && begins(tool, &id.name);
            for condition in &resource.conditions {
                let (kind, bad) = (condition.kind, condition.status == ConditionStatus::False);
                let told = condition.message.contains(&quoted);
                if told || (bad && own && kind == ConditionType::Ready) {
                    facts.push(self.fact(id, format!("{}: {}", condition.reason, condition.message)));
                } else if bad && server && matches!(kind, ConditionType::Ready | ConditionType::Locked) {
                    guesses.push(self.fact(id, format!("{}: {}", condition.reason, condition.message)));
                }
            }
        }
        if !facts.is_empty() {
            return (Fate::NotOffered, format!("`{tool}` is declared and not offered now"), facts);
        }
        if !guesses.is_empty() {
            let answer = format!("`{tool}` is not offered; it may be of a server that is not ready");
            return (Fate::NotOffered, answer, guesses);
        }
        let known = self.catalog.tools.keys().map(AsRef::as_ref);
        let hint = nearest(tool, known).map_or_else(
            || "`toolcrib tools` lists what is served".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        (Fate::Unknown, format!("nothing that is served or declared is called `{tool}`: {hint}"), facts)
    }
}

/// Whether a `Tool` of that name would be published so, unless it says otherwise.
fn published_by(name: &Name, tool: &str) -> bool {
    name.as_str().replace('-', "_") == tool.replace('-', "_")
}

/// Whether a server of that name would publish it, unless it says otherwise.
fn begins(tool: &str, name: &Name) -> bool {
    tool.replace('-', "_")
        .strip_prefix(&name.as_str().replace('-', "_"))
        .is_some_and(|rest| rest.starts_with('_'))
}
