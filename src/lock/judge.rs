//! Trust, lock and offer to what is offered, and what is said about it.
//!
//! Input: how far a server is trusted, its lock, what it lists now, and what it listed first. Output:
//! [`Judged`]. Invariants: under `locked` and `reviewed` nothing is offered that the lock does not
//! hold; whatever differs is told, under every trust; the same input gives the same answer. So it does
//! not matter whether a list changed by a restart, by `list_changed` or by a look on a period.

use super::compare::fields;
use super::{Change, Definition, Definitions, Difference, Lock, Section, compare};
use crate::resource::server::Trust;

/// What is known of the lock of a server.
#[derive(Clone, Copy, Debug)]
pub enum State<'a> {
    /// There is none.
    None,
    /// There is one that cannot be read, and no earlier version of it.
    Broken,
    Known(&'a Lock),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// As declared; none: `reviewed` where a lock exists, else `live`.
    pub trust: Option<Trust>,
    pub lock: State<'a>,
    /// What it lists now; none while it has not answered.
    pub seen: Option<&'a Definitions>,
    /// What it listed when this very workload was first seen.
    pub first: Option<&'a Definitions>,
    /// Whether it starts on demand: before it has, its lock says what is offered.
    pub on_demand: bool,
}

/// What is offered, and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub offered: Definitions,
    pub verdict: Verdict,
    /// What differs from the lock (or, without a lock, from what was listed first), in the order in
    /// which the server lists it.
    pub differences: Vec<Difference>,
}

/// One word for how a server stands to its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It lists what was reviewed, and nothing else.
    Locked,
    /// Its lock is offered, and it was not asked yet.
    Unverified,
    /// It was not asked yet, and nothing is offered.
    Waiting,
    /// There is no lock, and none is asked for.
    Unlocked,
    /// There is no lock, none is asked for, and what it lists changed without a commit.
    Betrayed,
    /// It lists something else than was reviewed, which is offered all the same.
    Drifted,
    /// What differs waits for the lock.
    PendingReview,
    /// What differs is refused.
    Quarantined,
    /// A lock is asked for, and there is none: nothing is offered.
    NoLock,
    /// The lock cannot be read.
    BrokenLock,
}

impl Verdict {
    /// The reason of the condition.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Locked => "Locked",
            Self::Unverified => "Unverified",
            Self::Waiting => "Waiting",
            Self::Unlocked => "Unlocked",
            Self::Betrayed => "ChangedByItself",
            Self::Drifted => "Drifted",
            Self::PendingReview => "PendingReview",
            Self::Quarantined => "Quarantined",
            Self::NoLock => "NoLock",
            Self::BrokenLock => "BrokenLock",
        }
    }

    /// Whether something the server lists is kept from clients.
    pub fn withholds(self) -> bool {
        matches!(self, Self::PendingReview | Self::Quarantined | Self::NoLock)
    }

    /// Whether somebody has to look at it.
    pub fn alarms(self) -> bool {
        matches!(
            self,
            Self::Betrayed | Self::Drifted | Self::PendingReview | Self::Quarantined | Self::BrokenLock
        )
    }
}

impl Judged {
    /// A sentence for people about the server `name`, with the next step.
    pub fn message(&self, name: &str) -> String {
        let relock = format!("review it with `toolcrib lock {name} --from-daemon`");
        let differ = || {
            let shown: Vec<String> = self.differences.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = self.differences.len().saturating_sub(SHOWN);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("{}{more}", shown.join("; "))
        };
        match self.verdict {
            Verdict::Locked => "it lists what its lock holds".to_owned(),
            Verdict::Unverified => "its lock is offered; it was not asked yet".to_owned(),
            Verdict::Waiting => "it was not asked yet".to_owned(),
            Verdict::Unlocked => {
                format!("nobody reviewed what it lists; `toolcrib lock {name}` writes its lock")
            }
            Verdict::Betrayed => {
                format!("its definitions changed without a commit, and are offered: {}; {relock}", differ())
            }
            Verdict::Drifted => {
                format!("it lists something else than its lock, and that is offered: {}; {relock}", differ())
            }
            Verdict::PendingReview => format!("not offered until the lock has it: {}; {relock}", differ()),
            Verdict::Quarantined => {
                format!("refused, since the lock has it otherwise: {}; {relock}", differ())
            }
            Verdict::NoLock => {
                format!("nothing is offered without a lock; `toolcrib lock {name}` writes it")
            }
            Verdict::BrokenLock => {
                format!("its lock cannot be read; restore it, or write it with `toolcrib lock {name}`")
            }
        }
    }
}

