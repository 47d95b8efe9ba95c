//! Who gets a name that several want.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compose::{Report, ReportKind};
use super::{Entry, List, Route};
use crate::resource::ResourceId;

/// Something that would like to be published under a name.
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) owner: ResourceId,
    pub(super) route: Route,
    /// The definition as it was offered.
    pub(super) source: Arc<str>,
    /// Rendered once for each resource: the image, as JSON, when there is one.
    pub(super) image: Option<Arc<str>>,
}

/// One candidate for each name, in the order of names. The incumbent keeps its name; without one the
/// first resource in the order of ids gets it. All others are reported.
pub(super) fn settle(
    mut candidates: Vec<Candidate>,
    list: List,
    previous: Option<&BTreeMap<Arc<str>, Arc<Entry>>>,
    reports: &mut Vec<Report>,
) -> Vec<Candidate> {
    // Stable: of one server's duplicates the first it named stays first.
    candidates.sort_by(|a, b| (a.name.as_str(), &a.owner).cmp(&(b.name.as_str(), &b.owner)));
    let mut settled: Vec<Candidate> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let Some(holder) = settled.last_mut().filter(|holder| holder.name == candidate.name) else {
            settled.push(candidate);
            continue;
        };
        let incumbent =
            previous.and_then(|entries| entries.get(candidate.name.as_str())).map(|entry| &entry.owner);
        if candidate.owner == holder.owner {
            reports.push(twice(list, &candidate));
            continue;
        }
        let evicts = incumbent == Some(&candidate.owner);
        let (winner, loser) = if evicts { (&candidate, &*holder) } else { (&*holder, &candidate) };
        reports.push(quarantined(list, winner, loser));
        if incumbent.is_none_or(|owner| *owner != winner.owner) {
            reports.push(shared(list, winner, loser));
        }
        if evicts {
            *holder = candidate;
        }
    }
    settled
}

fn quarantined(list: List, winner: &Candidate, loser: &Candidate) -> Report {
    let (noun, name) = (list.noun(), &loser.name);
    let hint = match list {
        List::Tools | List::Prompts => "give one of them another prefix, or exclude it",
        List::Resources | List::Templates => "give one of the two servers a `resourcesPrefix`",
    };
    Report {
        resource: loser.owner.clone(),
        entry: name.clone(),
        kind: ReportKind::Quarantined,
        message: format!("{noun} `{name}` is not offered: {} has that name; {hint}", winner.owner),
    }
}

fn shared(list: List, winner: &Candidate, loser: &Candidate) -> Report {
    let (noun, name) = (list.noun(), &winner.name);
    Report {
        resource: winner.owner.clone(),
        entry: name.clone(),
        kind: ReportKind::Contested,
        message: format!("{noun} `{name}` is offered, and {} wants that name too", loser.owner),
    }
}

fn twice(list: List, candidate: &Candidate) -> Report {
    let (noun, name) = (list.noun(), &candidate.name);
    Report {
        resource: candidate.owner.clone(),
        entry: name.clone(),
        kind: ReportKind::Hidden,
        message: format!("{noun} `{name}` was listed twice by the server; the first is offered"),
    }
}

impl List {
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Tools => "tool",
            Self::Prompts => "prompt",
            Self::Resources => "resource",
            Self::Templates => "resource template",
        }
    }
}
