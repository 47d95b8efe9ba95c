//! A policy whose rules are asked elsewhere, over OPA's data API.
//!
//! Input: the document that such a server answers for a package. Output: its part of a decision.
//! Invariants: no answer refuses, and so does an answer that says nothing of what it was declared to
//! decide. OPA leaves out what is undefined, so only the declaration tells an `allow` that does not
//! hold from one that is not there. Not here: the network.

use regorus::Value as Rego;
use serde::Deserialize as _;
use serde_json::Value;

use super::answer::{Round, Voice};
use super::compile::ANSWERS;
use crate::resource::ResourceId;
use crate::resource::policy::{Enforcement, OpaSource, Point};

/// One policy that is answered elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    pub id: ResourceId,
    /// The package whose document is asked for.
    pub package: String,
    pub points: Vec<Point>,
    pub enforcement: Enforcement,
    pub opa: OpaSource,
}

impl Remote {
    /// Where the package's document is: `https://opa:8181/v1/data/kubiya/tools`.
    pub fn address(&self) -> String {
        format!("{}/v1/data/{}", self.opa.url.trim_end_matches('/'), self.package.replace('.', "/"))
    }

    fn voice(&self) -> Voice<'_> {
        Voice { id: &self.id, package: &self.package, enforcement: self.enforcement }
    }

    /// Takes what was answered: the document, or why there is none.
    pub(super) fn hear(&self, said: Option<&Result<Value, String>>, round: &mut Round<'_>) {
        let voice = self.voice();
        let document = match said {
            Some(Ok(Value::Object(document))) => document,
            Some(Ok(_)) => return round.fail_whole(&voice, "the policy server's answer is no object"),
            Some(Err(why)) => {
                return round.fail_whole(&voice, &format!("the policy server gives no decision: {why}"));
            }
            None => return round.fail_whole(&voice, "the policy server was not asked"),
        };
        for answer in ANSWERS {
            let given = document.get(answer);
            let declared = self.opa.answers.iter().any(|declared| declared.as_str() == answer);
            if given.is_none() && !declared {
                continue;
            }
            // Every JSON document is a value of Rego.
            let value = given.map_or(Ok(Rego::Undefined), |given| {
                Rego::deserialize(given).map_err(|error| error.to_string())
            });
            round.heard(&voice, answer, value, Vec::new());
        }
    }
}
