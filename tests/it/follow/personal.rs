//! Servers elsewhere that each user authorizes for themselves. The browser is a client of HTTP with cookies.

mod independent;

use std::fs;

use serde_json::{Value, json};

use super::access::{Provider, get};
use super::{SOON, greeter, resource, wait_for_names};
use crate::support::{Daemon, TestEnv, wait_for};

/// Says who calls, as the server elsewhere knows them.
const WHO: &str = r#"
---
apiVersion: toolcrib.dev/v1alpha1
kind: Policy
metadata: {name: who}
spec:
  package: team.tools
  rego: |
    package team.tools
    deny contains sprintf("you are %s", [input.user.name])
"#;

/// What `authorizations` prints, as it is.
fn printed(env: &TestEnv, args: &[&str]) -> String {
    let state = env.state();
    let args = [&["authorizations"], args, &["--state", state.to_str().unwrap()]].concat();
    String::from_utf8(env.command(&args).output().unwrap().stdout).unwrap().trim().to_owned()
}

/// A server that its users authorize.
fn far(url: &str, listed: &str) -> String {
    format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: far}}\nspec:\n  source: {{url: \"{url}\"}}\n  userOAuth: {{clientId: people, listAs: {listed}}}\n"
    )
}

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        let last = self.text.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(last.unwrap_or(&self.text)).unwrap_or_default()
    }
}

/// One request; redirects are not followed.
fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    crate::support::tls();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut request = client.request(method.parse().unwrap(), url).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    })
}

/// Opens an address as `login`: the cookie, and where the provider sends the browser back to.
fn opened(address: &str, login: &str, form: Option<&str>) -> (String, String) {
    let began = match form {
        None => send("GET", address, &[], ""),
        Some(token) => {
            let origin = address.split_inclusive('/').take(3).collect::<String>();
            let headers = [("origin", origin.trim_end_matches('/'))];
            send("POST", address, &headers, &format!("token={token}"))
        }
    };
    assert_eq!(began.status, 303, "{}", began.text);
    let set = began.header("set-cookie");
    assert!(set.contains("HttpOnly; SameSite=Lax; Path=/oauth"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let back = send("GET", &format!("{}&login={login}", began.header("location")), &[], "");
    (cookie, back.header("location").to_owned())
}

fn authorize(address: &str, login: &str, form: Option<&str>) {
    let (cookie, back) = opened(address, login, form);
    let done = send("GET", &back, &[("cookie", &cookie)], "");
    assert_eq!((done.status, done.text.starts_with("Authorized.")), (200, true), "{}", done.text);
    assert!(done.header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(done.header("cache-control"), "no-store");
    // Once.
    assert_eq!(send("GET", &back, &[("cookie", &cookie)], "").status, 400);
}

const MODERN: &str = "2026-07-28";

/// A call of a modern client: `result`, or `error`.
fn call(daemon: &Daemon, token: &str, capabilities: &Value, more: &Value) -> Value {
    let mut params = json!({"name": "far_greet", "arguments": {"name": "Ada"}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "it", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }});
    for (key, value) in more.as_object().unwrap() {
        params[key] = value.clone();
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let bearer = format!("Bearer {token}");
    let headers = [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "tools/call"),
        ("mcp-name", "far_greet"),
        ("authorization", &bearer),
    ];
    let answer = send("POST", &daemon.mcp, &headers, &body).json();
    if answer["error"].is_null() { answer["result"].clone() } else { answer["error"].clone() }
}

fn shows() -> Value {
    json!({"elicitation": {"url": {}}})
}

/// The address that an answer asks to open.
fn address(result: &Value) -> String {
    assert_eq!(result["resultType"], "input_required", "{result}");
    let asked = &result["inputRequests"]["authorization"];
    assert_eq!((&asked["method"], &asked["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
    asked["params"]["url"].as_str().unwrap().to_owned()
}

/// The same call of a legacy client.
fn legacy(daemon: &Daemon) -> Value {
    let first = [("accept", "application/json, text/event-stream"), ("content-type", "application/json")];
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": shows(), "clientInfo": {"name": "it", "version": "1"},
    }});
    let greeted = send("POST", &daemon.mcp, &first, &hello.to_string());
    let session = greeted.header("mcp-session-id").to_owned();
    let headers =
        [&first[..], &[("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")]];
    let body = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "far_greet", "arguments": {"name": "Ada"},
    }});
    send("POST", &daemon.mcp, &headers.concat(), &body.to_string()).json()["error"].clone()
}

/// Nothing that the provider gave is in what the daemon wrote or says.
fn assert_secret(provider: &Provider, env: &TestEnv, daemon: &Daemon, said: &[String]) {
    let given = get(&format!("{}/given", provider.issuer));
    let store = fs::read(env.state().join("state.redb")).unwrap();
    let admin = ["/api/v1/status", "/api/v1/catalog", "/metrics"];
    let admin = admin.map(|path| send("GET", &format!("{}{path}", daemon.admin), &[], "").text);
    let texts = [daemon.log()].into_iter().chain(said.iter().cloned()).chain(admin).collect::<Vec<_>>();
    let all = given["given"].as_array().unwrap();
    assert!(all.len() >= 3, "{given}");
    for secret in all.iter().map(|secret| secret.as_str().unwrap()) {
        assert!(
            !store.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()),
            "in the store: {secret}"
        );
        assert!(texts.iter().all(|text| !text.contains(secret)), "told: {secret}");
    }
}

