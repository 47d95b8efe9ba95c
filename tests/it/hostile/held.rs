//! Long use holds nothing: whatever a client begins and ends leaves the counts as they were.

use serde_json::json;

use super::wire::{Asked, Wire};
use super::{Bystander, World, greeting};
use crate::follow::SOON;
use crate::support::wait_for;

/// Rounds that are alike.
const ROUNDS: usize = 4;
/// In each: calls and sessions, streams of both eras, and revisions.
const TIMES: usize = 40;
const REVISIONS: usize = 12;
/// Catalogs that are kept when many were replaced within ten seconds: all of them.
const BURST: u64 = 64;

/// What is held for clients that are gone.
const COUNTS: [&str; 4] = ["mcp_sessions", "mcp_streams", "mcp_calls_detached", "resources_watched"];

fn begin(world: &World, asked: &Asked) -> Wire {
    let mut wire = world.wire();
    wire.send(&asked.bytes(&world.host));
    assert!(wire.head().unwrap().is_stream(), "{asked:?}");
    wire
}

/// Everything that a client can begin, and how it ends.
fn round(world: &World, round: usize) {
    let listen = Asked::modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    for n in 0..TIMES {
        assert_eq!(world.ask(&greeting(&n.to_string())).status, 200);
        let stream = begin(world, &listen);
        let session = world.session();
        let get =
            Asked::new("GET", "/mcp").with("Accept", "text/event-stream").with("Mcp-Session-Id", &session);
        // A stream that the client opens anew takes the place of the one before.
        let streams = [begin(world, &get), begin(world, &get)];
        assert_eq!(world.ask(&Asked::legacy(&session, "tools/list", json!({}))).status, 200);
        let params = json!({"name": "stuck", "arguments": {}});
        let gone = (n % 8 == 0).then(|| begin(world, &Asked::legacy(&session, "tools/call", params.clone())));
        let left = (n % 8 == 1).then(|| begin(world, &Asked::modern("tools/call", params)));
        let delete = Asked::new("DELETE", "/mcp").with("Mcp-Session-Id", &session);
        // Some leave first, some end their session first.
        if n % 2 == 0 {
            drop((stream, gone, left, streams));
            assert_eq!(world.ask(&delete).status, 204);
        } else {
            assert_eq!(world.ask(&delete).status, 204);
            drop((stream, gone, left, streams));
        }
    }
    let mut bystander = Bystander::of(world);
    for n in 0..REVISIONS {
        let tools = std::fs::read_to_string(world.env.repo().path().join("tools.yaml")).unwrap();
        let line = tools.lines().find(|line| line.contains("description: Greets")).unwrap();
        let mark = format!("  description: Greets {round} {n}");
        world.env.repo().write("tools.yaml", &tools.replace(line, &mark)).commit("changed");
        let list = Asked::modern("tools/list", json!({})).target("/mcp/few");
        wait_for("the revision", SOON, || {
            let text = String::from_utf8(world.ask(&list).body).unwrap();
            text.contains(mark.trim_start_matches("  description: ")).then_some(())
        });
    }
    bystander.is_served("a round");
}

#[test]
fn what_ended_is_held_no_longer() {
    let world = World::start(&[]);
    for at in 0..ROUNDS {
        round(&world, at);
        for count in COUNTS {
            wait_for(&format!("{count} of round {at} to be 0"), SOON, || {
                (world.daemon.metric(count) == 0).then_some(())
            });
        }
        wait_for("the tools that were stuck to end", SOON, || {
            world.daemon.children().is_empty().then_some(())
        });
        let retained = world.daemon.metric("catalogs_retained");
        assert!(retained <= BURST, "{retained} catalogs are kept");
    }
}
