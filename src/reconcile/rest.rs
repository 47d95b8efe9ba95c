//! The end of a pass: how it went, and an answer to those who wait for it.

use super::Reconciler;
use crate::status::{PassStatus, Timestamp};

impl Reconciler {
    /// When nothing is left to do: the pass ends, and those who wait for that are answered.
    pub(super) fn rest(&mut self) {
        if !self.jobs.is_empty() {
            return;
        }
        self.pass_gate();
        self.publish_status();
        let failed: Vec<String> = self
            .status
            .resources
            .iter()
            .filter(|(_, status)| status.ready() == Some(false))
            .map(|(id, _)| id.to_string())
            .collect();
        if let Some((took, steps, failures)) = self.pass.end(&*self.ports.clock) {
            let result = match (self.source_error.is_some() || failures > 0, steps) {
                (true, _) => "failed",
                (false, 0) => "unchanged",
                (false, _) => "applied",
            };
            tracing::debug!(result, steps, took_ms = took.as_millis(), "pass ended");
            self.status.last_pass = Some(PassStatus {
                revision: self.status.attempted.clone(),
                finished: Timestamp(self.ports.clock.now().as_secs()),
                milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                result: result.to_owned(),
                steps,
                failed: failures,
            });
            self.stale = true;
            self.ports.publisher.quiet(Some((result, took)));
        }
        for waiting in self.waiting.drain(..) {
            let answer = match (&self.source_error, failed.is_empty()) {
                (Some(error), _) => Err(error.chain()),
                (None, true) => Ok(()),
                (None, false) => Err(format!("not ready: {}", failed.join(", "))),
            };
            drop(waiting.send(answer));
        }
    }
}