#[test]
fn a_user_authorizes_a_server_by_an_address_and_their_token_is_refreshed_and_revoked() {
    let provider = Provider::start();
    let set = |how: &str| get(&format!("{}/set?{how}", provider.issuer));
    let (env_far, env) = (TestEnv::new(), TestEnv::new());
    env_far.repo().write("tools.yaml", &(greeter("hello") + WHO)).commit("hello");
    let upstream = env_far.daemon(&["--oidc-issuer", &provider.issuer, "--oidc-audience", "urn:far"]);
    let declared = far(&upstream.mcp, "local").replace("listAs", "resource: urn:far, listAs");
    env.repo().write("far.yaml", &declared).commit("far");
    let daemon = env.daemon(&[]);
    let cli = |args: &[&str]| printed(&env, args);
    wait_for("what to do", SOON, || {
        let shown = resource(&env, &daemon, "Server/far").to_string();
        shown.contains("toolcrib authorizations start far --user local").then_some(())
    });
    let begin = || cli(&["start", "far"]);

    // Another provider, another browser, a state of nobody: nothing is kept.
    set("iss=http://evil.example");
    let (cookie, back) = opened(&begin(), "ada", None);
    let refused = send("GET", &back, &[("cookie", &cookie)], "");
    assert!(refused.status == 400 && refused.text.contains("Another provider"), "{}", refused.text);
    set(&format!("iss={}", provider.issuer));
    let (_, back) = opened(&begin(), "eve", None);
    assert_eq!(send("GET", &back, &[], "").status, 400);
    let origin = daemon.mcp.trim_end_matches("/mcp");
    assert_eq!(send("GET", &format!("{origin}/oauth/callback?state=forged&code=x"), &[], "").status, 400);
    assert_eq!(send("GET", &format!("{origin}/oauth/start/forged"), &[], "").status, 404);
    assert_eq!(cli(&["list"]), "No authorizations.");

    authorize(&begin(), "ada", None);
    wait_for_names(&daemon, &["far_greet"]);
    let said = call(&daemon, "", &json!({}), &json!({}));
    assert!(said.to_string().contains("you are ada"), "{said}");
    // Its life is over at once: each call has a new one, by a refresh token that is used once.
    let count = || get(&format!("{}/given", provider.issuer))["given"].as_array().unwrap().len();
    set("life=0");
    cli(&["revoke", "far"]);
    let given = get(&format!("{}/given", provider.issuer));
    assert_eq!(given["revoked"].as_array().unwrap().len(), 2, "{given}");
    let asked = call(&daemon, "", &shows(), &json!({}));
    authorize(&address(&asked), "bob", None);
    for _ in 0..2 {
        let before = count();
        let answers = json!({"inputResponses": {"authorization": {"action": "accept"}}});
        let said = call(&daemon, "", &shows(), &answers);
        assert!(said.to_string().contains("you are bob"), "{said}");
        assert!(count() > before);
    }
    let listed = cli(&["list"]);
    assert!(listed.contains("local") && listed.contains(&provider.issuer), "{listed}");

    // A refused refresh is asked again, of each client as it can.
    set("refuse=1");
    let said = call(&daemon, "", &shows(), &json!({}));
    let url = address(&said);
    let declined = json!({"inputResponses": {"authorization": {"action": "decline"}}});
    let declined = call(&daemon, "", &shows(), &declined);
    assert!(declined["isError"] == true && !declined.to_string().contains("http"), "{declined}");
    let plain = call(&daemon, "", &json!({}), &json!({}));
    assert!(plain["isError"] == true && plain.to_string().contains(&url), "{plain}");
    let old = legacy(&daemon);
    assert_eq!(
        (&old["code"], &old["data"]["elicitations"][0]["url"]),
        (&json!(-32042), &json!(url)),
        "{old}"
    );
    assert_secret(&provider, &env, &daemon, &[listed, said.to_string(), old.to_string()]);

    // Another client of the provider is another authorization.
    set("refuse=");
    authorize(&url, "ada", None);
    assert!(cli(&["list"]).contains("local"));
    env.repo().write("far.yaml", &declared.replace("people", "others")).commit("others");
    wait_for("the authorization to end", SOON, || cli(&["list"]).starts_with("No ").then_some(()));
}

