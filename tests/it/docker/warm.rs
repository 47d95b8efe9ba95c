//! Containers that wait for calls.

use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptions, ListContainersOptionsBuilder,
};
use toolcrib::ports::{Ahead, Prepared};

use super::*;

const CANARY: &str = "canary-27182";

/// The container that a run could use.
fn ahead(run: &Run, name: String, reuse: bool) -> Ahead {
    let Program::Image { reference, id, .. } = run.program.clone() else { panic!("runs are of images") };
    Ahead {
        name,
        resource: run.resource.clone(),
        revision: run.revision.clone(),
        digest: run.digest,
        program: Program::Image { reference, id, entrypoint: None, args: None },
        files: run.material.files.keys().cloned().collect(),
        limits: run.limits.clone(),
        security: Arc::clone(&run.security),
        volumes: Arc::clone(&run.volumes),
        egress: Arc::clone(&run.egress),
        reuse,
    }
}

/// A shell that runs a script.
fn shell(place: &Place, script: &str) -> Run {
    one_run(place.name("run"), BUSYBOX, &["sh", "-c", script])
}

pub(super) async fn prepare(place: &Place, run: &Run, suffix: &str, reuse: bool) -> Box<dyn Prepared> {
    within(place.runner.prepare(ahead(run, place.name(suffix), reuse))).await.unwrap()
}

pub(super) async fn said(prepared: &dyn Prepared, run: &Run) -> Output {
    let running = within(prepared.run(run)).await.unwrap().expect("it waits");
    within(output(running)).await
}

