//! What nobody sends on purpose, from many at once, while the catalog changes: on the built daemon, byte by
//! byte over TCP.

mod asks;
mod crowd;
mod framing;
mod held;
mod sessions;
mod switch;
mod table;
pub(crate) mod upstream;
mod waits;
mod wire;

use serde_json::{Value, json};

use crate::support::{Daemon, TestEnv, wait_for};
use upstream::Upstream;
use wire::{Asked, PATIENCE, Wire};

/// A runner, a tool that says what it is told, one with a parameter in a header, one that takes until its
/// call is cancelled, and toolsets.
const TOOLS: &str = r#"
apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {name: here}
spec: {process: {}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: greet}
spec:
  description: Greets
  command: [echo, hello]
  args: ["${name}"]
  parameters:
    name: {type: string, description: Whom, required: true}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: where}
spec:
  description: Says where
  command: [echo]
  args: ["${region}", "${count}"]
  inputSchema:
    type: object
    properties:
      region: {type: string, x-mcp-header: Region}
      count: {type: integer, x-mcp-header: Count}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {name: stuck}
spec:
  description: Waits for what never comes
  command: [cat, FIFO]
  parameters: {}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Toolset
metadata: {name: few}
spec: {select: [{names: [greet, where]}]}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Toolset
metadata: {name: many}
spec: {select: [{servers: [many]}]}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Toolset
metadata: {name: most}
spec: {select: [{names: ["many_*", greet]}]}
"#;

/// Tools of the server elsewhere: more than one page has.
const MANY: usize = 1_100;

struct World {
    env: TestEnv,
    daemon: Daemon,
    upstream: Upstream,
    host: String,
}

impl World {
    fn start(more: &[&str]) -> Self {
        let env = TestEnv::new();
        let fifo = env.home().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let upstream = Upstream::start(MANY, 40);
        let tools = TOOLS.replace("FIFO", fifo.to_str().unwrap()) + &upstream.declared("many", "");
        env.repo().write("tools.yaml", &tools).commit("tools");
        let daemon = env.daemon(more);
        let host = daemon.mcp.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        // A daemon says that it serves although a server was not there for a while.
        let tools = || daemon.metric("catalog_entries{kind=\"tool\"}");
        wait_for("the server elsewhere", PATIENCE, || (tools() > MANY as u64).then_some(()));
        Self { env, daemon, upstream, host }
    }

    fn wire(&self) -> Wire {
        Wire::open(&self.host)
    }

    /// Asks on a connection of its own.
    fn ask(&self, asked: &Asked) -> wire::Answer {
        self.wire().ask(asked)
    }

    /// The id of a new session.
    fn session(&self) -> String {
        let answer = self.ask(&Asked::initialize());
        assert_eq!(answer.status, 200, "{}", answer.shown());
        answer.header("mcp-session-id").unwrap().to_owned()
    }
}

/// A client that has nothing to do with the others, on one connection all the time.
struct Bystander(Wire);

impl Bystander {
    fn of(world: &World) -> Self {
        Self(world.wire())
    }

    /// Panics unless it is served as ever.
    #[track_caller]
    fn is_served(&mut self, after: &str) {
        let name = format!("after {after}");
        let answer = self.0.ask(&greeting(&name));
        let said = if answer.status == 200 { answer.message() } else { Value::Null };
        assert_eq!(
            said["result"]["content"][0]["text"],
            format!("hello {name}\n"),
            "after {after}: {}",
            answer.shown()
        );
    }
}

fn greeting(name: &str) -> Asked {
    Asked::modern("tools/call", json!({"name": "greet", "arguments": {"name": name}}))
}