/// Differences a message tells one by one.
const SHOWN: usize = 5;

/// Decides what is offered.
pub fn judge(case: &Case<'_>) -> Judged {
    let Case { trust, lock, seen, first, on_demand } = *case;
    let nothing = |verdict| Judged { offered: Definitions::default(), verdict, differences: Vec::new() };
    let trust = trust.unwrap_or(match lock {
        State::None => Trust::Live,
        State::Broken | State::Known(_) => Trust::Reviewed,
    });
    let reviewed = match lock {
        State::Known(lock) => lock.offer.as_ref(),
        State::None | State::Broken => None,
    };
    let listed = trust == Trust::Locked || (trust == Trust::Reviewed && on_demand);
    match (trust, reviewed, seen) {
        (_, Some(reviewed), None) if listed => {
            Judged { offered: reviewed.clone(), verdict: Verdict::Unverified, differences: Vec::new() }
        }
        (Trust::Live, _, None) | (Trust::Reviewed | Trust::Locked, Some(_), None) => {
            nothing(Verdict::Waiting)
        }
        (Trust::Live, Some(reviewed), Some(seen)) => {
            let differences = compare(reviewed, seen);
            let verdict = if differences.is_empty() { Verdict::Locked } else { Verdict::Drifted };
            Judged { offered: seen.clone(), verdict, differences }
        }
        (Trust::Live, None, Some(seen)) => {
            let differences = first.map(|first| compare(first, seen)).unwrap_or_default();
            let verdict = match (lock, differences.is_empty()) {
                (State::Broken, _) => Verdict::BrokenLock,
                (_, true) => Verdict::Unlocked,
                (_, false) => Verdict::Betrayed,
            };
            Judged { offered: seen.clone(), verdict, differences }
        }
        (Trust::Locked | Trust::Reviewed, None, _) => nothing(match lock {
            State::Broken => Verdict::BrokenLock,
            State::None | State::Known(_) => Verdict::NoLock,
        }),
        (Trust::Locked, Some(reviewed), Some(seen)) => {
            sift(reviewed, seen, Verdict::Quarantined, |reviewed, _| reviewed.clone())
        }
        (Trust::Reviewed, Some(reviewed), Some(seen)) => {
            sift(reviewed, seen, Verdict::PendingReview, |_, seen| seen.clone())
        }
    }
}

/// What is the same in both, in the words of the one that `chosen` takes; the rest is told.
fn sift(
    reviewed: &Definitions,
    seen: &Definitions,
    otherwise: Verdict,
    chosen: fn(&Definition, &Definition) -> Definition,
) -> Judged {
    let mut offered = Definitions::default();
    let mut differences = Vec::new();
    let instructions = compare(
        &Definitions { instructions: text(reviewed), ..Definitions::default() },
        &Definitions { instructions: text(seen), ..Definitions::default() },
    );
    if instructions.is_empty() {
        offered.instructions.clone_from(&seen.instructions);
    }
    differences.extend(instructions);
    for section in Section::ALL {
        for now in seen.list(section) {
            let change = match reviewed.get(section, &now.name) {
                Some(then) if then.same(now) => {
                    offered.list_mut(section).push(chosen(then, now));
                    continue;
                }
                Some(then) => Change::Changed(fields(&then.text, &now.text)),
                None => Change::Added,
            };
            differences.push(Difference { section: Some(section), name: now.name.to_string(), change });
        }
        let gone = reviewed.list(section).iter().filter(|then| seen.get(section, &then.name).is_none());
        differences.extend(gone.map(|then| Difference {
            section: Some(section),
            name: then.name.to_string(),
            change: Change::Removed,
        }));
    }
    let verdict = if differences.is_empty() { Verdict::Locked } else { otherwise };
    Judged { offered, verdict, differences }
}

fn text(definitions: &Definitions) -> Option<String> {
    definitions.instructions.clone().filter(|text| !text.is_empty())
}
