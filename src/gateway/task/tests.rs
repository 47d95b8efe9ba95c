//! Tasks of a scripted server behind a real connection.

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::super::tests::{LONG, World, rules};
use super::*;
use crate::catalog::Offered;
use crate::catalog::tests::{offered, server, tools};
use crate::mcp::client::Upstream;
use crate::mcp::server::{Handler as _, Meta, Scope, TaskStates};
use crate::mcp::wire::Id;
use crate::policy::Principal;
use crate::ports::{Channel, Greeting};
use crate::resource::policy::Point;

const MODERN: &str = "modern 2026-07-28";
/// What the client has to say before a server hears of tasks.
const TAKES: &str = r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"other":{}},"elicitation":{}}"#;

/// A modern server whose calls are all tasks, for who takes them. A task ends once it was updated.
async fn works(stream: tokio::io::DuplexStream) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader).lines();
    let (mut updated, mut listening) = (false, None);
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).expect("JSON");
        let Some(id) = message.get("id") else { continue };
        let params = &message["params"];
        let capabilities = &params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
        let takes = *capabilities == json!({"extensions": {TASKS: {}}});
        assert!(takes || *capabilities == json!({}), "a shared server is told of nothing else: {message}");
        let told = |method: &str, tag: &Value, mut params: Value| {
            params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": tag});
            format!("{}\n", json!({"jsonrpc": "2.0", "method": method, "params": params}))
        };
        let ended = json!({"taskId": "own", "status": "completed",
            "result": {"content": [], "note": "long enough"}});
        if message["method"] == "subscriptions/listen" {
            assert!(takes, "{message}");
            let served = json!({"notifications": params["notifications"]});
            let acknowledged = told("notifications/subscriptions/acknowledged", id, served);
            writer.write_all(acknowledged.as_bytes()).await.expect("memory");
            listening = Some(id.clone());
            continue;
        }
        let task = json!({"resultType": "task", "taskId": "own", "status": "working", "extra": [1.5]});
        let answer = match message["method"].as_str().expect("a method") {
            "server/discover" => json!({"result": {"supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}, "extensions": {TASKS: {}}}}}),
            "tools/call" if takes || params["name"] == "forces" => json!({"result": task}),
            "tools/call" => json!({"result": {"content": []}}),
            _ if params["taskId"] != "own" => json!({"error": {"code": -32602, "message": "no such task"}}),
            "tasks/update" => {
                updated = true;
                json!({"result": {}})
            }
            "tasks/get" if updated => json!({"result": ended}),
            "tasks/get" => json!({"result": {"taskId": "own", "status": "working"}}),
            _ => json!({"result": {}}),
        };
        let mut answer = answer;
        (answer["jsonrpc"], answer["id"]) = (json!("2.0"), id.clone());
        let tag = listening.as_ref().filter(|_| message["method"] == "tasks/update");
        let more = tag.map_or_else(String::new, |tag| told("notifications/tasks", tag, ended));
        if writer.write_all(format!("{answer}\n{more}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn connected(world: &mut World) -> Offered {
    let mut offer = tools(&["slow", "forces"]);
    offer.protocol = MODERN.to_owned();
    offer.capabilities = Some(json!({"extensions": {TASKS: {}}}).to_string().into());
    let offered = offered(server("s"), offer);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(ours);
    world.servers.spawn(works(theirs));
    let channel = Channel::Stdio { reader: Box::new(reader), writer: Box::new(writer) };
    let greeting = Greeting::Known(MODERN);
    let upstream = Upstream::connect(channel, greeting, LONG, || {}).await.expect("greeted");
    world.upstreams.insert(offered.upstream.clone(), upstream);
    offered
}

/// A request of a modern client that says what it can do.
fn request(user: &str, capabilities: &str, method: Method, params: &Value) -> Request {
    let key = if method.is_of_task() { "taskId" } else { "name" };
    Request {
        era: Era::Modern,
        id: Id::number(1),
        name: params[key].as_str().map(str::to_owned),
        cursor: None,
        principal: Arc::new(Principal { name: user.to_owned(), ..Principal::default() }),
        scope: Scope::All,
        params: raw::into_raw(params.to_string()).ok(),
        meta: Meta { client_capabilities: raw::into_raw(capabilities.to_owned()).ok(), ..Meta::default() },
        session: None,
        held: crate::mcp::server::Held::default(),
        method,
    }
}

async fn ask(
    world: &World,
    user: &str,
    capabilities: &str,
    method: Method,
    params: Value,
) -> Result<Value, ErrorObject> {
    let request = request(user, capabilities, method, &params);
    match world.gateway.request(&request, &CallContext::default()).await? {
        Reply::Whole(text) => Ok(serde_json::from_str(&text).expect("JSON")),
        other => panic!("{other:?}"),
    }
}

async fn begun(world: &World) -> String {
    let task = ask(world, "ada", TAKES, Method::ToolsCall, json!({"name": "s_slow"})).await.expect("a task");
    assert_eq!((&task["resultType"], &task["extra"]), (&json!("task"), &json!([1.5])), "{task}");
    let id = task["taskId"].as_str().expect("an id").to_owned();
    assert_ne!(id, "own");
    id
}

#[tokio::test]
async fn a_task_is_reached_by_who_called_while_the_tool_is_shown() {
    let mut world = World::new();
    let offered = connected(&mut world).await;
    world.publish(1, std::slice::from_ref(&offered), &[]);
    assert!(world.gateway.about(&Scope::All).tasks);
    let id = begun(&world).await;
    let get = async |user: &str, capabilities: &str, id: &str| {
        ask(&world, user, capabilities, Method::TasksGet, json!({"taskId": id})).await
    };
    let state = get("ada", TAKES, &id).await.expect("a state");
    assert_eq!(state, json!({"taskId": id, "status": "working"}));

    let unknown = (code::INVALID_PARAMS, "unknown task".to_owned());
    let refused = async |user: &str, id: &str| {
        let error = get(user, TAKES, id).await.expect_err("unknown");
        (error.code, error.message)
    };
    assert_eq!(refused("eve", &id).await, unknown);
    assert_eq!(refused("ada", "own").await, unknown);
    assert_eq!(refused("ada", &id[..id.len() - 4]).await, unknown);
    let error = get("ada", "{}", &id).await.expect_err("it takes no tasks");
    assert_eq!(error.code, code::MISSING_CLIENT_CAPABILITY);
    let data = error.data.expect("data").get().to_owned();
    assert_eq!(data, format!("{{\"requiredCapabilities\":{{\"extensions\":{{\"{TASKS}\":{{}}}}}}}}"));

    // Another catalog, and one without the tool: who works on it is there.
    world.publish(2, std::slice::from_ref(&offered), &[]);
    assert!(get("ada", TAKES, &id).await.is_ok());
    world.publish(3, &[], &[]);
    assert!(!world.gateway.about(&Scope::All).tasks);
    assert!(get("ada", TAKES, &id).await.is_ok());
    let hiding = rules(&[Point::List], "visible := false if input.tool.name == \"s_slow\"");
    world.gateway.set_rules(hiding);
    assert_eq!(refused("ada", &id).await, unknown);
    world.gateway.set_rules(Arc::default());
    assert!(get("ada", TAKES, &id).await.is_ok());
}

#[tokio::test]
async fn the_end_of_a_task_is_recorded_once_and_waited_for() {
    let mut world = World::new();
    let offered = connected(&mut world).await;
    world.publish(1, std::slice::from_ref(&offered), &[]);
    let id = begun(&world).await;
    let removed = world.upstreams.remove(&offered.upstream).expect("connected");
    let drained = removed.drain(LONG);
    tokio::pin!(drained);
    assert!(futures::poll!(&mut drained).is_pending(), "a task is under way");
    let about = json!({"taskId": id, "inputResponses": {}});
    ask(&world, "ada", TAKES, Method::TasksUpdate, about.clone()).await.expect("taken");
    assert!(futures::poll!(&mut drained).is_pending());
    for _ in 0..2 {
        let state = ask(&world, "ada", TAKES, Method::TasksGet, about.clone()).await;
        if let Ok(state) = state {
            assert_eq!(state["result"]["note"], "long enough");
            drained.as_mut().await;
        }
    }
    let error = ask(&world, "ada", TAKES, Method::TasksGet, about).await.expect_err("its instance is gone");
    assert!(error.message.contains("cannot be reached"), "{error:?}");
    assert_eq!(world.outcomes(), ["s_slow task", "s_slow success"]);
}

#[tokio::test]
async fn a_task_counts_among_the_calls_of_its_server_until_its_end_is_told() {
    let mut world = World::new();
    let mut offered = connected(&mut world).await;
    Arc::make_mut(&mut offered.server).concurrency = Some(1);
    world.publish(1, std::slice::from_ref(&offered), &[]);
    let about = json!({"taskId": begun(&world).await, "inputResponses": {}});
    let second = begun(&world);
    tokio::pin!(second);
    assert!(futures::poll!(&mut second).is_pending(), "the first task goes on");
    ask(&world, "ada", TAKES, Method::TasksUpdate, about.clone()).await.expect("taken");
    assert!(futures::poll!(&mut second).is_pending());
    let state = ask(&world, "ada", TAKES, Method::TasksGet, about).await.expect("a state");
    assert_eq!(state["status"], "completed");
    let about = json!({"taskId": second.await});
    // A task that is cancelled gives its place up, too.
    let third = begun(&world);
    tokio::pin!(third);
    assert!(futures::poll!(&mut third).is_pending());
    ask(&world, "ada", TAKES, Method::TasksCancel, about).await.expect("cancelled");
    third.await;
}

#[tokio::test]
async fn a_client_that_takes_no_tasks_gets_none_and_its_server_does_not_hear_of_them() {
    let mut world = World::new();
    let offered = connected(&mut world).await;
    world.publish(1, std::slice::from_ref(&offered), &[]);
    let plain = json!({"name": "s_slow"});
    let result = ask(&world, "ada", "{}", Method::ToolsCall, plain).await.expect("a result");
    assert_eq!(result, json!({"content": []}));
    let forced = ask(&world, "ada", "{}", Method::ToolsCall, json!({"name": "s_forces"})).await;
    let text = forced.expect("a result").to_string();
    assert!(text.contains("isError") && text.contains("which this client did not say it takes"), "{text}");
    assert!(!text.contains("own"), "{text}");
    assert_eq!(world.outcomes(), ["s_slow success", "s_forces unavailable"]);
}

#[tokio::test]
async fn a_result_that_is_longer_than_rules_allow_is_not_told_later_either() {
    let mut world = World::new();
    let offered = connected(&mut world).await;
    world.publish(1, &[offered], &[]);
    world.gateway.set_rules(rules(&[Point::Call], "limits := {\"maxOutput\": 20}"));
    let id = begun(&world).await;
    let about = json!({"taskId": id});
    world.gateway.set_rules(Arc::default());
    let mut listened = listen(&world, "ada", &[&id]).await;
    assert_eq!(told(&mut listened).await["status"], "working");
    ask(&world, "ada", TAKES, Method::TasksUpdate, about.clone()).await.expect("taken");
    let asked = ask(&world, "ada", TAKES, Method::TasksGet, about).await.expect("a state");
    for state in [asked, told(&mut listened).await] {
        assert_eq!(state["status"], "completed");
        assert!(!state.to_string().contains("long enough"), "{state}");
    }
}

async fn listen(world: &World, user: &str, ids: &[&str]) -> TaskStates {
    let request = request(user, TAKES, Method::Listen, &json!({}));
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    Arc::clone(&world.gateway).tasks(request, ids).await.expect("it takes tasks")
}

/// What is told next; null at the end.
async fn told(listened: &mut TaskStates) -> Value {
    let state = listened.states.next().await;
    state.map_or(Value::Null, |state| serde_json::from_str(state.get()).expect("JSON"))
}

#[tokio::test]
async fn a_task_is_told_to_who_called_and_listens() {
    let mut world = World::new();
    let offered = connected(&mut world).await;
    world.publish(1, std::slice::from_ref(&offered), &[]);
    let id = begun(&world).await;
    assert!(listen(&world, "eve", &[&id]).await.ids.is_empty());
    let plain = request("ada", "{}", Method::Listen, &json!({}));
    let refused = Arc::clone(&world.gateway).tasks(plain, [id.clone()].into()).await;
    assert_eq!(refused.map(|_| ()).expect_err("it takes no tasks").code, code::MISSING_CLIENT_CAPABILITY);

    let mut listened = listen(&world, "ada", &[&id, "own"]).await;
    assert_eq!(listened.ids, [id.clone()].into());
    assert_eq!(told(&mut listened).await, json!({"taskId": id, "status": "working"}), "as it is now");
    ask(&world, "ada", TAKES, Method::TasksUpdate, json!({"taskId": id})).await.expect("taken");
    let mut state = told(&mut listened).await;
    state.as_object_mut().expect("an object").remove("_meta");
    let result = json!({"content": [], "note": "long enough"});
    assert_eq!(state, json!({"taskId": id, "status": "completed", "result": result}));
    assert!(futures::poll!(listened.states.next()).is_pending(), "nothing comes after the end");
    assert_eq!(world.outcomes(), ["s_slow task", "s_slow success"]);
    // Who listens late hears of the end, and it is recorded once.
    let mut late = listen(&world, "ada", &[&id]).await;
    assert_eq!(told(&mut late).await["status"], "completed");
    assert!(world.outcomes().is_empty());
}

#[tokio::test]
async fn a_task_is_not_told_of_when_its_tool_is_hidden_or_its_instance_gone() {
    for hidden in [true, false] {
        let mut world = World::new();
        let offered = connected(&mut world).await;
        world.publish(1, std::slice::from_ref(&offered), &[]);
        let id = begun(&world).await;
        let mut listened = listen(&world, "ada", &[&id]).await;
        assert_eq!(told(&mut listened).await["status"], "working");
        if hidden {
            ask(&world, "ada", TAKES, Method::TasksUpdate, json!({"taskId": id})).await.expect("taken");
            let hiding = rules(&[Point::List], "visible := false if input.tool.name == \"s_slow\"");
            world.gateway.set_rules(hiding);
        } else {
            world.upstreams.remove(&offered.upstream).expect("connected").close().await;
        }
        assert_eq!(told(&mut listened).await, Value::Null);
        assert!(listen(&world, "ada", &[&id]).await.ids.is_empty());
    }
}
