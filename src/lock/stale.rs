//! Whether a lock still speaks of what is declared: decided from the repository alone.

use super::{Lock, Resolved};

/// What a resource is made of now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Now {
    /// The source as it is written.
    pub source: serde_json::Value,
    /// Of it `build`, `files` and `version` are compared: the others only the network knows.
    pub resolved: Resolved,
}

impl Lock {
    /// What is not as the lock has it: sentences, none when the lock holds.
    pub fn stale(&self, now: &Now) -> Vec<String> {
        let Resolved { commit: _, image: _, digest: _, version, hashes: _, build, files } = &self.resolved;
        if self.source != now.source {
            let fields = super::compare::fields(&self.source.to_string(), &now.source.to_string());
            return fields.iter().map(|field| format!("source.{field}")).collect();
        }
        let mut stale = Vec::new();
        if *version != now.resolved.version {
            stale.push("another version is declared".to_owned());
        }
        if *build != now.resolved.build {
            stale.push(
                "its image is made of something else (the files, the base or the arguments)".to_owned(),
            );
        }
        if *files != now.resolved.files {
            stale.push("the files that its command uses changed".to_owned());
        }
        stale
    }
}
