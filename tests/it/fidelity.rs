//! Nothing is lost: generated definitions, results and arguments cross from clients of either era to servers
//! of either era, and arrive as they were written, number by number and escape by escape, but for what
//! [`CHANGES`] lists.

mod server;
mod write;

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::server::{Era, Fixture, Offer};
use crate::follow::{SOON, greeter};
use crate::support::{Daemon, TestEnv, wait_for};

/// Generated entries of each kind, in each run other ones.
const COUNT: usize = 24;

/// What the protocol, or publishing, requires to differ: where, the members that have another value or are
/// added, and those that are added to `_meta`.
struct Changes {
    members: &'static [&'static str],
    meta: &'static [&'static str],
}

/// By what crosses.
const CHANGES: [(&str, Changes); 4] = [
    // Published under a name of its own, with its provenance.
    ("definition", Changes { members: &["name"], meta: &["dev.toolcrib/"] }),
    // 2025-11-25 has nothing that a result needs.
    ("result to a client of 2025-11-25", Changes { members: &[], meta: &[] }),
    // 2026-07-28 wants to know what kind of result it is, who answers, and how long some are good for.
    (
        "result to a client of 2026-07-28",
        Changes {
            members: &["resultType", "ttlMs", "cacheScope"],
            meta: &["io.modelcontextprotocol/serverInfo"],
        },
    ),
    // The server's own name for it; the token of progress is of a connection, and what is said of client and
    // version is of the era.
    ("params", Changes { members: &["name"], meta: &["progressToken", "io.modelcontextprotocol/"] }),
];

fn changes(what: &str) -> &'static Changes {
    &CHANGES.iter().find(|(name, _)| *name == what).unwrap_or_else(|| panic!("no changes of {what}")).1
}

