//! Lists as principals see them, when rules are asked about lists.
//!
//! A view is made at the first request and kept while its catalog and rules are served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::authorize::Rules;
use super::sight::Sight;
use crate::catalog::{Catalog, Changed, Entry, List, View};
use crate::desired::Toolset;
use crate::policy::Principal;
use crate::resource::toolset::Search;

/// Views kept: of the four lists of as many principals as list at the same time, and of the catalogs
/// that listings under way began in.
const MAX_VIEWS: usize = 128;

#[derive(Default)]
pub(super) struct Views(Mutex<VecDeque<Made>>);

struct Made {
    list: List,
    sight: Sight,
    rules: Arc<Rules>,
    principal: Arc<Principal>,
    view: Arc<View>,
}

impl Views {
    pub(super) fn get(
        &self,
        list: List,
        sight: &Sight,
        rules: &Arc<Rules>,
        principal: &Arc<Principal>,
    ) -> Arc<View> {
        let is_it = |made: &&Made| {
            made.list == list
                && made.sight.is(sight)
                && Arc::ptr_eq(&made.rules.policies, &rules.policies)
                && made.principal == *principal
        };
        let found = self.lock().iter().find(is_it).map(|made| Arc::clone(&made.view));
        if let Some(view) = found {
            return view;
        }
        let view = Arc::new(made(list, &sight.catalog, sight.toolset.as_deref(), rules, principal));
        let mut views = self.lock();
        views.push_back(Made {
            list,
            sight: sight.clone(),
            rules: Arc::clone(rules),
            principal: Arc::clone(principal),
            view: Arc::clone(&view),
        });
        if views.len() > MAX_VIEWS {
            views.pop_front();
        }
        view
    }

    /// The lists that somebody who has listed lately, or anybody local, sees differently under `after`;
    /// of a toolset, or of everything.
    pub(super) fn differ(
        &self,
        catalog: &Catalog,
        toolset: Option<&Toolset>,
        before: &Rules,
        after: &Rules,
    ) -> Changed {
        let same = Arc::ptr_eq(&before.policies, &after.policies);
        if same || (!before.asks_of_lists() && !after.asks_of_lists()) {
            return Changed::default();
        }
        let mut principals = vec![Arc::new(super::authorize::local())];
        for made in self.lock().iter() {
            if !principals.contains(&made.principal) {
                principals.push(Arc::clone(&made.principal));
            }
        }
        let differs = |list: List| {
            let seen = |rules: &Rules, who: &Principal| made(list, catalog, toolset, rules, who);
            principals.iter().any(|who| !seen(before, who).shows_the_same(&seen(after, who)))
        };
        Changed {
            // What a search lists never depends on rules.
            tools: toolset.is_none_or(|toolset| toolset.search == Search::Off) && differs(List::Tools),
            prompts: differs(List::Prompts),
            resources: differs(List::Resources) || differs(List::Templates),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made(
    list: List,
    catalog: &Catalog,
    toolset: Option<&Toolset>,
    rules: &Rules,
    principal: &Principal,
) -> View {
    let takes = |entry: &Entry| {
        toolset.is_none_or(|toolset| toolset.takes(&entry.owner, entry.labels(), &entry.name))
    };
    catalog.view(list, |entry| takes(entry) && !rules.hides(list, entry, principal))
}
