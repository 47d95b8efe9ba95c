//! The endpoint on a real port, with rmcp's client in both eras.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmcp::model::{CallToolRequestParams, ProtocolVersion, ServerNotification, SubscriptionFilter};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt as _, NotificationContext, RoleClient, RunningService,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ServiceError};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use toolcrib::catalog::{Catalog, Input, ReadyTool, compose};
use toolcrib::desired::{Digests, Limits, Tool, argv};
use toolcrib::gateway::{self, Gateway};
use toolcrib::http::{self, Allowed};
use toolcrib::manifest::{Place, RepoPath};
use toolcrib::mcp::client::Upstreams;
use toolcrib::mcp::server::Endpoint;
use toolcrib::ports::{CallContext, Executed, ToolCall, ToolExecutor};
use toolcrib::resource::{Digest, Kind, Name, ResourceId, Revision};

/// Longer than any of it takes; a wait that is this long has failed.
const LONG: Duration = Duration::from_mins(1);

/// An endpoint that serves these tools, and answers calls with their arguments.
pub(crate) fn endpoint(tools: &[ReadyTool]) -> Arc<Endpoint> {
    let (catalog, reports) = compose(&Input { revision: &revision(1), servers: &[], tools, previous: None });
    assert_eq!(reports, []);
    let executor = Arc::new(Echo::default());
    let gateway = Gateway::new(catalog, Arc::new(Upstreams::default()), executor, Arc::new(|_| {}));
    gateway.endpoint(CancellationToken::new())
}

/// Answers with the arguments; `wait` takes until the call is cancelled.
#[derive(Default)]
struct Echo {
    begun: Notify,
    cancelled: Arc<Notify>,
}

struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl ToolExecutor for Echo {
    async fn execute(&self, _: &ReadyTool, call: ToolCall<'_>, context: &CallContext) -> Executed {
        let arguments = call.arguments;
        if arguments.contains_key("wait") {
            let _dropped = Dropped(Arc::clone(&self.cancelled));
            self.begun.notify_one();
            context.cancel.cancelled().await;
        }
        let text = Value::Object(arguments.clone()).to_string();
        let result = json!({"content": [{"type": "text", "text": text}]}).to_string();
        Executed { result, start: None }
    }
}

/// Version `n` of a tool with one parameter, which clients mirror into a header.
pub(crate) fn mirrored(name: &str, n: u32) -> ReadyTool {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}});
    with_schema(name, n, &schema)
}

pub(crate) fn tool(name: &str, n: u32) -> ReadyTool {
    with_schema(name, n, &json!({"type": "object", "properties": {"n": {"type": "integer"}}}))
}

fn with_schema(name: &str, n: u32, schema: &Value) -> ReadyTool {
    let digest = Digest::of_bytes(format!("{name} {n}").as_bytes());
    let definition = json!({"name": name, "description": format!("version {n}"),
        "inputSchema": schema});
    let tool = Arc::new(Tool {
        id: ResourceId::new(Kind::Tool, Name::parse(name).unwrap()),
        place: Place { file: RepoPath::parse("crib.yaml").unwrap(), line: 1, column: 1 },
        labels: Arc::default(),
        digests: Digests { build: None, workload: digest, offer: digest },
        build: None,
        runner: Name::parse("local").unwrap(),
        published: name.to_owned(),
        definition: definition.to_string().into(),
        image: None,
        command: argv::Command::default(),
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        dir: String::new(),
        limits: Limits::default(),
        security: Arc::default(),
        volumes: Arc::default(),
        egress: Arc::default(),
        timeout: Duration::from_secs(30),
        max_output: 1024,
        tests: Arc::default(),
        success_exit_codes: vec![0],
        warm: 0,
        isolation: toolcrib::resource::tool::Isolation::Call,
        concurrency: None,
    });
    ReadyTool { tool, folder: None }
}

fn revision(n: u32) -> Revision {
    Revision { reference: "main".to_owned(), commit: format!("{n:040x}"), dirty: false }
}

struct World {
    gateway: Arc<Gateway>,
    executor: Arc<Echo>,
    url: String,
    shutdown: CancellationToken,
    serving: JoinSet<()>,
}

impl World {
    fn start() -> Self {
        let executor = Arc::new(Echo::default());
        let as_executor = Arc::clone(&executor) as Arc<dyn ToolExecutor>;
        let first = Catalog::empty(revision(0));
        let gateway = Gateway::new(first, Arc::new(Upstreams::default()), as_executor, Arc::new(|_| {}));
        let shutdown = CancellationToken::new();
        let listener = http::bind(([127, 0, 0, 1], 0).into(), false).unwrap();
        let address = listener.local_addr().unwrap();
        let router = gateway::router(gateway.endpoint(shutdown.clone()), Arc::clone(&gateway) as _);
        let router = http::guard(router, Allowed::new(address, None));
        let mut serving = JoinSet::new();
        serving.spawn(http::serve(listener, router, shutdown.clone()));
        Self { gateway, executor, url: format!("http://{address}/mcp"), shutdown, serving }
    }

    fn publish(&self, n: u32, tools: &[ReadyTool]) {
        let previous = self.gateway.catalogs.current();
        let revision = revision(n);
        let input = Input { revision: &revision, servers: &[], tools, previous: Some(&previous) };
        let (catalog, reports) = compose(&input);
        assert_eq!(reports, []);
        self.gateway.catalogs.swap(Arc::new(catalog));
    }

