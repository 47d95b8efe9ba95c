//! Whatever was started ends.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use toolcrib::ports::{RunEvent, Runner as _, Running};

use super::bench::{Bench, Ended};

/// Longer than any of it takes; a wait that is this long has failed.
const LONG: Duration = Duration::from_mins(1);
/// A limit that is reached: long enough for a shell to start and say so before, on a busy machine.
const SHORT: Duration = Duration::from_secs(3);

/// Waits until every process that holds the pipe is gone.
pub(super) async fn all_gone(mut alive: tokio::net::unix::pipe::Receiver) {
    let mut rest = Vec::new();
    tokio::time::timeout(LONG, alive.read_to_end(&mut rest)).await.expect("somebody lives on").unwrap();
}

/// Starts a script and waits until it says that it is ready.
async fn ready(bench: &Bench, script: &str, timeout: Duration) -> Running {
    let mut run = bench.shell(script);
    run.timeout = timeout;
    let mut running = bench.runner.run(run).await.ok().unwrap();
    let event = running.events.recv().await.unwrap().ok().unwrap();
    assert_eq!(event, RunEvent::Stdout("ready\n".into()));
    running
}

#[tokio::test]
async fn a_dropped_run_takes_its_children_with_it() {
    let bench = Bench::new();
    let alive = bench.alive();
    let script = "exec 3>alive; sleep 1000 & (sleep 1000 & sleep 1000) & echo ready; wait";
    drop(ready(&bench, script, LONG).await);
    all_gone(alive).await;
}

#[tokio::test]
async fn who_ignores_the_polite_signal_is_killed_when_time_is_up() {
    let bench = Bench::new();
    let alive = bench.alive();
    let script = "exec 3>alive; trap '' TERM; echo ready; while :; do sleep 1000; done";
    let mut running = ready(&bench, script, SHORT).await;
    let last = running.events.recv().await.unwrap();
    assert_eq!(last.err().unwrap().operation, "`Tool/t` took longer than 3s and was ended");
    assert!(running.events.recv().await.is_none());
    all_gone(alive).await;
}

#[tokio::test]
async fn who_hears_the_polite_signal_may_say_goodbye() {
    let bench = Bench::new();
    let script = "trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let mut running = ready(&bench, script, SHORT).await;
    let mut goodbye = Vec::new();
    while let Some(event) = running.events.recv().await {
        if let Ok(RunEvent::Stdout(bytes)) = event {
            goodbye.extend(bytes);
        }
    }
    assert_eq!(goodbye, b"goodbye\n");
}

#[tokio::test]
async fn what_goes_on_in_the_background_ends_with_the_call() {
    let bench = Bench::new();
    let alive = bench.alive();
    let Ended { code, stdout, .. } = bench.run(bench.shell("exec 3>alive; sleep 1000 & echo done")).await;
    assert_eq!((code, stdout.as_str()), (Ok(0), "done\n"));
    all_gone(alive).await;
}

#[tokio::test]
async fn who_leaves_the_group_is_found() {
    // One keeps standard output, so that the run could not end; the other hides altogether.
    for left in ["setsid sleep 1000 &", "setsid sleep 1000 >/dev/null 2>&1 &"] {
        let bench = Bench::new();
        let alive = bench.alive();
        let Ended { code, stdout, .. } =
            bench.run(bench.shell(&format!("exec 3>alive; {left} echo done"))).await;
        assert_eq!((code, stdout.as_str()), (Ok(0), "done\n"), "{left}");
        all_gone(alive).await;
    }
}

#[tokio::test]
async fn a_dropped_runner_ends_everything() {
    let bench = Bench::new();
    let alive = bench.alive();
    let script = "exec 3>alive; sleep 1000 & echo ready; wait";
    let running = ready(&bench, script, LONG).await;
    bench.runner.shutdown(Duration::ZERO).await;
    drop(bench);
    drop(running);
    all_gone(alive).await;
}

/// What the kernel does when the daemon is killed: the thread that started a process is gone.
#[tokio::test]
async fn the_death_of_the_daemon_is_the_death_of_its_children() {
    let bench = Bench::new();
    let alive = bench.alive();
    let parent = std::process::id().to_string();
    let (launcher, folder) = (bench.config.launcher.clone(), bench.folder().to_owned());
    let start = move || {
        let mut child = std::process::Command::new(launcher)
            .args(["__limits", "--parent", &parent, "--", "/bin/sh", "-c"])
            .arg("exec 3>alive; echo ready; exec sleep 1000")
            .current_dir(folder)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        child
    };
    let mut child = std::thread::spawn(start).join().unwrap();
    all_gone(alive).await;
    assert!(!child.wait().unwrap().success());
}

