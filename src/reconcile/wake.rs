//! When the loop looks by itself, without an event.

use std::time::Duration;

use super::Reconciler;

impl Reconciler {
    /// How long until somebody's back-off ends, somebody's health is checked or the revision has to be
    /// healthy, with the moment of the first of these; far away when there is none.
    pub(super) fn next_wake(&self) -> (Duration, Option<Duration>) {
        let now = self.ports.clock.now();
        let retry = self.backoff.next(now);
        let check = self.checks.next().filter(|_| !self.suspended);
        let next = retry
            .into_iter()
            .chain(check)
            .chain(self.gate_closes())
            .chain(self.unanswered.next())
            .chain(self.idle_until.filter(|_| !self.suspended))
            .min()
            .map(|until| until.saturating_sub(now));
        (next.unwrap_or(Duration::from_hours(1)).max(Duration::from_millis(10)), retry)
    }

    /// Time has passed: a health check looks at one server, and the end of a back-off at everything.
    pub(super) async fn woken(&mut self, retry: Option<Duration>) {
        self.close_gate().await;
        self.ask_unanswered();
        let checked = self.check_health();
        let now = self.ports.clock.now();
        if self.idle_due(now) || !checked || retry.is_some_and(|until| until <= now) {
            self.look();
        }
    }
}
