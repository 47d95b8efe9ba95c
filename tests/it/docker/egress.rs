//! What containers reach outside: what is declared, by its name, and nothing else.
//!
//! The place to reach is a container on the network of forwarders, under the name of a host.

use bollard::models::{ContainerCreateBody, EndpointSettings, HostConfig, NetworkingConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, InspectNetworkOptions, KillContainerOptions,
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions,
};
use toolcrib::resource::workload::Egress;

use super::confinement::log;
use super::*;

const PYTHON: &str = "toolcrib.test/python:3.11";
pub(super) const HOST: &str = "api.example.test";

fn to(places: &[&str]) -> Arc<[Egress]> {
    places.iter().map(|place| Egress::parse(place).unwrap()).collect()
}

/// A program of Python that may reach these places.
pub(super) fn program_run(place: &Place, suffix: &str, places: &[&str], script: &str) -> Run {
    let mut run = one_run(place.name(suffix), PYTHON, &["python3", "-c", script]);
    run.egress = to(places);
    run
}

/// Containers of a role.
async fn ids(place: &Place, role: &str) -> Vec<String> {
    let labels = [format!("dev.toolcrib/owner={}", place.owner), format!("dev.toolcrib/role={role}")];
    let filters = std::collections::HashMap::from([("label".to_owned(), labels.to_vec())]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = place.engine.list_containers(Some(options)).await.unwrap();
    listed.into_iter().map(|one| one.id.unwrap()).collect()
}

/// The forwarder, of which there is one.
async fn only(place: &Place) -> String {
    let mut ids = ids(place, "egress").await;
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids.remove(0)
}

async fn volumes(place: &Place) -> usize {
    let labels = [format!("dev.toolcrib/owner={}", place.owner), "dev.toolcrib/role=egress".to_owned()];
    let filters = std::collections::HashMap::from([("label".to_owned(), labels.to_vec())]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    place.engine.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default().len()
}

/// Something to reach: what it was sent up to the end, in capitals, then its own end. On two ports.
const SHOUTER: &str = "
import socketserver, threading
class Shout(socketserver.BaseRequestHandler):
    def handle(self):
        said = b''
        while piece := self.request.recv(65536):
            said += piece
        self.request.sendall(said.upper())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 64
other = Server(('0.0.0.0', 8443), Shout)
threading.Thread(target=other.serve_forever, daemon=True).start()
server = Server(('0.0.0.0', 443), Shout)
print('listening', flush=True)
server.serve_forever()
";

/// In a container: says something to a host and port, and what came back.
pub(super) const CLIENT: &str = "
import socket
def say(host, port, text=b'hello', patience=5):
    try:
        with socket.create_connection((host, port), patience) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            back = b''
            while piece := connection.recv(65536):
                back += piece
            return back.decode()
    except OSError as error:
        return type(error).__name__
";

/// Starts the place to reach.
pub(super) async fn shouter(place: &Place) -> Shouter {
    // The network is made by whoever needs it first.
    let first = program_run(place, "first", &["nowhere.example.test"], "print('ran')");
    assert_eq!(place.run(first).await.stdout, "ran\n");
    let forwarder = ids(place, "egress").await.remove(0);
    let seen = place.engine.inspect_container(&forwarder, None::<InspectContainerOptions>).await.unwrap();
    let network = seen.network_settings.unwrap().networks.unwrap().into_keys().next().unwrap();
    let aliases = Some(vec![HOST.to_owned()]);
    let endpoint = EndpointSettings { aliases, ..EndpointSettings::default() };
    let body = ContainerCreateBody {
        image: Some(PYTHON.to_owned()),
        cmd: Some(["python3", "-c", SHOUTER].map(str::to_owned).to_vec()),
        // Of this owner, and of none of its runners: no sweep takes it away.
        labels: Some([("dev.toolcrib/owner".to_owned(), place.owner.clone())].into()),
        host_config: Some(HostConfig { network_mode: Some(network.clone()), ..HostConfig::default() }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(network.clone(), endpoint)].into()),
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&place.name("shouter")).build();
    let id = place.engine.create_container(Some(options), body).await.unwrap().id;
    place.engine.start_container(&id, None::<StartContainerOptions>).await.unwrap();
    let seen = place.engine.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap();
    let address =
        seen.network_settings.unwrap().networks.unwrap().remove(&network).unwrap().ip_address.unwrap();
    within(async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while tokio::net::TcpStream::connect((address.as_str(), 443)).await.is_err() {
            tick.tick().await;
        }
    })
    .await;
    Shouter { address, id }
}

pub(super) struct Shouter {
    address: String,
    id: String,
}

impl Shouter {
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn end(self, place: Place) {
        remove(&place, &self.id).await;
        place.finish().await;
    }
}

