//! Containers that wait for calls, with what is declared besides: hosts, volumes and secrets.

use serde_json::json;
use toolcrib::resource::workload::{Mounts, Volume};

use super::daemon::{Crib, STARTED};
use super::egress::{CLIENT, HOST, program_run, shouter};
use super::warm::{prepare, said};
use super::warm_daemon::{HEAD, commit, ids, tool, waiting};
use super::*;
use crate::follow::{call, text};
use crate::support::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_is_reached_and_mounted_and_nothing_else() {
    let place = Place::new("warmdecl").await;
    let shouter = shouter(&place).await;
    let script = format!(
        "{CLIENT}
print(say('{HOST}', 443), say('{HOST}', 8443), say('{}', 443, patience=2))
with open('/data/log', 'a+') as log:
    log.write('x')
    log.seek(0)
    print(log.read())
",
        shouter.address()
    );
    let mut run = program_run(&place, "run", &[&format!("{HOST}:443")], &script);
    let volume = Volume { name: Name::parse("data").unwrap(), read_only: false };
    run.volumes = Arc::new(Mounts::from([("/data".to_owned(), volume)]));
    for (round, kept) in ["x", "xx"].into_iter().enumerate() {
        let waiting = prepare(&place, &run, &format!("w{round}"), false).await;
        let output = said(&*waiting, &run).await;
        let expected = format!("HELLO ConnectionRefusedError OSError\n{kept}\n");
        assert_eq!((output.stdout, output.code), (expected, Some(0)), "{}", output.stderr);
    }
    // Used again, over the connections of the forwarder that it had before.
    let waiting = prepare(&place, &run, "again", true).await;
    for kept in ["xxx", "xxxx"] {
        let output = said(&*waiting, &run).await;
        assert_eq!(output.stdout, format!("HELLO ConnectionRefusedError OSError\n{kept}\n"), "{output:?}");
        assert!(within(waiting.cleaned()).await);
    }
    drop(waiting);
    shouter.end(place).await;
}

#[test]
fn rotated_secrets_end_the_containers_that_held_the_former_ones() {
    let crib = Crib::new();
    let secret = crib.env.home().join("secret");
    std::fs::write(&secret, "former-secret").unwrap();
    let declared = format!("  files: {{/run/toolcrib/token: {{secret: {{file: {}}}}}}}\n", secret.display());
    let script = "hostname; wc -c </run/toolcrib/token";
    let kept = |isolation: &str| format!("{declared}  warm: 1\n  isolation: {isolation}\n");
    let manifest =
        HEAD.to_owned() + &tool("mine", script, &kept("principal")) + &tool("ours", script, &kept("tool"));
    commit(&crib, &manifest);
    let daemon = crib.daemon();
    waiting(&crib, &daemon, 2);
    let said = |tool: &str| {
        let result = call(&daemon, tool, json!({}));
        assert_eq!(result["isError"], false, "{result}");
        let words: Vec<String> = text(&result).split_whitespace().map(str::to_owned).collect();
        (words[0].clone(), words[1].clone())
    };
    let (mine, ours) = (said("mine"), said("ours"));
    assert_eq!((&mine.1, &ours.1), (&"13".to_owned(), &"13".to_owned()));
    assert_eq!((said("mine"), said("ours")), (mine.clone(), ours.clone()));

    std::fs::write(&secret, "the one that comes after").unwrap();
    for (tool, (host, _)) in [("mine", mine), ("ours", ours)] {
        let (now, length) = said(tool);
        assert_eq!(length, "24", "{tool}");
        assert_ne!(now, host, "{tool}");
        wait_for("the end of what held it", STARTED, || {
            (!ids(&crib, "warm").iter().any(|id| id.starts_with(&host))).then_some(())
        });
    }
}

#[test]
fn killed_while_containers_are_started_ahead_nothing_stays() {
    let crib = Crib::new();
    let manifest = |warm: &str| HEAD.to_owned() + &tool("say", "echo said", warm);
    commit(&crib, &manifest("  warm: 4\n"));
    // Some are there, some are on their way.
    for wanted in [1, 2, 4] {
        let daemon = crib.daemon();
        wait_for("a container on its way", STARTED, || (ids(&crib, "warm").len() >= wanted).then_some(()));
        daemon.kill();
    }
    // Killed while calls have them replaced.
    let daemon = crib.daemon();
    waiting(&crib, &daemon, 4);
    assert_eq!(text(&call(&daemon, "say", json!({}))), "said\n");
    daemon.kill();
    commit(&crib, &manifest(""));
    let daemon = crib.daemon();
    wait_for("nothing that waits", STARTED, || ids(&crib, "warm").is_empty().then_some(()));
    assert_eq!(text(&call(&daemon, "say", json!({}))), "said\n");
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    assert!(crib.seen().is_empty(), "{:?}", crib.seen());
}
