//! A policy answered by another server, as OPA's data API has it: `POST /v1/data/<package>` with
//! `{"input": …}`, answered with `{"result": …}`, or `{}` where the package is not known.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{outcome, policy, tools};
use crate::follow::{call, wait_for_names};
use crate::support::{Daemon, TestEnv};

/// How the server answers.
#[derive(Clone)]
enum Mood {
    /// As the rules of `policies/tools.rego` decide.
    Decide,
    /// With this status and body.
    Say(u16, String),
    /// By a redirect to itself.
    Move,
    /// Not at all.
    Silent,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

struct Opa {
    url: String,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Opa {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let opa = Self { url, mood: Arc::new(Mutex::new(Mood::Decide)), asked: Arc::default() };
        let (mood, asked) = (Arc::clone(&opa.mood), Arc::clone(&opa.asked));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (mood, asked) = (Arc::clone(&mood), Arc::clone(&asked));
                std::thread::spawn(move || while serve(&stream, &mood, &asked).is_some() {});
            }
        });
        opa
    }

    fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// One request of a connection; none when there are no more.
fn serve(stream: &TcpStream, mood: &Mutex<Mood>, asked: &Mutex<Vec<Asked>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    asked.lock().unwrap().push(Asked { line: line.trim().to_owned(), headers, body: body.clone() });
    let (status, more, answer) = match mood.lock().unwrap().clone() {
        Mood::Decide => (200, String::new(), decide(&path, &body).to_string()),
        Mood::Say(status, body) => (status, String::new(), body),
        Mood::Move => (307, format!("location: {path}\r\n"), "{}".to_owned()),
        Mood::Silent => {
            // Until the client goes away.
            let _ = reader.read(&mut [0]);
            return None;
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n",
        answer.len()
    );
    let mut stream = stream;
    stream.write_all((head + &answer).as_bytes()).ok()
}

/// The document of a package, undefined rules left out.
fn decide(path: &str, body: &Value) -> Value {
    let mut engine = regorus::Engine::new();
    engine.add_policy("tools".to_owned(), include_str!("../../../policies/tools.rego").to_owned()).unwrap();
    engine.set_input_json(&body["input"].to_string()).unwrap();
    if path != "/v1/data/toolcrib/tools" {
        return json!({});
    }
    let mut document = serde_json::Map::new();
    for rule in ["allow", "deny", "is_admin"] {
        let value = engine.eval_rule(format!("data.toolcrib.tools.{rule}")).unwrap();
        if value != regorus::Value::Undefined {
            document.insert(rule.to_owned(), serde_json::to_value(&value).unwrap());
        }
    }
    json!({"result": document})
}

fn daemon(env: &TestEnv, more: &str, url: &str) -> Daemon {
    let rules = policy("remote", "toolcrib.tools", &format!("  opa: {{url: {url}{more}}}"));
    env.repo().write("crib.yaml", &(tools("staging") + &rules)).commit("remote");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["kubectl"]);
    daemon
}

#[test]
fn a_server_decides_with_the_same_question() {
    let (env, opa) = (TestEnv::new(), Opa::start());
    let token = env.home().join("token");
    std::fs::write(&token, "canary-token\n").unwrap();
    let more = format!(", timeout: 20s, token: {{secret: {{file: {}}}}}", token.display());
    let daemon = daemon(&env, &more, &opa.url);
    let ask = |words: &str| call(&daemon, "kubectl", json!({"command": words}));
    // In the group `local` nobody may do anything by these rules: `allow` is undefined, and left out.
    let refused = ask("get pods");
    let (failed, why) = outcome(&refused);
    assert!(failed && why.contains("Policy/remote, rule `data.toolcrib.tools.allow`"), "{why}");
    let asked = opa.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.line, "POST /v1/data/toolcrib/tools HTTP/1.1");
    assert_eq!(asked.headers["authorization"], "Bearer canary-token");
    assert_eq!(asked.headers["content-type"], "application/json");
    assert_eq!(asked.body["input"]["tool"]["argv"], json!(["echo", "get", "pods"]));
    assert_eq!(asked.body["input"]["user"], json!({"name": "local", "groups": ["local"]}));
    assert_eq!(asked.body["input"]["runner"]["cluster"], "staging");

    opa.mood(Mood::Say(200, r#"{"result": {"allow": true}}"#.to_owned()));
    assert_eq!(outcome(&ask("get pods")), (false, "get pods\n"));
    opa.mood(Mood::Say(200, r#"{"result": {"allow": true, "deny": ["not today"]}}"#.to_owned()));
    let refused = ask("get pods");
    assert!(outcome(&refused).1.contains("not today (Policy/remote"), "{refused}");

    // The same question by hand, as an administrator.
    opa.mood(Mood::Decide);
    let said =
        env.run(&["policy", "eval", "kubectl", "--group", "admin", "--arg", "command=x", "-o", "json"]);
    assert_eq!(said.json()["allowed"], true, "{}", said.all());
    assert!(!daemon.log().contains("canary-token") && !said.all().contains("canary-token"));
}

#[test]
fn no_decision_is_a_refusal() {
    let (env, opa) = (TestEnv::new(), Opa::start());
    // Long enough for all that answer.
    let daemon = daemon(&env, ", timeout: 3s", &opa.url);
    let moods = [
        (Mood::Silent, "no answer within 3000 ms"),
        (
            Mood::Say(500, r#"{"code": "internal_error", "message": "store is closed"}"#.to_owned()),
            "status 500: store is closed",
        ),
        (Mood::Say(200, "<html>".to_owned()), "not JSON"),
        (Mood::Say(200, "{}".to_owned()), "knows no package `toolcrib.tools`"),
        (Mood::Say(200, r#"{"result": true}"#.to_owned()), "no object"),
        (Mood::Say(200, r#"{"result": {}}"#.to_owned()), "rule `data.toolcrib.tools.allow`"),
        (Mood::Say(200, format!("{{\"result\": \"{}\"}}", "x".repeat(2 << 20))), "more than 1048576 bytes"),
        (Mood::Move, "status 307"),
    ];
    for (mood, expected) in moods {
        opa.mood(mood);
        let refused = call(&daemon, "kubectl", json!({"command": "get pods"}));
        let (failed, why) = outcome(&refused);
        assert!(failed && why.contains(expected) && why.contains("Policy/remote"), "{expected}: {why}");
    }
    // A redirect is not followed: each question was asked once.
    assert_eq!(opa.asked.lock().unwrap().len(), 8);
    let gone = "http://127.0.0.1:9";
    let rules = policy("remote", "toolcrib.tools", &format!("  opa: {{url: {gone}, answers: [deny]}}"));
    env.repo().write("crib.yaml", &(tools("elsewhere") + &rules)).commit("gone");
    crate::support::wait_for("the other server to be asked", std::time::Duration::from_mins(1), || {
        let refused = call(&daemon, "kubectl", json!({"command": "get pods"}));
        outcome(&refused).1.contains("it cannot be reached").then_some(())
    });
}
