//! Servers of which there may be no instance, or several (`lifecycle`): what the loop knows of their use, and
//! whom it tells when one has come.
//!
//! What is wanted is decided by the plan, of which the use is an input; a call that finds no instance says
//! when to look, and hears how that went. Such a server is listed while it does not run: as this version of
//! it listed what it offers when it was asked last, which is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::job::{self, Key};
use super::serve::Serving;
use super::{Cause, Reconciler};
use crate::desired::{Desired, Location, Server};
use crate::live::{Fault, Observation, UpstreamKey};
use crate::plan::{Action, Demand, Plan};
use crate::ports::{Handshake, Offer, PortError, Unmet};
use crate::resource::server::Trust;
use crate::resource::{Digest, Name};

/// Calls that wait to hear of an instance: each is one of a client, which are bounded as well.
const MAX_WAITING: usize = 4096;
/// Versions of a server of which is remembered what they list: the one now, and the one that a revert brings.
const REMEMBERED: usize = 2;

/// Where the answer to a call goes that found no instance.
pub(super) type Answer = oneshot::Sender<Result<(), Unmet>>;

/// What versions of a server listed, as the store has it.
#[derive(Serialize, Deserialize)]
struct Known {
    digest: Digest,
    handshake: Handshake,
    tools: Vec<Arc<str>>,
    prompts: Vec<Arc<str>>,
    resources: Vec<Arc<str>>,
    templates: Vec<Arc<str>>,
}

impl Known {
    fn of(digest: Digest, offer: &Offer) -> Self {
        let Offer { tools, prompts, resources, templates, .. } = offer.clone();
        Self { digest, handshake: offer.handshake(), tools, prompts, resources, templates }
    }

    fn offer(self) -> Offer {
        let Self { digest: _, handshake, tools, prompts, resources, templates } = self;
        let Handshake { protocol, server_info, capabilities, instructions } = handshake;
        Offer { protocol, server_info, capabilities, instructions, tools, prompts, resources, templates }
    }
}

fn store_key(name: &Name) -> String {
    format!("offer/{name}")
}

impl Reconciler {
    /// A call found no instance.
    pub(super) fn demanded(&mut self, any: UpstreamKey, answer: Answer) {
        if self.suspended || self.wakes.len() >= MAX_WAITING {
            let why = if self.suspended { "the daemon is suspended" } else { "too many calls wait" };
            drop(answer.send(Err(Unmet::Failed(PortError::retry(why)))));
            return;
        }
        self.pass.begin(&*self.ports.clock, Cause::Demand);
        self.wakes.push((any, answer));
        self.look();
    }

    /// How much servers are used whose number of instances depends on it.
    pub(super) fn demand(&self, former: &BTreeMap<Name, Arc<Server>>) -> BTreeMap<UpstreamKey, Demand> {
        let desired = self.desired.iter().flat_map(|desired| desired.servers.values());
        let elastic = desired.chain(former.values()).filter(|server| server.scale.is_elastic());
        elastic.map(|server| (UpstreamKey::any_of(server), self.demand_of(server))).collect()
    }

    fn demand_of(&self, server: &Server) -> Demand {
        let any = UpstreamKey::any_of(server);
        let usage = self.ports.prober.usage(&any);
        let asked = self.wakes.iter().filter(|(wanted, answer)| *wanted == any && !answer.is_closed());
        let asked = u32::try_from(asked.count()).unwrap_or(u32::MAX);
        let used = usage.idle.iter().filter(|(_, idle)| **idle < server.scale.idle);
        let used = used.map(|(instance, _)| instance.clone()).collect();
        let watched = u32::from(usage.watched && usage.idle.is_empty());
        // Most of those that asked wait there as well.
        let waiting = usage.waiting.max(asked).max(watched);
        Demand { waiting, calls: usage.calls, unknown: self.is_unknown(server), used }
    }

