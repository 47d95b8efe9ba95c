//! Lists as principals see them, when rules are asked about lists.
//!
//! A view is made at the first request and kept while its catalog and rules are served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::authorize::Rules;
use crate::catalog::{Catalog, Changed, List, View};
use crate::policy::Principal;

/// Views kept: of the four lists of as many principals as list at the same time, and of the catalogs
/// that listings under way began in.
const MAX_VIEWS: usize = 128;

#[derive(Default)]
pub(super) struct Views(Mutex<VecDeque<Made>>);

struct Made {
    list: List,
    catalog: Arc<Catalog>,
    rules: Arc<Rules>,
    principal: Arc<Principal>,
    view: Arc<View>,
}

impl Views {
    pub(super) fn get(
        &self,
        list: List,
        catalog: &Arc<Catalog>,
        rules: &Arc<Rules>,
        principal: &Arc<Principal>,
    ) -> Arc<View> {
        let is_it = |made: &&Made| {
            made.list == list
                && Arc::ptr_eq(&made.catalog, catalog)
                && Arc::ptr_eq(&made.rules.policies, &rules.policies)
                && made.principal == *principal
        };
        let found = self.lock().iter().find(is_it).map(|made| Arc::clone(&made.view));
        if let Some(view) = found {
            return view;
        }
        let view = Arc::new(made(list, catalog, rules, principal));
        let mut views = self.lock();
        views.push_back(Made {
            list,
            catalog: Arc::clone(catalog),
            rules: Arc::clone(rules),
            principal: Arc::clone(principal),
            view: Arc::clone(&view),
        });
        if views.len() > MAX_VIEWS {
            views.pop_front();
        }
        view
    }

    /// The lists that somebody who has listed lately, or anybody local, sees differently under `after`.
    pub(super) fn differ(&self, catalog: &Catalog, before: &Rules, after: &Rules) -> Changed {
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
            let seen = |rules: &Rules, who: &Principal| made(list, catalog, rules, who);
            principals.iter().any(|who| !seen(before, who).shows_the_same(&seen(after, who)))
        };
        Changed {
            tools: differs(List::Tools),
            prompts: differs(List::Prompts),
            resources: differs(List::Resources) || differs(List::Templates),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made(list: List, catalog: &Catalog, rules: &Rules, principal: &Principal) -> View {
    catalog.view(list, |entry| !rules.hides(list, entry, principal))
}
