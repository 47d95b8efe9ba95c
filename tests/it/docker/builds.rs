//! Images of our own.

use std::sync::Mutex;

use bytes::Bytes;
use toolcrib::build::{BuildSpec, Context, Dockerfile};
use toolcrib::manifest::{BlobId, Mode, RepoPath, TreeEntry};
use toolcrib::ports::{BuildFiles, BuildInput, Disposition, PortResult};

use super::*;

/// What is still built when nobody wants it any more.
const STEP: &str = "sleep 612";

fn spec(place: &Place, files: &[(&str, &str)]) -> (BuildSpec, BuildInput) {
    let digest = Digest::of("it", &(&place.owner, files));
    let listed: BTreeMap<_, _> = files
        .iter()
        .map(|(path, contents)| {
            let entry = TreeEntry { mode: Mode::File, id: BlobId([0; 20]) };
            (RepoPath::parse(path).unwrap(), (entry, Bytes::from((*contents).to_owned())))
        })
        .collect();
    let contents = listed.values().map(|(_, contents)| contents.clone()).collect();
    let files = listed.into_iter().map(|(path, (entry, _))| (path, entry)).collect();
    let spec = BuildSpec {
        digest,
        resource: ResourceId::new(Kind::Server, Name::parse("built").unwrap()),
        context: Context::Snapshot { files },
        dockerfile: Dockerfile::InContext(RepoPath::parse("Dockerfile").unwrap()),
        helpers: BTreeMap::new(),
        target: None,
        args: BTreeMap::from([("SAY".to_owned(), "argued".to_owned())]),
        network: Some("none".to_owned()),
        ca: None,
        tag: format!("toolcrib.local/built:{}", digest.hex()),
    };
    (spec, BuildInput { files: BuildFiles::Snapshot(contents), ca: None })
}

/// Builds; the lines of progress.
async fn build(
    place: &Place,
    spec: &BuildSpec,
    input: &BuildInput,
    rebuild: bool,
) -> PortResult<Vec<String>> {
    let lines = Mutex::new(Vec::new());
    let progress = |line: &str| lines.lock().unwrap().push(line.to_owned());
    within(place.runner.build(spec, input.clone(), rebuild, &progress)).await?;
    Ok(lines.into_inner().unwrap())
}

async fn id(place: &Place, spec: &BuildSpec) -> Option<String> {
    place.engine.inspect_image(&spec.tag).await.ok()?.id
}

const GOOD: &str = "FROM toolcrib.test/busybox:1\nARG SAY\nRUN echo $SAY > /said && date +%s%N > /when\n\
                    COPY text /text\nLABEL dev.toolcrib/owner=somebody\nVOLUME /data\n\
                    CMD [\"sh\", \"-c\", \"cat /said /text; grep /data /proc/mounts; touch /data/x && echo written\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_built_once_and_its_image_runs() {
    let place = Place::new("build").await;
    let (spec, input) = spec(&place, &[("Dockerfile", GOOD), ("text", "from the snapshot\n")]);
    assert!(!place.runner.built(&spec).await.unwrap());
    let (one, other) = tokio::join!(build(&place, &spec, &input, false), build(&place, &spec, &input, false));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.iter().any(|line| line.contains("echo $SAY")), "{one:?}");
    assert_eq!(one, other, "both heard the same build");
    assert!(place.runner.built(&spec).await.unwrap());
    let first = id(&place, &spec).await;

    let again = runner(&place.owner, false);
    assert!(again.built(&spec).await.unwrap());
    assert!(build(&place, &spec, &input, false).await.unwrap().is_empty());
    assert_eq!(id(&place, &spec).await, first);

    let said = place.run(one_run(place.name("run"), &spec.tag, &[])).await;
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(&lines[..2], ["argued", "from the snapshot"], "{said:?}");
    // A volume of the image is memory of the container: nothing is left on the engine.
    assert!(lines[2].starts_with("tmpfs /data") && lines[3] == "written", "{said:?}");

    build(&place, &spec, &input, true).await.unwrap();
    assert_ne!(id(&place, &spec).await, first);
    assert!(place.engine.inspect_image(&first.unwrap()).await.is_err(), "the old image is removed");

    place.runner.collect(&BTreeSet::from([spec.digest])).await.unwrap();
    assert!(place.runner.built(&spec).await.unwrap());
    place.runner.collect(&BTreeSet::new()).await.unwrap();
    assert!(!place.runner.built(&spec).await.unwrap());
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_builds_say_why_and_whether_to_try_again() {
    let place = Place::new("failing").await;
    for (dockerfile, disposition, part) in [
        (
            "FROM toolcrib.test/busybox:1\nRUN echo the reason; exit 3\n",
            Disposition::Retry,
            "returned a non-zero code: 3",
        ),
        ("FROM toolcrib.test/busybox:1\nRUNN true\n", Disposition::Stalled, "unknown instruction: RUNN"),
        ("FROM toolcrib.test/none:1\n", Disposition::Retry, "toolcrib.test"),
        ("\n", Disposition::Stalled, "file with no instructions"),
        ("FROM toolcrib.test/busybox:1\nCOPY nosuch /\n", Disposition::Retry, "nosuch"),
    ] {
        let (spec, input) = spec(&place, &[("Dockerfile", dockerfile)]);
        let error = build(&place, &spec, &input, false).await.unwrap_err();
        assert_eq!(error.operation, "failed to build the image of `Server/built`");
        assert!(error.chain().contains(part), "{}", error.chain());
        assert_eq!(error.disposition, disposition, "{}", error.chain());
        if dockerfile.contains("reason") {
            assert!(error.detail.unwrap().contains("\nthe reason\n"));
        }
        assert!(!place.runner.built(&spec).await.unwrap());
    }
    let (mut spec, input) = spec(&place, &[("Dockerfile", GOOD), ("text", "")]);
    spec.dockerfile = Dockerfile::InContext(RepoPath::parse("other/Dockerfile").unwrap());
    let error = build(&place, &spec, &input, false).await.unwrap_err();
    assert_eq!(error.disposition, Disposition::Stalled, "{}", error.chain());
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_ends_in_the_engine_when_nobody_waits_for_it() {
    let place = Place::new("preempted").await;
    let dockerfile = &format!("FROM toolcrib.test/busybox:1\nRUN {STEP}\n");
    let (spec, input) = spec(&place, &[("Dockerfile", dockerfile)]);
    let begun = tokio::sync::Notify::new();
    let progress = |_: &str| begun.notify_one();
    tokio::select! {
        ended = place.runner.build(&spec, input.clone(), false, &progress) => panic!("not preempted: {ended:?}"),
        () = async {
            begun.notified().await;
            within(async { while !building(&place).await {} }).await;
        } => {}
    }
    assert!(!place.runner.built(&spec).await.unwrap());
    within(async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while building(&place).await {
            tick.tick().await;
        }
    })
    .await;
    place.finish().await;
}

/// Whether the engine has a container of the step that is built, which has no labels.
async fn building(place: &Place) -> bool {
    let filters = std::collections::HashMap::from([("status".to_owned(), vec!["running".to_owned()])]);
    let options =
        bollard::query_parameters::ListContainersOptionsBuilder::default().filters(&filters).build();
    let listed = place.engine.list_containers(Some(options)).await.unwrap();
    listed.iter().any(|container| container.command.as_ref().is_some_and(|command| command.contains(STEP)))
}