    /// When the next instance has not been used for long enough, unless it is used again.
    pub(super) fn note_idle(&mut self) {
        let now = self.ports.clock.now();
        let elastic = self.serving.values().map(|serving| &serving.server);
        let elastic = elastic.filter(|server| server.scale.min < server.scale.max);
        let next = |server: &Arc<Server>| {
            let usage = self.ports.prober.usage(&UpstreamKey::any_of(server));
            let surplus = usage.idle.len() > server.scale.min as usize;
            let left = usage.idle.values().map(|idle| server.scale.idle.saturating_sub(*idle)).min();
            left.filter(|_| surplus).map(|left| now + left)
        };
        self.idle_until = elastic.filter_map(next).min();
    }

    /// Whether somebody has to be asked what this version of a server offers, because nobody knows.
    fn is_unknown(&self, server: &Server) -> bool {
        if !server.scale.on_demand() {
            return false;
        }
        let digest = server.digests.workload;
        match self.serving.get(&server.id.name).filter(|it| it.server.digests.workload == digest) {
            Some(serving) => !self.is_rehearsed(&serving.server),
            None => !self.is_listed_by_its_lock(server) && self.known_offer(server).is_none(),
        }
    }

    /// Whether it need not be asked, because its lock says what may be offered of it.
    pub(super) fn is_listed_by_its_lock(&self, server: &Server) -> bool {
        if self.only.is_some() || self.surveys.is_some() {
            return false;
        }
        let lock = self.manifest.as_ref().and_then(|manifest| manifest.locks.get(&server.id));
        let reviewed = lock.is_some_and(|lock| lock.offer.is_some());
        server.trust == Some(Trust::Locked) || (reviewed && server.trust != Some(Trust::Live))
    }

    /// What this version listed when it was asked last, and passed its tests.
    fn known_offer(&self, server: &Server) -> Option<Offer> {
        if self.only.is_some() || self.surveys.is_some() || !self.is_rehearsed(server) {
            return None;
        }
        let stored = job::recall(&self.ports, &store_key(&server.id.name))?;
        let known: Vec<Known> = serde_json::from_slice(&stored).ok()?;
        known.into_iter().find(|known| known.digest == server.digests.workload).map(Known::offer)
    }

    /// Remembers what servers list that will be listed without running.
    fn remember_offers(&mut self) {
        for (name, serving) in self.serving.iter().filter(|(_, it)| it.server.scale.on_demand()) {
            let same = |offer: &Arc<Offer>| Arc::ptr_eq(offer, &serving.offer);
            if self.remembered.get(name).is_some_and(same) {
                continue;
            }
            let digest = serving.server.digests.workload;
            let key = store_key(name);
            let before = job::recall(&self.ports, &key);
            let before = before.and_then(|bytes| serde_json::from_slice::<Vec<Known>>(&bytes).ok());
            let others = before.unwrap_or_default().into_iter().filter(|known| known.digest != digest);
            let known: Vec<Known> =
                std::iter::once(Known::of(digest, &serving.offer)).chain(others).take(REMEMBERED).collect();
            if let Ok(bytes) = serde_json::to_vec(&known) {
                job::remember(&self.ports, &key, &bytes);
            }
            self.remembered.insert(name.clone(), Arc::clone(&serving.offer));
        }
        self.remembered.retain(|name, _| self.serving.contains_key(name));
    }

