//! The read side of the MCP registry's API, server cards and the AI catalog: what is found of us, and by whom.

use serde_json::{Value, json};

use super::{RUNNER, tool, toolset};
use crate::follow::{SOON, server, wait_for_names};
use crate::support::{Daemon, TestEnv, wait_for};

/// A server with two tools.
const TWO: &str = r#"
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m: continue
    result = {
        "initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "n", "version": "1"},
                       "capabilities": {"tools": {}}},
        "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("read", "write")]},
    }.get(m["method"])
    answer = {"result": result} if result is not None else {"error": {"code": -32601, "message": m["method"]}}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], **answer}), flush=True)
"#;

/// Nobody but those of the group sees the server `vault`.
const HIDES: &str = r#"
---
apiVersion: toolcrib.dev/v1alpha1
kind: Policy
metadata: {name: hides}
spec:
  package: team.lists
  points: [list]
  rego: |
    package team.lists
    visible := false if { input.entry.server == "vault"; not "keepers" in input.user.groups }
"#;

/// What was answered.
struct Got {
    status: u16,
    kind: String,
    tag: String,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} {}", self.status, self.text))
    }

    /// Names of the servers of a page.
    fn names(&self) -> Vec<String> {
        let page = self.json();
        let servers = page["servers"].as_array().unwrap_or_else(|| panic!("{page}"));
        servers.iter().map(|entry| entry["server"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

fn get(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> Got {
    crate::support::tls();
    let origin = daemon.mcp.trim_end_matches("/mcp");
    let mut request = reqwest::Client::new().get(format!("{origin}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = request.send().await.unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            value.unwrap_or_default()
        };
        let (status, kind, tag) = (response.status().as_u16(), header("content-type"), header("etag"));
        assert!(status >= 400 || header("cache-control") == "private, no-cache", "{path}");
        Got { status, kind, tag, text: response.text().await.unwrap() }
    })
}

fn everything() -> String {
    [
        RUNNER.to_owned(),
        tool("count", "team: data", "Counts rows"),
        server("notes", &["python3", "-c", TWO], ""),
        server("vault", &["python3", "-c", TWO], ""),
        toolset("reading", "{select: [{names: ['*_read']}], instructions: Reads only.}"),
        toolset("notes", "{select: [{servers: [notes]}, {matchLabels: {team: data}}]}"),
        toolset("secret", "{select: [{servers: [vault, notes]}], access: {groups: [keepers]}}"),
    ]
    .concat()
}

#[test]
fn the_registry_lists_endpoints_and_servers_and_our_import_reads_it() {
    let env = TestEnv::new();
    env.repo().write("crib.yaml", &everything()).commit("all");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["count", "notes_read", "notes_write", "vault_read", "vault_write"]);
    let listed = get(&daemon, "/v0.1/servers", &[]);
    assert_eq!((listed.status, listed.kind.as_str()), (200, "application/json"));
    assert_eq!(
        listed.names(),
        [
            "localhost/notes",
            "localhost/toolcrib.mcp",
            "localhost/toolset.notes",
            "localhost/toolset.reading",
            "localhost/vault"
        ],
        "the toolset for keepers is not for everybody"
    );
    let page = listed.json();
    assert_eq!(page["metadata"], json!({"count": 5}));
    // The narrowest endpoint that has all of it comes first; `reading` has only a part.
    let mcp = &daemon.mcp;
    let http = |url: String| json!({"type": "streamable-http", "url": url});
    let notes = &page["servers"][0];
    assert_eq!(notes["server"]["remotes"], json!([http(format!("{mcp}/notes")), http(mcp.clone())]));
    assert_eq!(page["servers"][3]["server"]["description"], "Reads only.");
    assert_eq!(page["servers"][4]["server"]["remotes"], json!([http(mcp.clone())]));
    let official = &notes["_meta"]["io.modelcontextprotocol.registry/official"];
    assert_eq!((&official["status"], &official["isLatest"]), (&json!("active"), &json!(true)));
    let version = notes["server"]["version"].as_str().unwrap();
    let revision = notes["_meta"]["dev.toolcrib/revision"].as_str().unwrap();
    let commit = revision.split(':').nth(1).unwrap();
    assert_eq!(version, format!("{}-g{}", env!("CARGO_PKG_VERSION"), &commit[..12]));

    // What is served is what is imported, by a repository that is to use it.
    let other = TestEnv::new();
    other.repo().write("found.json", &listed.text);
    let imported = other.run(&["import", "found.json", "--out", "found"]);
    assert_eq!(imported.code, 0, "{}", imported.all());
    let text = std::fs::read_to_string(other.repo().path().join("found/toolset-notes.yaml")).unwrap();
    assert!(text.contains(&format!("source:\n    url: {mcp}/notes\n")), "{text}");
    let valid = other.run(&["validate", "found"]);
    assert!(valid.code == 0 && valid.stdout.starts_with("5 resources valid"), "{}", valid.all());
}

#[test]
fn lists_are_paged_filtered_and_not_sent_twice() {
    let env = TestEnv::new();
    env.repo().write("crib.yaml", &everything()).commit("all");
    let daemon = env.daemon(&[]);
    wait_for_names(&daemon, &["count", "notes_read", "notes_write", "vault_read", "vault_write"]);
    let at = |query: &str| get(&daemon, &format!("/v0.1/servers?{query}"), &[]);
    let (mut cursor, mut names) = (String::new(), Vec::new());
    loop {
        let page = at(&format!("limit=2&cursor={cursor}"));
        names.extend(page.names());
        let Some(next) = page.json()["metadata"]["nextCursor"].as_str().map(str::to_owned) else { break };
        assert_eq!(page.names().len(), 2);
        cursor = next.replace('/', "%2F");
    }
    assert_eq!(names, at("").names());
    assert_eq!(at("search=NOTES").names(), ["localhost/notes", "localhost/toolset.notes"]);
    assert_eq!(at("version=latest&search=vault").names(), ["localhost/vault"]);
    assert!(at("version=9.9.9").names().is_empty());
    assert_eq!(at("updated_since=2020-01-01T00:00:00.5%2B01:00&include_deleted=true").names().len(), 5);
    assert!(at("updated_since=2999-01-01T00:00:00Z").names().is_empty());
    for (query, why) in [
        ("limit=0", "`limit` is a number from 1 to 100, not `0`"),
        ("limit=many", "`limit` is a number from 1 to 100, not `many`"),
        (
            "updated_since=yesterday",
            "`updated_since` is a time such as 2026-11-20T13:15:00Z, not `yesterday`",
        ),
    ] {
        let got = at(query);
        assert_eq!((got.status, &got.json()["error"]), (400, &json!(why)), "{query}");
    }

    let one = |path: &str| get(&daemon, &format!("/v0.1/servers/{path}"), &[]);
    let versions = one("localhost%2Fnotes/versions");
    assert_eq!(versions.names(), ["localhost/notes"]);
    let version = versions.json()["servers"][0]["server"]["version"].as_str().unwrap().to_owned();
    let latest = one("localhost%2Fnotes/versions/latest");
    assert_eq!(latest.json(), versions.json()["servers"][0]);
    assert_eq!(one(&format!("localhost%2Fnotes/versions/{version}")).text, latest.text);
    for path in
        ["localhost%2Fnope/versions", "localhost%2Fnope/versions/latest", "localhost%2Fnotes/versions/9.9.9"]
    {
        let got = one(path);
        assert!(got.status == 404 && got.json()["error"].is_string(), "{path}: {}", got.text);
    }

    let first = at("");
    let again = get(&daemon, "/v0.1/servers", &[("if-none-match", &format!("\"x\", W/{}", first.tag))]);
    assert_eq!((again.status, again.text.as_str(), &again.tag), (304, "", &first.tag));
    // A commit changes what is listed at once.
    env.repo().write("crib.yaml", &everything().replace("name: vault", "name: safe")).commit("renamed");
    wait_for("the new name", SOON, || at("").names().contains(&"localhost/safe".to_owned()).then_some(()));
    assert_ne!(get(&daemon, "/v0.1/servers", &[("if-none-match", &first.tag)]).status, 304);
}

#[test]
fn cards_say_where_endpoints_are() {
    let env = TestEnv::new();
    env.repo().write("crib.yaml", &everything()).commit("all");
    let daemon = env.daemon(&["--public-url", "https://tools.example.com"]);
    wait_for_names(&daemon, &["count", "notes_read", "notes_write", "vault_read", "vault_write"]);
    let card = get(&daemon, "/mcp/server-card", &[]);
    assert_eq!(card.kind, "application/mcp-server-card+json");
    insta::assert_snapshot!(env.normal(&serde_json::to_string_pretty(&card.json()).unwrap()), @r#"
    {
      "$schema": "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json",
      "name": "com.example.tools/toolcrib.mcp",
      "version": "0.1.0",
      "description": "Tools, prompts and resources that one Git repository declares",
      "remotes": [
        {
          "type": "streamable-http",
          "url": "https://tools.example.com/mcp",
          "supportedProtocolVersions": [
            "2026-07-28",
            "2025-11-25",
            "2025-06-18",
            "2025-03-26",
            "2024-11-05"
          ]
        }
      ],
      "_meta": {
        "dev.toolcrib/revision": "main@sha1:[COMMIT]"
      },
      "title": "Toolcrib"
    }
    "#);
    assert_eq!(get(&daemon, "/.well-known/mcp/server-card.json", &[]).text, card.text);
    let of = get(&daemon, "/mcp/reading/server-card", &[]).json();
    assert_eq!(of["remotes"][0]["url"], "https://tools.example.com/mcp/reading");
    assert_eq!(of["name"], "com.example.tools/toolset.reading");
    for path in ["/mcp/secret/server-card", "/mcp/nope/server-card"] {
        assert_eq!(get(&daemon, path, &[]).status, 404, "{path}");
    }
    let catalog = get(&daemon, "/.well-known/ai-catalog.json", &[]);
    assert_eq!(catalog.kind, "application/ai-catalog+json");
    let catalog = catalog.json();
    assert_eq!(catalog["entries"].as_array().unwrap().len(), 3);
    assert_eq!(
        catalog["entries"][0],
        json!({
            "identifier": "urn:air:tools.example.com:mcp:toolcrib.mcp",
            "type": "application/mcp-server-card+json",
            "url": "https://tools.example.com/mcp/server-card",
        })
    );
    // From a page of a browser elsewhere it is not read, as everything here.
    assert_eq!(get(&daemon, "/mcp/server-card", &[("origin", "https://evil.example")]).status, 403);
    let card = env.run(&["validate"]);
    assert_eq!(card.code, 0, "{}", card.all());
}

#[test]
fn who_may_not_see_a_server_does_not_find_it() {
    let env = TestEnv::new();
    env.repo().write("crib.yaml", &(everything() + HIDES)).commit("all");
    let made = |args: &[&str]| {
        let said = env.run(&[&["token"], args, &["--output", "json"]].concat()).json();
        (said["token"].as_str().unwrap().to_owned(), said["line"].as_str().unwrap().to_owned())
    };
    let (ada, ada_line) = made(&["ada", "--group", "keepers"]);
    let (eve, eve_line) = made(&["eve"]);
    let file = env.home().join("tokens");
    std::fs::write(&file, format!("{ada_line}\n{eve_line}\n")).unwrap();
    let daemon = env.daemon(&["--tokens-file", file.to_str().unwrap()]);
    let by = |token: &str, path: &str| get(&daemon, path, &[("authorization", &format!("Bearer {token}"))]);
    let ready = |name: &str| by(&ada, "/v0.1/servers").names().contains(&format!("localhost/{name}"));
    wait_for("both servers", SOON, || (ready("notes") && ready("vault")).then_some(()));

    let keeper = by(&ada, "/v0.1/servers");
    assert!(keeper.names().contains(&"localhost/toolset.secret".to_owned()), "{:?}", keeper.names());
    let other = by(&eve, "/v0.1/servers");
    assert_eq!(
        other.names(),
        ["localhost/notes", "localhost/toolcrib.mcp", "localhost/toolset.notes", "localhost/toolset.reading"]
    );
    assert!(!other.text.contains("vault") && !other.text.contains("secret/") && keeper.tag != other.tag);
    for path in ["/v0.1/servers/localhost%2Fvault/versions", "/mcp/secret/server-card"] {
        assert_eq!((by(&ada, path).status, by(&eve, path).status), (200, 404), "{path}");
    }
    // Clients are told that they need a token, which no answer holds.
    let remote = &other.json()["servers"][0]["server"]["remotes"][0];
    assert_eq!(
        remote["headers"][0],
        json!({"name": "Authorization", "value": "Bearer {token}", "isRequired": true, "isSecret": true,
               "variables": {"token": {"isRequired": true, "isSecret": true}}})
    );
    for path in [
        "/v0.1/servers",
        "/mcp/server-card",
        "/.well-known/mcp/server-card.json",
        "/.well-known/ai-catalog.json",
    ] {
        assert_eq!(get(&daemon, path, &[]).status, 401, "{path}");
        assert_eq!(by("wrong", path).status, 401, "{path}");
    }
}
