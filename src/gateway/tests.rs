//! What requests mean, with a scripted server behind a real connection.

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

#[tokio::test]
async fn a_call_reaches_its_server_under_the_servers_own_name_and_comes_back_as_it_was_said() {
    let mut world = World::new();
    let weather = offered(server("weather"), tools(&["echo", "broken", "mute"]));
    world.connect(&weather).await;
    world.publish(1, &[weather], &[]);
    let result =
        world.call(r#"{"name":"weather_echo","arguments":{"x":1.0,"name":"kept"},"y":"\u00e9"}"#).await;
    assert_eq!(
        result.expect("a result"),
        r#"{"new" : 1.50e3,"method":"tools/call","params":{"name":"echo","arguments":{"x":1.0,"name":"kept"},"y":"é"}}"#
    );
    let error = world.call(r#"{"name":"weather_broken"}"#).await.expect_err("an error");
    assert_eq!((error.code, error.message.as_str()), (-32000, "broken"));
    for (params, message) in
        [(r#"{"name":"echo"}"#, "unknown tool `echo`"), ("{}", "`params.name` is no string")]
    {
        let error = world.call(params).await.expect_err(params);
        assert_eq!((error.code, error.message.as_str()), (-32602, message));
    }
    let cancelled =
        tokio::time::timeout(Duration::from_millis(20), world.call(r#"{"name":"weather_mute"}"#)).await;
    assert!(cancelled.is_err());
    assert_eq!(
        world.outcomes(),
        ["weather_echo success", "weather_broken server_error", "echo refused", "weather_mute cancelled"]
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_its_own_calls_with_a_result() {
    let mut world = World::new();
    let (dead, alive) = (offered(server("dead"), tools(&["t"])), offered(server("alive"), tools(&["t"])));
    world.connect(&alive).await;
    world.publish(1, &[dead.clone(), alive], &[]);
    let result = world.call(r#"{"name":"dead_t"}"#).await.expect("a result");
    assert!(
        result.contains("\"isError\":true") && result.contains("server `dead` cannot be reached"),
        "{result}"
    );
    assert!(world.call(r#"{"name":"alive_t"}"#).await.is_ok());
    world.connect(&dead).await;
    assert!(world.call(r#"{"name":"dead_t"}"#).await.expect("a result").contains("\"new\""));
    world.upstreams.get(&dead.upstream).expect("connected").close().await;
    assert!(world.call(r#"{"name":"dead_t"}"#).await.expect("a result").contains("cannot be reached"));

    let mut slow = server("slow");
    slow.timeout = Duration::from_millis(10);
    let slow = offered(slow, tools(&["mute"]));
    world.connect(&slow).await;
    world.publish(2, &[slow], &[]);
    let result = world.call(r#"{"name":"slow_mute"}"#).await.expect("a result");
    assert!(result.contains("gave no answer within"), "{result}");
    let ends: Vec<_> =
        world.outcomes().iter().map(|outcome| outcome.split_once(' ').expect("two").1.to_owned()).collect();
    assert_eq!(ends, ["unavailable", "success", "success", "unavailable", "timeout"]);
}

#[tokio::test]
async fn arguments_of_a_tool_are_checked_before_it_runs() {
    let world = World::new();
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    world.publish(1, &[], &[tool(schema)]);
    let result = world.call(r#"{"name":"greet","arguments":{"city":"Oslo"}}"#).await.expect("a result");
    let said: Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!(said["content"][0]["text"], format!("greet {{\"city\":\"Oslo\"}} {}", revision(1)));
    for (arguments, message) in [
        ("{}", "\"city\" is a required property"),
        (r#"{"city":7}"#, "`/city`: the value is not of type \"string\""),
    ] {
        let params = format!("{{\"name\":\"greet\",\"arguments\":{arguments}}}");
        let said: Value = serde_json::from_str(&world.call(&params).await.expect("a result")).expect("JSON");
        assert_eq!(said["isError"], true);
        let text = said["content"][0]["text"].as_str().expect("text");
        assert_eq!(text, format!("the arguments do not fit the tool's input schema: {message}"));
    }
    assert_eq!(world.call(r#"{"name":"greet","arguments":[]}"#).await.expect_err("no object").code, -32602);
    world.call(r#"{"name":"greet","arguments":{"city":"Oslo","fail":1}}"#).await.expect("a result");
    assert_eq!(
        world.outcomes(),
        ["greet success", "greet invalid", "greet invalid", "greet invalid", "greet tool_error"],
        "every one is recorded"
    );
}

#[tokio::test]
async fn prompts_resources_and_completions_find_their_servers() {
    let mut world = World::new();
    let offer = Offer {
        prompts: vec![r#"{"name":"p"}"#.into()],
        resources: vec![r#"{"uri":"x://gone","name":"r"}"#.into()],
        templates: vec![r#"{"uriTemplate":"t://{id}","name":"t"}"#.into()],
        ..Offer::default()
    };
    let docs = offered(server("docs"), offer);
    world.connect(&docs).await;
    world.publish(1, &[docs], &[]);
    let cases = [
        (Method::PromptsGet, r#"{"name":"docs_p","x":[1]}"#, r#"{"name":"p","x":[1]}"#),
        (Method::ResourcesRead, r#"{"uri":"t://7"}"#, r#"{"uri":"t://7"}"#),
        (
            Method::Complete,
            r#"{"argument":{"name":"a"},"ref":{"type":"ref/prompt","name":"docs_p"}}"#,
            r#"{"argument":{"name":"a"},"ref":{"type":"ref/prompt","name":"p"}}"#,
        ),
        (
            Method::Complete,
            r#"{"ref":{"type":"ref/resource","uri":"t://{id}"}}"#,
            r#"{"ref":{"type":"ref/resource","uri":"t://{id}"}}"#,
        ),
    ];
    for (method, params, received) in cases {
        let expected = format!(r#"{{"new" : 1.50e3,"method":"{}","params":{received}}}"#, method.as_str());
        match world.ask(method, Era::Modern, params).await {
            Ok(Reply::Whole(text)) => assert_eq!(*text, *expected),
            other => panic!("{params}: {other:?}"),
        }
    }
    let faults = [
        (Method::PromptsGet, Era::Modern, r#"{"name":"p"}"#, -32602),
        (Method::ResourcesRead, Era::Modern, r#"{"uri":"y://1"}"#, -32602),
        (Method::ResourcesRead, Era::Legacy, r#"{"uri":"y://1"}"#, -32002),
        (Method::ResourcesRead, Era::Modern, r#"{"uri":"x://gone"}"#, -32602),
        (Method::ResourcesRead, Era::Legacy, r#"{"uri":"x://gone"}"#, -32002),
        (Method::Complete, Era::Modern, r#"{"ref":{"type":"ref/prompt","name":"p"}}"#, -32602),
        (Method::Complete, Era::Modern, "{}", -32602),
        (Method::Other("x/y".to_owned()), Era::Legacy, "{}", -32601),
    ];
    for (method, era, params, code) in faults {
        let error = world.ask(method, era, params).await.expect_err(params);
        assert_eq!(error.code, code, "{params} {error:?}");
    }
}

#[tokio::test]
async fn a_listing_ends_in_the_catalog_in_which_it_began() {
    let world = World::new();
    let names: Vec<String> = (0..1500).map(|n| format!("t{n:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let of = |names: &[&str]| [offered(server("s"), tools(names))];
    world.publish(1, &of(&names), &[]);
    let (mut listed, cursor) = world.list(None).await.expect("a page");
    let cursor = cursor.expect("more");
    for n in 2..=9 {
        world.publish(n, &of(names.get(n as usize..).expect("many")), &[]);
    }
    let (rest, end) = world.list(Some(&cursor)).await.expect("a page");
    listed.extend(rest);
    let whole: Vec<_> = names.iter().map(|name| format!("s_{name}")).collect();
    assert_eq!((listed, end), (whole, None), "no mixture of two catalogs");
    // As many as are kept of these in a burst, and more.
    for n in 10..160 {
        world.publish(n, &of(names.get(n as usize..).expect("many")), &[]);
    }
    for cursor in [cursor.as_str(), "nonsense", ""] {
        assert_eq!(world.list(Some(cursor)).await.expect_err("gone").code, -32602, "{cursor}");
    }
}

#[tokio::test]
async fn a_revision_is_served_under_its_commit_while_its_catalog_is_kept() {
    let world = World::new();
    let of = |n: u32| [offered(server("s"), tools(&[&format!("t{n}")]))];
    let sight = |n: u32| world.gateway.catalogs.sight(&Scope::Revision(revision(n).commit.into()));
    for n in 1..=3 {
        world.publish(n, &of(n), &[]);
    }
    for n in 1..=3 {
        let sight = sight(n).expect("kept");
        assert!(sight.get(List::Tools, &format!("s_t{n}")).is_some(), "{n}");
    }
    world.publish(1, &of(11), &[]);
    assert!(sight(1).expect("served").get(List::Tools, "s_t11").is_some(), "the newest of a commit");
    for n in 4..=1100 {
        world.publish(n, &of(n), &[]);
    }
    assert!(sight(1099).is_ok(), "replaced just now");
    let why = sight(2).err().expect("gone");
    assert!(why.contains("is kept: of those that were replaced the last 8 are, for 60 s"), "{why}");
}

#[tokio::test]
async fn only_changes_that_can_be_seen_are_told() {
    let world = World::new();
    let mut changes = world.gateway.changes(&Scope::All);
    let of = |names: &[&str]| [offered(server("s"), tools(names))];
    let one = of(&["a"]);
    assert!(world.publish(1, &one, &[]).tools);
    assert!(changes.has_changed().expect("open"));
    assert_eq!(*changes.borrow_and_update(), Changes { tools: 1, prompts: 0, resources: 0 });
    assert!(!world.publish(2, &one, &[]).any());
    assert!(!changes.has_changed().expect("open"));
    world.publish(3, &of(&["b"]), &[]);
    world.publish(4, &of(&["c"]), &[]);
    assert_eq!(changes.borrow_and_update().tools, 3, "both, heard of once");
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

#[tokio::test]
async fn what_rules_refuse_reaches_nobody_and_what_they_hide_is_not_there() {
    let mut world = World::new();
    let files = offered(server("files"), tools(&["read", "remove"]));
    world.connect(&files).await;
    world.publish(1, &[files], &[tool(r#"{"type":"object"}"#)]);
    let mut changes = world.gateway.changes(&Scope::All);
    changes.mark_unchanged();

    let refusing = rules(
        &[Point::Call],
        "deny contains \"not today\" if { input.tool.args.path == \"/\"; input.user.name == \"local\" }",
    );
    world.gateway.set_rules(refusing);
    let result = world.call(r#"{"name":"files_read","arguments":{"path":"/"}}"#).await.expect("a result");
    assert!(
        result.contains("not today (Policy/p, rule `data.p.deny`)") && result.contains("\"isError\":true"),
        "{result}"
    );
    assert!(
        world
            .call(r#"{"name":"files_read","arguments":{"path":"/a"}}"#)
            .await
            .expect("a result")
            .contains("\"new\"")
    );
    assert_eq!(world.list(None).await.expect("a page").0.len(), 3);
    assert!(!changes.has_changed().expect("open"), "the same list");
    let failing = rules(&[Point::Call], "deny if { to_number(input.tool.args.path) == 1 }");
    world.gateway.set_rules(failing);
    let result = world.call(r#"{"name":"files_read","arguments":{"path":"x"}}"#).await.expect("a result");
    assert!(result.contains("was refused"), "what cannot be evaluated refuses: {result}");

    world.gateway.set_rules(rules(
        &[Point::List],
        "visible := false if { startswith(input.tool.name, \"files_rem\") }",
    ));
    assert_eq!(world.list(None).await.expect("a page").0, ["files_read", "greet"]);
    assert_eq!(changes.borrow_and_update().tools, 2, "the list became shorter");
    let error = world.call(r#"{"name":"files_remove"}"#).await.expect_err("hidden");
    assert_eq!((error.code, error.message.as_str()), (-32602, "unknown tool `files_remove`"));
    assert!(world.call(r#"{"name":"files_read"}"#).await.is_ok());
    assert_eq!(
        world.outcomes(),
        [
            "files_read refused",
            "files_read success",
            "files_read refused",
            "files_remove refused",
            "files_read success"
        ]
    );
}

#[tokio::test]
async fn prompts_resources_and_templates_are_hidden_as_tools_are() {
    let mut world = World::new();
    let all =
        |names: [&str; 2], key: &str| names.map(|name| json!({"name": name, key: name}).to_string().into());
    let offer = Offer {
        prompts: all(["open", "secret"], "title").to_vec(),
        resources: all(["x://open", "x://secret"], "uri").to_vec(),
        templates: all(["x://open/{a}", "y://{secret}"], "uriTemplate").to_vec(),
        capabilities: Some(r#"{"resources":{}}"#.into()),
        ..Offer::default()
    };
    let files = offered(server("files"), offer);
    world.connect(&files).await;
    world.publish(1, &[files], &[]);
    let mut changes = world.gateway.changes(&Scope::All);
    changes.mark_unchanged();
    world.gateway.set_rules(rules(&[Point::List], "deny if { contains(input.entry.name, \"secret\") }"));
    let seen = *changes.borrow_and_update();
    assert_eq!((seen.tools, seen.prompts, seen.resources), (0, 2, 2), "told to those who listen");

    for (method, left) in [
        (Method::PromptsList, "files_open"),
        (Method::ResourcesList, "x://open"),
        (Method::TemplatesList, "x://open/{a}"),
    ] {
        let Ok(Reply::List { items, private, .. }) = world.ask(method.clone(), Era::Modern, "{}").await
        else {
            panic!("{}", method.as_str());
        };
        let items: Vec<Value> = serde_json::from_slice(&items).expect("JSON");
        assert!(private && items.len() == 1 && items[0].to_string().contains(left), "{items:?}");
    }
    let complete = |kind: &str, key: &str, name: &str| {
        let argument = json!({"name": "a", "value": ""});
        json!({"ref": {"type": kind, key: name}, "argument": argument}).to_string()
    };
    // What is asked, and whether there is such a thing to this client.
    for (method, params, there) in [
        (Method::PromptsGet, json!({"name": "files_open"}).to_string(), true),
        (Method::PromptsGet, json!({"name": "files_secret"}).to_string(), false),
        (Method::ResourcesRead, json!({"uri": "x://open"}).to_string(), true),
        (Method::ResourcesRead, json!({"uri": "x://secret"}).to_string(), false),
        // By a template that is seen, by one that is hidden, and by none.
        (Method::ResourcesRead, json!({"uri": "x://open/1"}).to_string(), true),
        (Method::ResourcesRead, json!({"uri": "x://open/secret"}).to_string(), false),
        (Method::ResourcesRead, json!({"uri": "y://1"}).to_string(), false),
        (Method::ResourcesRead, json!({"uri": "z://1"}).to_string(), true),
        (Method::ResourcesRead, json!({"uri": "z://secret"}).to_string(), false),
        (Method::Complete, complete("ref/prompt", "name", "files_open"), true),
        (Method::Complete, complete("ref/prompt", "name", "files_secret"), false),
        (Method::Complete, complete("ref/resource", "uri", "x://open/{a}"), true),
        (Method::Complete, complete("ref/resource", "uri", "y://{secret}"), false),
    ] {
        let answer = world.ask(method.clone(), Era::Modern, &params).await;
        let case = format!("{} {params}", method.as_str());
        match answer {
            Ok(_) => assert!(there, "{case}"),
            Err(error) => {
                assert!(!there && error.code == -32602, "{case}: {error:?}");
                assert!(error.message.starts_with("unknown "), "{case}: {error:?}");
            }
        }
    }
}
