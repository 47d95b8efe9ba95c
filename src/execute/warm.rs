//! Containers that are started ahead of calls: handing them out, and having as many as are wanted.
//!
//! What there is and what is to be done is decided in [`pools`]; here containers are started and dropped,
//! in one task, off the path of calls. A call takes a [`Lease`]: dropped, the container goes with it, so
//! that a call which was cancelled, ran out of time or was lost never leaves one to another call. Not
//! here: how a container is started, which its runner knows.

mod pools;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::desired::{Program, Tool};
use crate::policy::{PolicySet, Principal};
use crate::ports::{Ahead, PortError, PortResult, Prepared, Run, Runners, Running};
use crate::resource::ResourceId;
use crate::status::WarmStatus;
use pools::{Begin, Lives, Pools, Taken, Used};

/// How long a call waits until its container is clean again, which usually takes less than a millisecond.
const CLEAN: Duration = Duration::from_millis(10);

type Held = Box<dyn Prepared>;

impl Lives for Held {
    fn lives(&self) -> bool {
        !self.gone().is_cancelled()
    }
}

/// All containers that wait for calls.
pub(super) struct Warm {
    shared: Arc<Shared>,
    /// Begun once something is wanted: the task that starts it.
    filling: Once,
}

struct Shared {
    runners: Arc<dyn Runners>,
    pools: Mutex<Pools<Held>>,
    rules: Mutex<Option<Arc<PolicySet>>>,
    wake: Notify,
    tasks: TaskTracker,
    ending: CancellationToken,
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.shared.ending.cancel();
    }
}

/// Data behind these locks is whole between any two statements, so a panic elsewhere spoils none.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Warm {
    pub(super) fn new(runners: Arc<dyn Runners>, most: usize) -> Self {
        let shared = Shared {
            runners,
            pools: Mutex::new(Pools::new(most)),
            rules: Mutex::default(),
            wake: Notify::new(),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared), filling: Once::new() }
    }

    /// From now on as many containers of these tools wait as each declares, and of no others.
    pub(super) fn keep(&self, tools: &[Arc<Tool>], revision: &str, rules: &Arc<PolicySet>) {
        let before = lock(&self.shared.rules).replace(Arc::clone(rules));
        let same = before.is_some_and(|before| Arc::ptr_eq(&before, rules));
        let dropped = {
            let mut pools = lock(&self.shared.pools);
            let mut dropped = pools.set(tools, revision);
            if !same {
                dropped.extend(pools.forget_used());
            }
            dropped
        };
        drop(dropped);
        if !tools.is_empty() {
            self.filling.call_once(|| self.shared.spawn(fill(Arc::clone(&self.shared))));
        }
        self.shared.wake.notify_one();
    }

    pub(super) fn pools(&self) -> BTreeMap<ResourceId, WarmStatus> {
        lock(&self.shared.pools).seen()
    }

    /// A container that this run may use; none when nothing is started ahead of its tool's calls. `tag`
    /// tells whether secrets are what they were.
    pub(super) fn take(
        &self,
        run: &Run,
        principal: Option<&Principal>,
        tag: &dyn Fn() -> String,
    ) -> Option<Stock> {
        let now = Instant::now();
        let (taken, dropped) = lock(&self.shared.pools).take(run, principal, tag, now)?;
        drop(dropped);
        // What is missing now is started when the call has ended, or in a moment.
        self.shared.wake.notify_one();
        Some(taken.map_or(Stock::Out, |taken| {
            Stock::Waits(Lease { shared: Arc::clone(&self.shared), taken: Some(taken) })
        }))
    }
}

