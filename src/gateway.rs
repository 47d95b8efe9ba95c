//! The MCP endpoint: what requests mean, answered from the catalog or by those behind it.
//!
//! Input: requests that the transport has read, the catalogs and rules that passes publish. Output:
//! results as raw JSON. Invariants: a request is answered from one catalog, and a call goes on to
//! where it began; nobody upstream is asked for a list; a call that rules refuse reaches nobody.

mod audit;
mod authorize;
mod call;
mod catalogs;
mod limit;
mod relay;
mod views;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, List, ParamHeader};
use crate::http::{self, Body, Router};
use crate::mcp::client::Upstreams;
use crate::mcp::server::{About, Changes, Endpoint, Handler, Method, Reply, Request};
use crate::mcp::wire::{ErrorObject, code};
use crate::policy::Principal;
use crate::ports::{CallContext, ToolExecutor};
use crate::schema::Schemas;

pub use audit::{CallRecord, Observer, Outcome};
pub use authorize::Rules;
pub use catalogs::Catalogs;

/// What stands between clients and everything that is offered.
pub struct Gateway {
    pub catalogs: Catalogs,
    upstreams: Arc<Upstreams>,
    executor: Arc<dyn ToolExecutor>,
    rules: ArcSwap<Rules>,
    schemas: Schemas,
    views: views::Views,
    observer: Observer,
    limits: limit::Limits,
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
            observer,
            limits: limit::Limits::default(),
        })
    }

    /// Rules that decide from the next request on.
    pub fn set_rules(&self, rules: Arc<Rules>) {
        let changed = self.views.differ(&self.catalogs.current(), &self.rules.load(), &rules);
        self.rules.store(rules);
        self.catalogs.tell(changed);
    }

    /// The endpoint over HTTP. `shutdown` ends its streams.
    pub fn endpoint(self: &Arc<Self>, shutdown: CancellationToken) -> Arc<Endpoint> {
        Endpoint::new(Arc::clone(self) as Arc<dyn Handler>, shutdown)
    }

    fn list(&self, request: &Request, list: List, member: &'static str) -> Result<Reply, ErrorObject> {
        let (catalog, offset) = self.catalogs.of(request.cursor.as_deref())?;
        let rules = self.rules.load();
        let private = rules.asks_of_lists();
        let page = if private {
            self.views.get(list, &catalog, &rules, &request.principal).page(offset)
        } else {
            catalog.page(list, offset)
        };
        let (items, next) = page.ok_or_else(catalogs::expired)?;
        Ok(Reply::List { member, items, next: next.map(|next| next.encode()), private })
    }
}

/// `/mcp`. Whoever was authenticated is in the request's extensions; else it has to be a loopback
/// listener, where everybody is the local principal.
pub fn router(endpoint: Arc<Endpoint>) -> Router {
    let local = Arc::new(authorize::local());
    let answer = move |request: ::http::Request<Body>| {
        let known = request.extensions().get::<Arc<Principal>>();
        let (endpoint, principal) = (Arc::clone(&endpoint), Arc::clone(known.unwrap_or(&local)));
        async move { endpoint.handle(request, principal).await.map(Body::new) }
    };
    // The address with a slash is in many configurations of clients.
    let routes = Router::new().route("/mcp", http::any(answer.clone())).route("/mcp/", http::any(answer));
    routes.fallback(http::any(async || (::http::StatusCode::NOT_FOUND, "MCP is served at /mcp\n")))
}

#[async_trait]
impl Handler for Gateway {
    async fn request(&self, request: &Request, context: &CallContext) -> Result<Reply, ErrorObject> {
        match &request.method {
            Method::ToolsList => self.list(request, List::Tools, "tools"),
            Method::PromptsList => self.list(request, List::Prompts, "prompts"),
            Method::ResourcesList => self.list(request, List::Resources, "resources"),
            Method::TemplatesList => self.list(request, List::Templates, "resourceTemplates"),
            Method::ToolsCall => call::call(self, request, context).await,
            Method::PromptsGet => relay::prompt(self, request, context).await,
            Method::ResourcesRead => relay::resource(self, request, context).await,
            Method::Complete => relay::complete(self, request, context).await,
            Method::Initialize
            | Method::Ping
            | Method::Discover
            | Method::Listen
            | Method::SetLevel
            | Method::Other(_) => {
                let message = format!("there is no method `{}`", request.method.as_str());
                Err(ErrorObject::new(code::METHOD_NOT_FOUND, message))
            }
        }
    }

    fn changes(&self) -> watch::Receiver<Changes> {
        self.catalogs.changes()
    }

    fn about(&self) -> About {
        let catalog = self.catalogs.current();
        About { instructions: catalog.instructions.clone(), completions: catalog.completions }
    }

    fn param_headers(&self, tool: &str, user: &Principal) -> Arc<[ParamHeader]> {
        let (catalog, rules) = (self.catalogs.current(), self.rules.load());
        let seen = catalog.tools.get(tool).filter(|entry| !rules.hides(List::Tools, entry, user));
        seen.map(|entry| Arc::clone(&entry.headers)).unwrap_or_default()
    }
}

fn invalid(message: impl Into<String>) -> ErrorObject {
    ErrorObject::new(code::INVALID_PARAMS, message)
}

/// A tool result that says what went wrong, so that a model can read it.
fn tool_error(text: &str) -> Reply {
    let text = serde_json::Value::from(text);
    Reply::Whole(format!("{{\"content\":[{{\"type\":\"text\",\"text\":{text}}}],\"isError\":true}}").into())
}

impl Request {
    /// Whom it comes from.
    fn user(&self) -> &Principal {
        &self.principal
    }
}
