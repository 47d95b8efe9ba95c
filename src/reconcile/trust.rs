//! How each server stands to its lock: judged anew when the lock, the trust or what it lists changed.
//!
//! The decision is [`crate::lock::judge()`]; here it is remembered, told and given to the catalog. What
//! a server without a lock listed first is kept in the store, so that a change of its own is seen after
//! a restart of the daemon too.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Reconciler;
use crate::catalog::Offered;
use crate::desired::Desired;
use crate::live::{InstanceId, UpstreamKey};
use crate::lock::{self, Case, Definitions, Judged, Lock, State, Verdict};
use crate::ports::Offer;
use crate::resource::server::Trust;
use crate::resource::{Digest, Name, ResourceId};

/// How a server stands to its lock, and what that was judged from.
pub(super) struct Standing {
    inputs: Inputs,
    /// Without its definitions, which are in `offer`.
    pub(super) judged: Judged,
    /// What of it may be in the catalog.
    offer: Arc<Offer>,
}

/// What a judgement is made from.
#[derive(Clone)]
struct Inputs {
    digest: Digest,
    trust: Option<Trust>,
    lock: Option<Arc<Lock>>,
    broken: bool,
    on_demand: bool,
    seen: Option<Arc<Offer>>,
}

impl Standing {
    pub(super) fn offer(&self) -> &Arc<Offer> {
        &self.offer
    }
}

impl Inputs {
    fn same(&self, other: &Self) -> bool {
        fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
            match (a, b) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (a, b) => a.is_none() && b.is_none(),
            }
        }
        self.digest == other.digest
            && self.trust == other.trust
            && self.broken == other.broken
            && self.on_demand == other.on_demand
            && same(self.lock.as_ref(), other.lock.as_ref())
            && same(self.seen.as_ref(), other.seen.as_ref())
    }
}

/// What a workload listed when it was first seen, as the store has it.
#[derive(Serialize, Deserialize)]
struct First {
    digest: Digest,
    #[serde(default)]
    instructions: Option<String>,
    tools: Vec<Arc<str>>,
    prompts: Vec<Arc<str>>,
    resources: Vec<Arc<str>>,
    templates: Vec<Arc<str>>,
}

impl Reconciler {
    /// What each server may offer, for the catalog.
    pub(super) fn offered(&mut self, desired: &Desired) -> Vec<Offered> {
        let mut before = std::mem::take(&mut self.standing);
        let mut standing = BTreeMap::new();
        let mut offered = Vec::new();
        let declared = desired.servers.iter().filter(|(name, _)| !self.serving.contains_key(*name));
        let servers: Vec<(Name, Arc<crate::desired::Server>)> = self
            .serving
            .iter()
            .map(|(name, serving)| (name.clone(), Arc::clone(&serving.server)))
            .chain(declared.map(|(name, server)| (name.clone(), Arc::clone(server))))
            .filter(|(_, server)| server.synced)
            .collect();
        for (name, server) in servers {
            let old = before.remove(&name);
            let wanted = desired.servers.get(&name).map(|server| server.digests.workload);
            let seen = self.serving.get(&name).map(|serving| Arc::clone(&serving.offer));
            let mut inputs = Inputs {
                digest: server.digests.workload,
                trust: server.trust,
                lock: self.manifest.as_ref().and_then(|manifest| manifest.locks.get(&server.id)).cloned(),
                broken: self.manifest.as_ref().is_some_and(|found| found.broken_locks.contains(&server.id)),
                on_demand: server.scale.on_demand(),
                seen,
            };
            // The version before is judged by the lock it was served with until the new one is there.
            if let Some(old) =
                old.as_ref().filter(|old| inputs.seen.is_some() && old.inputs.digest == inputs.digest)
                && wanted != Some(inputs.digest)
            {
                inputs.lock.clone_from(&old.inputs.lock);
                (inputs.trust, inputs.broken) = (old.inputs.trust, old.inputs.broken);
            }
            let now = match old {
                Some(old) if old.inputs.same(&inputs) => old,
                old => self.judge(&server.id, inputs, old.as_ref()),
            };
            if now.inputs.seen.is_some() || now.judged.verdict == Verdict::Unverified {
                let unstarted = || {
                    if server.scale.is_elastic() {
                        return UpstreamKey::any_of(&server);
                    }
                    UpstreamKey { server: name.clone(), instance: InstanceId("not started".to_owned()) }
                };
                let upstream = self.serving.get(&name).map_or_else(unstarted, |serving| serving.key.clone());
                offered.push(Offered { server, upstream, offer: Arc::clone(&now.offer) });
            }
            standing.insert(name, now);
        }
        self.standing = standing;
        offered.sort_by(|a, b| a.server.id.cmp(&b.server.id));
        offered
    }

