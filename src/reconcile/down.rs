//! Servers that are down: they ended, closed their connection, or do not answer over HTTP.
//!
//! What the catalog lists of them is as they declare (`tools.whenDown`). Over HTTP nobody tells when a
//! server is back, so that it is asked again, more and more seldom.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Reconciler;
use crate::catalog::Offered;
use crate::live::{Fault, UpstreamKey};
use crate::resource::Name;
use crate::resource::server::WhenDown;

/// Between two times that a server over HTTP is asked whether it is back: from the first to the longest.
const AGAIN: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// Servers over HTTP that did not answer when they were last asked what they offer: each once, so that
/// there are as many as servers at most.
#[derive(Debug, Default)]
pub(super) struct Unanswered(BTreeMap<UpstreamKey, Wait>);

#[derive(Debug)]
struct Wait {
    pause: Duration,
    until: Duration,
}

impl Unanswered {
    /// Notes that it did not answer; true the first time.
    pub(super) fn failed(&mut self, key: &UpstreamKey, now: Duration) -> bool {
        let before = self.0.get(key).map(|wait| wait.pause);
        let pause = before.map_or(AGAIN[0], |pause| (pause * 2).min(AGAIN[1]));
        self.0.insert(key.clone(), Wait { pause, until: now + pause });
        before.is_none()
    }

    /// Notes that it answered; true when it had not before.
    pub(super) fn answered(&mut self, key: &UpstreamKey) -> bool {
        self.0.remove(key).is_some()
    }

    /// When somebody is to be asked again.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.values().map(|wait| wait.until).min()
    }

    /// Those that are to be asked now. Whoever is asked is asked again after its pause, whatever becomes of
    /// this time.
    fn due(&mut self, now: Duration) -> Vec<UpstreamKey> {
        let mut due = Vec::new();
        for (key, wait) in self.0.iter_mut().filter(|(_, wait)| wait.until <= now) {
            wait.until = now + wait.pause;
            due.push(key.clone());
        }
        due
    }
}

impl Reconciler {
    /// Asks servers that did not answer whether they are back.
    pub(super) fn ask_unanswered(&mut self) {
        let mut unanswered = std::mem::take(&mut self.unanswered);
        unanswered.0.retain(|key, _| self.serves(key));
        self.unanswered = unanswered;
        let connected = self.ports.prober.connected();
        for key in self.unanswered.due(self.ports.clock.now()) {
            // Where `health` is declared, its checks ask, which have a limit of their own that a patient question
            // would hold up. Without a connection it is the plan that makes another.
            let checked =
                self.serving.get(&key.server).is_some_and(|serving| serving.server.health.is_some());
            if !checked && connected.contains(&key) {
                self.refresh(key);
            }
        }
    }

    /// Whether calls over this connection cannot be answered now.
    pub(super) fn is_down(&self, key: &UpstreamKey, connected: &BTreeSet<UpstreamKey>) -> bool {
        if key.is_any() {
            let Some(server) = self.version(key) else { return false };
            // What rests is started by the next call.
            let mut all = self.members(server).peekable();
            let rests = all.peek().is_none() && server.scale.on_demand();
            return !rests && all.all(|one| self.is_down(one, connected));
        }
        let ended = matches!(self.broken.get(&key.instance), Some(Fault::Ended | Fault::Silent));
        ended || !connected.contains(key) || self.unanswered.0.contains_key(key)
    }

    /// What of these is listed: servers that are down only where they do not declare otherwise. Notes what is
    /// left out.
    pub(super) fn shown<'a>(&mut self, servers: &'a [Offered]) -> Cow<'a, [Offered]> {
        self.hidden = self.hiding(servers);
        if self.hidden.is_empty() {
            return servers.into();
        }
        servers.iter().filter(|offered| !self.hidden.contains(&offered.server.id.name)).cloned().collect()
    }

    fn hiding(&self, servers: &[Offered]) -> BTreeSet<Name> {
        let hides = |offered: &&Offered| offered.server.presented.when_down == WhenDown::Hidden;
        let mut hiding = servers.iter().filter(hides).peekable();
        if hiding.peek().is_none() {
            return BTreeSet::new();
        }
        let connected = self.ports.prober.connected();
        let down = hiding.filter(|offered| self.is_down(&offered.upstream, &connected));
        down.map(|offered| offered.server.id.name.clone()).collect()
    }

    /// Publishes anew when other servers are down than when the catalog was composed, and that shows.
    pub(super) async fn show_and_hide(&mut self) {
        let Some(published) = &self.published else { return };
        let hiding = self.hiding(&published.servers);
        if hiding != self.hidden {
            self.stale = true;
            self.publish().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::InstanceId;

    #[test]
    fn a_server_is_asked_again_more_and_more_seldom() {
        let key = UpstreamKey { server: Name::parse("far").unwrap(), instance: InstanceId("a".to_owned()) };
        let (mut unanswered, mut now) = (Unanswered::default(), Duration::ZERO);
        assert!(unanswered.failed(&key, now));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let next = unanswered.next().unwrap();
            assert!(unanswered.due(next.saturating_sub(Duration::from_millis(1))).is_empty());
            assert_eq!(unanswered.due(next), std::slice::from_ref(&key));
            assert!(unanswered.due(next).is_empty(), "it is being asked");
            pauses.push(next.saturating_sub(now).as_millis());
            now = next;
            assert!(!unanswered.failed(&key, now));
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert!(unanswered.answered(&key) && !unanswered.answered(&key));
        assert_eq!(unanswered.next(), None);
    }
}
