//! Listening to tasks: what servers tell of them reaches who called, as if it had been asked for.
//!
//! Invariants: a task is told to whom it would be told if asked for, also when rules change meanwhile; what
//! is acknowledged is what its server acknowledged; a state that changed before anybody listened, or while a
//! subscription was broken, is asked for and told.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, ready};
use futures::stream::{self, StreamExt as _};
use serde_json::value::RawValue;

use super::super::Gateway;
use super::super::bridge::{self, core_task};
use super::id::TaskId;
use super::{Reached, missing, outcome, reach};
use crate::mcp::client::{CallError, Hearing, Held, Params, TaskNews};
use crate::mcp::server::{Request, TaskStates};
use crate::mcp::wire::{ErrorObject, quote, raw};
use crate::ports::CallContext;

/// How long a server may take to acknowledge that it tells of tasks, or to answer what their state is. One
/// that takes longer is not waited for: clients ask themselves.
const PATIENCE: Duration = Duration::from_secs(5);

/// The tasks of one instance, by its own ids: as their client knows them, and what they are.
type Listened = BTreeMap<Arc<str>, (String, TaskId)>;

/// Begins to hear of those tasks that there are for this client, and whose servers tell of them.
pub(in crate::gateway) async fn listen(
    gateway: Arc<Gateway>,
    request: Request,
    texts: BTreeSet<String>,
) -> Result<TaskStates, ErrorObject> {
    if !request.takes_tasks() {
        return Err(missing());
    }
    let mut by_instance: Vec<(Reached, Listened)> = Vec::new();
    for text in texts {
        let Some(id) = gateway.tasks.key().open(&text, request.user()) else { continue };
        let Ok(task) = reach(&gateway, &request, &text, &id) else { continue };
        let own = Arc::from(id.own.as_str());
        let known = by_instance.iter_mut().find(|(known, _)| known.connection.is(&task.connection));
        match known {
            Some((_, tasks)) => drop(tasks.insert(own, (text, id))),
            None => by_instance.push((task, BTreeMap::from([(own, (text, id))]))),
        }
    }
    let request = Arc::new(request);
    let begun = by_instance.into_iter().map(|(task, tasks)| Instance::begin(&gateway, &request, task, tasks));
    let instances: Vec<Instance> = join_all(begun).await.into_iter().flatten().collect();
    let ids = instances.iter().flat_map(|it| it.tasks.values()).map(|(text, _)| text.clone()).collect();
    let states = stream::select_all(instances.into_iter().map(|instance| instance.states().boxed()));
    // When all have ended there is nothing more to tell, and nothing wrong.
    let states = states.chain(stream::pending()).scan((), |(), told| ready(told));
    Ok(TaskStates { ids, states: states.boxed() })
}

/// An instance that tells of tasks.
struct Instance {
    gateway: Arc<Gateway>,
    request: Arc<Request>,
    /// Those that have not ended.
    tasks: Listened,
    /// Those whose state has to be asked for.
    due: Vec<Arc<str>>,
    hearing: Hearing,
    context: CallContext,
    /// It is not taken away from them.
    connection: Held,
}

impl Instance {
    /// Begins to hear. None: it tells of none of them.
    async fn begin(
        gateway: &Arc<Gateway>,
        request: &Arc<Request>,
        Reached { server, connection, .. }: Reached,
        mut tasks: Listened,
    ) -> Option<Self> {
        let capabilities = bridge::told(request, server.sessions);
        let mut hearing = connection.hear(tasks.keys().cloned().collect(), Arc::clone(&capabilities))?;
        let first = tokio::time::timeout(PATIENCE, hearing.next()).await;
        let Ok(Some(TaskNews::Served(served))) = first else { return None };
        tasks.retain(|own, _| served.contains(own));
        let (gateway, request) = (Arc::clone(gateway), Arc::clone(request));
        let due = tasks.keys().cloned().collect();
        let context = CallContext { capabilities: Some(capabilities), ..CallContext::default() };
        Some(Self { gateway, request, tasks, due, hearing, context, connection })
    }

    /// States as they come, until all tasks have ended; at last none when one cannot be told of any more.
    fn states(self) -> impl stream::Stream<Item = Option<Box<RawValue>>> {
        stream::unfold(self, |mut instance| async {
            let told = instance.next().await?;
            Some((told, instance))
        })
    }

    async fn next(&mut self) -> Option<Option<Box<RawValue>>> {
        while !self.tasks.is_empty() {
            let (own, state) = if let Some(own) = self.due.pop() {
                let Some(state) = self.asked(&own).await else { continue };
                (own, state)
            } else {
                match self.hearing.next().await {
                    Some(TaskNews::State(own, state)) => (own, state),
                    Some(TaskNews::Served(served)) if self.tasks.keys().all(|own| served.contains(own)) => {
                        self.due = self.tasks.keys().cloned().collect();
                        continue;
                    }
                    Some(TaskNews::Served(_)) | None => return Some(None),
                }
            };
            let Some((text, id)) = self.tasks.get(&own) else { continue };
            let Ok(task) = reach(&self.gateway, &self.request, text, id) else { return Some(None) };
            let told = task.told(&self.gateway, &self.request, text, id, &state);
            if raw::get_str(&state, "status").is_some_and(|status| outcome(&status, None).is_some()) {
                self.tasks.remove(&own);
            }
            match told {
                Ok(told) => return Some(Some(told)),
                Err(error) => tracing::debug!(%error, "the state of a task cannot be told"),
            }
        }
        None
    }

    /// The state of a task, as a notification would tell it.
    async fn asked(&mut self, own: &str) -> Option<Box<RawValue>> {
        let about = raw::into_raw(raw::object_of(&[("taskId", &quote(own))])).ok()?;
        let state = self.connection.call("tasks/get", Params::of(&about), PATIENCE, &self.context).await;
        match state {
            Ok(state) => core_task::without(&state, &["resultType", "_meta"]).map(Cow::into_owned).ok(),
            Err(error) => {
                tracing::debug!(%error, "the state of a task that is listened to is not known");
                if matches!(error, CallError::Timeout(_)) {
                    self.due.clear();
                }
                None
            }
        }
    }
}