    fn judge(&mut self, id: &ResourceId, inputs: Inputs, old: Option<&Standing>) -> Standing {
        let seen = inputs.seen.as_ref().map(|offer| offer.definitions());
        let first = match (&inputs.seen, &inputs.lock) {
            (Some(offer), None) => Some(self.first(&id.name, inputs.digest, offer).definitions()),
            _ => None,
        };
        let lock = match (&inputs.lock, inputs.broken) {
            (Some(lock), _) => State::Known(lock),
            (None, true) => State::Broken,
            (None, false) => State::None,
        };
        let Inputs { trust, on_demand, .. } = inputs;
        let case = Case { trust, lock, seen: seen.as_ref(), first: first.as_ref(), on_demand };
        let mut judged = lock::judge(&case);
        let definitions = std::mem::take(&mut judged.offered);
        let offer = match (&inputs.seen, seen.as_ref() == Some(&definitions)) {
            (Some(seen), true) => Arc::clone(seen),
            (seen, _) => Arc::new(offer_of(definitions, seen.as_deref())),
        };
        let judged = Judged { offered: Definitions::default(), ..judged };
        self.tell_changes(id, &inputs, old);
        tell(id, &judged, old.map(|old| &old.judged));
        Standing { inputs, judged, offer }
    }

    /// What a workload listed when it was first seen: now, unless that was before.
    fn first(&mut self, name: &Name, digest: Digest, offer: &Arc<Offer>) -> Arc<Offer> {
        let known = self.first_seen.get(name).filter(|(known, _)| *known == digest);
        if let Some((_, first)) = known {
            return Arc::clone(first);
        }
        let key = format!("first/{name}");
        let stored = self.ports.store.get(&key).ok().flatten();
        let stored = stored.and_then(|bytes| serde_json::from_slice::<First>(&bytes).ok());
        let stored = stored.filter(|first| first.digest == digest);
        let first =
            if let Some(First { digest: _, instructions, tools, prompts, resources, templates }) = stored {
                Arc::new(Offer { instructions, tools, prompts, resources, templates, ..Offer::default() })
            } else {
                self.remember_first(name, &key, digest, offer);
                Arc::clone(offer)
            };
        self.first_seen.insert(name.clone(), (digest, Arc::clone(&first)));
        first
    }

    fn remember_first(&self, name: &Name, key: &str, digest: Digest, offer: &Offer) {
        let first = First {
            digest,
            instructions: offer.instructions.clone(),
            tools: offer.tools.clone(),
            prompts: offer.prompts.clone(),
            resources: offer.resources.clone(),
            templates: offer.templates.clone(),
        };
        let written = serde_json::to_vec(&first).ok().map(|bytes| self.ports.store.put(key, &bytes));
        if let Some(Err(error)) = written {
            tracing::warn!(server = %name, error = %error.chain(), "what it listed first is not remembered");
        }
    }

    /// Says that a workload lists something else than it did, though no commit changed it.
    fn tell_changes(&self, id: &ResourceId, inputs: &Inputs, old: Option<&Standing>) {
        let Some(old) = old.filter(|old| old.inputs.digest == inputs.digest) else { return };
        let (Some(then), Some(now)) = (&old.inputs.seen, &inputs.seen) else { return };
        if Arc::ptr_eq(then, now) {
            return;
        }
        let differences = lock::compare(&then.definitions(), &now.definitions());
        for difference in &differences {
            tracing::warn!(resource = %id, "changed by itself, without a commit: {difference}");
        }
        self.ports.publisher.definitions_changed(id, differences.len() as u64);
    }
}

/// One line when a server comes to stand otherwise to its lock.
fn tell(id: &ResourceId, now: &Judged, before: Option<&Judged>) {
    if before == Some(now) {
        return;
    }
    let message = now.message(id.name.as_str());
    let (alarms, alarmed) = (now.verdict.alarms(), before.is_some_and(|before| before.verdict.alarms()));
    if alarms || now.verdict == Verdict::NoLock {
        tracing::warn!(resource = %id, lock = now.verdict.reason(), "{message}");
    } else if alarmed {
        tracing::info!(resource = %id, lock = now.verdict.reason(), "{message}");
    } else {
        tracing::debug!(resource = %id, lock = now.verdict.reason(), "{message}");
    }
}

fn offer_of(definitions: Definitions, seen: Option<&Offer>) -> Offer {
    let Definitions { instructions, tools, prompts, resources, templates } = definitions;
    let texts = |list: Vec<lock::Definition>| list.into_iter().map(|definition| definition.text).collect();
    Offer {
        instructions,
        tools: texts(tools),
        prompts: texts(prompts),
        resources: texts(resources),
        templates: texts(templates),
        protocol: seen.map(|seen| seen.protocol.clone()).unwrap_or_default(),
        server_info: seen.and_then(|seen| seen.server_info.clone()),
        capabilities: seen.and_then(|seen| seen.capabilities.clone()),
    }
}
