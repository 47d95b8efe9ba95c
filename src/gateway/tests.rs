//! What requests mean, with a scripted server behind a real connection.

mod calls;
mod catalogs;
mod rules;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::task::JoinSet;

use super::*;
use crate::catalog::tests::{offered, revision, server, tools};
use crate::catalog::{Input, Offered, ReadyTool, compose};
use crate::desired::{self, Digests, argv};
use crate::manifest::{Place, RepoPath};
use crate::mcp::client::Upstream;
use crate::mcp::wire::{Era, raw};
use crate::policy::{Module, PolicySet, Source};
use crate::ports::{Channel, Executed, Greeting, Offer, ToolCall};
use crate::resource::policy::{Enforcement, Point, RegoVersion};
use crate::resource::{Digest, Kind, Name, ResourceId};

pub(super) const LONG: Duration = Duration::from_secs(30);

/// Runs nothing: the result holds the arguments.
struct Echo;

#[async_trait]
impl ToolExecutor for Echo {
    async fn execute(&self, ready: &ReadyTool, call: ToolCall<'_>, _: &CallContext) -> Executed {
        let ToolCall { arguments, revision, .. } = call;
        let text = format!("{} {} {revision}", ready.tool.published, Value::Object(arguments.clone()));
        let result =
            json!({"content": [{"type": "text", "text": text}], "isError": arguments.contains_key("fail")});
        Executed { result: result.to_string(), start: None }
    }
}

pub(super) struct World {
    pub(super) gateway: Arc<Gateway>,
    pub(super) upstreams: Arc<Upstreams>,
    outcomes: Arc<Mutex<Vec<String>>>,
    pub(super) servers: JoinSet<()>,
}

impl World {
    pub(super) fn new() -> Self {
        let upstreams = Arc::new(Upstreams::default());
        let outcomes: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&outcomes);
        let observer: Observer = Arc::new(move |record| {
            heard.lock().expect("unpoisoned").push(format!("{} {}", record.tool, record.outcome.as_str()));
        });
        let gateway =
            Gateway::new(Catalog::empty(revision(0)), Arc::clone(&upstreams), Arc::new(Echo), observer);
        Self { gateway, upstreams, outcomes, servers: JoinSet::new() }
    }

    pub(super) fn outcomes(&self) -> Vec<String> {
        std::mem::take(&mut *self.outcomes.lock().expect("unpoisoned"))
    }

    /// Connects a server that answers each call with its parameters, and some with an error.
    async fn connect(&mut self, offered: &Offered) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(ours);
        self.servers.spawn(serve(theirs));
        let channel = Channel::Stdio { reader: Box::new(reader), writer: Box::new(writer) };
        let upstream =
            Upstream::connect(channel, Greeting::Known("legacy"), LONG, || {}).await.expect("greeted");
        self.upstreams.insert(offered.upstream.clone(), upstream);
    }

    pub(super) fn publish(
        &self,
        n: u32,
        servers: &[Offered],
        tools: &[ReadyTool],
    ) -> crate::catalog::Changed {
        let previous = self.gateway.catalogs.current();
        let revision = revision(n);
        let input = Input { revision: &revision, servers, tools, previous: Some(&previous) };
        let (catalog, reports) = compose(&input);
        assert_eq!(reports, []);
        self.gateway.catalogs.swap(Arc::new(catalog))
    }

    async fn ask(&self, method: Method, era: Era, params: &str) -> Result<Reply, ErrorObject> {
        let params = raw::into_raw(params.to_owned()).expect("JSON");
        let key = if method == Method::ResourcesRead { "uri" } else { "name" };
        let request = Request {
            era,
            id: crate::mcp::wire::Id::number(1),
            name: raw::get_str(&params, key).map(std::borrow::Cow::into_owned),
            cursor: raw::get_str(&params, "cursor").map(std::borrow::Cow::into_owned),
            principal: Arc::new(authorize::local()),
            scope: Scope::All,
            params: Some(params),
            meta: crate::mcp::server::Meta::default(),
            session: None,
            held: crate::mcp::server::Held::default(),
            method,
        };
        self.gateway.request(&request, &CallContext::default()).await
    }

    async fn call(&self, params: &str) -> Result<String, ErrorObject> {
        match self.ask(Method::ToolsCall, Era::Modern, params).await? {
            Reply::Whole(text) => Ok(text.into()),
            other => panic!("{other:?}"),
        }
    }

    /// The names on one page, and the cursor to the next.
    async fn list(&self, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), ErrorObject> {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor})).to_string();
        match self.ask(Method::ToolsList, Era::Modern, &params).await? {
            Reply::List { items, next, .. } => {
                let items: Vec<Value> = serde_json::from_slice(&items).expect("JSON");
                Ok((
                    items.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect(),
                    next,
                ))
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn serve(stream: tokio::io::DuplexStream) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).expect("JSON");
        let Some(id) = message.get("id") else { continue };
        let params = &message["params"];
        let answer = match message["method"].as_str() {
            Some("initialize") => {
                r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}"#.to_owned()
            }
            Some("resources/read") if params["uri"] == "x://gone" => {
                r#""error":{"code":-32002,"message":"not found","data":{"uri": "x"}}"#.to_owned()
            }
            Some("tools/call") if params["name"] == "broken" => {
                r#""error":{"code":-32000,"message":"broken"}"#.to_owned()
            }
            Some("tools/call") if params["name"] == "mute" => continue,
            method => format!(r#""result":{{"new" : 1.50e3,"method":"{}","params":{params}}}"#, method.unwrap_or_default()),
        };
        writer
            .write_all(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{answer}}}\n").as_bytes())
            .await
            .expect("memory");
    }
}

fn tool(schema: &str) -> ReadyTool {
    let digest = Digest::of_bytes(b"tool");
    let tool = Arc::new(desired::Tool {
        id: ResourceId::new(Kind::Tool, Name::parse("greet").expect("a name")),
        place: Place { file: RepoPath::parse("crib.yaml").expect("a path"), line: 1, column: 1 },
        labels: Arc::default(),
        digests: Digests { build: None, workload: digest, offer: digest },
        build: None,
        runner: Name::parse("local").expect("a name"),
        published: "greet".to_owned(),
        definition: format!("{{\"name\":\"greet\",\"inputSchema\":{schema}}}").into(),
        image: None,
        command: argv::Command::default(),
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        dir: String::new(),
        limits: desired::Limits::default(),
        security: Arc::default(),
        volumes: Arc::default(),
        egress: Arc::default(),
        timeout: LONG,
        max_output: 1024,
        tests: Arc::default(),
        success_exit_codes: vec![0],
        warm: 0,
        isolation: crate::resource::tool::Isolation::Call,
        concurrency: None,
    });
    ReadyTool { tool, folder: None }
}

/// Rules of one policy, asked at these points.
pub(super) fn rules(points: &[Point], text: &str) -> Arc<Rules> {
    let place = Place { file: RepoPath::parse("crib.yaml").expect("a path"), line: 1, column: 1 };
    let source = Source {
        id: ResourceId::new(Kind::Policy, Name::parse("p").expect("a name")),
        package: "p".to_owned(),
        version: RegoVersion::V1,
        opa: None,
        modules: vec![Module {
            file: place.file.clone(),
            line: 1,
            indent: 0,
            text: format!("package p\n{text}").into(),
        }],
        points: points.to_vec(),
        enforcement: Enforcement::Deny,
        place,
    };
    let policies = PolicySet::compile(vec![source]).expect("rules");
    Arc::new(Rules { policies: Arc::new(policies), ..Rules::default() })
}