/// Containers that wait or run, or runs of their own.
async fn ids(place: &Place, role: &str) -> Vec<String> {
    let labels = [format!("dev.toolcrib/owner={}", place.owner), format!("dev.toolcrib/role={role}")];
    let filters = std::collections::HashMap::from([("label".to_owned(), labels.to_vec())]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = place.engine.list_containers(Some(options)).await.unwrap();
    listed.into_iter().map(|one| one.id.unwrap()).collect()
}

async fn gone(place: &Place) {
    within(async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !ids(place, "warm").await.is_empty() {
            tick.tick().await;
        }
    })
    .await;
    assert!(place.runner.ahead().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_a_container_that_waits_is_like_one_in_its_own() {
    let place = Place::new("warm").await;
    let big = "cat; echo err >&2; kill -0 1; exit 7";
    let hungry = "x=x; while :; do x=$x$x; done";
    for (n, script) in [big, "kill -9 $$", hungry, "echo $HOME $PWD; id -u; ls /; sleep 60 & echo left >&2"]
        .into_iter()
        .enumerate()
    {
        let mut run = shell(&place, script);
        run.stdin = (script == big).then(|| bytes::Bytes::from("line\n".repeat(100_000)));
        if script == hungry {
            run.limits.memory = Memory(16 << 20);
        }
        let waiting = prepare(&place, &run, &format!("w{n}"), false).await;
        let warm = said(&*waiting, &run).await;
        run.name = place.name(&format!("c{n}"));
        assert_eq!(warm, place.run(run).await, "{script}");
    }
    let run = one_run(place.name("none"), BUSYBOX, &["nosuch"]);
    let waiting = prepare(&place, &run, "none", false).await;
    let warm = said(&*waiting, &run).await;
    assert_eq!((warm.code, warm.stderr.contains("crib-init: cannot start `nosuch`")), (Some(127), true));
    // It was of one call.
    assert!(!within(waiting.cleaned()).await);
    assert!(within(waiting.run(&run)).await.unwrap().is_none());
    drop(waiting);
    gone(&place).await;
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_wait_are_confined_like_those_of_calls() {
    let place = Place::new("alike").await;
    let mut run = shell(&place, "sleep 60");
    run.material.files.insert("token".to_owned(), secret(CANARY));
    run.material.env.insert("TOKEN".to_owned(), secret(CANARY));
    let waiting = prepare(&place, &run, "w", false).await;
    let cold = within(place.runner.run(run.clone())).await.unwrap();
    let inspect = async |role: &str| {
        let id = ids(&place, role).await.remove(0);
        let seen = place.engine.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap();
        assert!(!format!("{seen:?}").contains(CANARY));
        (seen.host_config.unwrap(), seen.config.unwrap())
    };
    let ((warm_host, warm), (cold_host, cold_config)) = (inspect("warm").await, inspect("run").await);
    assert_eq!(warm_host, cold_host);
    assert_eq!((warm.user, warm.env, warm.image), (cold_config.user, cold_config.env, cold_config.image));
    assert_eq!(warm.entrypoint.unwrap(), ["/.toolcrib/crib-init", "wait"]);
    drop(cold);

    // Nothing of a secret is there before the call; in it, it is where it belongs.
    let id = ids(&place, "warm").await.remove(0);
    let none = None::<bollard::query_parameters::TopOptions>;
    let processes = place.engine.top_processes(&id, none).await.unwrap().processes.unwrap();
    assert_eq!(processes.len(), 1, "{processes:?}");
    let look = "cat /run/toolcrib/token; echo $TOKEN; tr '\\0' '\\n' </proc/1/environ | grep -c canary";
    run.program = program(BUSYBOX, &["sh", "-c", look]);
    let heard = said(&*waiting, &run).await;
    assert_eq!(heard.stdout, format!("{CANARY}{CANARY}\n0\n"), "{heard:?}");
    drop(waiting);
    gone(&place).await;
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_call_is_left_for_the_next_in_the_same_container() {
    let place = Place::new("again").await;
    let mut run = shell(
        &place,
        "echo $TOKEN >/tmp/a; mkdir -p /tmp/b/c; cp /run/toolcrib/token /tmp/b/c/; ln -s / /tmp/d; \
         echo x >/dev/shm/e; (trap '' TERM HUP; exec sleep 1000) & sleep 1000 & exit 3",
    );
    let secrets = |run: &mut Run| {
        run.material.files.insert("token".to_owned(), secret(CANARY));
        run.material.env.insert("TOKEN".to_owned(), secret(CANARY));
    };
    secrets(&mut run);
    run.stdin = Some(bytes::Bytes::from("nobody reads this\n".repeat(50_000)));
    let waiting = prepare(&place, &run, "w", true).await;
    for _ in 0..3 {
        assert_eq!(said(&*waiting, &run).await.code, Some(3));
        assert!(within(waiting.cleaned()).await);
        let look = "ls -A /tmp /dev/shm /run/toolcrib; ps | grep -c sleep; env; cat /proc/[0-9]*/environ; \
                    cat /proc/1/mem /proc/1/fd/0; echo over";
        let look = said(&*waiting, &shell(&place, look)).await;
        assert!(
            look.stdout.contains("/run/toolcrib:\n\n/tmp:\n") || look.stdout.contains("/tmp:\n"),
            "{look:?}"
        );
        for trace in [CANARY, "a\n", "TOKEN", "nobody reads", "sleep 1000"] {
            let lines = look.stdout.lines().any(|line| format!("{line}\n") == trace);
            assert!(!lines && (trace == "a\n" || !look.stdout.contains(trace)), "{trace}: {look:?}");
        }
        assert!(look.stdout.ends_with("over\n"), "{look:?}");
        assert!(within(waiting.cleaned()).await);
    }
    // It is one and the same, and its first process is no child's to read or to end.
    assert_eq!(ids(&place, "warm").await.len(), 1);
    let hostile = shell(&place, "kill -9 1; kill -STOP 1; cat /proc/1/environ 2>&1; ls /proc/1/fd 2>&1");
    let refused = said(&*waiting, &hostile).await;
    assert!(refused.stdout.contains("Permission denied"), "{refused:?}");
    assert!(within(waiting.cleaned()).await);

    // What cannot be cleaned is not used again.
    assert_eq!(said(&*waiting, &shell(&place, "mkdir -p /tmp/x/y; chmod 0 /tmp/x")).await.code, Some(0));
    assert!(!within(waiting.cleaned()).await);
    within(waiting.gone().cancelled()).await;
    assert!(within(waiting.run(&run)).await.unwrap().is_none());
    gone(&place).await;
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_did_not_end_by_itself_takes_its_container_along() {
    let place = Place::new("along").await;
    let forever = shell(&place, "trap '' TERM; while :; do echo here; sleep 0.1; done");
    let mut late = forever.clone();
    late.timeout = Duration::from_millis(500);
    let waiting = prepare(&place, &late, "late", true).await;
    let heard = said(&*waiting, &late).await;
    assert!(heard.error.unwrap().contains("longer than"), "{}", heard.stdout);
    within(waiting.gone().cancelled()).await;

    let waiting = prepare(&place, &forever, "cancelled", true).await;
    let mut running = within(waiting.run(&forever)).await.unwrap().unwrap();
    assert!(matches!(within(running.events.recv()).await, Some(Ok(RunEvent::Stdout(_)))));
    drop(running.guard);
    within(waiting.gone().cancelled()).await;
    assert!(!within(waiting.cleaned()).await);

    let waiting = prepare(&place, &forever, "deaf", true).await;
    let Running { events, guard } = within(waiting.run(&shell(&place, "yes"))).await.unwrap().unwrap();
    drop(events);
    within(waiting.gone().cancelled()).await;
    drop(guard);

    // Killed during a call: that is no end of the program.
    let waiting = prepare(&place, &forever, "killed", true).await;
    let mut running = within(waiting.run(&forever)).await.unwrap().unwrap();
    assert!(matches!(within(running.events.recv()).await, Some(Ok(RunEvent::Stdout(_)))));
    let mut left = ids(&place, "warm").await;
    left.retain(|id| !id.is_empty());
    for id in left {
        let _ = place.engine.kill_container(&id, None::<KillContainerOptions>).await;
    }
    let lost = within(output(running)).await;
    assert_eq!((lost.code, lost.error.unwrap().contains("ended during the call")), (None, true));
    gone(&place).await;
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_while_it_waits_is_known_to_be_gone_and_nobody_elses_is_swept() {
    let place = Place::new("ended").await;
    let run = shell(&place, "echo ran");
    let waiting = prepare(&place, &run, "dies", false).await;
    let id = ids(&place, "warm").await.remove(0);
    place.engine.kill_container(&id, None::<KillContainerOptions>).await.unwrap();
    within(waiting.gone().cancelled()).await;
    assert!(within(waiting.run(&run)).await.unwrap().is_none());
    gone(&place).await;

    // Those of this process stay in a sweep, of a dead one they go.
    let stays = prepare(&place, &run, "stays", false).await;
    place.runner.sweep().await.unwrap();
    assert_eq!(said(&*stays, &run).await.stdout, "ran\n");
    gone(&place).await;
    let left = prepare(&place, &run, "left", false).await;
    let later = runner(&place.owner, false);
    assert_eq!(later.ahead().await.unwrap(), BTreeSet::from([run.digest]));
    later.sweep().await.unwrap();
    assert!(ids(&place, "warm").await.is_empty());
    within(left.gone().cancelled()).await;

    // What cannot start says why.
    let mut none = run.clone();
    none.program = program("toolcrib.test/none:1", &[]);
    let error = place.runner.prepare(ahead(&none, place.name("none"), false)).await.err().unwrap();
    assert!(error.chain().contains("image `toolcrib.test/none:1` is not on the engine"));
    let closed = prepare(&place, &run, "closed", false).await;
    place.runner.close().await;
    assert!(closed.gone().is_cancelled());
    place.finish().await;
}
