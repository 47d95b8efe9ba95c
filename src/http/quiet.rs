//! A future that does not wake itself by way of the runtime.
//!
//! A connection, the request it reads, and the call that is made for it pass each other data within one
//! task, and wake each other, that is: this task, while it runs. A runtime takes that for new work, puts the
//! task at the end of a queue and wakes another thread that might take it. Here the future is polled again
//! at once instead. Measured with one client: two wake-ups of another thread less for each call.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// Nobody polls: a wake-up goes to the task.
const WAITING: u8 = 0;
/// It is being polled.
const POLLED: u8 = 1;
/// It was woken while it was being polled.
const WOKEN: u8 = 2;

/// How often it is polled again before others have their turn. Whoever wakes itself more often works
/// through a lot of data, or is told by the runtime to make room.
const AGAIN: usize = 4;

/// Polls a future again when it woke itself.
pub(super) struct Quiet<F> {
    future: F,
    state: Arc<State>,
    waker: Waker,
}

struct State {
    at: AtomicU8,
    task: AtomicWaker,
}

impl<F> Quiet<F> {
    pub(super) fn new(future: F) -> Self {
        let state = Arc::new(State { at: AtomicU8::new(WAITING), task: AtomicWaker::new() });
        Self { future, waker: Arc::clone(&state).into(), state }
    }

    /// What is polled.
    pub(super) fn inner(self: Pin<&mut Self>) -> Pin<&mut F>
    where
        F: Unpin,
    {
        Pin::new(&mut self.get_mut().future)
    }
}

impl<F: Future + Unpin> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, state, waker } = &mut *self;
        state.task.register(context.waker());
        let mut inner = Context::from_waker(waker);
        for _ in 0..=AGAIN {
            state.at.store(POLLED, Ordering::Release);
            if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut inner) {
                state.at.store(WAITING, Ordering::Release);
                return Poll::Ready(output);
            }
            // Whoever wakes it from here on wakes the task.
            let settled = state.at.compare_exchange(POLLED, WAITING, Ordering::AcqRel, Ordering::Acquire);
            if settled.is_ok() {
                return Poll::Pending;
            }
        }
        state.at.store(WAITING, Ordering::Release);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.at.compare_exchange(POLLED, WOKEN, Ordering::AcqRel, Ordering::Acquire);
        if noted == Err(WAITING) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;

    /// Counts the wake-ups of a task.
    struct Counted(std::sync::atomic::AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted() -> (Arc<Counted>, Waker) {
        let counted = Arc::new(Counted(std::sync::atomic::AtomicUsize::new(0)));
        (Arc::clone(&counted), counted.into())
    }

    #[test]
    fn one_that_wakes_itself_is_polled_again_at_once_and_not_for_ever() {
        for (times, polls, woken) in [(0, 1, 0), (1, 2, 0), (4, 5, 0), (5, 5, 1), (100, 5, 1)] {
            let (counted, waker) = counted();
            let mut polled = 0;
            let mut quiet = pin!(Quiet::new(poll_fn(|context| {
                polled += 1;
                if polled <= times {
                    context.waker().wake_by_ref();
                }
                Poll::<()>::Pending
            })));
            assert!(quiet.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!((polled, counted.0.load(Ordering::Relaxed)), (polls, woken), "{times}");
        }
    }

    #[test]
    fn whoever_wakes_it_from_elsewhere_wakes_the_task_that_polled_last() {
        let kept = std::cell::RefCell::new(None);
        let mut quiet = pin!(Quiet::new(poll_fn(|context| {
            kept.replace(Some(context.waker().clone()));
            Poll::<()>::Pending
        })));
        let (first, second) = (counted(), counted());
        for (_, waker) in [&first, &second] {
            assert!(quiet.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        kept.take().expect("it was polled").wake();
        assert_eq!([first.0, second.0].map(|counted| counted.0.load(Ordering::Relaxed)), [0, 1]);
    }
}
