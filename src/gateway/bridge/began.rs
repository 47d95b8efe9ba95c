//! Where a client goes on: on the instance on which it began, where there are several.

use serde_json::value::RawValue;

use super::super::task;
use super::seal::State;
use super::{Bridge, bound};
use crate::catalog::{Entry, Route};
use crate::live::InstanceId;
use crate::mcp::server::Request;
use crate::mcp::wire::raw;

/// An instance on which a client began something.
pub(in crate::gateway) enum Began {
    /// Its connection leads there.
    On(InstanceId),
    /// It was asked something there: the instance by its mark.
    Marked(String),
}

impl Began {
    pub(in crate::gateway) fn is_on(&self, instance: &InstanceId) -> bool {
        match self {
            Self::On(own) => own == instance,
            Self::Marked(mark) => task::id::mark(instance) == *mark,
        }
    }
}

impl Bridge {
    /// Where the client began what it goes on with now, as far as that is a matter of instances.
    pub(in crate::gateway) fn began(
        &self,
        request: &Request,
        entry: &Entry,
        params: &RawValue,
    ) -> Option<Began> {
        let state = raw::get(params, "requestState").and_then(raw::text_of);
        match state.and_then(|text| self.seal().open(&text, bound(request, entry))) {
            Some(State::At(mark, _)) => return Some(Began::Marked(mark)),
            Some(State::Relayed(_) | State::Held(_)) | None => {}
        }
        let Route::Server { server, .. } = &entry.route else { return None };
        self.clients.instance_of(request, server).map(Began::On)
    }
}
