//! What is told while a tool runs: progress, and what it prints as log messages.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::output::partial;
use crate::ports::{self, CallEvent};

/// How often something is told when nothing happens, so that clients and proxies do not give up.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often output is told as progress, at most.
const PROGRESS: Duration = Duration::from_secs(1);
/// Characters of a line in a progress message.
const MAX_LINE: usize = 200;

pub(super) struct Teller {
    tool: String,
    events: Option<ports::Teller>,
    started: Instant,
    heartbeat: Duration,
    last_progress: Option<Instant>,
    /// Bytes of characters that are not complete yet, by stream.
    partial: [Vec<u8>; 2],
}

impl Teller {
    pub(super) fn new(tool: &str, events: Option<ports::Teller>) -> Self {
        Self {
            tool: tool.to_owned(),
            events,
            started: Instant::now(),
            heartbeat: HEARTBEAT,
            last_progress: None,
            partial: Default::default(),
        }
    }

    /// Waits, and says so from time to time.
    pub(super) async fn while_waiting<T>(&mut self, state: &str, what: impl Future<Output = T>) -> T {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return done,
                () = tokio::time::sleep(self.heartbeat) => {
                    let seconds = self.started.elapsed().as_secs();
                    self.progress(format!("{state}, {seconds} s"));
                }
            }
        }
    }

    /// A tool printed `bytes`, already without secrets, on `stream`.
    pub(super) fn printed(&mut self, stream: &'static str, bytes: &[u8]) {
        let Some(events) = &self.events else { return };
        let (at, level) = if stream == "stdout" { (0, "info") } else { (1, "warning") };
        let held = &mut self.partial[at];
        held.extend_from_slice(bytes);
        let rest = held.split_off(held.len() - partial(held));
        let text = String::from_utf8_lossy(&std::mem::replace(held, rest)).into_owned();
        if text.is_empty() {
            return;
        }
        let data = json!({"stream": stream, "text": text});
        let params = json!({"level": level, "logger": self.tool, "data": data});
        events.tell(CallEvent::Log(params.to_string().into()));
        let due = self.last_progress.is_none_or(|last| last.elapsed() >= PROGRESS);
        let line = text.lines().rfind(|line| !line.trim().is_empty());
        if let Some(line) = line.filter(|_| due) {
            self.last_progress = Some(Instant::now());
            self.progress(line.chars().take(MAX_LINE).collect());
        }
    }

    /// Progress counts seconds: it must grow, and how much there is to do is not known.
    fn progress(&self, message: String) {
        if let Some(events) = &self.events {
            let progress = self.started.elapsed().as_secs_f64();
            events.tell(CallEvent::Progress { progress, total: None, message: Some(message) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::telling;

    fn text(event: CallEvent) -> String {
        match event {
            CallEvent::Log(params) | CallEvent::Elicited(params) => params.to_string(),
            CallEvent::Progress { message, .. } => message.unwrap(),
            CallEvent::Waiting { message } => message,
        }
    }

    #[tokio::test]
    async fn tells_of_output_once_a_second_and_of_whole_characters() {
        let (sender, mut events) = telling();
        let mut teller = Teller::new("clock", Some(sender));
        teller.printed("stdout", b"ti\xc3");
        teller.printed("stderr", b"\xa9");
        teller.printed("stdout", b"\xa9ck\n");
        let told: Vec<String> = std::iter::from_fn(|| events.now()).map(text).collect();
        let log = |level: &str, stream: &str, text: &str| {
            format!(
                r#"{{"level":"{level}","logger":"clock","data":{{"stream":"{stream}","text":"{text}"}}}}"#
            )
        };
        let expected = [
            log("info", "stdout", "ti"),
            "ti".to_owned(),
            log("warning", "stderr", "\u{fffd}"),
            log("info", "stdout", "éck\\n"),
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn tells_that_it_waits() {
        let (sender, mut events) = telling();
        let mut teller = Teller::new("clock", Some(sender));
        teller.heartbeat = Duration::from_millis(1);
        let heard = teller.while_waiting("starting", events.next()).await;
        assert_eq!(text(heard), "starting, 0 s");
    }
}
