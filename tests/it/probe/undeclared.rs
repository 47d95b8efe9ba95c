//! Probing what nobody declared.

use std::process::Stdio;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use toolcrib::desired::Program;
use toolcrib::ports::{Clock, Runner as _};
use toolcrib::probe::undeclared::{Attempt, at, started};
use toolcrib::resource::Name;
use toolcrib::runner::process::{Config, ProcessRunner};

use super::{LONG, fixture};
use crate::support::Port;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Duration {
        Duration::from_hours(12)
    }
}

#[tokio::test]
async fn an_address_is_asked_on_the_usual_paths() {
    let held = Port::new();
    let port = held.number();
    let _server = fixture("server.py", Some(port))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let cancel = CancellationToken::new();
    let url = format!("http://127.0.0.1:{port}");
    let record = at(&url, &Noon, LONG, &cancel).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!((record.discovery_method.as_str(), record.port), ("http_mcp", Some(port)));
    assert_eq!(record.url, Some(format!("{url}/mcp")));
    assert_eq!((record.tools.len(), record.timestamp.to_string().as_str()), (4, "43200"));

    let unused = Port::new();
    let nobody = format!("http://{}/mcp", unused.address);
    let error = at(&nobody, &Noon, Duration::from_secs(1), &cancel).await.expect_err("nobody is there");
    assert!(error.chain().contains("Connection refused"), "{}", error.chain());
}

#[tokio::test]
async fn a_command_is_asked_over_stdio_then_http_and_leaves_nothing() {
    let state = tempfile::tempdir().expect("a folder");
    let config = Config {
        launcher: env!("CARGO_BIN_EXE_toolcrib").into(),
        ..Config::local(Name::parse("here").expect("a name"), state.path(), &|name| std::env::var_os(name))
    };
    let runner = ProcessRunner::new(config).unwrap_or_else(|error| panic!("{}", error.chain()));
    let cancel = CancellationToken::new();
    let attempt = Attempt {
        runner: &runner,
        name: Name::parse("here").expect("a name"),
        kind: "process",
        clock: &Noon,
        // Half of it passes in silence before the server over HTTP is asked there.
        deadline: LONG,
        cancel: &cancel,
    };
    let free =
        [3000, 8080, 8000].into_iter().find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let port = free.expect("one of the usual ports is free");
    for (port, method, at) in
        [(None, "process_mcp_stdio", None), (Some(port), "process_http_mcp", Some(port))]
    {
        let command = fixture("server.py", port);
        let command = command.as_std();
        let argv = std::iter::once(command.get_program()).chain(command.get_args());
        let argv: Vec<_> = argv.map(|arg| arg.to_str().expect("text").to_owned()).collect();
        let dir = state.path().to_str().expect("text").to_owned();
        let record = started(&attempt, Program::Command { argv: argv.clone(), dir }).await;
        let record = record.unwrap_or_else(|error| panic!("{}", error.chain()));
        assert_eq!((record.discovery_method.as_str(), record.port), (method, at));
        assert_eq!((record.tools.len(), record.command), (4, Some(argv)));
        assert!(runner.observe().await.expect("asked").is_empty());
    }
    let program = Program::Command { argv: vec!["false".to_owned()], dir: "/".to_owned() };
    let quick = Attempt { deadline: Duration::from_secs(4), ..attempt };
    let error = started(&quick, program).await.expect_err("it is no server");
    assert!(
        error.chain().starts_with("found no MCP server in command `false`: over stdio: "),
        "{}",
        error.chain()
    );
    assert!(runner.observe().await.expect("asked").is_empty());
}
