//! The MCP endpoint: what requests mean, answered from the catalog or by those behind it.
//!
//! Input: requests that the transport has read, the catalogs and rules that passes publish. Output:
//! results as raw JSON. Invariants: a request is answered from one catalog, and a call goes on to
//! where it began; nobody upstream is asked for a list; a call that rules refuse reaches nobody.

mod audit;
mod authorize;
mod bridge;
mod call;
mod catalogs;
mod demand;
mod directory;
mod limit;
mod links;
mod operator;
mod personal;
mod relay;
mod scopes;
mod search;
mod session;
mod sight;
mod task;
mod views;
mod wait;
mod why;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, Cursor, List, ParamHeader};
use crate::desired::Toolset;
use crate::http::discovery::Directory;
use crate::http::{self, Answer, At, Body, Peer};
use crate::mcp::client::{Updated, Upstreams, Watch};
use crate::mcp::server::{
    About, Changes, Endpoint, Handler, Method, OnExcess, Quotas, Reply, Request, Scope, TaskStates, Unserved,
};
use crate::mcp::wire::{ErrorObject, code};
use crate::policy::Principal;
use crate::ports::{CallContext, Lender, Mask, Starter, ToolExecutor};
use crate::schema::Schemas;

pub use audit::{CallRecord, Observer, Outcome};
pub use authorize::Rules;
pub use catalogs::Catalogs;
pub use operator::{Operations, Refused};
pub use why::Prospect;

/// What stands between clients and everything that is offered.
pub struct Gateway {
    pub catalogs: Catalogs,
    upstreams: Arc<Upstreams>,
    executor: Arc<dyn ToolExecutor>,
    rules: ArcSwap<Rules>,
    schemas: Schemas,
    views: views::Views,
    observer: audit::Recorder,
    operations: OnceLock<Arc<dyn Operations>>,
    limits: limit::Limits,
    bridge: bridge::Bridge,
    listings: directory::Listings,
    tasks: task::Tasks,
    people: personal::People,
    starter: OnceLock<Arc<dyn Starter>>,
}

impl Gateway {
    /// `observer` hears of each call when it has ended.
    pub fn new(
        first: Catalog,
        upstreams: Arc<Upstreams>,
        executor: Arc<dyn ToolExecutor>,
        observer: Observer,
    ) -> Arc<Self> {
        Arc::new(Self {
            catalogs: Catalogs::new(first),
            upstreams,
            executor,
            rules: ArcSwap::default(),
            schemas: Schemas::default(),
            views: views::Views::default(),
            observer: audit::Recorder::new(observer),
            operations: OnceLock::new(),
            limits: limit::Limits::default(),
            bridge: bridge::Bridge::default(),
            listings: directory::Listings::default(),
            tasks: task::Tasks::default(),
            people: personal::People::default(),
            starter: OnceLock::new(),
        })
    }

    /// Who starts instances for one client each, and the key of the installation, under which states and
    /// task ids are sealed that clients bring back. Without, such instances are not started, and the key
    /// is one of this process.
    pub fn bridge(&self, lender: Arc<dyn Lender>, key: &[u8; 32]) {
        self.bridge.set(lender, key);
        self.tasks.set(key);
    }

    /// Ends the connections that belong to one client each. Calls under way keep theirs.
    pub fn let_go(&self) {
        self.bridge.close();
        self.people.close();
        self.tasks.close();
    }

    /// How many connections to servers there are, open or not.
    pub fn connections(&self) -> usize {
        self.upstreams.keys().len()
    }

    /// How many resources of servers clients watch.
    pub fn watched(&self) -> usize {
        self.upstreams.watched()
    }

    /// Who makes what servers are shown as their users. Said once, when the daemon is put together.
    pub fn set_presented(&self, shown: Arc<http::Presented>) {
        self.people.set(shown);
    }

    /// Who starts instances of servers that have none, or too few. Said once, when the daemon is put together.
    pub fn set_starter(&self, starter: Arc<dyn Starter>) {
        drop(self.starter.set(starter));
    }

    /// What takes secrets out of records of calls, by value. Said once, when the daemon is put together.
    pub fn set_mask(&self, mask: Arc<dyn Mask>) {
        self.observer.set(mask);
    }

    /// Who answers operators. Said once, when the daemon is put together.
    pub fn set_operations(&self, operations: Arc<dyn Operations>) {
        drop(self.operations.set(operations));
    }

    /// Rules that decide from the next request on.
    pub fn set_rules(&self, rules: Arc<Rules>) {
        let (catalog, before) = (self.catalogs.current(), self.rules.load_full());
        self.rules.store(rules);
        let rules = self.rules.load();
        let differ = |toolset: Option<&Toolset>| self.views.differ(&catalog, toolset, &before, &rules);
        let changed = self.catalogs.differences(differ);
        self.catalogs.tell(&changed);
    }

    /// The endpoint over HTTP. `shutdown` ends its streams.
    pub fn endpoint(self: &Arc<Self>, shutdown: CancellationToken) -> Arc<Endpoint> {
        Endpoint::new(Arc::clone(self) as Arc<dyn Handler>, shutdown)
    }

    /// The same, with limits of each principal. `on_excess` hears of requests refused for them.
    pub fn limited_endpoint(
        self: &Arc<Self>,
        shutdown: CancellationToken,
        quotas: Quotas,
        on_excess: OnExcess,
    ) -> Arc<Endpoint> {
        Endpoint::limited(Arc::clone(self) as Arc<dyn Handler>, shutdown, quotas, on_excess)
    }

