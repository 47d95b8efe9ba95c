//! Who may call: static tokens, and tokens of an identity provider.

use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{SOON, greeter, text};
use crate::support::{Daemon, TestEnv, wait_for};

/// A policy that lets developers call, and says to others who they are.
const RULES: &str = r#"
---
apiVersion: toolcrib.dev/v1alpha1
kind: Policy
metadata: {name: developers}
spec:
  package: team.tools
  rego: |
    package team.tools
    deny contains sprintf("%s is no developer", [input.user.name]) if not "developers" in input.user.groups
"#;

/// One modern request with a token, or none: status, `WWW-Authenticate` and body.
fn ask(daemon: &Daemon, token: Option<&str>, method: &str, params: Value) -> (u16, String, Value) {
    ask_at(&daemon.mcp, token, method, params)
}

fn ask_at(url: &str, token: Option<&str>, method: &str, params: Value) -> (u16, String, Value) {
    crate::support::tls();
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "it", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut request = reqwest::Client::new()
        .post(url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    if let Some(name) = params["name"].as_str() {
        request = request.header("mcp-name", name);
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = request.body(body.to_string()).send().await.unwrap();
        let challenge =
            response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, challenge.unwrap_or_default(), serde_json::from_str(super::message(&text)).unwrap())
    })
}

pub(super) fn get(url: &str) -> Value {
    serde_json::from_str(&get_text(url)).unwrap()
}

pub(super) fn get_text(url: &str) -> String {
    crate::support::tls();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { reqwest::Client::new().get(url).send().await.unwrap().text().await.unwrap() })
}

/// What a `toolcrib stdio` answers to `initialize`.
pub(super) fn initialized(mut stdio: Command) -> String {
    let mut bridge = stdio.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let request = r#"{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}}}"#;
    std::io::Write::write_all(bridge.stdin.as_mut().unwrap(), format!("{request}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::BufReader::new(bridge.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
    drop(bridge.stdin.take());
    assert!(bridge.wait().unwrap().success());
    answer
}

fn greet(daemon: &Daemon, token: &str) -> (u16, String) {
    let (status, _, answer) =
        ask(daemon, Some(token), "tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}}));
    (
        status,
        if status == 200 {
            text(&answer["result"]).to_owned()
        } else {
            answer["error"]["message"].to_string()
        },
    )
}

#[test]
fn callers_show_tokens_whose_hashes_are_in_a_file() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &(greeter("hello") + RULES)).commit("hello");
    let made = |args: &[&str]| {
        let said = env.run(&[&["token"], args, &["--output", "json"]].concat()).json();
        (said["token"].as_str().unwrap().to_owned(), said["line"].as_str().unwrap().to_owned())
    };
    let (ada, ada_line) = made(&["ada", "--group", "developers"]);
    let (eve, eve_line) = made(&["eve"]);
    assert!(!ada_line.contains(&ada) && ada.len() > 40, "{ada_line}");
    let file = env.home().join("tokens");
    std::fs::write(&file, format!("{ada_line}\n{eve_line}\n")).unwrap();
    let daemon = env.daemon(&["--tokens-file", file.to_str().unwrap()]);

    let (status, challenge, _) = ask(&daemon, None, "tools/list", json!({}));
    let origin = daemon.mcp.trim_end_matches("/mcp");
    assert_eq!(status, 401);
    assert_eq!(
        challenge,
        format!("Bearer resource_metadata=\"{origin}/.well-known/oauth-protected-resource/mcp\"")
    );
    let metadata = get(&format!("{origin}/.well-known/oauth-protected-resource/mcp"));
    assert_eq!(metadata, json!({"resource": daemon.mcp, "bearer_methods_supported": ["header"]}));
    let (status, challenge, _) = ask(&daemon, Some("wrong"), "tools/list", json!({}));
    assert!(status == 401 && challenge.contains("error=\"invalid_token\""), "{challenge}");

    assert_eq!(greet(&daemon, &ada), (200, "hello Ada\n".to_owned()));
    let (status, refused) = greet(&daemon, &eve);
    assert!(status == 200 && refused.contains("eve is no developer"), "{refused}");

    // Our own clients.
    let call = |token: &str| {
        let mut command = env.command(&["call", "greet", "name=Bob", "--url", &daemon.mcp]);
        if !token.is_empty() {
            command.env("TOOLCRIB_TOKEN", token);
        }
        command.output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&call(&ada).stdout), "hello Bob\n");
    assert!(String::from_utf8_lossy(&call("").stderr).contains("TOOLCRIB_TOKEN"));
    let mut bridge = env.command(&["stdio", "--url", &daemon.mcp, "--token-env", "CRIB"]);
    bridge.env("CRIB", &ada);
    let answer = initialized(bridge);
    assert!(answer.contains("\"protocolVersion\""), "{answer}");

    // A token ends when its line is taken out, and what was logged holds none.
    std::fs::write(&file, format!("{eve_line}\n")).unwrap();
    wait_for("the token to end", SOON, || (greet(&daemon, &ada).0 == 401).then_some(()));
    assert_eq!(greet(&daemon, &eve).0, 200);
    let log = daemon.log();
    assert!(!log.contains(&ada) && !log.contains(&eve), "{log}");
}

