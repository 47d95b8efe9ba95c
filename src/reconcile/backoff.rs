//! Who waits, until when, and why: pure bookkeeping, time is an input.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ports::{Disposition, PortError};
use crate::resource::{Digest, ResourceId};

/// The first wait after a failure; doubled with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait: often enough that a repaired engine is used again soon.
const LONGEST: Duration = Duration::from_mins(5);
/// Who ran this long is forgiven its earlier failures.
const FORGIVEN: Duration = Duration::from_mins(1);

/// One resource that failed.
#[derive(Clone, Debug)]
pub struct Wait {
    /// What failed: another digest starts anew.
    pub digest: Digest,
    pub failures: u32,
    /// `None`: until a new revision changes the digest.
    pub until: Option<Duration>,
    pub since: Duration,
    pub what: What,
    pub error: String,
    pub hint: Option<String>,
    pub detail: Option<String>,
}

/// What it was that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Build,
    Start,
    Crash,
    /// Its contract tests.
    Tests,
}

/// All resources that failed lately.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    waits: BTreeMap<ResourceId, Wait>,
}

impl Backoff {
    /// Notes a failed build or start.
    pub fn failed(&mut self, id: &ResourceId, digest: Digest, what: What, error: &PortError, now: Duration) {
        let failures = self.failures(id, digest, now) + 1;
        let until = match error.disposition {
            Disposition::Retry => Some(now + delay(failures)),
            Disposition::Stalled => None,
        };
        let wait = Wait {
            digest,
            failures,
            until,
            since: now,
            what,
            error: error.chain(),
            hint: error.hint.clone(),
            detail: error.detail.clone(),
        };
        self.waits.insert(id.clone(), wait);
    }

    /// Notes that a running instance ended by itself: the first restart is at once.
    pub fn crashed(&mut self, id: &ResourceId, digest: Digest, error: String, now: Duration) {
        let failures = self.failures(id, digest, now) + 1;
        let until = if failures == 1 { now } else { now + delay(failures - 1) };
        let what = What::Crash;
        let wait =
            Wait { digest, failures, until: Some(until), since: now, what, error, hint: None, detail: None };
        self.waits.insert(id.clone(), wait);
    }

    fn failures(&self, id: &ResourceId, digest: Digest, now: Duration) -> u32 {
        let fresh = |wait: &&Wait| {
            wait.digest == digest && now.saturating_sub(wait.until.unwrap_or(wait.since)) < FORGIVEN
        };
        self.waits.get(id).filter(fresh).map_or(0, |wait| wait.failures)
    }

    /// Forgets failures of whatever is not wanted any more, or wanted with another digest.
    pub fn keep(&mut self, wanted: impl Fn(&ResourceId, Digest) -> bool) {
        self.waits.retain(|id, wait| wanted(id, wait.digest));
    }

    /// Forgets one resource's failures, as when a person asks for another try.
    pub fn forgive(&mut self, id: &ResourceId) {
        self.waits.remove(id);
    }

    /// Notes success: build and start failures are over, crashes are remembered for a while.
    pub fn succeeded(&mut self, id: &ResourceId) {
        if self.waits.get(id).is_some_and(|wait| wait.what != What::Crash) {
            self.waits.remove(id);
        }
    }

    pub fn get(&self, id: &ResourceId) -> Option<&Wait> {
        self.waits.get(id)
    }

    /// What each failure had to show: logs of builds and of instances.
    pub fn details(&self) -> BTreeMap<ResourceId, String> {
        let detail = |wait: &Wait| wait.detail.clone().unwrap_or_else(|| wait.error.clone());
        self.waits.iter().map(|(id, wait)| (id.clone(), detail(wait))).collect()
    }

    /// Who must wait now, with the reason as a plan's report has it.
    pub fn held(&self, now: Duration) -> BTreeMap<ResourceId, String> {
        let text = |wait: &Wait| match wait.until {
            Some(until) => {
                let seconds = until.saturating_sub(now).as_secs() + 1;
                format!("failed {} times, tried again in {seconds} s: {}", wait.failures, wait.error)
            }
            None => format!("waits for a new revision: {}", wait.error),
        };
        self.waits
            .iter()
            .filter(|(_, wait)| wait.until.is_none_or(|until| until > now))
            .map(|(id, wait)| (id.clone(), text(wait)))
            .collect()
    }

    /// The next moment at which somebody may try again.
    pub fn next(&self, now: Duration) -> Option<Duration> {
        self.waits.values().filter_map(|wait| wait.until).filter(|until| *until > now).min()
    }
}

/// 1 s, 2 s, 4 s, … up to the longest.
fn delay(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Kind, Name};

    fn id() -> ResourceId {
        ResourceId::new(Kind::Server, Name::parse("a").unwrap())
    }

    #[test]
    fn waits_grow_and_end() {
        let (mut backoff, digest) = (Backoff::default(), Digest::of_bytes(b"1"));
        let mut now = Duration::ZERO;
        for expected in [1, 2, 4, 8] {
            backoff.failed(&id(), digest, What::Start, &PortError::retry("failed"), now);
            assert!(backoff.held(now).contains_key(&id()));
            assert_eq!(backoff.next(now), Some(now + Duration::from_secs(expected)));
            now += Duration::from_secs(expected);
            assert!(backoff.held(now).is_empty());
        }
    }

    #[test]
    fn a_stalled_resource_waits_for_its_digest() {
        let (mut backoff, digest) = (Backoff::default(), Digest::of_bytes(b"1"));
        backoff.failed(&id(), digest, What::Build, &PortError::stalled("failed"), Duration::ZERO);
        assert!(backoff.held(Duration::from_secs(1_000_000)).contains_key(&id()));
        backoff.keep(|_, wanted| wanted == Digest::of_bytes(b"2"));
        assert!(backoff.held(Duration::ZERO).is_empty());
    }

    #[test]
    fn the_first_crash_restarts_at_once_and_later_ones_wait() {
        let (mut backoff, digest) = (Backoff::default(), Digest::of_bytes(b"1"));
        backoff.crashed(&id(), digest, "ended".to_owned(), Duration::ZERO);
        assert!(backoff.held(Duration::ZERO).is_empty());
        backoff.crashed(&id(), digest, "ended".to_owned(), Duration::from_secs(1));
        assert!(backoff.held(Duration::from_secs(1)).contains_key(&id()));
    }
}
