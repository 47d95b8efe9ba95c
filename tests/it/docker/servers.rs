//! Servers: speaking, finding again, ending.

use std::collections::HashMap;

use bollard::query_parameters::ListNetworksOptionsBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use toolcrib::live::InstanceState;

use super::confinement::log;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stdio_server_is_spoken_to_and_found_again_after_a_clean_stop() {
    let place = Place::new("stdio").await;
    let script = ["sh", "-c", "echo hello; exec cat"];
    let server = place.start(&workload(BUSYBOX, &script, Transport::Stdio), Material::default()).await;
    let found = place.runner.observe().await.unwrap();
    assert_eq!(found, std::slice::from_ref(&server));
    assert!(server.adoptable);
    let twin = Settings {
        name: Name::parse("twin").unwrap(),
        host: host(),
        owner: place.owner.clone(),
        clean: true,
    };
    assert!(DockerRunner::new(twin).observe().await.unwrap().is_empty(), "another runner, the same engine");

    let mut spoken = Spoken::new(place.runner.connect(&server.id).await.unwrap());
    // What was said before anybody connected is there.
    assert_eq!(spoken.say("one").await.as_deref(), Some("hello"));
    assert_eq!(within(spoken.lines.next_line()).await.unwrap().as_deref(), Some("one"));
    assert!(place.runner.observe().await.unwrap()[0].adoptable);
    // A second connection could hear a late answer to the first.
    assert!(place.runner.connect(&server.id).await.is_err());
    drop(spoken);
    assert!(!place.runner.observe().await.unwrap()[0].adoptable);
    place.runner.close().await;

    let unclean = runner(&place.owner, false);
    let found = unclean.observe().await.unwrap();
    assert_eq!((found[0].id.clone(), found[0].adoptable), (server.id.clone(), false));
    assert!(unclean.connect(&server.id).await.is_err());

    let clean = runner(&place.owner, true);
    assert!(clean.observe().await.unwrap()[0].adoptable);
    let mut spoken = Spoken::new(clean.connect(&server.id).await.unwrap());
    assert_eq!(spoken.say("two").await.as_deref(), Some("two"));

    within(clean.stop(&server.id, Duration::from_secs(5))).await.unwrap();
    assert_eq!(within(spoken.lines.next_line()).await.unwrap(), None);
    within(clean.stop(&server.id, Duration::from_secs(5))).await.unwrap();
    assert!(clean.observe().await.unwrap().is_empty());
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_is_polite_and_sure() {
    let place = Place::new("stop").await;
    // As PID 1 itself, `sleep` would ignore SIGTERM.
    let polite =
        place.start(&workload(BUSYBOX, &["sleep", "1000"], Transport::Stdio), Material::default()).await;
    let stop = place.runner.stop(&polite.id, Duration::from_mins(5));
    within(stop).await.unwrap();

    let deaf = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"];
    let deaf = place.start(&workload(BUSYBOX, &deaf, Transport::Stdio), Material::default()).await;
    let mut spoken = Spoken::new(place.runner.connect(&deaf.id).await.unwrap());
    assert_eq!(within(spoken.lines.next_line()).await.unwrap().as_deref(), Some("deaf"));
    within(place.runner.stop(&deaf.id, Duration::from_secs(1))).await.unwrap();
    assert!(place.runner.observe().await.unwrap().is_empty());
    place.finish().await;
}

fn address(url: &str) -> &str {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap()
}

pub(super) async fn get(url: &str) -> String {
    let address = address(url).to_owned();
    within(async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Ok(mut stream) = tokio::net::TcpStream::connect(&address).await {
                stream.write_all(b"GET /mcp HTTP/1.0\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                return answer;
            }
        }
    })
    .await
}