#[test]
fn the_daemon_registers_itself_where_no_client_is_declared() {
    let provider = Provider::start();
    let set = |how: &str| get(&format!("{}/set?{how}", provider.issuer));
    let registered = || get(&format!("{}/given", provider.issuer))["registered"].as_array().unwrap().len();
    let (env_far, env) = (TestEnv::new(), TestEnv::new());
    env_far.repo().write("tools.yaml", &(greeter("hello") + WHO)).commit("hello");
    let upstream = env_far.daemon(&["--oidc-issuer", &provider.issuer, "--oidc-audience", "urn:far"]);
    let declared = far(&upstream.mcp, "local").replace("clientId: people", "resource: urn:far");
    env.repo().write("far.yaml", &declared).commit("far");
    let daemon = env.daemon(&[]);
    let state = env.state();
    let begin = || {
        let args = ["authorizations", "start", "far", "--state", state.to_str().unwrap()];
        wait_for("the server to be known", SOON, || {
            let said = env.command(&args).output().unwrap();
            let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
            (!said.contains("no server `far`")).then(|| said.trim().to_owned())
        })
    };

    // Whoever begins hears what to declare, before any browser is opened.
    let nobody = begin();
    assert!(nobody.contains("registers no clients by itself: declare `userOAuth.clientId`"), "{nobody}");
    assert_eq!(registered(), 0);

    // Each call refreshes the token.
    set("register=client_secret_post&life=0");
    authorize(&begin(), "ada", None);
    wait_for_names(&daemon, &["far_greet"]);
    let call = |daemon: &Daemon| call(daemon, "", &shows(), &json!({}));
    assert!(call(&daemon).to_string().contains("you are ada"));
    assert_eq!(registered(), 1);

    // After a restart it is known yet, also where browsers are sent back to another port.
    let log = daemon.log();
    drop(daemon);
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["far_greet"]);
    assert!(call(&daemon).to_string().contains("you are ada"), "{log}");
    assert_eq!(registered(), 1);
    authorize(&begin(), "bob", None);
    assert!(call(&daemon).to_string().contains("you are bob"));
    assert_eq!(registered(), 2);
    assert_secret(&provider, &env, &daemon, &[log, nobody]);

    // A provider that has forgotten us: the user is asked, and we register anew. Its secret soon ends.
    set("forget=1&expires=30");
    let asked = address(&call(&daemon));
    authorize(&asked, "ada", None);
    assert_eq!(registered(), 3);
    // Ended by now, for whoever begins.
    authorize(&begin(), "bob", None);
    assert!(registered() > 3);
    assert!(call(&daemon).to_string().contains("you are bob"));
}

#[test]
fn users_are_told_apart_and_each_opens_only_their_own_address() {
    let provider = Provider::start();
    let (env_far, env) = (TestEnv::new(), TestEnv::new());
    env_far.repo().write("tools.yaml", &(greeter("hello") + WHO)).commit("hello");
    let upstream = env_far.daemon(&["--oidc-issuer", &provider.issuer, "--oidc-audience", "urn:far"]);
    let declared = far(&upstream.mcp, "ada").replace("listAs", "resource: urn:far, listAs");
    env.repo().write("far.yaml", &declared).commit("far");
    let made = |user: &str| {
        let said = env.run(&["token", user, "--output", "json"]).json();
        (said["token"].as_str().unwrap().to_owned(), said["line"].as_str().unwrap().to_owned())
    };
    let ((ada, ada_line), (eve, eve_line)) = (made("ada"), made("eve"));
    let file = env.home().join("tokens");
    fs::write(&file, format!("{ada_line}\n{eve_line}\n")).unwrap();
    let daemon = env.daemon(&["--tokens-file", file.to_str().unwrap()]);
    let state = env.state();
    let url = wait_for("the server to be known", SOON, || {
        let said = printed(&env, &["start", "far", "--user", "ada"]);
        said.starts_with("http").then_some(said)
    });
    let page = send("GET", &url, &[], "");
    assert!(page.status == 200 && page.text.contains("<form method=\"post\">"), "{}", page.text);
    // So that browsers say where the form comes from.
    assert_eq!(page.header("referrer-policy"), "same-origin");
    for wrong in [eve.as_str(), "nonsense", ""] {
        assert_eq!(send("POST", &url, &[], &format!("token={wrong}")).status, 403);
    }
    authorize(&url, "a-at-far", Some(&ada));
    let said = wait_for("the tool", SOON, || {
        let said = call(&daemon, &ada, &shows(), &json!({})).to_string();
        (!said.contains("unknown tool")).then_some(said)
    });
    assert!(said.contains("you are a-at-far"), "{said}");
    let url = address(&call(&daemon, &eve, &shows(), &json!({})));
    assert_eq!(send("POST", &url, &[], &format!("token={ada}")).status, 403);
    authorize(&url, "e-at-far", Some(&eve));
    for (token, who) in [(&eve, "you are e-at-far"), (&ada, "you are a-at-far")] {
        let said = call(&daemon, token, &shows(), &json!({})).to_string();
        assert!(said.contains(who), "{said}");
    }
    assert_secret(&provider, &env, &daemon, &[page.text, said]);
    let audit = env.run(&["audit", "--state", state.to_str().unwrap(), "--output", "json"]);
    assert!(audit.stdout.contains("far_greet"), "{}", audit.all());
}
