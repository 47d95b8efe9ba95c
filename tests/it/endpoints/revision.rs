//! `/mcp@<revision>`.

use serde_json::json;

use super::{RUNNER, names_at, refused_at, tool};
use crate::follow::{ask_at, text, wait_for_names};
use crate::support::TestEnv;

#[test]
fn a_commit_that_was_served_lately_is_served_on_under_its_name() {
    let env = TestEnv::new();
    let write = |tools: &[&str]| {
        let tools: String = tools.iter().map(|name| tool(name, "", "Says its name")).collect();
        env.repo().write("crib.yaml", &(RUNNER.to_owned() + &tools)).commit("change");
        env.repo().git(&["rev-parse", "HEAD"])
    };
    let first = write(&["one"]);
    let daemon = env.daemon(&[]);
    let second = write(&["two"]);
    wait_for_names(&daemon, &["two"]);

    for digits in [40, 12, 7] {
        let (first, second) = (&first[..digits], &second[..digits]);
        assert_eq!(names_at(&format!("{}@{first}", daemon.mcp)), ["one"]);
        assert_eq!(names_at(&format!("{}@{second}/", daemon.mcp)), ["two"]);
    }
    let pinned = format!("{}@{first}", daemon.mcp);
    let call = |tool: &str| ask_at(&pinned, "tools/call", json!({"name": tool, "arguments": {}}));
    assert_eq!(text(&call("one")), "one\n");
    assert_eq!(call("two")["message"], "unknown tool `two`");
    for (name, said) in [
        ("0000000000", "no catalog of commit `0000000000` is kept"),
        ("000", "at least 4 of its digits"),
        ("main", "is no commit"),
    ] {
        let (status, why) = refused_at(&format!("{}@{name}", daemon.mcp), &[]);
        assert_eq!((status, why.contains(said)), (404, true), "{name}: {why}");
    }
}