#[tokio::test]
async fn an_orphan_does_not_even_begin() {
    let bench = Bench::new();
    let output = std::process::Command::new(&bench.config.launcher)
        .args(["__limits", "--parent", "1", "--", "/bin/echo", "begun"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "toolcrib: the daemon is gone\n");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0));
}

/// A daemon that was killed leaves records, folders, and children of the children.
#[tokio::test]
async fn a_sweep_ends_what_an_earlier_daemon_left_and_nothing_else() {
    use std::os::unix::process::CommandExt as _;
    let bench = Bench::new();
    let alive = bench.alive();
    let start = |name: &str, script: &str| {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(bench.folder())
            .env("TOOLCRIB_INSTANCE", name)
            .process_group(0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        child
    };
    let ours = |name: &str| format!("{}/{name}", bench.config.installation);
    // The leader is gone, a member of its group lives; another left its group; another was recorded.
    let script = "exec 3>alive; sleep 1000 & setsid sleep 1000 & echo ready; kill -KILL $$";
    let mut led = start(&ours("led"), script);
    let mut plain = start("", "exec 3>alive; echo ready; exec sleep 1000");
    let mut foreign = start("another/led", "echo ready; exec sleep 1000");
    led.wait().unwrap();
    let record = |name: &str, group: u32, start: u64| {
        let record = serde_json::json!({
            "name": name, "group": group, "start": start, "resource": "Server/s",
            "digest": format!("sha256:{}", "0".repeat(64)), "revision": "main@sha1:0",
        });
        std::fs::write(bench.config.state.join(format!("{name}.json")), record.to_string()).unwrap();
        std::fs::create_dir_all(bench.config.state.join(name)).unwrap();
    };
    let fields = std::fs::read_to_string(format!("/proc/{}/stat", plain.id())).unwrap();
    let began: u64 = fields.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    record("led", led.id(), 1);
    record("plain", plain.id(), began);
    // The pid of a process group that went round to somebody else.
    record("foreign", foreign.id(), 1);

    let running = ready(&bench, "echo ready; exec sleep 1000", LONG).await;
    bench.runner.sweep().await.ok().unwrap();
    all_gone(alive).await;
    plain.wait().unwrap();
    assert!(foreign.try_wait().unwrap().is_none(), "another's process was ended");
    foreign.kill().unwrap();
    foreign.wait().unwrap();
    let mut left: Vec<_> =
        bench.leftovers().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    left.sort();
    assert_eq!(left, ["run-0", "run-0.json"], "what runs now keeps its own");
    drop(running);
}

/// A runner that was taken out of the repository and put back.
#[tokio::test]
async fn a_runner_leaves_the_runs_of_its_former_self_alone() {
    let bench = Bench::new();
    let go = bench.folder().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut running = ready(&bench, "echo ready; cat go", LONG).await;
    let again = toolcrib::runner::process::ProcessRunner::new(bench.config.clone()).ok().unwrap();
    again.sweep().await.ok().unwrap();
    drop(again);
    // There is an error as long as nobody reads; opening and closing it is the end of the file.
    let sender = async {
        while tokio::net::unix::pipe::OpenOptions::new().open_sender(&go).is_err() {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(LONG, sender).await;
    gone.expect("it was ended");
    let mut code = None;
    while let Some(event) = running.events.recv().await {
        if let Ok(RunEvent::Exit(exit)) = event {
            code = Some(exit);
        }
    }
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn many_at_once_stay_apart() {
    let bench = Bench::new();
    let one = |at: usize| {
        let mut run = bench.shell("cat $TOOLCRIB_FILES/token; cat; echo $AT >&2; exit $AT");
        let value = toolcrib::ports::SecretValue::new(format!("{at}").into_bytes());
        run.material.env.insert("AT".to_owned(), value.clone());
        run.material.files.insert("token".to_owned(), value);
        run.stdin = Some(format!(" {at}").into());
        bench.run(run)
    };
    let ended = futures::future::join_all((0..50).map(one)).await;
    for (at, Ended { code, stdout, stderr }) in ended.into_iter().enumerate() {
        assert_eq!(
            (code, stdout, stderr),
            (i64::try_from(at).map_err(|_| String::new()), format!("{at} {at}"), format!("{at}\n"))
        );
    }
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}