/// The address of a server on the engine's usual network, which the outside is reached through. It
/// goes with the place.
async fn outside(place: &Place) -> String {
    use bollard::query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
    };
    let labels = [
        ("dev.toolcrib/owner", place.owner.as_str()),
        ("dev.toolcrib/runner", "local"),
        ("dev.toolcrib/role", "run"),
    ];
    let body = bollard::models::ContainerCreateBody {
        image: Some(BUSYBOX.to_owned()),
        cmd: Some(["httpd", "-f", "-p", "80", "-h", "/etc"].map(str::to_owned).to_vec()),
        labels: Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
        ..bollard::models::ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&place.name("outside")).build();
    let id = place.engine.create_container(Some(options), body).await.unwrap().id;
    place.engine.start_container(&id, None::<StartContainerOptions>).await.unwrap();
    let container = place.engine.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap();
    let mut networks = container.network_settings.unwrap().networks.unwrap();
    let url = format!("http://{}:80/passwd", networks.remove("bridge").unwrap().ip_address.unwrap());
    assert!(get(&url).await.contains("404"), "reached from here");
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn http_servers_are_reached_from_here_and_from_nowhere_else() {
    let place = Place::new("http").await;
    let script = "mkdir /tmp/www; echo served > /tmp/www/mcp; exec httpd -f -p 8000 -h /tmp/www";
    let mut workload = workload(BUSYBOX, &["sh", "-c", script], http());
    let first = place.start(&workload, Material::default()).await;
    let Channel::Http { url } = place.runner.connect(&first.id).await.unwrap() else { panic!("not http") };
    assert!(url.ends_with(":8000/mcp"), "{url}");
    assert!(get(&url).await.ends_with("served\n"));

    let outside = outside(&place).await;
    let probe = |address: &str| {
        let (host, port) = address.split_once(':').unwrap();
        format!("printf 'GET /mcp HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {host} {port} | grep HTTP; ")
    };
    let itself = format!("httpd -p 8001 -h /etc; {}", probe("127.0.0.1:8001"));
    let probes =
        [itself, probe(address(&url)), probe(address(&outside)), "echo end; exec sleep 1000".to_owned()];
    workload.program = program(BUSYBOX, &["sh", "-c", &probes.concat()]);
    workload.resource.name = Name::parse("second").unwrap();
    let second = place.start(&workload, Material::default()).await;
    let text = log(&place, &second, "end").await;
    assert_eq!(text.matches("HTTP/").count(), 1, "only itself: {text}");
    // What is beyond this machine cannot be tried here.
    let filters = HashMap::from([("label".to_owned(), vec![format!("dev.toolcrib/owner={}", place.owner)])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = place.engine.list_networks(Some(options)).await.unwrap();
    assert_eq!(networks.iter().map(|network| network.internal).collect::<Vec<_>>(), [Some(true)]);

    let later = runner(&place.owner, false);
    let found = later.observe().await.unwrap();
    assert!(found.len() == 2 && found.iter().all(|instance| instance.adoptable));
    let Channel::Http { url: again } = later.connect(&first.id).await.unwrap() else { panic!("not http") };
    assert_eq!(again, url);
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deaths_are_heard_of_and_seen() {
    let place = Place::new("events").await;
    let script = ["sh", "-c", "read line; echo last words >&2; exit 3"];
    let server = place.start(&workload(BUSYBOX, &script, Transport::Stdio), Material::default()).await;
    let mut spoken = Spoken::new(place.runner.connect(&server.id).await.unwrap());
    let dies = async {
        loop {
            place.runner.changed().await;
            let found = place.runner.observe().await.unwrap();
            if let InstanceState::Exited { code } = found[0].state {
                return code;
            }
        }
    };
    let (code, end) = tokio::join!(within(dies), spoken.say("die"));
    assert_eq!((code, end), (Some(3), None));
    assert_eq!(place.runner.logs(&server.id).await.unwrap(), "last words\n");
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_said_so_at_once() {
    let name = Name::parse("local").unwrap();
    let nowhere = Settings {
        name,
        host: "unix:///nonexistent/docker.sock".to_owned(),
        owner: "nobody".to_owned(),
        clean: true,
    };
    let runner = DockerRunner::new(nowhere);
    let unhealthy = runner.healthy().await.unwrap_err();
    assert!(unhealthy.hint.unwrap().contains("is Docker running?"));
    let unknown = runner.observe().await.unwrap_err();
    assert!(unknown.chain().contains("unix:///nonexistent/docker.sock"), "{}", unknown.chain());

    // One that accepts and never answers, and one that died and left its socket.
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| Settings {
        name: Name::parse("local").unwrap(),
        host: format!("unix://{}", folder.path().join(name).display()),
        owner: "nobody".to_owned(),
        clean: true,
    };
    let bind = |name: &str| tokio::net::UnixListener::bind(folder.path().join(name)).unwrap();
    drop(bind("dead.sock"));
    let error = within(DockerRunner::new(at("dead.sock")).observe()).await.unwrap_err();
    assert!(error.hint.as_deref().unwrap_or_default().contains("is Docker running?"), "{}", error.chain());
    let _mute = bind("mute.sock");
    let error = within(DockerRunner::new(at("mute.sock")).healthy()).await.unwrap_err();
    assert!(error.chain().contains("no answer within 2 s"), "{}", error.chain());
}