async fn remove(place: &Place, id: &str) {
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    place.engine.remove_container(id, Some(force)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_reaches_what_is_declared_and_nothing_else() {
    let place = Place::new("egress").await;
    let shouter = shouter(&place).await;
    let address = &shouter.address;
    let gateway = place
        .engine
        .inspect_network("bridge", None::<InspectNetworkOptions>)
        .await
        .unwrap()
        .ipam
        .and_then(|ipam| ipam.config?.into_iter().next()?.gateway)
        .unwrap_or_else(|| "172.17.0.1".to_owned());
    let script = format!(
        "{CLIENT}
import os
print(say('{HOST}', 443))
print(say('{}', 443))
print(len(say('{HOST}', 443, b'x' * 5_000_000)))
print(say('{HOST}', 8443), say('{HOST}', 22))
print(say('{address}', 443), say('{gateway}', 2375), say('198.51.100.1', 443, patience=2))
print(say('other.example.test', 443), say('nowhere.example.test', 443))
print(sorted(os.listdir('/sys/class/net')))
try: socket.socket(socket.AF_UNIX).bind('/.toolcrib-egress/9')
except OSError as error: print(error.strerror)
",
        HOST.to_uppercase()
    );
    let said = place.run(program_run(&place, "a", &[&format!("{HOST}:443")], &script)).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    insta::assert_snapshot!(said.stdout, @r"
    HELLO
    HELLO
    5000000
    ConnectionRefusedError ConnectionRefusedError
    OSError OSError OSError
    gaierror gaierror
    ['lo']
    Read-only file system
    ");
    shouter.end(place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_told_and_addresses_are_judged_where_they_are_dialled() {
    let place = Place::new("judged").await;
    let mut run = program_run(&place, "a", &[], "");
    // Not what a manifest may say, but what a name may lead to.
    run.egress = to(&["127.0.0.1:1", "169.254.169.254:80", "nowhere.example.test:443"]);
    let script = "[print(say(host, port)) for host, port in (('127.0.0.1', 1), ('127.84.0.1', 1), ('127.84.0.2', 80), ('nowhere.example.test', 443))]";
    run.program = program(PYTHON, &["python3", "-c", &format!("{CLIENT}\n{script}")]);
    let said = place.run(run).await;
    let refused = "ConnectionResetError\n";
    assert_eq!(said.stdout, format!("ConnectionRefusedError\n{}", refused.repeat(3)), "{said:?}");
    for part in [
        "cannot reach 127.0.0.1:1: 127.0.0.1 is an address that is never dialled",
        "cannot reach 169.254.169.254:80: 169.254.169.254 is an address that is never dialled",
        "cannot reach nowhere.example.test:443: failed to lookup address",
    ] {
        assert!(said.stderr.contains(part), "{said:?}");
    }
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_of_the_engine_is_reached_by_its_name() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let place = Place::new("machine").await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        stream.write_all(b"from the machine").await.unwrap();
        said
    });
    let script = format!("{CLIENT}\nprint(say('host.docker.internal', {port}))");
    let said = place.run(program_run(&place, "a", &[&format!("host.docker.internal:{port}")], &script)).await;
    assert_eq!(said.stdout, "from the machine\n", "{said:?}");
    assert_eq!(within(served).await.unwrap(), "hello");
    place.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_set_has_one_forwarder_which_is_made_again_and_goes_when_nobody_wants_it() {
    let place = Place::new("shared").await;
    let shouter = shouter(&place).await;
    let mine = [format!("{HOST}:443")];
    let mine: Vec<&str> = mine.iter().map(String::as_str).collect();
    let script = format!("{CLIENT}\nprint(say('{HOST}', 443))");
    let runs = ["a", "b", "c", "d"].map(|suffix| place.run(program_run(&place, suffix, &mine, &script)));
    for said in futures::future::join_all(runs).await {
        assert_eq!(said.stdout, "HELLO\n", "{said:?}");
    }
    // Those at once share theirs; the one the target was found by is another set.
    assert_eq!((ids(&place, "egress").await.len(), volumes(&place).await), (2, 2));
    let wanted = BTreeSet::from([to(&mine)]);
    place.runner.keep_egress(&wanted).await.unwrap();
    let forwarder = only(&place).await;

    // Killed, or taken away: the next call has it again, and another daemon finds it.
    place.engine.kill_container(&forwarder, None::<KillContainerOptions>).await.unwrap();
    assert_eq!(place.run(program_run(&place, "e", &mine, &script)).await.stdout, "HELLO\n");
    let again = ids(&place, "egress").await;
    remove(&place, &again[0]).await;
    assert_eq!(place.run(program_run(&place, "f", &mine, &script)).await.stdout, "HELLO\n");
    let last = ids(&place, "egress").await;
    let later = runner(&place.owner, false);
    let running = within(later.run(program_run(&place, "g", &mine, &script))).await.unwrap();
    assert_eq!(within(output(running)).await.stdout, "HELLO\n");
    assert_eq!(ids(&place, "egress").await, last);

    later.close().await;
    place.runner.keep_egress(&BTreeSet::new()).await.unwrap();
    assert_eq!((ids(&place, "egress").await.len(), volumes(&place).await), (0, 0));
    shouter.end(place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_over_both_transports_reach_what_is_declared_after_a_restart_too() {
    let place = Place::new("reaching").await;
    let shouter = shouter(&place).await;
    let talk = format!("{CLIENT}\nwhile True:\n    input()\n    print(say('{HOST}', 443), flush=True)");
    let mut spoken = workload(PYTHON, &["python3", "-c", &talk], Transport::Stdio);
    spoken.egress = to(&[&format!("{HOST}:443")]);
    let spoken = place.start(&spoken, Material::default()).await;
    let mut ends = Spoken::new(place.runner.connect(&spoken.id).await.unwrap());
    assert_eq!(ends.say("go").await.as_deref(), Some("HELLO"));

    let serve = format!(
        "{CLIENT}
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(say('{HOST}', 443).encode() + b' ' + say('{HOST}', 8443).encode())
http.server.HTTPServer(('0.0.0.0', 8000), Handler).serve_forever()
"
    );
    let mut web = workload(PYTHON, &["python3", "-c", &serve], http());
    web.resource.name = Name::parse("web").unwrap();
    web.egress = to(&[&format!("{HOST}:443")]);
    let web = place.start(&web, Material::default()).await;
    let Channel::Http { url } = place.runner.connect(&web.id).await.unwrap() else { panic!("not http") };
    assert!(super::servers::get(&url).await.ends_with("HELLO ConnectionRefusedError"));

    // They have the same set: one forwarder for both, which is theirs whatever is wanted.
    place.runner.keep_egress(&BTreeSet::new()).await.unwrap();
    let forwarder = only(&place).await;
    assert_eq!(ends.say("go").await.as_deref(), Some("HELLO"));

    // Taken away while they run: what sweeps brings it back, in this process and the next.
    remove(&place, &forwarder).await;
    assert_eq!(ends.say("go").await.as_deref(), Some("ConnectionResetError"));
    let later = runner(&place.owner, false);
    later.sweep().await.unwrap();
    later.close().await;
    assert_eq!(ends.say("go").await.as_deref(), Some("HELLO"));
    assert!(super::servers::get(&url).await.ends_with("HELLO ConnectionRefusedError"));
    let told = log(&place, &spoken, "cannot be reached").await;
    assert!(told.contains("crib-init: the forwarder cannot be reached"), "{told}");
    shouter.end(place).await;
}

/// A tool and a server over HTTP that reach one port of this machine, or do not.
fn manifest(port: Option<u16>) -> String {
    let egress = port.map(|port| format!("  egress: ['host.docker.internal:{port}']\n")).unwrap_or_default();
    let port = port.unwrap_or(1);
    format!(
        "apiVersion: toolcrib.dev/v1alpha1
kind: Runner
metadata: {{name: local}}
spec: {{docker: {{}}}}
---
apiVersion: toolcrib.dev/v1alpha1
kind: Server
metadata: {{name: web}}
spec:
  source: {{image: 'toolcrib.test/fastmcp:1'}}
  transport: {{type: streamable-http, port: 8000}}
  env: {{MCP_TRANSPORT: http}}
  startupTimeout: 3m
  tools: {{include: [environment]}}
{egress}---
apiVersion: toolcrib.dev/v1alpha1
kind: Tool
metadata: {{name: reach}}
spec:
  description: Reaches this machine.
  image: {PYTHON}
  command: [python3, -c, \"import socket; print(socket.create_connection(('host.docker.internal', {port}), 5).recv(99).decode())\"]
{egress}"
    )
}

#[test]
fn a_daemon_finds_its_forwarder_after_a_kill_and_removes_it_with_the_last_who_declares_it() {
    use crate::follow::{call, text, wait_for_names};
    use crate::support::{Daemon, wait_for};
    use std::io::Write as _;

    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // Whoever went away needs no greeting.
            let _ = stream.write_all(b"greetings");
        }
    });
    let crib = super::daemon::Crib::new();
    let daemon = || {
        let mut command = crib.command();
        command.args(["--interval", "1s"]);
        Daemon::start(command)
    };
    let reached = |daemon: &Daemon| {
        let result = call(daemon, "reach", serde_json::json!({}));
        assert!(result["isError"] != true && text(&result).contains("greetings"), "{result}");
    };
    crib.env.repo().write("crib.yaml", &manifest(Some(port))).commit("reaches");
    let first = daemon();
    wait_for_names(&first, &["reach", "web_environment"]);
    reached(&first);
    let forwarders = crib.forwarders();
    assert_eq!(forwarders.len(), 1, "one for the server and the tool");
    first.kill();

    let second = daemon();
    wait_for_names(&second, &["reach", "web_environment"]);
    reached(&second);
    assert_eq!(crib.forwarders(), forwarders);

    crib.env.repo().write("crib.yaml", &manifest(None)).commit("reaches nothing");
    wait_for("the forwarder to go", super::daemon::STARTED, || crib.forwarders().is_empty().then_some(()));
    wait_for("the tool to reach nothing", super::daemon::STARTED, || {
        let result = call(&second, "reach", serde_json::json!({}));
        (result["isError"] == true && result.to_string().contains("gaierror")).then_some(())
    });
}
