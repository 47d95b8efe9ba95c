//! Whether servers still answer (`health`): each is asked what it offers, again and again, and one that
//! fails often enough in a row is started anew, or connected to anew where it runs elsewhere.
//!
//! A server over HTTP that declares no `health` is asked as well, but seldom: nothing else tells that it has gone
//! while nobody calls it. One that does not answer is down until it does, and is never started anew for that.
//!
//! [`Checks`] is pure bookkeeping, time is an input: who has to be asked when, and how often it did not
//! answer. A check is the same refresh that a server's own word of a changed list brings about.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Reconciler;
use super::job::{self, Key};
use super::serve::Serving;
use crate::desired::{HealthCheck, Location};
use crate::live::{Fault, UpstreamKey};
use crate::ports::PortError;

/// How often a server over HTTP without `health` is asked: as often as one that is down is asked whether it is
/// back.
const QUIET: Duration = Duration::from_secs(30);
/// After its first failure; each one doubles it, up to [`QUIET`].
const SOON: Duration = Duration::from_millis(250);
/// Of such a server no number of failures means more than that it is down.
const NEVER: u32 = u32::MAX;

/// All servers that are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks(BTreeMap<UpstreamKey, Check>);

#[derive(Clone, Debug)]
struct Check {
    how: HealthCheck,
    /// When it is asked next.
    due: Duration,
    failures: u32,
    /// What the last one failed of.
    error: String,
}

/// What a check that failed means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be well.
    Again,
    /// It is not: said in a sentence.
    Unwell(String),
}

impl Checks {
    /// From now on these and no others: each is asked an interval after it was connected to.
    pub(super) fn follow(&mut self, wanted: BTreeMap<UpstreamKey, HealthCheck>, now: Duration) {
        self.0.retain(|key, _| wanted.contains_key(key));
        for (key, how) in wanted {
            let check = self.0.entry(key).or_insert_with(|| Check {
                how,
                due: now + how.interval,
                failures: 0,
                error: String::new(),
            });
            if check.how != how {
                *check = Check { how, due: check.due.min(now + how.interval), ..check.clone() };
            }
        }
    }

    /// Who has to be asked now, with how long that may take. They are due again an interval later.
    pub(super) fn due(&mut self, now: Duration) -> Vec<(UpstreamKey, Duration)> {
        let due = self.0.iter_mut().filter(|(_, check)| check.due <= now);
        due.map(|(key, check)| {
            check.due = now + check.how.interval;
            (key.clone(), check.how.timeout)
        })
        .collect()
    }

    /// The next moment at which somebody is asked.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.values().map(|check| check.due).min()
    }

    /// One answered.
    pub(super) fn answered(&mut self, key: &UpstreamKey) -> bool {
        let Some(check) = self.0.get_mut(key) else { return false };
        std::mem::take(&mut check.failures) > 0
    }

    /// One did not. After as many in a row as were declared, it counts as unwell, once. One that declares
    /// nothing is asked again soon, and then less and less often.
    pub(super) fn failed(&mut self, key: &UpstreamKey, error: &str, now: Duration) -> Verdict {
        let Some(check) = self.0.get_mut(key) else { return Verdict::Again };
        check.failures = check.failures.saturating_add(1);
        if check.how.failures == NEVER {
            let pause = SOON.saturating_mul(1 << (check.failures - 1).min(16));
            check.due = check.due.min(now + pause);
        }
        error.clone_into(&mut check.error);
        if check.failures < check.how.failures {
            return Verdict::Again;
        }
        let text = format!("{} health checks in a row failed, the last one: {error}", check.failures);
        self.0.remove(key);
        Verdict::Unwell(text)
    }

    /// What to say of one that failed lately and is not given up yet.
    pub(super) fn doubt(&self, key: &UpstreamKey) -> Option<String> {
        let check = self.0.get(key).filter(|check| check.failures > 0 && check.how.failures != NEVER)?;
        Some(format!(
            "{} of {} health checks in a row failed: {}",
            check.failures, check.how.failures, check.error
        ))
    }
}

impl Reconciler {
    /// From now on the servers that are offered, and declare checks, are asked.
    pub(super) fn follow_checks(&mut self) {
        let mut checked = BTreeMap::new();
        for serving in self.serving.values() {
            let Some(health) = serving.server.health.or_else(|| quiet(serving)) else { continue };
            checked.extend(self.connections(serving).into_iter().map(|key| (key.clone(), health)));
        }
        self.checks.follow(checked, self.ports.clock.now());
    }

    /// Asks those whose time has come; whether there were any.
    pub(super) fn check_health(&mut self) -> bool {
        if self.suspended {
            return false;
        }
        let due = self.checks.due(self.ports.clock.now());
        if due.is_empty() {
            return false;
        }
        let connected = self.ports.prober.connected();
        for (key, limit) in due {
            // Without a connection it is known already that it does not answer.
            if !connected.contains(&key) || self.broken.contains_key(&key.instance) {
                continue;
            }
            let (ports, asked) = (self.ports.clone(), key.clone());
            self.spawn(Key::Refresh(key), None, |_| Box::pin(job::refresh(ports, asked, limit)));
        }
        true
    }

