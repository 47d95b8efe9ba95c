//! Tool calls on the process runner: what a client gets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use toolcrib::catalog::ReadyTool;
use toolcrib::desired::{Digests, Limits, Tool, argv};
use toolcrib::execute::Executor;
use toolcrib::manifest::{Place, RepoPath};
use toolcrib::ports::{
    CallContext, CallEvent, Executed, PortError, PortResult, Runner, Runners, SecretValue, Secrets, ToolCall,
    ToolExecutor as _, telling,
};
use toolcrib::resource::{Digest, EnvValue, Kind, Name, ResourceId, SecretRef};

use super::bench::Bench;

const CANARY: &str = "canary-9b1d";

struct OneSecret;

impl Secrets for OneSecret {
    fn tag(&self, _: &toolcrib::ports::Material) -> String {
        String::new()
    }

    fn resolve(&self, reference: &SecretRef) -> PortResult<SecretValue> {
        match reference {
            SecretRef::Env(name) if name == "CANARY" => Ok(SecretValue::new(CANARY.as_bytes())),
            _ => Err(PortError::stalled("secret `env: ABSENT` is not set").hint("set it")),
        }
    }
}

struct OneRunner(Arc<dyn Runner>);

impl Runners for OneRunner {
    fn get(&self, name: &Name) -> Option<Arc<dyn Runner>> {
        (name.as_str() == "local").then(|| self.0.clone())
    }
}

struct Calls {
    bench: Bench,
    executor: Executor,
}

impl Calls {
    fn new() -> Self {
        let bench = Bench::new();
        let runner: Arc<dyn Runner> = bench.runner.clone();
        let executor = Executor::new(Arc::new(OneRunner(runner)), Arc::new(OneSecret), 0);
        Self { bench, executor }
    }

    /// A tool that runs a script with `${city}` and `${words...}` as its parameters.
    fn tool(&self, script: &str) -> Tool {
        let properties = json!({"city": {"type": "string"}, "words": {"type": "array"}});
        let command = ["/bin/sh", "-c", script, "--"].map(str::to_owned);
        let args = serde_json::from_value::<Vec<_>>(json!(["${city}", "${words...}"])).unwrap();
        let digest = Digest::of_bytes(b"");
        Tool {
            id: ResourceId::new(Kind::Tool, Name::parse("t").unwrap()),
            place: Place { file: RepoPath::parse("t.yaml").unwrap(), line: 1, column: 1 },
            labels: Arc::default(),
            digests: Digests { build: None, workload: digest, offer: digest },
            build: None,
            runner: Name::parse("local").unwrap(),
            published: "t".to_owned(),
            definition: json!({"name": "t"}).to_string().into(),
            image: None,
            command: argv::compile(&command, &args, Some("${city}"), properties.as_object().unwrap())
                .unwrap(),
            env: BTreeMap::from([(
                "TOKEN".to_owned(),
                EnvValue::Secret(SecretRef::Env("CANARY".to_owned())),
            )]),
            files: BTreeMap::new(),
            dir: self.bench.folder().to_str().unwrap().to_owned(),
            limits: Limits::default(),
            security: Arc::default(),
            volumes: Arc::default(),
            egress: Arc::default(),
            timeout: Duration::from_secs(30),
            max_output: 1 << 20,
            tests: Arc::default(),
            success_exit_codes: vec![0],
            warm: 0,
            isolation: toolcrib::resource::tool::Isolation::Call,
            concurrency: None,
        }
    }

    async fn call(&self, tool: Tool, arguments: Value) -> Value {
        self.call_in(tool, arguments, &CallContext::default()).await
    }

    async fn call_in(&self, tool: Tool, arguments: Value, cx: &CallContext) -> Value {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let arguments: Map<String, Value> = arguments;
        let ready = ReadyTool { tool: Arc::new(tool), folder: None };
        let call = ToolCall { arguments: &arguments, revision: "main@sha1:0", principal: None };
        let Executed { result, start } = self.executor.execute(&ready, call, cx).await;
        assert_eq!(start, None);
        assert!(!result.contains(CANARY), "the secret is in the result");
        serde_json::from_str(&result).unwrap()
    }
}

/// Stream and text of each block, and whether it is an error.
fn gist(result: &Value) -> (Vec<(&str, &str)>, bool) {
    let content = result["content"].as_array().unwrap();
    (content.iter().map(block).collect(), result["isError"].as_bool().unwrap())
}

fn block(block: &Value) -> (&str, &str) {
    (block["_meta"]["dev.toolcrib/stream"].as_str().unwrap(), block["text"].as_str().unwrap())
}