    /// Servers that start on demand are served without running, where it is known what they offer; and the
    /// catalog leads to any instance of those of which there may be any number.
    pub(super) fn follow_lifecycles(&mut self, desired: &Desired) {
        let mut forgotten = false;
        for (name, server) in desired.servers.iter().filter(|(_, server)| server.scale.on_demand()) {
            // Nothing of it has to be there any more: that it is not will be no drift.
            forgotten |= self.inventory.applied.remove(name).is_some();
            let served = self.serving.get(name).map(|serving| serving.server.digests.workload);
            if served != Some(server.digests.workload)
                && let Some(offer) = self.known_offer(server)
            {
                let key = UpstreamKey::any_of(server);
                let serving = Serving { server: Arc::clone(server), key, offer: Arc::new(offer) };
                self.remembered.insert(name.clone(), Arc::clone(&serving.offer));
                self.serving.insert(name.clone(), serving);
            }
        }
        if forgotten {
            self.save_inventory();
        }
        for serving in self.serving.values_mut() {
            let agree = serving.server.scale.is_elastic() == serving.key.is_any();
            if agree || matches!(serving.server.location, Location::Remote { .. }) {
                continue;
            }
            if serving.key.is_any() {
                let digest = serving.server.digests.workload;
                let own =
                    |(key, of): &(&UpstreamKey, &Digest)| key.server == serving.key.server && **of == digest;
                if let Some((one, _)) = self.members.iter().find(own) {
                    serving.key = one.clone();
                }
            } else {
                let any = UpstreamKey::any_of(&serving.server);
                self.ports.prober.admit(&any, &serving.key);
                serving.key = any;
            }
        }
        self.remember_offers();
    }

    /// The connections to instances of a version of a server that answered.
    pub(super) fn members<'a>(&'a self, server: &'a Server) -> impl Iterator<Item = &'a UpstreamKey> {
        let own = |(key, digest): &(&UpstreamKey, &Digest)| {
            key.server == server.id.name && **digest == server.digests.workload
        };
        self.members.iter().filter(own).map(|(key, _)| key)
    }

    /// The connections over which a server is served.
    pub(super) fn connections<'a>(&'a self, serving: &'a Serving) -> Vec<&'a UpstreamKey> {
        if serving.key.is_any() { self.members(&serving.server).collect() } else { vec![&serving.key] }
    }

    /// Whether calls may go over this connection.
    pub(super) fn serves(&self, key: &UpstreamKey) -> bool {
        self.serving.get(&key.server).is_some_and(|serving| {
            serving.key == *key
                || (serving.key.is_any() && self.members.get(key) == Some(&serving.server.digests.workload))
        })
    }

    /// Whether a server does not run because nobody uses it.
    pub(super) fn rests(&self, server: &Server) -> bool {
        server.scale.on_demand() && self.members(server).next().is_none()
    }

    /// Instances that are of no more use, or gone, take no more calls.
    pub(super) fn follow_members(&mut self) {
        let connected = self.ports.prober.connected();
        let unknown = self.live.runners.values().any(|seen| matches!(seen, Observation::Unknown(_)));
        let seen = self.live.runners.values().flat_map(|seen| match seen {
            Observation::Present(instances) => instances.as_slice(),
            Observation::Unknown(_) => &[],
        });
        let seen: std::collections::BTreeSet<_> = seen.map(|instance| &instance.id).collect();
        let useless = |key: &UpstreamKey| {
            let broken = self.broken.get(&key.instance);
            let gone = !unknown && !seen.contains(&key.instance);
            gone || !connected.contains(key) || matches!(broken, Some(Fault::Ended | Fault::Silent))
        };
        let useless: Vec<UpstreamKey> = self.members.keys().filter(|key| useless(key)).cloned().collect();
        for key in useless {
            self.members.remove(&key);
            self.ports.prober.dismiss(&key);
            self.left.insert(key);
            self.stale = true;
        }
        self.let_go_left();
    }

    /// Connections to instances that are gone are closed and forgotten once nothing leads over them: over HTTP
    /// nothing else ends them.
    fn let_go_left(&mut self) {
        let left = std::mem::take(&mut self.left);
        for key in left {
            let refresh = Key::Refresh(key.clone());
            if self.members.contains_key(&key) {
                // It is there again.
                continue;
            }
            if self.serves(&key) || self.running.contains_key(&refresh) {
                self.left.insert(key);
                continue;
            }
            let ports = self.ports.clone();
            self.spawn(refresh, None, |_| Box::pin(job::let_go(ports, key)));
        }
    }

