//! A queue for what is told about one call. Most calls tell nothing, so it takes no room before it is used.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::CallEvent;

/// Messages about one call that wait to be sent. A client that reads slowly misses those that come then.
const MAX_WAITING: usize = 64;

/// Makes a queue: what is put in by any of its tellers comes out in that order.
pub fn telling() -> (Teller, Told) {
    let queue = Arc::new(Queue::default());
    (Teller(Arc::clone(&queue)), Told(queue))
}

/// Where what is told about a call goes in.
#[derive(Clone)]
pub struct Teller(Arc<Queue>);

/// Where it comes out.
pub struct Told(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<CallEvent>>,
    came: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<CallEvent>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Teller {
    /// Puts in a message. It is dropped when as many wait as may: the course of a call is told, not kept.
    pub fn tell(&self, event: CallEvent) {
        let mut waiting = self.0.lock();
        if waiting.len() < MAX_WAITING {
            waiting.push_back(event);
            drop(waiting);
            self.0.came.notify_one();
        }
    }
}

impl Told {
    /// The next message. Waits for ever when nothing more is told: the end of the call is heard elsewhere.
    /// Cancel-safe.
    pub async fn next(&mut self) -> CallEvent {
        loop {
            if let Some(event) = self.now() {
                return event;
            }
            self.0.came.notified().await;
        }
    }

    /// The next message, when there is one.
    pub fn now(&mut self) -> Option<CallEvent> {
        self.0.lock().pop_front()
    }
}

/// The next message of a queue that may not be there.
pub async fn heard(told: &mut Option<Told>) -> CallEvent {
    match told {
        Some(told) => told.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(number: usize) -> CallEvent {
        CallEvent::Waiting { message: number.to_string() }
    }

    fn number(event: &CallEvent) -> Option<usize> {
        match event {
            CallEvent::Waiting { message } => message.parse().ok(),
            _ => None,
        }
    }

    #[tokio::test]
    async fn what_is_told_comes_out_in_order_and_within_bounds() {
        let (teller, mut told) = telling();
        for at in 0..MAX_WAITING + 3 {
            teller.clone().tell(waiting(at));
        }
        for at in 0..MAX_WAITING {
            assert_eq!(number(&told.next().await), Some(at));
        }
        assert!(told.now().is_none(), "what came when it was full is dropped");
        let (next, ()) = tokio::join!(told.next(), async { teller.tell(waiting(7)) });
        assert_eq!(number(&next), Some(7));
    }
}
