//! Certificates on a disk, and handshakes with real clients.

#![expect(clippy::disallowed_methods, reason = "the tests write files")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::*;
use crate::http::{Listener, Router, any, serve};

/// A certificate for `localhost` that signs itself, written into a folder.
struct Written {
    folder: tempfile::TempDir,
}

fn made(until: (i32, u8, u8)) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

impl Written {
    fn new() -> Self {
        let written = Self { folder: tempfile::tempdir().unwrap() };
        written.write(&made((2099, 1, 1)));
        written
    }

    fn files(&self) -> Files {
        Files { certificate: self.path("cert.pem"), key: self.path("key.pem") }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, (certificate, key): &(rcgen::Certificate, KeyPair)) {
        self.put("cert.pem", &certificate.pem());
        self.put("key.pem", &key.serialize_pem());
    }

    /// As those who renew certificates do it: a new file under the old name.
    fn put(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&new, self.path(name)).unwrap();
    }
}

fn refused(files: &Files) -> PortError {
    Tls::read(files).err().expect("the files are wrong")
}

#[test]
fn files_that_are_wrong_are_told_with_what_to_do() {
    let written = Written::new();
    let files = written.files();
    let swapped = Files { certificate: files.key.clone(), key: files.certificate.clone() };
    let error = refused(&swapped);
    assert!(error.operation.starts_with("there is no certificate in"), "{error}");
    assert!(error.hint.unwrap().contains("--tls-key"));
    let error = refused(&Files { key: files.certificate.clone(), ..files.clone() });
    assert!(error.operation.starts_with("there is no private key in"), "{error}");
    assert!(error.hint.unwrap().contains("holds a certificate"));
    let missing = Files { certificate: written.path("none"), ..files.clone() };
    assert!(refused(&missing).operation.contains("failed to read the certificate"));

    written.put("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let error = refused(&files);
    assert!(error.operation.contains("is not that of the certificate"), "{error}");
    for (key, hint) in [
        ("", "-----BEGIN PRIVATE KEY-----"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nTUlJ\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "openssl pkey",
        ),
        ("-----BEGIN PRIVATE KEY-----\nc2VjcmV0IGtleQ==\n-----END PRIVATE KEY-----\n", "RSA"),
        ("-----BEGIN PRIVATE KEY-----\nc2Vjcm", "cut off"),
    ] {
        written.put("key.pem", key);
        let error = refused(&files);
        assert!(error.hint.as_deref().is_some_and(|told| told.contains(hint)), "{key}: {}", error.chain());
        assert!(!error.chain().contains("c2Vj") && !error.chain().contains("secret"));
    }
    written.write(&made((2099, 1, 1)));
    written.put("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(refused(&files).operation.contains("cannot be used"));
}

#[test]
fn what_is_known_of_a_certificate() {
    let written = Written::new();
    let (certificate, _) = Certificate::read(&written.files()).unwrap();
    assert_eq!(certificate.to_string(), "valid until 2099-01-01T00:00:00Z");
    assert!(certificate.is_for("localhost") && certificate.is_for("127.0.0.1"));
    assert!(!certificate.is_for("other.example") && !certificate.is_for("[::1]"));
    assert!(!certificate.exposed);
    std::fs::set_permissions(written.path("key.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Certificate::read(&written.files()).unwrap().0.exposed);
}

/// The certificate that a client is shown.
async fn shown(address: std::net::SocketAddr, trusted: &[&rcgen::Certificate]) -> io::Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.der().clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

struct Served {
    tls: Arc<Tls>,
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    serving: tokio::task::JoinSet<()>,
}

async fn served(written: &Written) -> Served {
    let tls = Arc::new(Tls::read(&written.files()).unwrap());
    let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let router = Router::new().route("/", any(async || "here"));
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(serve(Listener::encrypted(tcp, Some(Arc::clone(&tls))), router, shutdown.clone()));
    Served { tls, address, shutdown, serving }
}

#[tokio::test]
async fn new_files_are_served_and_broken_ones_are_not() {
    let written = Written::new();
    let (first, second) = (made((2098, 1, 1)), made((2097, 1, 1)));
    written.write(&first);
    let world = served(&written).await;
    let all = [&first.0, &second.0];
    let now = certificate::now();
    assert_eq!(shown(world.address, &all).await.unwrap(), first.0.der().to_vec());
    let state = world.tls.state();
    assert_eq!(state.borrow().problem, None);

    // One file of two: it waits for the other.
    written.put("cert.pem", &second.0.pem());
    world.tls.look(now);
    assert!(state.borrow().problem.as_deref().unwrap().contains("is not that of the certificate"));
    assert_eq!(shown(world.address, &all).await.unwrap(), first.0.der().to_vec());
    written.put("key.pem", &second.1.serialize_pem());
    world.tls.look(now);
    assert_eq!(shown(world.address, &all).await.unwrap(), second.0.der().to_vec());
    assert_eq!(*state.borrow(), State { not_after: 4_007_836_800, problem: None });

    written.put("cert.pem", "no certificate");
    world.tls.look(now);
    assert!(state.borrow().problem.as_deref().unwrap().contains("there is no certificate"));
    std::fs::remove_file(written.path("key.pem")).unwrap();
    world.tls.look(now);
    written.write(&made((2021, 1, 1)));
    world.tls.look(now);
    assert!(state.borrow().problem.as_deref().unwrap().contains("has expired"));
    assert_eq!(shown(world.address, &all).await.unwrap(), second.0.der().to_vec());
    // Where the one before has expired as well, the newer is as good.
    world.tls.look(5_000_000_000);
    written.write(&made((2022, 1, 1)));
    world.tls.look(5_000_000_000);
    assert_eq!(state.borrow().problem, None);
    world.shutdown.cancel();
}

#[tokio::test]
async fn what_is_no_handshake_holds_nothing_up() {
    let written = Written::new();
    let certificate = made((2099, 1, 1));
    written.write(&certificate);
    let mut world = served(&written).await;
    let mut plain = TcpStream::connect(world.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut told = String::new();
    plain.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 400") && told.contains("write https://"), "{told}");
    let mut garbage = TcpStream::connect(world.address).await.unwrap();
    garbage.write_all(&[0x16, 3, 1, 0xff, 0xff, 0, 0, 0, 0]).await.unwrap();
    let mut rest = Vec::new();
    let _ = garbage.read_to_end(&mut rest).await;
    let silent: Vec<_> = {
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(TcpStream::connect(world.address).await.unwrap());
        }
        silent
    };
    assert_eq!(shown(world.address, &[&certificate.0]).await.unwrap(), certificate.0.der().to_vec());
    assert!(shown(world.address, &[]).await.is_err(), "who does not trust it is not connected");
    // The end does not wait for those that say nothing.
    world.shutdown.cancel();
    world.serving.join_next().await.unwrap().unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_client_that_sends_a_byte_now_and_then_is_cut_off() {
    let written = Written::new();
    let limit = Duration::from_millis(300);
    let tls = Tls { handshake: limit, ..Tls::read(&written.files()).unwrap() };
    let tcp = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut slow = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = tcp.accept().await.unwrap();
    let (began, ending) = (tokio::time::Instant::now(), CancellationToken::new());
    let dripping = async {
        // The head of a record of 512 bytes, and what looks like its content.
        for byte in [0x16, 3, 1, 2, 0, 1].into_iter().chain(std::iter::repeat(0)) {
            let mut answer = [0];
            let heard = tokio::time::timeout(limit / 6, slow.read(&mut answer)).await;
            if heard.is_ok() || slow.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    };
    let (shaken, ()) = tokio::join!(tls.accept(accepted, &ending), dripping);
    assert!(shaken.is_none() && began.elapsed() >= limit);
}

#[test]
fn a_folder_is_no_file() {
    let files = Files { certificate: Path::new("/").to_owned(), key: Path::new("/").to_owned() };
    assert!(refused(&files).chain().contains("no file"));
}
