//! Lists as principals see them, when rules are asked about lists.
//!
//! A view is made at the first request and kept while its catalog and rules are served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::authorize::Rules;
use crate::catalog::{Catalog, View};
use crate::policy::Principal;

/// Views kept: of as many principals as list at the same time, and of the catalogs that listings
/// under way began in.
const MAX_VIEWS: usize = 32;

#[derive(Default)]
pub(super) struct Views(Mutex<VecDeque<Made>>);

struct Made {
    catalog: Arc<Catalog>,
    rules: Arc<Rules>,
    principal: Arc<Principal>,
    view: Arc<View>,
}

impl Views {
    pub(super) fn get(
        &self,
        catalog: &Arc<Catalog>,
        rules: &Arc<Rules>,
        principal: &Arc<Principal>,
    ) -> Arc<View> {
        let is_it = |made: &&Made| {
            Arc::ptr_eq(&made.catalog, catalog)
                && Arc::ptr_eq(&made.rules.policies, &rules.policies)
                && made.principal == *principal
        };
        let found = self.lock().iter().find(is_it).map(|made| Arc::clone(&made.view));
        if let Some(view) = found {
            return view;
        }
        let view = Arc::new(made(catalog, rules, principal));
        let mut views = self.lock();
        views.push_back(Made {
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

    /// Whether somebody who has listed lately, or anybody local, sees another list under `after`.
    pub(super) fn differ(&self, catalog: &Catalog, before: &Rules, after: &Rules) -> bool {
        let same = Arc::ptr_eq(&before.policies, &after.policies);
        if same || (!before.asks_of_lists() && !after.asks_of_lists()) {
            return false;
        }
        let mut principals = vec![Arc::new(super::authorize::local())];
        for made in self.lock().iter() {
            if !principals.contains(&made.principal) {
                principals.push(Arc::clone(&made.principal));
            }
        }
        let differs =
            |who: &Arc<Principal>| !made(catalog, before, who).shows_the_same(&made(catalog, after, who));
        principals.iter().any(differs)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made(catalog: &Catalog, rules: &Rules, principal: &Principal) -> View {
    catalog.view(|entry| !rules.hides(entry, principal))
}