#[tokio::test]
async fn results() {
    let calls = Calls::new();
    let cases = [
        (
            "printf '%s.' \"$@\"",
            json!({"city": "New York; id", "words": ["$HOME", "-x"]}),
            vec![("stdout", "New York; id.$HOME.-x.")],
            false,
        ),
        ("cat", json!({"city": "in"}), vec![("stdout", "in")], false),
        ("true", json!({}), vec![("stdout", "")], false),
        ("echo a; echo b >&2", json!({}), vec![("stdout", "a\n"), ("stderr", "b\n")], false),
        ("echo a; exit 3", json!({}), vec![("stdout", "a\n"), ("status", "exited with code 3")], true),
        ("kill -SEGV $$", json!({}), vec![("status", "ended by signal 11")], true),
        ("printf 'a\\377'", json!({}), vec![("stdout", "a\u{fffd}")], false),
        (
            "echo $TOKEN; echo $TOKEN >&2; exit 1",
            json!({}),
            vec![("stdout", "[secret]\n"), ("stderr", "[secret]\n"), ("status", "exited with code 1")],
            true,
        ),
        (
            "true",
            json!({"city": ["a"]}),
            vec![("status", "`city` is an array or an object and cannot fill one argument")],
            true,
        ),
    ];
    for (script, arguments, content, failed) in cases {
        let result = calls.call(calls.tool(script), arguments).await;
        assert_eq!(gist(&result), (content, failed), "{script}");
        assert_eq!(result["_meta"]["dev.toolcrib/runner"], "local");
    }
    assert!(calls.bench.leftovers().is_empty());
}

#[tokio::test]
async fn what_else_a_tool_declares() {
    let calls = Calls::new();
    let mut tool = calls.tool("exit 3");
    tool.success_exit_codes = vec![0, 3];
    let result = calls.call(tool, json!({})).await;
    assert_eq!((&result["isError"], &result["_meta"]["dev.toolcrib/exitCode"]), (&json!(false), &json!(3)));

    let structured = |script: &str| {
        let definition = json!({"name": "t", "outputSchema": {"type": "object"}}).to_string().into();
        Tool { definition, ..calls.tool(script) }
    };
    let result = calls.call(structured("echo '{\"degrees\": 21}'"), json!({})).await;
    assert_eq!(result["structuredContent"], json!({"degrees": 21}));
    let result = calls.call(structured("echo warm"), json!({})).await;
    assert_eq!((&result["isError"], &result["structuredContent"]), (&json!(true), &Value::Null));

    let mut tool = calls.tool("printf 'ééé'; printf 12345 >&2");
    tool.max_output = 5;
    let result = calls.call(tool, json!({})).await;
    let cut = "stdout is cut after 5 bytes: 1 more are missing";
    assert_eq!(gist(&result), (vec![("stdout", "éé"), ("stderr", "12345"), ("status", cut)], false));
    assert_eq!(result["_meta"]["dev.toolcrib/truncated"], json!({"stdout": 1}));
}

#[tokio::test]
async fn what_prevents_a_call_is_said_with_the_next_step() {
    let calls = Calls::new();
    let status = |result: &Value| result["content"][0]["text"].as_str().unwrap().to_owned();
    let mut tool = calls.tool("true");
    tool.env.insert("OTHER".to_owned(), EnvValue::Secret(SecretRef::Env("ABSENT".to_owned())));
    assert_eq!(
        status(&calls.call(tool, json!({})).await),
        "failed to resolve environment variable `OTHER`: secret `env: ABSENT` is not set\nset it"
    );
    let mut tool = calls.tool("true");
    tool.runner = Name::parse("elsewhere").unwrap();
    let text = status(&calls.call(tool, json!({})).await);
    assert!(text.starts_with("the runner `elsewhere` is not there\n"), "{text}");
    let mut tool = calls.tool("true");
    tool.dir = format!("/nowhere/{CANARY}");
    let text = status(&calls.call(tool, json!({})).await);
    assert!(text.contains("[secret]"), "{text}");
}

#[tokio::test]
async fn time_output_and_patience_are_bounded() {
    let calls = Calls::new();
    let alive = calls.bench.alive();
    let mut tool = calls.tool("exec 3>alive; echo begun; sleep 1000 & wait");
    // Long enough for the shell to begin before.
    tool.timeout = Duration::from_secs(3);
    let result = calls.call(tool, json!({})).await;
    let ended = "took longer than 3s and was ended";
    assert_eq!(gist(&result), (vec![("stdout", "begun\n"), ("status", ended)], true));
    super::ending::all_gone(alive).await;

    let mut tool = calls.tool("exec yes");
    tool.max_output = 4;
    let result = calls.call(tool, json!({})).await;
    let (content, failed) = gist(&result);
    assert_eq!((content[0], failed), (("stdout", "y\ny\n"), true));
    assert!(content[1].1.starts_with("printed more than 67108864 bytes and was ended\n"), "{content:?}");
}

#[tokio::test]
async fn a_cancelled_call_ends_and_what_it_printed_was_told() {
    let calls = Calls::new();
    let alive = calls.bench.alive();
    let (teller, mut events) = telling();
    let cx = CallContext { events: Some(teller), ..CallContext::default() };
    let cancel = cx.cancel.clone();
    let call = calls.call_in(calls.tool("exec 3>alive; echo $TOKEN begun; sleep 1000"), json!({}), &cx);
    let listen = async {
        let CallEvent::Log(log) = events.next().await else { panic!("it tells what it prints") };
        cancel.cancel();
        log
    };
    let (result, log) = tokio::join!(call, listen);
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["data"], json!({"stream": "stdout", "text": "[secret] begun\n"}));
    assert_eq!(
        gist(&result),
        (vec![("stdout", "[secret] begun\n"), ("status", "cancelled, and ended")], true)
    );
    super::ending::all_gone(alive).await;
}