/// The members of an object, each as it is written.
fn members(text: &str) -> BTreeMap<String, String> {
    let members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

/// Panics unless `came` is `sent`, but for what may differ.
#[track_caller]
fn assert_whole(what: &str, sent: &str, came: &str) {
    let Changes { members: others, meta } = changes(what);
    let (mut sent_members, mut came_members) = (members(sent), members(came));
    for other in *others {
        sent_members.remove(*other);
        came_members.remove(*other);
    }
    let [sent_meta, mut came_meta] = [&mut sent_members, &mut came_members]
        .map(|all| all.remove("_meta").map(|meta| members(&meta)).unwrap_or_default());
    came_meta
        .retain(|key, _| !meta.iter().any(|added| key.starts_with(added)) || sent_meta.contains_key(key));
    assert_eq!(sent_members, came_members, "{what}: sent {sent}, came {came}");
    assert_eq!(sent_meta, came_meta, "{what}: sent {sent}, came {came}");
}

/// A client that sends and reads text.
struct Client {
    url: String,
    era: Era,
    session: Option<String>,
    http: reqwest::Client,
}

impl Client {
    async fn new(url: &str, era: Era) -> Self {
        crate::support::tls();
        let mut client = Self { url: url.to_owned(), era, session: None, http: reqwest::Client::new() };
        if era == Era::Legacy {
            let info = json!({"name": "it", "version": "1"});
            let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
            let response = client.send("initialize", &params.to_string(), "").await;
            client.session = Some(response.headers()["mcp-session-id"].to_str().unwrap().to_owned());
        }
        client
    }

    async fn send(&self, method: &str, params: &str, name: &str) -> reqwest::Response {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let mut request = self
            .http
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json");
        if self.era == Era::Modern {
            request = request
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", method)
                .header("mcp-name", name);
        } else if let Some(session) = &self.session {
            request = request.header("mcp-protocol-version", "2025-11-25").header("mcp-session-id", session);
        }
        request.body(body).send().await.unwrap()
    }

    /// The result of a request, as it is written. `more` are members of the parameters, JSON without braces.
    async fn ask(&self, method: &str, more: &str, name: &str) -> String {
        let meta = match self.era {
            Era::Legacy => r#""client/x":[1.0,"\u0041"]"#,
            Era::Modern => {
                r#""client/x":[1.0,"\u0041"],"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"it","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}"#
            }
        };
        let comma = if more.is_empty() { "" } else { "," };
        let params = format!(r#"{{{more}{comma}"_meta":{{{meta}}}}}"#);
        let text = self.send(method, &params, name).await.text().await.unwrap();
        let text = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&text);
        members(text).remove("result").unwrap_or_else(|| panic!("{method} {more}: {text}"))
    }
}

/// The definitions of a list, by the name or address they have.
fn listed(result: &str, member: &str, key: &str) -> BTreeMap<String, String> {
    let list: Vec<Box<RawValue>> = serde_json::from_str(&members(result)[member]).unwrap();
    let named = list.into_iter().map(|definition| {
        let value: Value = serde_json::from_str(definition.get()).unwrap();
        (value[key].as_str().unwrap().to_owned(), definition.get().to_owned())
    });
    named.collect()
}

fn generated() -> Offer {
    let mut runner = TestRunner::default();
    let offers = write::offer(COUNT);
    offers.new_tree(&mut runner).unwrap().current()
}

async fn check(client: &Client, fixture: &Fixture, prefix: &str) {
    let offer = &fixture.offer;
    for (method, member, key, sent) in [
        ("tools/list", "tools", "name", &offer.tools),
        ("prompts/list", "prompts", "name", &offer.prompts),
        ("resources/list", "resources", "uri", &offer.resources),
        ("resources/templates/list", "resourceTemplates", "uriTemplate", &offer.templates),
    ] {
        let came = listed(&client.ask(method, "", "").await, member, key);
        for (name, definition) in sent {
            let name = if key == "name" { format!("{prefix}_{name}") } else { name.clone() };
            assert_whole("definition", definition, &came[&name]);
        }
    }
    let result = match client.era {
        Era::Modern => "result to a client of 2026-07-28",
        Era::Legacy => "result to a client of 2025-11-25",
    };
    for ((name, _), (arguments, answer)) in offer.tools.iter().zip(&offer.calls) {
        let published = format!("{prefix}_{name}");
        let more = format!(r#""arguments":{arguments},"x-new":{arguments},"name":"{published}""#);
        let came = client.ask("tools/call", &more, &published).await;
        assert_whole(result, answer, &came);
        let asked = format!(r#"{{{more},"_meta":{{"client/x":[1.0,"\u0041"]}}}}"#);
        assert_whole("params", &asked, &fixture.last_params());
    }
    for ((name, _), answer) in offer.prompts.iter().zip(&offer.messages) {
        let published = format!("{prefix}_{name}");
        let came = client.ask("prompts/get", &format!(r#""name":"{published}""#), &published).await;
        assert_whole(result, answer, &came);
    }
    for ((uri, _), answer) in offer.resources.iter().zip(&offer.contents) {
        let came = client.ask("resources/read", &format!(r#""uri":"{uri}""#), uri).await;
        assert_whole(result, answer, &came);
    }
}

fn started(fixtures: &[(&str, &Fixture)]) -> (TestEnv, Daemon) {
    let env = TestEnv::new();
    let declared: Vec<String> = fixtures
        .iter()
        .map(|(name, fixture)| {
            format!(
                "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: {name}}}\nspec:\n  source: {{url: \"{}\"}}\n",
                fixture.url
            )
        })
        .collect();
    env.repo().write("crib.yaml", &(greeter("hello") + &declared.concat())).commit("servers");
    let daemon = env.daemon(&[]);
    wait_for("both servers", SOON, || (crate::follow::names(&daemon).len() == 1 + 2 * COUNT).then_some(()));
    (env, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_arrives_as_it_was_written_between_both_eras() {
    let (modern, legacy) =
        (Fixture::start(Era::Modern, generated()), Fixture::start(Era::Legacy, generated()));
    let (modern, legacy) = (modern.await, legacy.await);
    let (env, daemon, modern, legacy) = tokio::task::spawn_blocking(move || {
        let (env, daemon) = started(&[("modern", &modern), ("legacy", &legacy)]);
        (env, daemon, modern, legacy)
    })
    .await
    .unwrap();
    for era in [Era::Modern, Era::Legacy] {
        let client = Client::new(&daemon.mcp, era).await;
        check(&client, &modern, "modern").await;
        check(&client, &legacy, "legacy").await;
    }
    tokio::task::spawn_blocking(move || drop((daemon, env))).await.unwrap();
}
