//! What a person may ask of the loop.

use tokio::sync::oneshot;

use super::{Cause, Reconciler, survey, volume};
use crate::desired::VolumeId;
use crate::plan::{Plan, PlanView};
use crate::resource::{Digest, ResourceId};

/// What a person may ask of the loop, and where the answer goes.
pub enum Ask {
    /// Fetch and converge now; `rebuild` forces one resource's build and restart. Answered at once,
    /// or with `wait` when nothing is left to do.
    Reconcile {
        rebuild: Option<ResourceId>,
        wait: bool,
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// The plan as the next step would apply it.
    Plan(oneshot::Sender<PlanView>),
    /// Lets the plan with this hash prune above the budget.
    Approve(Digest),
    Suspend(bool),
    /// The volumes there are, and what declares them.
    Volumes(oneshot::Sender<Vec<volume::KnownVolume>>),
    /// Removes a volume that nothing declares, with its data.
    DeleteVolume(VolumeId, volume::Answer),
    /// What the locks of everything that is served would hold, without what registries know.
    Survey(oneshot::Sender<Vec<survey::Surveyed>>),
}

impl Reconciler {
    pub(super) fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Reconcile { rebuild, wait, answer } => {
                if let Some(id) = rebuild {
                    self.backoff.forgive(&id);
                    self.rehearsals.remove(&id);
                    self.rebuild.insert(id);
                }
                self.correct_next = true;
                self.forget_withdrawn();
                self.fetch(Cause::Asked);
                if wait {
                    self.waiting.push(answer);
                } else {
                    drop(answer.send(Ok(())));
                }
            }
            Ask::Plan(answer) => {
                let plan = self.plan.as_ref().map_or_else(|| self.plan_now().view(), Plan::view);
                drop(answer.send(plan));
            }
            Ask::Volumes(answer) => drop(answer.send(self.known_volumes())),
            Ask::DeleteVolume(id, answer) => self.delete_volume(id, answer),
            Ask::Survey(answer) => drop(answer.send(self.surveyed())),
            Ask::Approve(hash) => {
                self.approved = Some(hash);
                self.inventory.rebuilt = false;
                self.look();
            }
            Ask::Suspend(suspended) => {
                self.suspended = suspended;
                if !suspended {
                    self.fetch(Cause::Asked);
                }
                self.stale = true;
            }
        }
    }
}
