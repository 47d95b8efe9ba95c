//! What outside registration APIs have to be told, so that they have the tools that are served.
//!
//! Input: the tools that are served, what is known to be registered, and which owners are settled.
//! Output: [`Step`]s. Invariants: nothing is deleted or changed that was not created by us; a tool whose
//! owner only starts, or is ill, is not deleted: unknown is not absent. Not here: sending anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::Catalog;
use crate::convert::export::{self, Tool};
use crate::resource::crib::Registration;
use crate::resource::value::Reference;
use crate::resource::{Digest, Period, ResourceId, SecretRef};

/// A tool as it should be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub owner: ResourceId,
    /// What is sent.
    pub body: Arc<str>,
    pub digest: Digest,
}

/// What is known to be registered at one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// How to sign in when it is declared no more: where the key is found, never the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
    /// Of one request, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    pub tools: BTreeMap<String, Record>,
}

impl Known {
    /// Takes over what is declared; whether anything changed.
    pub fn declare(&mut self, registration: &Registration) -> bool {
        let Registration { url: _, key, timeout } = registration;
        let key = key.as_ref().map(|key| key.secret.clone());
        let timeout = timeout.and_then(|period| u64::try_from(period.0.as_millis()).ok());
        let changed = (&self.key, self.timeout) != (&key, timeout);
        (self.key, self.timeout) = (key, timeout);
        changed
    }

    /// As it was declared last.
    pub fn registration(&self, url: &str) -> Registration {
        Registration {
            url: url.to_owned(),
            key: self.key.clone().map(|secret| Reference { secret }),
            timeout: self.timeout.map(|timeout| Period(Duration::from_millis(timeout))),
        }
    }
}

/// One tool that we created, or are about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub owner: ResourceId,
    /// Of what was sent last; none while it is not known whether its creation came through.
    pub digest: Option<Digest>,
    /// What the API calls it, where that is not its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create { name: String, wanted: Wanted },
    Update { name: String, wanted: Wanted },
    Delete { name: String },
}

/// The tools of a catalog as they should be registered. `mark` says whose they are.
pub fn wanted(catalog: &Catalog, endpoint: &str, mark: &str) -> BTreeMap<String, Wanted> {
    let mut tools = BTreeMap::new();
    for entry in catalog.tools.values() {
        let Ok(definition) = serde_json::from_str::<Value>(&entry.definition) else { continue };
        let tool = Tool { name: &entry.name, owner: &entry.owner, definition: &definition };
        let mut body = export::definition(&tool, endpoint);
        body["managed_by"] = Value::from(mark);
        let body: Arc<str> = body.to_string().into();
        let digest = Digest::of("registration", &*body);
        tools.insert(entry.name.to_string(), Wanted { owner: entry.owner.clone(), body, digest });
    }
    tools
}

/// What is left to do, in the order of names, deletions last.
pub fn plan(
    wanted: &BTreeMap<String, Wanted>,
    known: &BTreeMap<String, Record>,
    settled: impl Fn(&ResourceId) -> bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, tool) in wanted {
        match known.get(name) {
            Some(Record { digest: Some(digest), .. }) if *digest == tool.digest => {}
            Some(Record { digest: Some(_), .. }) => {
                steps.push(Step::Update { name: name.clone(), wanted: tool.clone() });
            }
            Some(Record { digest: None, .. }) | None => {
                steps.push(Step::Create { name: name.clone(), wanted: tool.clone() });
            }
        }
    }
    for (name, record) in known {
        if !wanted.contains_key(name) && settled(&record.owner) {
            steps.push(Step::Delete { name: name.clone() });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(text: &str) -> ResourceId {
        ResourceId::parse(text).unwrap()
    }

    #[test]
    fn what_is_known_is_read_back() {
        let declared = Registration {
            url: "https://x/tools".to_owned(),
            key: Some(Reference { secret: SecretRef::Env("KEY".to_owned()) }),
            timeout: Some(Period(Duration::from_secs(5))),
        };
        let mut known = Known::default();
        assert!(known.declare(&declared) && !known.declare(&declared));
        let record =
            Record { owner: owner("Server/a"), digest: Some(Digest::of("x", "y")), id: Some("7".to_owned()) };
        known.tools.insert("a".to_owned(), record);
        let text = serde_json::to_string(&known).unwrap();
        let read: Known = serde_json::from_str(&text).unwrap();
        assert_eq!(read, known, "{text}");
        assert_eq!(read.registration(&declared.url), declared);
    }

    #[test]
    fn what_differs_is_sent_and_what_is_unknown_is_left() {
        let tool = |body: &str| Wanted {
            owner: owner("Server/a"),
            body: body.into(),
            digest: Digest::of("registration", body),
        };
        let record = |digest: Option<&str>, of: &str| Record {
            owner: owner(of),
            digest: digest.map(|body| Digest::of("registration", body)),
            id: None,
        };
        let wanted: BTreeMap<String, Wanted> =
            ["new", "same", "changed", "begun"].map(|name| (name.to_owned(), tool("1"))).into();
        let known: BTreeMap<String, Record> = [
            ("same", record(Some("1"), "Server/a")),
            ("changed", record(Some("0"), "Server/a")),
            ("begun", record(None, "Server/a")),
            ("gone", record(Some("1"), "Tool/gone")),
            ("starting", record(Some("1"), "Server/slow")),
        ]
        .map(|(name, record)| (name.to_owned(), record))
        .into();
        let steps = plan(&wanted, &known, |owner| owner.name.as_str() != "slow");
        let told: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Create { name, .. } => format!("create {name}"),
                Step::Update { name, .. } => format!("update {name}"),
                Step::Delete { name } => format!("delete {name}"),
            })
            .collect();
        assert_eq!(told, ["create begun", "update changed", "create new", "delete gone"]);
    }
}
