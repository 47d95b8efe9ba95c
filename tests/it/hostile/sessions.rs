//! Sessions: forged, ended, somebody else's; what is asked twice in one, and what nobody asked for.

use serde_json::{Value, json};

use super::wire::{Answer, Asked, LEGACY, MODERN};
use super::{Bystander, World};

fn list(session: &str) -> Asked {
    Asked::legacy(session, "tools/list", json!({}))
}

fn get(session: &str) -> Asked {
    Asked::new("GET", "/mcp").with("Accept", "text/event-stream").with("Mcp-Session-Id", session)
}

fn delete(session: &str) -> Asked {
    Asked::new("DELETE", "/mcp").with("Mcp-Session-Id", session)
}

fn cancel(session: &str, id: &Value) -> Asked {
    let body = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    list(session).body(body.to_string())
}

#[test]
fn a_session_is_one_that_was_opened_and_is_not_over() {
    let world = World::start(&[]);
    let mut bystander = Bystander::of(&world);
    let session = world.session();
    let forged = [
        "0123456789abcdef0123456789abcdef",
        "x",
        "../../etc/passwd",
        &session.to_uppercase().replace(char::is_numeric, "0"),
        &session[..31],
        &format!("{session}0"),
        &"a".repeat(10_000),
    ];
    for id in forged {
        for asked in [list(id), get(id), delete(id)] {
            let answer = world.ask(&asked);
            assert_eq!((answer.status, answer.code()), (404, -32600), "{id}: {}", answer.shown());
            answer.check(id);
        }
    }
    for (what, asked, status) in [
        ("no session", list(&session).without("Mcp-Session-Id"), 400),
        ("an empty session", list(""), 404),
        ("two sessions", list(&session).also("Mcp-Session-Id", &session), 400),
        ("a session that is no text", list(&session).with("Mcp-Session-Id", b"\xff"), 400),
        ("GET without a session", get(&session).without("Mcp-Session-Id"), 405),
        (
            "GET of the version with sessions, without one",
            get("").without("Mcp-Session-Id").with("MCP-Protocol-Version", LEGACY),
            400,
        ),
        ("GET of the version without sessions", get(&session).with("MCP-Protocol-Version", MODERN), 405),
        ("DELETE without a session", delete("").without("Mcp-Session-Id"), 405),
        ("another endpoint's session", list(&session).target("/mcp/few"), 404),
        ("the session itself", list(&session), 200),
    ] {
        let answer = world.ask(&asked);
        assert_eq!(answer.status, status, "{what}: {}", answer.shown());
        answer.check(what);
        bystander.is_served(what);
    }
    // A stream, and what ends with its session.
    let mut stream = world.wire();
    stream.send(&get(&session).bytes(&world.host));
    assert!(stream.head().unwrap().is_stream());
    assert!(stream.chunk().unwrap().is_some());
    assert_eq!(world.ask(&delete(&session)).status, 204);
    assert_eq!(stream.chunk().unwrap(), None, "the stream ends with its session");
    for asked in [delete(&session), list(&session), get(&session), cancel(&session, &json!(1))] {
        assert_eq!(world.ask(&asked).status, 404, "{asked:?}");
    }
    bystander.is_served("the end of a session");
}

fn stuck(session: &str) -> Asked {
    Asked::legacy(session, "tools/call", json!({"name": "stuck", "arguments": {}}))
}

#[test]
fn an_id_is_one_requests_until_it_is_answered() {
    let world = World::start(&[]);
    let mut bystander = Bystander::of(&world);
    let (session, other) = (world.session(), world.session());
    let mut first = world.wire();
    // The call has begun when its stream has.
    first.send(&stuck(&session).bytes(&world.host));
    assert!(first.head().unwrap().is_stream());
    for asked in [stuck(&session), list(&session)] {
        let again = world.ask(&asked);
        assert_eq!((again.status, again.code()), (400, -32600), "{}", again.shown());
        again.check("an id in flight");
    }
    // Other ids, and the same in another session, are others.
    assert_eq!(world.ask(&list(&session).edit("\"id\":7", "\"id\":\"7\"")).status, 200);
    assert_eq!(world.ask(&list(&other)).status, 200);
    // Nobody else ends it: not by its id in another session, not by another id.
    for asked in [cancel(&other, &json!(7)), cancel(&session, &json!("7")), cancel(&session, &json!(8))] {
        assert_eq!(world.ask(&asked).status, 202);
    }
    bystander.is_served("ids that are used twice");
    assert_eq!(world.ask(&stuck(&session)).status, 400, "it is still being answered");
    assert_eq!(world.ask(&cancel(&session, &json!(7))).status, 202);
    while first.chunk().unwrap().is_some() {}
    assert_eq!(world.ask(&list(&session)).status, 200, "the id is free again");
    // In the era without sessions each request stands alone.
    let modern = || Asked::modern("tools/call", json!({"name": "stuck", "arguments": {}}));
    let mut waiting = [world.wire(), world.wire()];
    for wire in &mut waiting {
        wire.send(&modern().bytes(&world.host));
    }
    for wire in &mut waiting {
        assert!(wire.head().unwrap().is_stream());
    }
    bystander.is_served("two calls of one id");
}

#[test]
fn a_session_is_its_principals_alone() {
    let env = crate::support::TestEnv::new();
    let made = |name: &str| {
        let said = env.run(&["token", name, "--output", "json"]).json();
        (said["token"].as_str().unwrap().to_owned(), said["line"].as_str().unwrap().to_owned())
    };
    let ((ada, ada_line), (eve, eve_line)) = (made("ada"), made("eve"));
    let file = env.home().join("tokens");
    std::fs::write(&file, format!("{ada_line}\n{eve_line}\n")).unwrap();
    let world = World::start(&["--tokens-file", file.to_str().unwrap()]);
    let ask = |token: &str, asked: Asked| -> Answer {
        let asked =
            if token.is_empty() { asked } else { asked.with("Authorization", format!("Bearer {token}")) };
        world.ask(&asked)
    };
    let opened = ask(&ada, Asked::initialize());
    let session = opened.header("mcp-session-id").unwrap();
    for asked in [list(session), get(session), delete(session), cancel(session, &json!(7)), stuck(session)] {
        let answer = ask(&eve, asked);
        assert_eq!((answer.status, answer.code()), (404, -32600), "{}", answer.shown());
    }
    for (what, header) in [
        ("no token", ""),
        ("an empty token", "Bearer "),
        ("another scheme", "Basic YTpi"),
        ("two words", "Bearer a b"),
        ("a token nobody has", "Bearer 0123456789"),
        ("a JWT nobody signed", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."),
        ("a hash of a token", &format!("Bearer {}", ada_line.split(':').nth(1).unwrap())),
        ("a long token", &format!("Bearer {}", "a".repeat(20_000))),
    ] {
        let answer = world.ask(&list(session).with("Authorization", header));
        assert_eq!(answer.status, 401, "{what}: {}", answer.shown());
        assert!(
            answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer ")),
            "{what}"
        );
        answer.check(what);
    }
    let twice = list(session)
        .with("Authorization", format!("Bearer {ada}"))
        .also("Authorization", format!("Bearer {ada}"));
    assert_eq!(world.ask(&twice).status, 401);
    assert_eq!(ask(&ada, list(session)).status, 200, "hers all the time");
    assert_eq!(ask(&ada, delete(session)).status, 204);
}
