//! What containers see of their confinement, from inside.

use toolcrib::resource::workload::Security;

use super::*;

/// `key: value` lines of the image `probe-inside`.
fn seen(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key, value.trim())).collect()
}

fn check(text: &str, interfaces: &str) {
    let seen = seen(text);
    let none = "0000000000000000";
    for (key, expected) in [
        ("uid", "65534"),
        ("gid", "65534"),
        ("groups", "65534"),
        ("CapInh", none),
        ("CapPrm", none),
        ("CapEff", none),
        ("CapBnd", none),
        ("CapAmb", none),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("root", "ro"),
        ("root-writable", "no"),
        ("pids-max", "32"),
        ("memory-max", "67108864"),
        ("cpu-max", "50000 100000"),
        ("interfaces", interfaces),
        ("engine-socket", ""),
    ] {
        assert_eq!(seen.get(key).copied(), Some(expected), "{key} in\n{text}");
    }
    // Version 1 counts memory and swap together, version 2 swap alone; some kernels count none.
    assert!(["67108864", "0", "unknown"].contains(&seen["memory-swap-max"]), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_container_is_hardened() {
    let place = Place::new("hardened").await;
    let image = "toolcrib.test/probe-inside:1";

    let run = place.run(one_run(place.name("run"), image, &[])).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    check(&run.stdout, "lo");

    let stdio = place.start(&workload(image, &[], Transport::Stdio), Material::default()).await;
    let mut spoken = Spoken::new(place.runner.connect(&stdio.id).await.unwrap());
    let mut text = String::new();
    while let Some(line) = within(spoken.lines.next_line()).await.unwrap() {
        text.push_str(&line);
        text.push('\n');
    }
    check(&text, "lo");
    place.runner.stop(&stdio.id, Duration::ZERO).await.unwrap();

    let script = ["sh", "-c", "/inside.sh; echo done; exec sleep 1000"];
    let served = place.start(&workload(image, &script, http()), Material::default()).await;
    let text = log(&place, &served, "done").await;
    check(&text, "eth0 lo");
    place.finish().await;
}

/// The log, once it holds `part`.
pub(super) async fn log(place: &Place, instance: &Instance, part: &str) -> String {
    within(async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            let text = place.runner.logs(&instance.id).await.unwrap();
            if text.contains(part) {
                return text;
            }
            tick.tick().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_loosened_is_loosened_and_no_more() {
    let place = Place::new("loosened").await;
    let script = "id -u; grep CapEff /proc/self/status; touch /made && echo made; df /cache | tail -n 1; \
                  touch /.toolcrib/x; echo $HOME";
    let mut run = one_run(place.name("run"), BUSYBOX, &["sh", "-c", script]);
    run.security = Arc::new(Security {
        user: "0:0".to_owned(),
        read_only_root: false,
        capabilities: vec!["NET_BIND_SERVICE".to_owned()],
        tmpfs: BTreeMap::from([("/cache".to_owned(), Memory(1 << 20))]),
    });
    let run = place.run(run).await;
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(&lines[..3], ["0", "CapEff:\t0000000000000400", "made"], "{run:?}");
    assert!(lines[3].starts_with("tmpfs") && lines[3].contains(" 1024 "), "{run:?}");
    assert_eq!(lines[4], "/root", "{run:?}");
    assert!(run.stderr.contains("/.toolcrib/x: Read-only file system"), "{run:?}");
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_and_graphics_processors_are_limited_or_refused() {
    let place = Place::new("disk").await;
    let script = "dd if=/dev/zero of=/big bs=1M count=48 2>&1";
    let mut run = one_run(place.name("read-only"), BUSYBOX, &["sh", "-c", script]);
    run.limits.ephemeral_storage = Some(Memory(32 << 20));
    let said = place.run(run.clone()).await;
    assert!(said.code == Some(1) && said.stdout.contains("Read-only file system"), "{said:?}");

    run.name = place.name("writable");
    run.security =
        Arc::new(Security { user: "0:0".to_owned(), read_only_root: false, ..Security::default() });
    match within(place.runner.run(run)).await {
        // What this engine stores images on cannot.
        Err(error) => {
            assert!(error.chain().contains("failed to limit the disk space"), "{}", error.chain());
            assert!(error.hint.as_deref().unwrap_or_default().contains("readOnlyRoot"), "{}", error.chain());
        }
        Ok(running) => {
            let said = within(output(running)).await;
            assert!(said.code == Some(1) && said.stdout.contains("No space left"), "{said:?}");
        }
    }

    let mut run = one_run(place.name("gpu"), BUSYBOX, &["true"]);
    run.limits.gpu = 1;
    // There is none, and the engine was asked for one.
    let error = within(place.runner.run(run)).await.err().unwrap();
    assert!(error.chain().contains("could not select device driver"), "{}", error.chain());
    assert!(error.hint.as_deref().unwrap_or_default().contains("capacity"), "{}", error.chain());
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crib_init_starts_nothing_from_a_broken_frame_and_reaps() {
    use bollard::query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptions, InspectContainerOptions,
        StartContainerOptions, WaitContainerOptions,
    };
    use futures::StreamExt;
    use tokio::io::AsyncWriteExt;

    let place = Place::new("init").await;
    let orphan = "(sh -c 'sleep 0.1 & echo $! >/tmp/orphan'); while [ -d /proc/$(cat /tmp/orphan) ]; do :; done; echo reaped";
    let said = place.run(one_run(place.name("run"), BUSYBOX, &["sh", "-c", orphan])).await;
    assert_eq!((said.stdout.as_str(), said.code), ("reaped\n", Some(0)), "{said:?}");

    // A container as ours are, spoken to as nobody of ours would.
    let like = place.start(&workload(BUSYBOX, &["cat"], Transport::Stdio), Material::default()).await;
    let none = None::<InspectContainerOptions>;
    let host = place.engine.inspect_container(&like.id.0, none).await.unwrap().host_config;
    for (input, code) in [
        (&b"TCF1\0\0\0\x08\0\0\0\0\0\0\0\0"[..], 0),
        (b"TCF1\0\0\0\x09\0\0\0\0\0\0\0\0", 125),
        (b"TCF1\0\0\0\x08\0\0\0\x01\0\0\0\0", 125),
        (b"TCF1\xff\xff\xff\xff", 125),
        (b"{\"jsonrpc\": \"2.0\"}\n", 125),
        (b"", 125),
    ] {
        let body = bollard::models::ContainerCreateBody {
            image: Some(BUSYBOX.to_owned()),
            entrypoint: Some(
                ["/.toolcrib/crib-init", "run", "--frame", "--", "true"].map(str::to_owned).to_vec(),
            ),
            labels: Some([("dev.toolcrib/owner".to_owned(), place.owner.clone())].into()),
            host_config: host.clone(),
            open_stdin: Some(true),
            stdin_once: Some(true),
            ..bollard::models::ContainerCreateBody::default()
        };
        let id = place.engine.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
        let options = AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stream(true).build();
        let mut attached = place.engine.attach_container(&id, Some(options)).await.unwrap();
        place.engine.start_container(&id, None::<StartContainerOptions>).await.unwrap();
        attached.input.write_all(input).await.unwrap();
        attached.input.shutdown().await.unwrap();
        let mut ended = place.engine.wait_container(&id, None::<WaitContainerOptions>);
        let ended = match within(ended.next()).await.unwrap() {
            Ok(ended) => ended.status_code,
            Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(ended, code, "{input:?}");
        place.engine.remove_container(&id, None).await.unwrap();
    }
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_workload_and_nothing_else() {
    let place = Place::new("secrets").await;
    let script = "echo $TOKEN; cat /run/toolcrib/key; ls -ln /run/toolcrib/key; ls -ldn /run/toolcrib; \
                  tr '\\0' '\\n' < /proc/1/environ | grep -c 'canar[y]'; echo $PLAIN; echo oops $TOKEN >&2; cat";
    let mut workload = workload(BUSYBOX, &["sh", "-c", script], Transport::Stdio);
    let plain = toolcrib::resource::EnvValue::Literal("literal".to_owned());
    workload.env.insert("PLAIN".to_owned(), plain);
    let material = || {
        let mut material = Material::default();
        material.env.insert("TOKEN".to_owned(), secret("canary-env-3141"));
        material.env.insert("PLAIN".to_owned(), secret("literal"));
        material.files.insert("key".to_owned(), secret("canary-file-2718\n"));
        material.secrets = vec![secret("canary-env-3141"), secret("canary-file-2718\n")];
        material
    };
    let instance = place.start(&workload, material()).await;
    let mut spoken = Spoken::new(place.runner.connect(&instance.id).await.unwrap());
    let mut lines = Vec::new();
    for _ in 0..6 {
        lines.push(within(spoken.lines.next_line()).await.unwrap().unwrap());
    }
    assert_eq!(&lines[..2], ["canary-env-3141", "canary-file-2718"]);
    assert!(lines[2].starts_with("-r--------") && lines[2].contains(" 65534 "), "{lines:?}");
    assert!(lines[3].starts_with("drwx------") && lines[3].contains(" 65534 "), "{lines:?}");
    assert_eq!(&lines[4..], ["0", "literal"]);
    // What follows the frame is the server's own.
    assert_eq!(spoken.say("{\"a\": 1}").await.as_deref(), Some("{\"a\": 1}"));

    let log = log(&place, &instance, "oops").await;
    assert!(!log.contains("canary"), "{log}");
    let none = None::<bollard::query_parameters::InspectContainerOptions>;
    let inspected = place.engine.inspect_container(&instance.id.0, none).await.unwrap();
    assert!(!format!("{inspected:?}").contains("canary"));
    let root = place.engine.info().await.unwrap().docker_root_dir.unwrap();
    let folder = std::path::Path::new(&root).join("containers").join(&instance.id.0);
    let mut read = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            #[expect(clippy::disallowed_methods, reason = "looks for the canary in the engine's files")]
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"canary"), "{}", path.display());
            read += 1;
        }
    }
    assert!(read > 2, "{} holds the container's configuration", folder.display());

    let mut run = one_run(place.name("run"), BUSYBOX, &["sh", "-c", "echo $TOKEN; cat /run/toolcrib/key -"]);
    run.material = material();
    run.stdin = Some(bytes::Bytes::from("the input"));
    let run = place.run(run).await;
    assert_eq!(run.stdout, "canary-env-3141\ncanary-file-2718\nthe input", "{run:?}");

    workload.transport = http();
    workload.program =
        program(BUSYBOX, &["sh", "-c", "cat /run/toolcrib/key - >&2; echo end; exec sleep 1000"]);
    place.runner.stop(&instance.id, Duration::ZERO).await.unwrap();
    let served = place.start(&workload, material()).await;
    // Standard input ends after the frame, so `cat` ends.
    let log = self::log(&place, &served, "end").await;
    assert!(!log.contains("canary") && log.contains("[secret]"), "{log}");

    // Another process does not know the secrets, so it keeps nothing of what is said.
    let later = runner(&place.owner, true);
    later.connect(&served.id).await.unwrap();
    assert!(later.logs(&served.id).await.unwrap().contains("not kept"));
    place.finish().await;
}