    /// An instance answered, and what it offers is published.
    pub(super) fn admit(&mut self, key: &UpstreamKey) {
        // Also where one always runs: a call that waits may have come before that was said.
        let Some(serving) = self.serving.get(&key.server).filter(|_| self.serves(key)) else { return };
        let any = UpstreamKey::any_of(&serving.server);
        self.ports.prober.admit(&any, key);
        for (_, answer) in self.wakes.extract_if(.., |(wanted, _)| *wanted == any) {
            // Nobody waits any more: the call was cancelled.
            drop(answer.send(Ok(())));
        }
    }

    /// A start failed: calls that wait for it are told why.
    pub(super) fn refuse_calls(&mut self, server: &Name, digest: Digest, error: &PortError) {
        for (any, answer) in std::mem::take(&mut self.wakes) {
            let version = self.version(&any).map(|server| server.digests.workload);
            if any.server == *server && version == Some(digest) {
                let told = PortError { hint: error.hint.clone(), ..PortError::retry(error.chain()) };
                drop(answer.send(Err(Unmet::Failed(told))));
            } else {
                self.wakes.push((any, answer));
            }
        }
    }

    /// Tells calls that wait for an instance, where there is one or will be none.
    pub(super) fn answer_calls(&mut self, plan: &Plan) {
        for (any, answer) in std::mem::take(&mut self.wakes) {
            match self.fate(&any, plan) {
                _ if answer.is_closed() => {}
                None => self.wakes.push((any, answer)),
                Some(fate) => drop(answer.send(fate)),
            }
        }
    }

    /// What becomes of a call; none while that is not known.
    fn fate(&self, any: &UpstreamKey, plan: &Plan) -> Option<Result<(), Unmet>> {
        let Some(server) = self.version(any) else { return Some(Err(Unmet::Replaced)) };
        let connected = self.ports.prober.connected();
        if self.members(server).any(|key| connected.contains(key)) {
            return Some(Ok(()));
        }
        let id = &server.id;
        let brings = |action: &Action| {
            matches!(action, Action::Build { .. } | Action::Start { .. } | Action::Adopt { .. })
        };
        let coming = plan.steps.iter().any(|step| step.resource == *id && brings(&step.action));
        if coming || self.running.contains_key(&Key::Resource(id.clone())) {
            return None;
        }
        let why = plan.blocked.iter().chain(&plan.drift).find(|blocked| blocked.resource == *id);
        let why = why.map_or("nothing is to be started", |blocked| &blocked.reason);
        Some(Err(Unmet::Failed(PortError::retry(why))))
    }

    /// The version of a server that a catalog leads to, while that is served or wanted.
    pub(super) fn version(&self, any: &UpstreamKey) -> Option<&Arc<Server>> {
        let served = self.serving.get(&any.server).map(|serving| &serving.server);
        let wanted = self.desired.as_ref().and_then(|desired| desired.servers.get(&any.server));
        served.into_iter().chain(wanted).find(|server| UpstreamKey::any_of(server) == *any)
    }

    /// Versions that are served and not wanted any more, of servers that start on demand.
    pub(super) fn former(&self) -> BTreeMap<Name, Arc<Server>> {
        let wanted = |name: &Name| {
            let server = self.desired.as_ref().and_then(|desired| desired.servers.get(name));
            server.map(|server| server.digests.workload)
        };
        let served = self.serving.iter().filter(|(name, serving)| {
            let server = &serving.server;
            server.scale.on_demand() && wanted(name) != Some(server.digests.workload)
        });
        served.map(|(name, serving)| (name.clone(), Arc::clone(&serving.server))).collect()
    }

    /// Whether it is time to look at who has not been used; once, since the next look says when again.
    pub(super) fn idle_due(&mut self, now: Duration) -> bool {
        self.idle_until.take_if(|until| *until <= now).is_some()
    }
}
