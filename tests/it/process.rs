//! The process runner on real processes.
#![expect(clippy::disallowed_methods, reason = "tests make files and start programs")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod bench;
mod calls;
mod ending;
mod servers;

use std::collections::BTreeMap;

use bytes::Bytes;
use toolcrib::desired::Limits;
use toolcrib::ports::{RunEvent, Runner as _, SecretValue};
use toolcrib::resource::Memory;

use bench::{Bench, Ended};

#[tokio::test]
async fn a_run_sees_what_is_declared_and_nothing_else() {
    let bench = Bench::new();
    let mut run =
        bench.shell("env; pwd; ls -l $HOME; cat $TOOLCRIB_FILES/tls/key; stat -c %a $TOOLCRIB_FILES");
    run.material.env = BTreeMap::from([("CITY".to_owned(), SecretValue::new(&b"Bern"[..]))]);
    run.material.files =
        BTreeMap::from([("/run/toolcrib/tls/key".to_owned(), SecretValue::new(&b"the key\n"[..]))]);
    let Ended { code, stdout, .. } = bench.run(run).await;
    assert_eq!(code, Ok(0), "{stdout}");
    let mut names: Vec<_> =
        stdout.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    // PWD is the shell's own.
    assert_eq!(names, ["CITY", "HOME", "LANG", "PATH", "PWD", "TOOLCRIB_FILES", "TOOLCRIB_INSTANCE"]);
    let folder = bench.folder().canonicalize().unwrap();
    assert!(stdout.contains(&format!("\n{}\n", folder.display())), "{stdout}");
    assert!(stdout.ends_with("total 0\nthe key\n700\n"), "{stdout}");
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[tokio::test]
async fn streams_come_apart_and_as_they_are() {
    let bench = Bench::new();
    let Ended { code, stdout, stderr } = bench.run(bench.shell("echo out; echo err >&2; exit 7")).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Ok(7), "out\n", "err\n"));
    let killed = bench.run(bench.shell("kill -KILL $$")).await;
    assert_eq!(killed.code, Ok(-9));
}

#[tokio::test]
async fn limits_are_set() {
    let bench = Bench::new();
    let mut run = bench.shell("ulimit -d; ulimit -c; grep NoNewPrivs /proc/self/status");
    run.limits = Limits { memory: Memory(64 << 20), ..Limits::default() };
    let Ended { stdout, .. } = bench.run(run).await;
    assert_eq!(stdout, "65536\n0\nNoNewPrivs:\t1\n");

    let mut hungry = bench.shell("exec awk 'BEGIN { s = \"x\"; while (1) s = s s }'");
    hungry.limits = Limits { memory: Memory(64 << 20), ..Limits::default() };
    let Ended { code, stderr, .. } = bench.run(hungry).await;
    assert_ne!(code, Ok(0), "{stderr}");
}

#[tokio::test]
async fn standard_input_may_be_large_and_may_be_ignored() {
    let bench = Bench::new();
    let input = Bytes::from(vec![b'x'; 8 << 20]);
    for (script, expected) in [("wc -c", "8388608\n"), ("true", "")] {
        let mut run = bench.shell(script);
        run.stdin = Some(input.clone());
        let Ended { code, stdout, .. } = bench.run(run).await;
        assert_eq!((code, stdout.as_str()), (Ok(0), expected), "{script}");
    }
    // Without input there is an end of input, not the terminal of the daemon.
    assert_eq!(bench.run(bench.shell("wc -c")).await.stdout, "0\n");
}

#[tokio::test]
async fn output_is_bounded_by_who_reads_it() {
    let bench = Bench::new();
    let mut running = bench.runner.run(bench.shell("exec yes")).await.ok().unwrap();
    let mut read = 0;
    while read < 4 << 20 {
        let Some(Ok(RunEvent::Stdout(bytes))) = running.events.recv().await else {
            panic!("it prints forever")
        };
        read += bytes.len();
    }
    let mut events = running.events;
    drop(running.guard);
    // What was under way is at most what the channel holds; then the stream ends.
    let mut rest = 0;
    while let Some(event) = events.recv().await {
        if let Ok(RunEvent::Stdout(bytes)) = event {
            rest += bytes.len();
        }
    }
    assert!(rest < 4 << 20, "{rest} bytes after the end");
}

#[tokio::test]
async fn says_what_it_cannot_run() {
    let bench = Bench::new();
    let canary = "canary-7f3a";
    let cases: [(&[&str], &str, &str); 4] = [
        (&["no-such-program"], "/token", "there is no program `no-such-program` on PATH"),
        (&["./absent"], "/run/toolcrib/token", "there is no program `./absent`"),
        (&[], "token", "there is no command to run"),
        (&["sh"], "/etc/token", "a process cannot have a file at `/etc/token`"),
    ];
    for (argv, file, message) in cases {
        let mut run = bench.command(argv);
        run.material.env = BTreeMap::from([("TOKEN".to_owned(), SecretValue::new(canary.as_bytes()))]);
        run.material.files = BTreeMap::from([(file.to_owned(), SecretValue::new(canary.as_bytes()))]);
        let error = bench.runner.run(run).await.err().unwrap();
        assert_eq!(error.operation, message);
        assert!(error.hint.is_some());
        assert!(!format!("{error:?} {}", error.chain()).contains(canary));
    }
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}
