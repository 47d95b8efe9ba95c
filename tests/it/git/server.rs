//! Git servers of this machine: smart HTTP through `git http-backend`, and ssh through sshd.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use tokio::io::AsyncWriteExt as _;

use crate::support::Port;

/// What the HTTP server does besides serving.
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    /// Bytes of all answers.
    pub(crate) sent: Arc<AtomicUsize>,
    _task: tokio::task::JoinSet<()>,
}

#[derive(Clone)]
struct Serving {
    root: PathBuf,
    address: SocketAddr,
    sent: Arc<AtomicUsize>,
}

impl Http {
    /// Serves the repositories below `root`: `/…` to everybody, `/private/…` to `user:hunter2`,
    /// `/away/…` with a redirect to another host, `/slow/…` never.
    pub(crate) async fn start(root: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let serving = Serving { root: root.to_owned(), address, sent: Arc::clone(&sent) };
        let router = Router::new().fallback(answer).with_state(serving);
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, sent, _task: task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

async fn answer(State(serving): State<Serving>, request: Request) -> Response<axum::body::Body> {
    let path = request.uri().path().to_owned();
    let plain = |status: StatusCode| Response::builder().status(status);
    if let Some(rest) = path.strip_prefix("/away") {
        let elsewhere = format!("http://localhost:{}{rest}?{}", serving.address.port(), query(&request));
        return plain(StatusCode::FOUND).header(header::LOCATION, elsewhere).body("".into()).unwrap();
    }
    if path.starts_with("/slow") {
        return std::future::pending().await;
    }
    let path = match path.strip_prefix("/private") {
        Some(rest) => {
            // user:hunter2
            let right =
                request.headers().get(header::AUTHORIZATION).is_some_and(|v| v == "Basic dXNlcjpodW50ZXIy");
            if !right {
                let answer =
                    plain(StatusCode::UNAUTHORIZED).header(header::WWW_AUTHENTICATE, "Basic realm=\"x\"");
                return answer.body("".into()).unwrap();
            }
            rest.to_owned()
        }
        None => path,
    };
    backend(&serving, &path, request).await
}

fn query(request: &Request) -> String {
    request.uri().query().unwrap_or_default().to_owned()
}

/// Runs `git http-backend` as CGI has it.
async fn backend(serving: &Serving, path: &str, request: Request) -> Response<axum::body::Body> {
    let mut command = tokio::process::Command::new("git");
    command.arg("http-backend").env("GIT_PROJECT_ROOT", &serving.root).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("PATH_INFO", path).env("QUERY_STRING", query(&request));
    command.env("REQUEST_METHOD", request.method().as_str()).env("REMOTE_ADDR", "127.0.0.1");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        command.env("CONTENT_TYPE", kind.to_str().unwrap());
    }
    let body: Bytes = axum::body::to_bytes(request.into_body(), 16 << 20).await.unwrap();
    command.env("CONTENT_LENGTH", body.len().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&body).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap()),
            _ => response.header(name, value),
        };
    }
    serving.sent.fetch_add(output.len(), Ordering::Relaxed);
    response.body(output[end + 4..].to_vec().into()).unwrap()
}

/// An ssh server that lets one key in.
pub(crate) struct Ssh {
    pub(crate) port: u16,
    _held: Port,
    folder: tempfile::TempDir,
    child: Child,
}

impl Ssh {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for key in ["host", "client", "stranger"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key));
            assert!(keygen.status().unwrap().success());
        }
        std::fs::copy(at("client.pub"), at("authorized")).unwrap();
        let held = Port::new();
        let port = held.number();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
             PermitRootLogin prohibit-password\n",
            at("host").display(),
            at("authorized").display()
        );
        std::fs::write(at("config"), config).unwrap();
        // sshd insists on its own absolute path and, as root, on this folder.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"]).arg(at("config")).stderr(Stdio::null());
        let child = sshd.spawn().expect("openssh-server is installed by tests/run");
        let ssh = Self { port, _held: held, folder, child };
        // A minute, on a machine that does much else.
        for _ in 0..6_000 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return ssh;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("sshd does not listen");
    }

    /// The text of a private key: `client` is let in, `stranger` is not.
    pub(crate) fn key(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// A file of known hosts with `key` as this server's.
    pub(crate) fn known_hosts(&self, key: &str) -> PathBuf {
        let public = self.key(&format!("{key}.pub"));
        let file = self.folder.path().join(format!("known-{key}"));
        std::fs::write(&file, format!("[127.0.0.1]:{} {public}", self.port)).unwrap();
        file
    }

    pub(crate) fn url(&self, path: &Path) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
        format!("ssh://{user}@127.0.0.1:{}{}", self.port, path.display())
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