    async fn client(&self, era: Era) -> RunningService<RoleClient, Listener> {
        let transport = StreamableHttpClientTransport::from_uri(self.url.as_str());
        let mode = match era {
            Era::Legacy => ClientLifecycleMode::Initialize,
            Era::Modern => {
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
            }
        };
        Listener::default().serve_with_lifecycle(transport, mode).await.unwrap()
    }

    /// Ends the listener: no connection may hold it.
    async fn stop(mut self) {
        self.shutdown.cancel();
        while self.serving.join_next().await.is_some() {}
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Era {
    Legacy,
    Modern,
}

/// Hears of changed lists on the stream of its session.
#[derive(Clone, Default)]
struct Listener {
    changed: Arc<Notify>,
}

impl ClientHandler for Listener {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

fn call(name: &str, arguments: Value) -> CallToolRequestParams {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    CallToolRequestParams::new(name.to_owned()).with_arguments(arguments)
}

fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[tokio::test]
async fn a_client_of_either_era_lists_calls_and_hears_of_changes() {
    provider();
    for era in [Era::Legacy, Era::Modern] {
        let world = World::start();
        world.publish(1, &[tool("greet", 1)]);
        let client = world.client(era).await;
        let listed = client.list_all_tools().await.unwrap();
        assert_eq!((listed.len(), listed[0].name.as_ref()), (1, "greet"), "{era:?}");
        let meta = serde_json::to_value(&listed[0]).unwrap();
        assert_eq!(meta["_meta"]["dev.toolcrib/resource"], "Tool/greet");

        let answered = client.call_tool(call("greet", json!({"n": 7}))).await.unwrap();
        let answered = serde_json::to_value(&answered).unwrap();
        assert_eq!(answered["content"][0]["text"], "{\"n\":7}", "{era:?}");
        let refused = client.call_tool(call("greet", json!({"n": "seven"}))).await.unwrap();
        assert_eq!(serde_json::to_value(&refused).unwrap()["isError"], true);
        match client.call_tool(call("nobody", json!({}))).await {
            Err(ServiceError::McpError(error)) => {
                assert_eq!((error.code.0, error.message.as_ref()), (-32602, "unknown tool `nobody`"));
            }
            other => panic!("{other:?}"),
        }

        let changed = async {
            if era == Era::Legacy {
                client.service().changed.notified().await;
                return;
            }
            let filter = SubscriptionFilter::builder().tools_list_changed().build();
            let mut subscription = client.listen(filter).await.unwrap();
            world.publish(2, &[tool("greet", 2), tool("extra", 1)]);
            let heard = subscription.next().await.unwrap();
            assert!(matches!(heard, Some(ServerNotification::ToolListChangedNotification(_))), "{heard:?}");
        };
        if era == Era::Legacy {
            world.publish(2, &[tool("greet", 2), tool("extra", 1)]);
        }
        tokio::time::timeout(LONG, changed).await.expect("heard of it");
        let listed: Vec<_> =
            client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name).collect();
        assert_eq!(listed, ["extra", "greet"], "{era:?}");
        client.cancel().await.unwrap();
        world.stop().await;
    }
}

#[tokio::test]
async fn no_call_fails_and_no_listing_is_mixed_while_catalogs_are_swapped() {
    provider();
    let world = World::start();
    let publish = |n: u32| {
        let tools: Vec<_> = (0..1200).map(|t| tool(&format!("t{t:04}"), n)).collect();
        world.publish(n, &tools);
    };
    publish(1);
    let done = CancellationToken::new();
    let mut clients = JoinSet::new();
    // A swap for each thing a client did: they are always in the middle of something.
    let turns = Arc::new(Semaphore::new(0));
    for era in [Era::Legacy, Era::Modern] {
        let (client, done, turns) = (world.client(era).await, done.clone(), Arc::clone(&turns));
        clients.spawn(async move {
            let mut rounds = 0_u64;
            while !done.is_cancelled() || rounds < 3 {
                let listed = client.list_all_tools().await.unwrap();
                let versions: std::collections::BTreeSet<_> =
                    listed.iter().map(|tool| tool.description.clone().unwrap()).collect();
                assert_eq!((listed.len(), versions.len()), (1200, 1), "{era:?}");
                turns.add_permits(1);
                for n in 0..5 {
                    let answered = client.call_tool(call("t0007", json!({"n": n}))).await.unwrap();
                    assert_ne!(answered.is_error, Some(true));
                    turns.add_permits(1);
                }
                rounds += 1;
            }
            client.cancel().await.unwrap();
        });
    }
    for n in 2..40 {
        let turn = tokio::time::timeout(LONG, turns.acquire()).await;
        turn.expect("the clients go on").unwrap().forget();
        publish(n);
    }
    done.cancel();
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_call_and_one_with_a_foreign_name_is_refused() {
    provider();
    let world = World::start();
    world.publish(1, &[tool("greet", 1)]);
    let client = world.client(Era::Modern).await;
    tokio::select! {
        answered = client.call_tool(call("greet", json!({"wait": 1}))) => panic!("{answered:?}"),
        begun = tokio::time::timeout(LONG, world.executor.begun.notified()) => begun.expect("it begins"),
    }
    drop(client);
    tokio::time::timeout(LONG, world.executor.cancelled.notified()).await.expect("cancelled");

    let web = reqwest::Client::new();
    for (name, value) in [("host", "evil.example.com"), ("origin", "https://evil.example.com")] {
        let answered = web.post(&world.url).header(name, value).body("{}").send().await.unwrap();
        assert_eq!(answered.status().as_u16(), 403, "{name}");
    }
    world.stop().await;
}
