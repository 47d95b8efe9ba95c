//! What a client hears while its call waits before it begins: for a place among the calls of a server or
//! tool, for an instance of its own to start, for a connection to be opened. Clients and proxies give up
//! what says nothing for long.

use std::time::Duration;

use crate::mcp::client::CallError;
use crate::ports::{CallContext, CallEvent};

/// Until something is said: most waits are over before, and their calls answered as one JSON message.
const FIRST: Duration = Duration::from_secs(2);
/// And how often from then on: well below the time limits of clients, which begin at 30 s.
const AGAIN: Duration = Duration::from_secs(5);

/// Waits, and says so from time to time to a client that listens. `what` is said: "waiting for …".
pub(super) async fn told<T>(context: &CallContext, what: &str, waiting: impl Future<Output = T>) -> T {
    told_every([FIRST, AGAIN], context, what, waiting).await
}

/// The same for a call that its client can give up meanwhile: dropping `waiting` has to lose nothing.
pub(super) async fn told_until_cancelled<T>(
    context: &CallContext,
    what: &str,
    waiting: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::select! {
        // Cancel-safe: see above.
        done = told(context, what, waiting) => done,
        () = context.cancel.cancelled() => Err(CallError::Cancelled),
    }
}

async fn told_every<T>(
    [first, again]: [Duration; 2],
    context: &CallContext,
    what: &str,
    waiting: impl Future<Output = T>,
) -> T {
    let Some(events) = &context.events else { return waiting.await };
    tokio::pin!(waiting);
    let (mut waited, mut pause) = (Duration::ZERO, first);
    loop {
        tokio::select! {
            biased;
            done = &mut waiting => return done,
            () = tokio::time::sleep(pause) => {
                waited += pause;
                pause = again;
                let message = format!("{what}, {} s", waited.as_secs());
                events.tell(CallEvent::Waiting { message });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::telling;

    #[tokio::test]
    async fn only_long_waits_are_told() {
        let (teller, mut events) = telling();
        let context = CallContext { events: Some(teller), ..CallContext::default() };
        told(&context, "waiting", std::future::ready(())).await;
        assert!(events.now().is_none());
        let soon = [Duration::from_millis(1); 2];
        let heard = async { (events.next().await, events.next().await) };
        let (first, second) = told_every(soon, &context, "waiting", heard).await;
        for event in [first, second] {
            let CallEvent::Waiting { message } = event else { panic!("a wait is told: {event:?}") };
            assert!(message.starts_with("waiting, ") && message.ends_with(" s"), "{message}");
        }
    }
}
