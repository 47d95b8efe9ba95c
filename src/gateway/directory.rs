//! What is served, as it is listed for whoever looks for servers: made at the first request and kept while
//! its catalog and rules are served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::authorize::{Rules, local};
use super::{Gateway, Scope};
use crate::catalog::{Catalog, Entry, List};
use crate::convert::listing::{self, Listing, Place};
use crate::desired::Toolset;
use crate::http::discovery::Directory;
use crate::policy::Principal;
use crate::status::Timestamp;

/// Listings kept: those of as many callers as look at the same time, where rules tell them apart.
const MAX_KEPT: usize = 32;

/// Listings that were made, and what they are made with.
#[derive(Default)]
pub(super) struct Listings {
    place: OnceLock<Place>,
    /// When the current catalog was published.
    since: ArcSwap<Timestamp>,
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    catalog: Arc<Catalog>,
    rules: Arc<Rules>,
    since: Timestamp,
    /// None: everybody sees the same.
    principal: Option<Arc<Principal>>,
    listing: Arc<Listing>,
}

impl Listings {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    /// Where clients find us. Said once, when the daemon is put together.
    pub fn set_place(&self, place: Place) {
        drop(self.listings.place.set(place));
    }

    /// The current catalog is served since then: seconds since the Unix epoch.
    pub fn served_since(&self, at: Duration) {
        self.listings.since.store(Arc::new(Timestamp::from(at)));
        // They hold catalogs that were replaced.
        self.listings.lock().clear();
    }

    /// Where the metadata of an endpoint is (RFC 9728), as a parameter of a challenge.
    pub(super) fn metadata_of(&self, scope: &Scope) -> String {
        let origin = self.listings.place.get().and_then(|place| place.endpoint.strip_suffix("/mcp"));
        origin.map_or_else(String::new, |origin| {
            format!(", resource_metadata=\"{origin}/.well-known/oauth-protected-resource{scope}\"")
        })
    }

    fn listed(&self, catalog: &Catalog, rules: &Rules, since: Timestamp, user: &Principal) -> Listing {
        let Some(place) = self.listings.place.get() else { return Listing::default() };
        let shows = |list: List, entry: &Entry| !rules.hides(list, entry, user);
        let admits = |toolset: &Toolset| toolset.admits(&user.name, &user.groups, &user.scopes);
        listing::listing(place, &listing::Sight { catalog, since, shows: &shows, admits: &admits })
    }
}

impl Directory for Gateway {
    fn listing(&self, principal: Option<&Arc<Principal>>) -> Arc<Listing> {
        let (catalog, rules) = (self.catalogs.current(), self.rules.load_full());
        let since = **self.listings.since.load();
        let principal = principal.map_or_else(|| Arc::new(local()), Arc::clone);
        let told_apart = rules.asks_of_lists()
            || catalog.toolsets().filter_map(|name| catalog.toolset(name)).any(|it| it.access.is_some());
        let key = told_apart.then(|| Arc::clone(&principal));
        let is_it = |kept: &&Kept| {
            Arc::ptr_eq(&kept.catalog, &catalog)
                && Arc::ptr_eq(&kept.rules, &rules)
                && kept.since == since
                && kept.principal == key
        };
        let found = self.listings.lock().iter().find(is_it).map(|kept| Arc::clone(&kept.listing));
        if let Some(found) = found {
            return found;
        }
        let listing = Arc::new(self.listed(&catalog, &rules, since, &principal));
        let mut kept = self.listings.lock();
        // Nothing of a catalog that was replaced is asked for again.
        kept.retain(|kept| Arc::ptr_eq(&kept.catalog, &catalog));
        kept.push_back(Kept { catalog, rules, since, principal: key, listing: Arc::clone(&listing) });
        if kept.len() > MAX_KEPT {
            kept.pop_front();
        }
        listing
    }
}