impl Shared {
    /// For as long as anybody may call.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.ending.clone().run_until_cancelled_owned(work));
    }

    fn give(&self, taken: Taken<Held>) {
        let dropped = lock(&self.pools).give(taken, Instant::now());
        drop(dropped);
        self.wake.notify_one();
    }

    fn release(&self, taken: &Taken<Held>) {
        lock(&self.pools).release(taken);
        self.wake.notify_one();
    }

    fn started(self: &Arc<Self>, begin: &Begin, result: PortResult<Held>) {
        let now = Instant::now();
        match result {
            Ok(container) => {
                let gone = container.gone().clone();
                let (serial, unwanted) = lock(&self.pools).started(begin, container, now);
                drop(unwanted);
                let (shared, key) = (Arc::downgrade(self), begin.key.clone());
                self.spawn(async move {
                    gone.cancelled().await;
                    let Some(shared) = shared.upgrade() else { return };
                    let died = lock(&shared.pools).died(&key, serial, Instant::now());
                    if died {
                        tracing::warn!(resource = %key.tool, "a container that waited for calls ended; it is replaced");
                        shared.wake.notify_one();
                    }
                });
            }
            Err(error) => {
                tracing::warn!(resource = %begin.key.tool, error = %error.chain(), "no container was started ahead of calls");
                lock(&self.pools).failed(begin, error.chain(), now);
            }
        }
    }
}

/// Starts what is missing and drops what is not wanted any more.
async fn fill(shared: Arc<Shared>) {
    let mut starting = FuturesUnordered::new();
    loop {
        let next = lock(&shared.pools).next(Instant::now());
        drop(next.dropped);
        for begin in next.begin {
            starting.push(start(Arc::clone(&shared), begin));
        }
        let sleep = async {
            match next.wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // Cancel-safe: starts stay in their set, and a wish to wake is kept.
        tokio::select! {
            () = shared.wake.notified() => {}
            Some((begin, result)) = starting.next() => shared.started(&begin, result),
            () = sleep => {}
        }
    }
}

async fn start(shared: Arc<Shared>, begin: Begin) -> (Begin, PortResult<Held>) {
    let tool = &begin.tool;
    let Some((reference, id)) = tool.image.clone() else {
        return (begin, Err(PortError::stalled("nothing is started ahead without an image")));
    };
    let Some(runner) = shared.runners.get(&tool.runner) else {
        let error = PortError::retry(format!("the runner `{}` is not there", tool.runner));
        return (begin, Err(error));
    };
    let ahead = Ahead {
        name: super::unique(tool),
        resource: tool.id.clone(),
        revision: begin.revision.to_string(),
        digest: tool.digests.workload,
        program: Program::Image { reference, id, entrypoint: None, args: None },
        files: tool.files.keys().cloned().collect(),
        limits: tool.limits.clone(),
        security: Arc::clone(&tool.security),
        volumes: Arc::clone(&tool.volumes),
        egress: Arc::clone(&tool.egress),
        reuse: begin.reuse(),
    };
    let result = runner.prepare(ahead).await;
    (begin, result)
}

/// What there is for a call of a tool whose containers are started ahead.
pub(super) enum Stock {
    Waits(Lease),
    Out,
}

/// A container, for one call.
pub(super) struct Lease {
    shared: Arc<Shared>,
    taken: Option<Taken<Held>>,
}

impl Lease {
    /// `None`: it was gone, and nothing was started.
    pub(super) async fn run(&self, run: &Run) -> PortResult<Option<Running>> {
        match &self.taken {
            Some(taken) => taken.container.run(run).await,
            None => Ok(None),
        }
    }

    /// The run ended as it should: the container may serve another call, when it is clean. Waits a moment for
    /// that, so that whoever calls again at once finds it.
    pub(super) async fn finish(mut self) {
        let Some(taken) = self.taken.take_if(|taken| taken.used != Used::Once) else { return };
        let shared = Arc::clone(&self.shared);
        let (done, cleaned) = oneshot::channel::<()>();
        // The runner bounds how long this takes.
        self.shared.spawn(async move {
            if taken.container.cleaned().await {
                shared.give(taken);
            } else {
                shared.release(&taken);
            }
            drop(done);
        });
        // Nothing is ever sent: it ends when it is dropped.
        drop(tokio::time::timeout(CLEAN, cleaned).await);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.shared.release(&taken);
        }
    }
}
