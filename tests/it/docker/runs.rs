//! One container for each call.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_says_everything_and_leaves_nothing() {
    let place = Place::new("runs").await;
    let script = "cat; echo err >&2; kill -0 1; exit 7";
    let mut run = one_run(place.name("a"), BUSYBOX, &["sh", "-c", script]);
    run.stdin = Some(bytes::Bytes::from("line\n".repeat(100_000)));
    let said = place.run(run).await;
    assert_eq!(said.stdout.len(), 500_000);
    assert_eq!((said.stderr.as_str(), said.code, said.error), ("err\n", Some(7), None));

    let said = place.run(one_run(place.name("b"), BUSYBOX, &["nosuch"])).await;
    assert_eq!(said.code, Some(127), "{said:?}");
    assert!(said.stderr.contains("crib-init: cannot start `nosuch`"), "{said:?}");

    let said = place.run(one_run(place.name("c"), BUSYBOX, &["sh", "-c", "kill -9 $$"])).await;
    assert_eq!(said.code, Some(137), "{said:?}");
    assert_eq!(said.stderr, "");

    let mut run = one_run(place.name("d"), BUSYBOX, &["sh", "-c", "x=x; while :; do x=$x$x; done"]);
    run.limits.memory = Memory(16 << 20);
    let said = place.run(run).await;
    assert_eq!(said.code, Some(137), "{said:?}");
    assert!(said.stderr.contains("more than its 16777216 bytes of memory"), "{said:?}");

    gone(&place).await;
    let error = place.runner.run(one_run(place.name("e"), "toolcrib.test/none:1", &["true"])).await;
    assert!(error.err().unwrap().chain().contains("image `toolcrib.test/none:1` is not on the engine"));
    place.finish().await;
}

/// Waits until no container of this place is left.
async fn gone(place: &Place) {
    within(async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !containers(place).await.is_empty() {
            tick.tick().await;
        }
    })
    .await;
}

async fn containers(place: &Place) -> Vec<String> {
    let label = format!("dev.toolcrib/owner={}", place.owner);
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![label])]);
    let options = bollard::query_parameters::ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let listed = place.engine.list_containers(Some(options)).await.unwrap();
    listed.into_iter().filter_map(|container| container.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn time_cancellation_and_deafness_end_a_run() {
    let place = Place::new("ends").await;
    let forever = ["sh", "-c", "trap '' TERM; while :; do echo here; sleep 0.1; done"];

    let mut run = one_run(place.name("late"), BUSYBOX, &forever);
    run.timeout = Duration::from_millis(500);
    let said = place.run(run).await;
    assert!(said.error.unwrap().contains("longer than"), "{}", said.stdout);
    assert_eq!(said.code, None);
    gone(&place).await;

    let mut running =
        within(place.runner.run(one_run(place.name("cancel"), BUSYBOX, &forever))).await.unwrap();
    assert!(matches!(within(running.events.recv()).await, Some(Ok(RunEvent::Stdout(_)))));
    assert_eq!(containers(&place).await.len(), 1);
    drop(running.guard);
    gone(&place).await;

    // A reader that stops reading holds the program back; one that is gone ends it.
    let flood = ["sh", "-c", "yes"];
    let running = within(place.runner.run(one_run(place.name("deaf"), BUSYBOX, &flood))).await.unwrap();
    let Running { events, guard } = running;
    drop(events);
    gone(&place).await;
    drop(guard);

    // The caller itself goes away in the middle of a start.
    let start = place.runner.run(one_run(place.name("dropped"), BUSYBOX, &forever));
    assert!(tokio::time::timeout(Duration::from_millis(1), start).await.is_err());
    place.runner.close().await;
    assert!(containers(&place).await.is_empty());
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_daemon_left_is_swept() {
    let place = Place::new("sweep").await;
    let running =
        within(place.runner.run(one_run(place.name("left"), BUSYBOX, &["sleep", "1000"]))).await.unwrap();
    let server = place.start(&workload(BUSYBOX, &["cat"], Transport::Stdio), Material::default()).await;
    // What runs now is not swept by its own process.
    place.runner.sweep().await.unwrap();
    assert_eq!(containers(&place).await.len(), 2);
    runner(&place.owner, false).sweep().await.unwrap();
    assert_eq!(containers(&place).await, [server.id.0]);
    drop(running);
    place.finish().await;
}
