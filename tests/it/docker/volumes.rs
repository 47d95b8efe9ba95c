//! Volumes: written by whoever mounts them, kept whatever becomes of that, removed when somebody asks.

use serde_json::json;
use toolcrib::resource::workload::{Mounts, Security, Volume};

use super::daemon::{Crib, STARTED};
use super::*;
use crate::follow::{call, names, resource, text};
use crate::support::wait_for;

fn mounts(path: &str, volume: &str, read_only: bool) -> Mounts {
    Mounts::from([(path.to_owned(), Volume { name: Name::parse(volume).unwrap(), read_only })])
}

impl Place {
    async fn mounting(&self, suffix: &str, script: &str, mounts: Mounts, user: &str) -> Output {
        let mut run = one_run(self.name(suffix), BUSYBOX, &["sh", "-c", script]);
        run.security = Arc::new(Security { user: user.to_owned(), ..Security::default() });
        run.volumes = Arc::new(mounts);
        self.run(run).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_its_users_and_outlives_what_mounts_it() {
    let place = Place::new("volume").await;
    // `/etc` holds files of the image: they are none of the volume's.
    let script = "ls -A /etc/data; stat -c '%u:%g %a' /etc/data; id -u; echo kept > /etc/data/x; touch /y";
    let first = place.mounting("first", script, mounts("/etc/data", "data", false), "1234:4321").await;
    assert_eq!(first.stdout, "1234:4321 777\n1234\n", "{first:?}");
    assert!(first.stderr.contains("/y: Read-only file system"), "{first:?}");

    let script = "cat /data/x; echo no > /data/x; echo z > /data/z; stat -c %u:%g /data";
    let other = place.mounting("other", script, mounts("/data", "data", false), "65534:65534").await;
    assert_eq!((other.stdout.as_str(), other.code), ("kept\n1234:4321\n", Some(0)), "{other:?}");
    assert!(other.stderr.contains("Permission denied"), "another user's file: {other:?}");
    let script = "cat /data/x /data/z; echo no > /data/w";
    let reads = place.mounting("reads", script, mounts("/data", "data", true), "65534:65534").await;
    assert_eq!(reads.stdout, "kept\nz\n", "{reads:?}");
    assert!(reads.stderr.contains("Read-only file system"), "{reads:?}");
    let named =
        place.mounting("named", "touch /data/w && echo done", mounts("/data", "named", false), "nobody");
    assert_eq!(named.await.stdout, "done\n");

    let script = ["sh", "-c", "cat /data/x; exec cat"];
    let mut workload = workload(BUSYBOX, &script, Transport::Stdio);
    workload.volumes = mounts("/data", "data", false);
    let server = place.start(&workload, Material::default()).await;
    let mut spoken = Spoken::new(place.runner.connect(&server.id).await.unwrap());
    assert_eq!(within(spoken.lines.next_line()).await.unwrap().as_deref(), Some("kept"));
    let (data, named) = (Name::parse("data").unwrap(), Name::parse("named").unwrap());
    let both = BTreeSet::from([data.clone(), named.clone()]);
    assert_eq!(place.runner.volumes().await.unwrap(), both);
    let twin = Settings {
        name: Name::parse("twin").unwrap(),
        host: host(),
        owner: place.owner.clone(),
        clean: false,
    };
    assert!(DockerRunner::new(twin).volumes().await.unwrap().is_empty(), "another runner has its own");

    let refused = place.runner.remove_volume(&data).await.unwrap_err();
    assert!(refused.chain().contains("a container mounts it"), "{}", refused.chain());
    place.runner.stop(&server.id, Duration::ZERO).await.unwrap();
    // Another process does not make it anew.
    let later = runner(&place.owner, false);
    let server = within(later.start(&identity(&place.name("later")), &workload, Material::default())).await;
    let server = server.unwrap();
    let mut spoken = Spoken::new(later.connect(&server.id).await.unwrap());
    assert_eq!(within(spoken.lines.next_line()).await.unwrap().as_deref(), Some("kept"));
    later.stop(&server.id, Duration::ZERO).await.unwrap();
    for name in [&data, &named, &named] {
        place.runner.remove_volume(name).await.unwrap();
    }
    assert!(place.runner.volumes().await.unwrap().is_empty());
    let again = place.mounting("again", "ls -A /data; echo end", mounts("/data", "data", false), "1:1").await;
    assert_eq!(again.stdout, "end\n", "{again:?}");
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_somebody_else_is_neither_mounted_nor_removed() {
    use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};
    let place = Place::new("foreign-volume").await;
    let said = place.mounting("first", "echo mine > /data/x", mounts("/data", "data", false), "1:1").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let label = format!("dev.toolcrib/owner={}", place.owner);
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = place.engine.list_volumes(Some(options)).await.unwrap().volumes.unwrap();
    let called = listed.iter().map(|volume| volume.name.clone()).collect::<Vec<_>>();
    let [called] = called.as_slice() else { panic!("one volume: {called:?}") };

    let data = Name::parse("data").unwrap();
    place.runner.remove_volume(&data).await.unwrap();
    let theirs = bollard::models::VolumeCreateRequest { name: Some(called.clone()), ..Default::default() };
    place.engine.create_volume(theirs).await.unwrap();
    let mut run = one_run(place.name("refused"), BUSYBOX, &["true"]);
    run.volumes = Arc::new(mounts("/data", "data", false));
    let refused = within(place.runner.run(run)).await.err().unwrap();
    assert!(refused.chain().contains("it is not ours"), "{}", refused.chain());
    assert!(place.runner.remove_volume(&data).await.is_err());
    place.engine.remove_volume(called, None::<RemoveVolumeOptions>).await.unwrap();
    place.finish().await;
}

/// A server that appends what it is told to a file, and says what is in it.
const NOTES: &str = r#"
from fastmcp import FastMCP
mcp = FastMCP("notes")
@mcp.tool
def note(text: str) -> str:
    """Takes a note and reads all of them."""
    with open("/data/notes", "a+") as notes:
        notes.write(text)
        notes.seek(0)
        return notes.read()
mcp.run(show_banner=False)
"#;

fn manifest(server: Option<usize>) -> String {
    let runner =
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: local}\nspec: {docker: {}}\n";
    let Some(version) = server else { return runner.to_owned() };
    let image = json!({"ref": "toolcrib.test/fastmcp:1", "command": ["python", "-c", NOTES]});
    format!(
        "{runner}---\napiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: notes}}\nspec:\n  \
         source: {{image: {image}}}\n  startupTimeout: 3m\n  env: {{VERSION: v{version}}}\n  \
         volumes: {{/data: notes}}\n  \
         tests: [{{name: notes, tool: note, arguments: {{text: \"\"}}}}]\n"
    )
}

#[test]
fn a_server_finds_its_notes_in_every_version_and_nobody_but_a_person_removes_them() {
    let crib = Crib::new();
    let state = crib.env.state();
    let volumes =
        |args: &[&str]| crib.env.run(&[&["volumes"], args, &["--state", state.to_str().unwrap()]].concat());
    crib.env.repo().write("crib.yaml", &manifest(Some(1))).commit("notes");
    let plan = crib.env.run(&["plan", "--repo", "."]);
    assert!(plan.stdout.contains("does not run; makes volume notes"), "{}", plan.all());
    let tested = crib.env.run(&["test"]);
    assert!(tested.code == 0 && tested.stdout.contains("1 passed"), "{}", tested.all());
    assert_eq!(crib.volumes("toolcrib-test-"), 0, "tests leave none");

    let daemon = crib.daemon();
    let note = |said: &str| text(&call(&daemon, "notes_note", json!({"text": said}))).to_owned();
    let ready = || names(&daemon).contains(&"notes_note".to_owned()).then_some(());
    wait_for("the server", STARTED, ready);
    assert_eq!(note("a"), "a");
    crib.env.repo().write("crib.yaml", &manifest(Some(2))).commit("another version");
    let first = crib.env.repo().git(&["rev-parse", "HEAD"]);
    wait_for("the next version", STARTED, || {
        let status = resource(&crib.env, &daemon, "Server/notes");
        (status["conditions"].to_string().contains("Served") && daemon.log().contains(&first)).then_some(())
    });
    wait_for("the note of the version before", STARTED, || (note("") == "a").then_some(()));
    let log = daemon.log();
    let last = |part: &str| log.rfind(part).unwrap_or_else(|| panic!("{part}: {log}"));
    assert!(last("stopped") < last("starting"), "one at a time: {log}");

    let listed = volumes(&["list"]);
    assert!(
        listed.stdout.contains("local/notes") && listed.stdout.contains("Server/notes"),
        "{}",
        listed.all()
    );
    let refused = volumes(&["delete", "local/notes"]);
    assert!(refused.code == 1 && refused.all().contains("declared by Server/notes"), "{}", refused.all());

    crib.env.repo().write("crib.yaml", &manifest(None)).commit("no notes");
    wait_for("the server to go", STARTED, || crib.seen().is_empty().then_some(()));
    let plan = wait_for("nothing to do", STARTED, || {
        let plan = crib.env.run(&["plan", "--admin", daemon.admin_address(), "--exit-code"]);
        (plan.code == 0).then_some(plan)
    });
    assert!(plan.stdout.contains("Volume local/notes is kept with its data"), "{}", plan.all());
    crib.env.repo().write("crib.yaml", &manifest(Some(3))).commit("notes again");
    wait_for("the server again", STARTED, ready);
    assert_eq!(note("b"), "ab");

    crib.env.repo().write("crib.yaml", &manifest(None)).commit("no notes any more");
    wait_for("the server to go", STARTED, || crib.seen().is_empty().then_some(()));
    let deleted = volumes(&["delete", "local/notes"]);
    assert_eq!(deleted.code, 0, "{}", deleted.all());
    assert_eq!((volumes(&["list"]).stdout.as_str(), crib.volumes(&crib.owner)), ("No volumes.\n", 0));
    let missing = volumes(&["delete", "local/notes"]);
    assert!(missing.code == 1 && missing.all().contains("there is none of that name"), "{}", missing.all());
}
