//! A server over HTTP that says what it is told to say, letter by letter.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::any;
use http::{Method, Response, StatusCode, header};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    Modern,
    Legacy,
}

/// Definitions with their names, and what is answered, in the same order; all raw JSON.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) tools: Vec<(String, String)>,
    pub(super) prompts: Vec<(String, String)>,
    pub(super) resources: Vec<(String, String)>,
    pub(super) templates: Vec<(String, String)>,
    /// Arguments and results of tools.
    pub(super) calls: Vec<(String, String)>,
    pub(super) messages: Vec<String>,
    pub(super) contents: Vec<String>,
}

/// Served until it is dropped.
pub(super) struct Fixture {
    pub(super) url: String,
    pub(super) offer: Arc<Offer>,
    last: Arc<Mutex<String>>,
    _end: DropGuard,
}

impl Fixture {
    pub(super) async fn start(era: Era, offer: Offer) -> Self {
        let scheme = if era == Era::Modern { "m" } else { "l" };
        let offer = Arc::new(offer.under(scheme));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (last, end) = (Arc::<Mutex<String>>::default(), CancellationToken::new());
        let (answers, noted) = (Arc::clone(&offer), Arc::clone(&last));
        let respond = move |method: Method, body: Bytes| {
            let (answers, noted) = (Arc::clone(&answers), Arc::clone(&noted));
            async move { respond(era, &method, &body, &answers, &noted) }
        };
        let router = Router::new().route("/mcp", any(respond));
        let until = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, router) => served.unwrap(),
                () = until.cancelled() => {}
            }
        });
        Self { url, offer, last, _end: end.drop_guard() }
    }

    /// The parameters of the last call, as they came.
    pub(super) fn last_params(&self) -> String {
        self.last.lock().unwrap().clone()
    }
}

impl Offer {
    /// With addresses of its own, so that two of them can stand side by side.
    fn under(mut self, scheme: &str) -> Self {
        for (uri, definition) in self.resources.iter_mut().chain(&mut self.templates) {
            *definition = definition.replace(uri.as_str(), &format!("{scheme}{uri}"));
            uri.insert_str(0, scheme);
        }
        self
    }

    fn at<'a, T>(named: &[(String, String)], answers: &'a [T], name: &Value) -> &'a T {
        let at = named.iter().position(|(known, _)| name == known).unwrap_or_else(|| panic!("no {name}"));
        &answers[at]
    }
}

fn respond(era: Era, verb: &Method, body: &[u8], offer: &Offer, noted: &Mutex<String>) -> Response<Body> {
    if verb != Method::POST {
        return answer(StatusCode::METHOD_NOT_ALLOWED, String::new());
    }
    let text = std::str::from_utf8(body).unwrap();
    let request: Value = serde_json::from_str(text).unwrap();
    let (id, params) = (&request["id"], &request["params"]);
    if id.is_null() {
        return answer(StatusCode::ACCEPTED, String::new());
    }
    let modern = era == Era::Modern;
    let list = |member: &str, all: &[(String, String)]| {
        let all: Vec<&str> = all.iter().map(|(_, definition)| definition.as_str()).collect();
        let rest = if modern { r#""resultType":"complete","ttlMs":0,"cacheScope":"public","# } else { "" };
        format!("{{{rest}\"{member}\":[{}]}}", all.join(","))
    };
    let result = match request["method"].as_str().unwrap() {
        "server/discover" if modern => r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"prompts":{},"resources":{}},"ttlMs":0,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"raw","version":"1"}}}"#.to_owned(),
        "initialize" if !modern => r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"prompts":{},"resources":{}},"serverInfo":{"name":"raw","version":"1"}}"#.to_owned(),
        "tools/list" => list("tools", &offer.tools),
        "prompts/list" => list("prompts", &offer.prompts),
        "resources/list" => list("resources", &offer.resources),
        "resources/templates/list" => list("resourceTemplates", &offer.templates),
        "tools/call" => {
            noted.lock().unwrap().clone_from(&super::members(text)["params"]);
            Offer::at(&offer.tools, &offer.calls, &params["name"]).1.clone()
        }
        "prompts/get" => Offer::at(&offer.prompts, &offer.messages, &params["name"]).clone(),
        "resources/read" => Offer::at(&offer.resources, &offer.contents, &params["uri"]).clone(),
        method => {
            let error = format!(r#"{{"code":-32601,"message":"no method {method}"}}"#);
            let status = if modern { StatusCode::NOT_FOUND } else { StatusCode::OK };
            return answer(status, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
        }
    };
    answer(StatusCode::OK, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    let response = Response::builder().status(status).header("mcp-session-id", "one");
    let response = response.header(header::CONTENT_TYPE, "application/json");
    response.body(Body::from(body)).unwrap()
}