    /// A server did not say what it offers.
    pub(super) fn did_not_answer(&mut self, key: &UpstreamKey, error: &PortError) {
        self.stale = true;
        let text = match self.checks.failed(key, &error.chain(), self.ports.clock.now()) {
            Verdict::Again => {
                tracing::warn!(server = %key.server, error = %error.chain(), "the server did not list again; what is served stays");
                return self.look();
            }
            Verdict::Unwell(text) => text,
        };
        let Some(serving) = self.serving.get(&key.server) else { return };
        let (id, digest) = (serving.server.id.clone(), serving.server.digests.workload);
        let elsewhere = matches!(serving.server.location, Location::Remote { .. });
        tracing::warn!(resource = %id, instance = %key.instance, "unhealthy: {text}");
        self.backoff.crashed(&id, digest, text, self.ports.clock.now());
        if elsewhere {
            let (ports, key) = (self.ports.clone(), key.clone());
            self.spawn(Key::Refresh(key.clone()), None, |_| Box::pin(job::let_go(ports, key)));
        } else {
            self.broken.insert(key.instance.clone(), Fault::Silent);
        }
        self.look();
    }
}

/// How a server without `health` is asked: over HTTP, unless only its users may ask it.
fn quiet(serving: &Serving) -> Option<HealthCheck> {
    let server = &serving.server;
    let by_users = match &server.location {
        Location::Remote { credentials: Some(declared), .. } => {
            declared.user.as_ref().is_some_and(|user| user.list_as.is_none())
        }
        Location::Remote { .. } | Location::Runner(_) => false,
    };
    let asked = !serving.over_stdio() && !by_users;
    asked.then_some(HealthCheck { interval: QUIET, timeout: server.startup_timeout, failures: NEVER })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::InstanceId;
    use crate::resource::Name;

    const HOW: HealthCheck =
        HealthCheck { interval: Duration::from_secs(10), timeout: Duration::from_secs(5), failures: 3 };

    fn key(instance: &str) -> UpstreamKey {
        UpstreamKey { server: Name::parse("a").unwrap(), instance: InstanceId(instance.to_owned()) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_is_asked_an_interval_after_the_other() {
        let mut checks = Checks::default();
        assert_eq!(checks.next(), None);
        checks.follow(BTreeMap::from([(key("1"), HOW)]), at(100));
        assert_eq!((checks.due(at(109)), checks.next()), (vec![], Some(at(110))));
        assert_eq!(checks.due(at(111)), [(key("1"), HOW.timeout)]);
        // It goes on as it was, and another instance begins anew.
        checks.follow(BTreeMap::from([(key("1"), HOW)]), at(115));
        assert_eq!(checks.next(), Some(at(121)));
        checks.follow(BTreeMap::from([(key("2"), HOW)]), at(118));
        assert_eq!(checks.next(), Some(at(128)));
        // A shorter interval counts at once, a longer one from the next time on.
        let often = HealthCheck { interval: at(1), ..HOW };
        checks.follow(BTreeMap::from([(key("2"), often)]), at(120));
        assert_eq!(checks.next(), Some(at(121)));
        checks.follow(BTreeMap::new(), at(120));
        assert_eq!(checks.next(), None);
    }

    #[test]
    fn failures_in_a_row_count_and_an_answer_forgives_them() {
        let mut checks = Checks::default();
        checks.follow(BTreeMap::from([(key("1"), HOW)]), at(0));
        for _ in 0..2 {
            assert_eq!(checks.failed(&key("1"), "no answer", at(0)), Verdict::Again);
        }
        assert_eq!(checks.doubt(&key("1")).unwrap(), "2 of 3 health checks in a row failed: no answer");
        assert!(checks.answered(&key("1")) && !checks.answered(&key("1")));
        assert_eq!(checks.doubt(&key("1")), None);
        for _ in 0..2 {
            assert_eq!(checks.failed(&key("1"), "no answer", at(0)), Verdict::Again);
        }
        let unwell = Verdict::Unwell("3 health checks in a row failed, the last one: late".to_owned());
        assert_eq!(checks.failed(&key("1"), "late", at(0)), unwell);
        // Told once: what comes after is of an instance that is given up.
        assert_eq!(checks.failed(&key("1"), "late", at(0)), Verdict::Again);
    }

    #[test]
    fn one_that_declares_nothing_is_asked_again_soon_and_then_less_often() {
        let quiet = HealthCheck { interval: QUIET, failures: NEVER, ..HOW };
        let mut checks = Checks::default();
        checks.follow(BTreeMap::from([(key("1"), quiet), (key("2"), HOW)]), at(0));
        let pauses = (1..=12).map(|n| {
            let now = at(1_000 * n);
            assert_eq!(checks.due(now).len(), 2);
            assert_eq!(checks.failed(&key("1"), "refused", now), Verdict::Again);
            checks.0[&key("1")].due.checked_sub(now).unwrap().as_millis()
        });
        let pauses: Vec<u128> = pauses.collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000, 30000, 30000]);
        // A declared interval is kept, whatever made it be asked in between.
        let before = checks.0[&key("2")].due;
        checks.failed(&key("2"), "refused", at(12_001));
        assert_eq!(checks.0[&key("2")].due, before);
    }
}
