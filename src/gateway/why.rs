//! What the gateway would decide about a tool, without a call.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Gateway;
use super::authorize::Verdict;
use crate::catalog::{Catalog, Entry, List};
use crate::desired::Toolset;
use crate::policy::{Principal, Refusal};
use crate::resource::Name;

/// A tool that is in the catalog, as one principal meets it.
#[derive(Clone, Debug)]
pub struct Prospect {
    pub entry: Arc<Entry>,
    pub runner: Option<Name>,
    /// The rules that leave it out of lists; empty when it is listed. A `visible` that is false has no
    /// refusal of its own.
    pub hiding: Vec<Refusal>,
    pub hidden: bool,
    /// Why a call with these arguments is refused.
    pub refused: Option<String>,
    /// The rules that refuse it.
    pub refusing: Vec<Refusal>,
    /// What policies with `enforcement: audit` would have refused.
    pub audited: Vec<Refusal>,
    /// Why these arguments do not fit.
    pub invalid: Option<String>,
    /// Whether any rule is asked about calls.
    pub ruled: bool,
}

impl Gateway {
    /// The toolsets of what is served that take an entry.
    pub fn toolsets_of(catalog: &Catalog, entry: &Entry) -> Vec<Arc<Toolset>> {
        let toolsets = catalog.toolsets().filter_map(|name| catalog.toolset(name));
        toolsets
            .filter(|toolset| toolset.takes(&entry.owner, entry.labels(), &entry.name))
            .map(Arc::clone)
            .collect()
    }

    /// What becomes of a tool for somebody. Without arguments a call is not judged. None: nothing of
    /// that name is served.
    pub async fn prospect(
        &self,
        catalog: &Catalog,
        tool: &str,
        user: &Principal,
        arguments: Option<&Map<String, Value>>,
    ) -> Option<Prospect> {
        let entry = Arc::clone(catalog.entries(List::Tools).get(tool)?);
        let rules = self.rules.load_full();
        let listed = rules.listed(&entry, user);
        let (mut refused, mut refusing, mut audited, mut invalid) = (None, Vec::new(), Vec::new(), None);
        if let Some(given) = arguments {
            let (judged, decision) = rules.judge(&entry, user, given).await;
            if let Verdict::Refused(why) = judged.verdict {
                refused = Some(why);
            }
            if let Some(decision) = decision {
                (refusing, audited) = (decision.refusals, decision.audited);
            }
            let given = Value::Object(given.clone());
            invalid = entry.input_schema().and_then(|schema| self.schemas.check(schema, &given).err());
        }
        Some(Prospect {
            runner: super::authorize::runner_of(&entry).cloned(),
            hidden: rules.hides(List::Tools, &entry, user),
            hiding: listed.map(|decision| decision.refusals).unwrap_or_default(),
            entry,
            refused,
            refusing,
            audited,
            invalid: invalid.map(|error| error.to_string()),
            ruled: rules.asks(),
        })
    }
}