    fn list(&self, request: &Request, list: List, member: &'static str) -> Result<Reply, ErrorObject> {
        let place = catalogs::place(member, &request.scope);
        let (sight, offset) = self.catalogs.of(&request.scope, &place, request.cursor.as_deref())?;
        let rules = self.rules.load();
        let asks = rules.asks_of_lists();
        let found = list == List::Tools && sight.is_searched();
        let page = if asks && !found {
            self.views.get(list, &sight, &rules, &request.principal).page(offset)
        } else {
            sight.page(list, offset)
        };
        let (items, next) = page.ok_or_else(catalogs::expired)?;
        // Nor may others keep what is only for some.
        let private = asks || sight.toolset.as_ref().is_some_and(|toolset| toolset.access.is_some());
        let next = next.map(|next| Cursor { list: place, ..next }.encode());
        Ok(Reply::List { member, items, next, private })
    }
}

/// `/mcp`, `/mcp/<toolset>` and `/mcp@<revision>`. Whoever was authenticated is in the request's extensions; else it has to be a loopback
/// listener, where everybody is the local principal.
/// Beside them are the routes by which others find us.
pub fn router(endpoint: Arc<Endpoint>, directory: Arc<dyn Directory>) -> At<Served> {
    let served = Served { endpoint, local: Arc::new(authorize::local()) };
    At::new(http::discovery::may_be, http::discovery::routes(directory), served)
}

/// The endpoint behind a listener.
pub struct Served {
    endpoint: Arc<Endpoint>,
    /// Who calls where nobody has to say so.
    local: Arc<Principal>,
}

impl Answer for Served {
    async fn answer(&self, request: ::http::Request<Body>, _: Peer) -> ::http::Response<Body> {
        let known = request.extensions().get::<Arc<Principal>>();
        let principal = Arc::clone(known.unwrap_or(&self.local));
        self.endpoint.handle(request, principal).await.map(Body::new)
    }
}

#[async_trait]
impl Handler for Gateway {
    async fn request(&self, request: &Request, context: &CallContext) -> Result<Reply, ErrorObject> {
        if operator::is_it(&request.scope) {
            return operator::request(self, request).await;
        }
        match &request.method {
            Method::ToolsList => self.list(request, List::Tools, "tools"),
            Method::PromptsList => self.list(request, List::Prompts, "prompts"),
            Method::ResourcesList => self.list(request, List::Resources, "resources"),
            Method::TemplatesList => self.list(request, List::Templates, "resourceTemplates"),
            Method::ToolsCall => call::call(self, request, context).await,
            Method::PromptsGet => relay::prompt(self, request, context).await,
            Method::ResourcesRead => relay::resource(self, request, context).await,
            Method::Complete => relay::complete(self, request, context).await,
            Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => {
                task::request(self, request, context).await
            }
            Method::Initialize
            | Method::Ping
            | Method::Discover
            | Method::Listen
            | Method::SetLevel
            | Method::Subscribe
            | Method::Unsubscribe
            | Method::Other(_) => {
                let message = format!("there is no method `{}`", request.method.as_str());
                Err(ErrorObject::new(code::METHOD_NOT_FOUND, message))
            }
        }
    }

    fn admit(&self, scope: &Scope, user: &Principal) -> Result<(), Unserved> {
        if *scope == Scope::All {
            return Ok(());
        }
        if operator::is_it(scope) {
            return operator::admit(self, user);
        }
        match self.catalogs.sight(scope) {
            Ok(sight) => match &sight.toolset {
                Some(toolset) if !toolset.names(&user.name, &user.groups) => {
                    let (name, user) = (&toolset.id.name, &user.name);
                    let why = format!("the access of toolset `{name}` does not include `{user}`");
                    Err(Unserved::Forbidden(why))
                }
                Some(toolset) => match &toolset.access {
                    Some(access) => self.within(scope, access, user),
                    None => Ok(()),
                },
                None => Ok(()),
            },
            Err(absent) => Err(Unserved::Absent(absent)),
        }
    }

    fn changes(&self, scope: &Scope) -> watch::Receiver<Changes> {
        self.catalogs.changes(scope)
    }

    fn about(&self, scope: &Scope) -> About {
        if operator::is_it(scope) {
            return operator::about();
        }
        self.catalogs.sight(scope).map(|sight| sight.about()).unwrap_or_default()
    }

    fn watch(&self, request: &Request, uri: &str) -> Result<Watch, ErrorObject> {
        relay::watch(self, request, uri)
    }

    async fn tasks(
        self: Arc<Self>,
        request: Request,
        ids: BTreeSet<String>,
    ) -> Result<TaskStates, ErrorObject> {
        task::listen(self, request, ids).await
    }

    fn updates(&self) -> broadcast::Receiver<Updated> {
        self.upstreams.updates()
    }

    fn param_headers(&self, scope: &Scope, tool: &str, user: &Principal) -> Arc<[ParamHeader]> {
        let (Ok(sight), rules) = (self.catalogs.sight(scope), self.rules.load()) else {
            return Arc::default();
        };
        let seen = sight.get(List::Tools, tool).filter(|entry| !rules.hides(List::Tools, entry, user));
        seen.map(|entry| Arc::clone(&entry.headers)).unwrap_or_default()
    }
}

fn invalid(message: impl Into<String>) -> ErrorObject {
    ErrorObject::new(code::INVALID_PARAMS, message)
}

/// A tool result that says what went wrong, so that a model can read it.
fn tool_error(text: &str) -> Reply {
    Reply::Whole(error_text(text).into())
}

fn error_text(text: &str) -> String {
    let text = serde_json::Value::from(text);
    format!("{{\"content\":[{{\"type\":\"text\",\"text\":{text}}}],\"isError\":true}}")
}

impl Request {
    /// Whom it comes from.
    fn user(&self) -> &Principal {
        &self.principal
    }
}