#[test]
fn others_are_served_only_when_they_have_to_say_who_they_are() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let file = env.home().join("tokens");
    std::fs::write(&file, "").unwrap();
    for (more, hint) in [
        (&[][..], "--tokens-file or --oidc-issuer"),
        (&["--tokens-file", file.to_str().unwrap()][..], "--public-url"),
    ] {
        let said = env.run(&[&["run", "--repo", ".", "--listen", "0.0.0.0:0"], more].concat());
        assert!(said.code != 0 && said.stderr.contains(hint), "{}", said.all());
    }
}

/// The identity provider of the fixtures.
pub(super) struct Provider {
    child: Child,
    pub(super) issuer: String,
}

impl Provider {
    pub(super) fn start() -> Self {
        let python = std::env::var("TOOLCRIB_IT_VENV").expect("TOOLCRIB_IT_VENV is not set: run `tests/run`");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/idp/server.py");
        let mut child =
            Command::new(format!("{python}/bin/python")).arg(script).stdout(Stdio::piped()).spawn().unwrap();
        let mut issuer = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut issuer).unwrap();
        Self { child, issuer: issuer.trim().to_owned() }
    }

    fn sign(&self, alg: &str, more: &str, claims: &Value) -> String {
        let mut url = reqwest::Url::parse(&format!("{}/sign?{more}", self.issuer)).unwrap();
        url.query_pairs_mut().append_pair("alg", alg).append_pair("claims", &claims.to_string());
        get(url.as_str()).as_str().unwrap().to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn callers_show_tokens_of_an_identity_provider() {
    let provider = Provider::start();
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &(greeter("hello") + RULES)).commit("hello");
    let daemon = env.daemon(&["--oidc-issuer", &provider.issuer, "--oidc-audience", "toolcrib"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = |change: &Value| {
        let mut claims = json!({
            "iss": provider.issuer, "aud": "toolcrib", "sub": "ada", "groups": ["developers"], "exp": now + 600,
        });
        for (key, value) in change.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    };
    for alg in ["RS256", "ES256", "EdDSA"] {
        let token = provider.sign(alg, "", &claims(&json!({})));
        for _ in 0..2 {
            assert_eq!(greet(&daemon, &token), (200, "hello Ada\n".to_owned()), "{alg}");
        }
    }
    let refused = |alg: &str, more: &str, change: &Value, why: &str| {
        let (status, said) = greet(&daemon, &provider.sign(alg, more, &claims(change)));
        assert!(status == 401 && said.contains(why), "{alg} {more} {change}: {status} {said}");
    };
    refused("RS256", "", &json!({"aud": "another"}), "another audience");
    refused("RS256", "", &json!({"aud": null}), "lacks one of");
    refused("RS256", "", &json!({"iss": "http://evil.example"}), "another issuer");
    refused("RS256", "", &json!({"exp": now - 120}), "expired");
    refused("RS256", "", &json!({"exp": null}), "lacks one of");
    refused("RS256", "", &json!({"nbf": now + 300}), "not valid yet");
    refused("RS256", "", &json!({"sub": " "}), "does not say who");
    refused("HS256", "kid=RS256-1", &json!({}), "not taken");
    refused("ES256", "kid=RS256-1", &json!({}), "not known");
    refused("none", "", &json!({}), "not known");
    let (_, said) =
        greet(&daemon, &provider.sign("RS256", "", &claims(&json!({"sub": "eve", "groups": []}))));
    assert!(said.contains("eve is no developer"), "{said}");
    // Clocks may differ by a minute.
    let token = provider.sign("RS256", "", &claims(&json!({"exp": now - 10})));
    assert_eq!(greet(&daemon, &token).0, 200);
    let metadata =
        get(&format!("{}/.well-known/oauth-protected-resource", daemon.mcp.trim_end_matches("/mcp")));
    assert_eq!(metadata["authorization_servers"], json!([provider.issuer]));

    assert_eq!(get_status(&format!("{}/other", metadata_address(&daemon))), 401, "only of endpoints");

    // New keys are asked for when a token names one that is not known, not more often than stated.
    let token = provider.sign("RS256", "rotate=1", &claims(&json!({})));
    wait_for("the new keys", SOON, || (greet(&daemon, &token).0 == 200).then_some(()));
}

#[test]
fn a_toolset_wants_scopes_and_says_which() {
    let provider = Provider::start();
    let env = TestEnv::new();
    let toolset = |name: &str, access: &str| {
        format!(
            "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Toolset\nmetadata: {{name: {name}}}\n\
             spec: {{select: [{{names: [\"*\"]}}], access: {{{access}}}}}\n"
        )
    };
    let sets = toolset("data", "scopes: [\"data:read\", \"data:list\"]")
        + &toolset("mine", "users: [ada], scopes: [mine]");
    env.repo().write("tools.yaml", &(greeter("hello") + &sets)).commit("hello");
    let public = "https://tools.example.org";
    let args = ["--oidc-issuer", &provider.issuer, "--oidc-scopes", "use", "--public-url", public];
    let daemon = env.daemon(&args);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token = |who: &str, scope: &str| {
        let aud = format!("{public}/mcp");
        let claims =
            json!({"iss": provider.issuer, "aud": aud, "sub": who, "scope": scope, "exp": now + 600});
        provider.sign("EdDSA", "", &claims)
    };
    let list = |endpoint: &str, token: &str| {
        ask_at(&format!("{}/{endpoint}", daemon.mcp), Some(token), "tools/list", json!({}))
    };
    let some = token("ada", "use data:read");
    let (status, challenge, answer) = list("data", &some);
    let expected = format!(
        "Bearer error=\"insufficient_scope\", scope=\"data:read data:list\", \
         resource_metadata=\"{public}/.well-known/oauth-protected-resource/mcp/data\""
    );
    assert_eq!((status, challenge), (403, expected), "{answer}");
    let (status, _, answer) = list("data", &token("ada", "data:list use data:read"));
    assert_eq!((status, answer["result"]["tools"][0]["name"].as_str()), (200, Some("greet")), "{answer}");
    assert_eq!(ask(&daemon, Some(&some), "tools/list", json!({})).0, 200);
    // Both are needed where users are named as well; who is not named is not told of scopes.
    assert_eq!(list("mine", &token("ada", "use mine")).0, 200);
    let (status, challenge, _) = list("mine", &token("eve", "use mine"));
    assert_eq!((status, challenge.as_str()), (403, ""));
    let (status, challenge, _) = list("mine", &token("ada", "use"));
    assert!(status == 403 && challenge.contains("scope=\"mine\""), "{challenge}");

    // Who has no token yet learns all that one has to be good for.
    let (status, challenge, _) = ask_at(&format!("{}/data", daemon.mcp), None, "tools/list", json!({}));
    assert!(status == 401 && challenge.ends_with("scope=\"use data:read data:list\""), "{challenge}");
    let scopes =
        |path: &str| get(&format!("{}{path}", metadata_address(&daemon)))["scopes_supported"].clone();
    assert_eq!(scopes("/mcp/data"), json!(["use", "data:read", "data:list"]));
    assert_eq!(scopes("/mcp"), json!(["use"]));
    // A commit changes them.
    let sets = sets.replace("\"data:list\"", "\"data:all\"");
    env.repo().write("tools.yaml", &(greeter("hello") + &sets)).commit("others");
    wait_for("the commit", SOON, || {
        (scopes("/mcp/data") == json!(["use", "data:read", "data:all"])).then_some(())
    });
}

fn metadata_address(daemon: &Daemon) -> String {
    format!("{}/.well-known/oauth-protected-resource", daemon.mcp.trim_end_matches("/mcp"))
}

fn get_status(url: &str) -> u16 {
    crate::support::tls();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { reqwest::Client::new().get(url).send().await.unwrap().status().as_u16() })
}

#[test]
fn tokens_have_to_have_the_scopes_that_are_asked_for_and_be_for_the_endpoint() {
    let provider = Provider::start();
    let env = TestEnv::new();
    let toolset = r#"
---
apiVersion: toolcrib.dev/v1alpha1
kind: Toolset
metadata: {name: small}
spec: {select: [{names: ["*"]}]}
"#;
    let scoped = r#"
---
apiVersion: toolcrib.dev/v1alpha1
kind: Policy
metadata: {name: scopes}
spec:
  package: team.scopes
  rego: |
    package team.scopes
    deny contains "calls need the scope tools:call" if not "tools:call" in input.user.scopes
"#;
    env.repo().write("tools.yaml", &(greeter("hello") + toolset + scoped)).commit("hello");
    let public = "https://tools.example.org";
    let daemon = env.daemon(&[
        "--oidc-issuer",
        &provider.issuer,
        "--oidc-scopes",
        "tools:use tools:read",
        "--public-url",
        public,
    ]);
    let (all, small) = (daemon.mcp.clone(), format!("{}/small", daemon.mcp));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let token = |aud: &str, scope: &str| {
        let claims =
            json!({"iss": provider.issuer, "aud": aud, "sub": "ada", "scope": scope, "exp": now + 600});
        provider.sign("EdDSA", "", &claims)
    };
    let list = |endpoint: &str, token: &str| ask_at(endpoint, Some(token), "tools/list", json!({}));
    let mcp = format!("{public}/mcp");

    let lacking = token(&mcp, "tools:read other");
    // Twice: what is remembered of a token is judged anew.
    for _ in 0..2 {
        let (status, challenge, _) = list(&all, &lacking);
        assert_eq!(status, 403);
        let expected = format!(
            "Bearer resource_metadata=\"{public}/.well-known/oauth-protected-resource/mcp\", \
             error=\"insufficient_scope\", error_description=\"the token lacks a scope that is needed here\", \
             scope=\"tools:use tools:read\""
        );
        assert_eq!(challenge, expected);
    }
    let (status, challenge, _) = ask_at(&all, None, "tools/list", json!({}));
    assert!(status == 401 && challenge.ends_with("scope=\"tools:use tools:read\""), "{challenge}");
    let metadata = get(&metadata_address(&daemon));
    assert_eq!(metadata["scopes_supported"], json!(["tools:use", "tools:read"]));
    assert_eq!(metadata["resource"], mcp);
    let metadata = get(&format!("{}/mcp/small", metadata_address(&daemon)));
    assert_eq!(metadata["resource"], format!("{mcp}/small"));

    // A token for all is good for a part, one for a part only for that part.
    let whole = token(&mcp, "tools:use tools:read tools:call");
    let part = token(&format!("{mcp}/small"), "tools:use tools:read");
    for _ in 0..2 {
        assert_eq!((list(&all, &whole).0, list(&small, &whole).0), (200, 200));
        assert_eq!((list(&all, &part).0, list(&small, &part).0), (401, 200));
    }
    assert_eq!(list(&small, &token(&format!("{mcp}/other"), "tools:use tools:read")).0, 401);
    // Rules see scopes.
    let params = json!({"name": "greet", "arguments": {"name": "Ada"}});
    let (_, _, answer) = ask_at(&all, Some(&whole), "tools/call", params.clone());
    assert_eq!(text(&answer["result"]), "hello Ada\n");
    let (_, _, answer) = ask_at(&small, Some(&part), "tools/call", params);
    assert!(text(&answer["result"]).contains("need the scope tools:call"), "{answer}");
}

#[test]
fn signatures_that_do_not_hold_are_not_checked_without_end() {
    let provider = Provider::start();
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let daemon = env.daemon(&["--oidc-issuer", &provider.issuer, "--oidc-audience", "toolcrib"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": provider.issuer, "aud": "toolcrib", "sub": "ada", "exp": now + 600});
    let known = provider.sign("EdDSA", "", &claims);
    let list = |token: &str| ask(&daemon, Some(token), "tools/list", json!({})).0;
    assert_eq!(list(&known), 200);
    // Of the end of a signature two letters say the same so often that this one held once.
    let (signed, signature) = known.rsplit_once('.').unwrap();
    let forged =
        format!("{signed}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    assert_ne!(forged, known);
    assert_eq!(list(&forged), 401);
    // All at once: faster than the daemon forgets, however slow the machine is.
    let client = reqwest::Client::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let statuses = runtime.block_on(futures::future::join_all((0..400).map(|_| async {
        client.post(&daemon.mcp).bearer_auth(&forged).send().await.unwrap().status().as_u16()
    })));
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    // What was checked before is good all the same.
    assert_eq!(list(&known), 200);
}
