//! MCP over TLS: real certificates, clients that trust a private authority, renewal under load.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use super::clients::venv;
use super::{SOON, greeter};
use crate::support::{Daemon, TestEnv, wait_for};

/// An authority of our own, and the files of what it signed last.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(env: &TestEnv) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Else both would have the same name, and the certificate seem to sign itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: env.home().to_owned() };
        std::fs::write(authority.path("ca.pem"), authority.issuer.as_ref().pem()).unwrap();
        authority.renew(2099);
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a new certificate that ends with a year begun, and its key, the one after the other.
    fn renew(&self, until: i32) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "tools");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        for (name, text) in [("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
            std::fs::write(self.path("new"), text).unwrap();
            std::fs::rename(self.path("new"), self.path(name)).unwrap();
        }
    }

    fn daemon(&self, env: &TestEnv, more: &[&str]) -> Daemon {
        let (certificate, key) = (self.text("cert.pem"), self.text("key.pem"));
        env.daemon(&[&["--tls-cert", &certificate, "--tls-key", &key], more].concat())
    }

    fn client(&self) -> reqwest::Client {
        crate::support::tls();
        let pem = std::fs::read(self.path("ca.pem")).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
            // Every request shakes hands anew.
            .pool_max_idle_per_host(0)
            .build()
            .unwrap()
    }
}

fn greeting(client: &reqwest::Client, url: &str) -> reqwest::RequestBuilder {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": super::meta()}});
    client
        .post(url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/list")
        .body(body.to_string())
}

fn certificate(env: &TestEnv, daemon: &Daemon) -> Value {
    let said = env.run(&["status", "--admin", daemon.admin_address(), "--output", "json"]);
    said.json()["daemon"]["certificate"].clone()
}

#[test]
fn a_server_elsewhere_is_trusted_by_the_authority_of_ca_file() {
    let (far, near) = (TestEnv::new(), TestEnv::new());
    far.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let authority = Authority::new(&far);
    let upstream = authority.daemon(&far, &[]);
    let declared = format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: far}}\nspec:\n  source: {{url: \"{}\"}}\n",
        upstream.mcp
    );
    near.repo().write("far.yaml", &declared).commit("far");
    let stranger = near.daemon(&[]);
    super::wait_for_reason(&near, &stranger, "Server/far", "StartFailed");
    stranger.terminate();

    let daemon = near.daemon(&["--ca-file", &authority.text("ca.pem")]);
    super::wait_for_names(&daemon, &["far_greet"]);
    let said = super::call(&daemon, "far_greet", json!({"name": "Ada"}));
    assert_eq!(super::text(&said), "hello Ada\n");
    drop(daemon);

    // A file without certificates is told before anything is done.
    let key = authority.text("key.pem");
    let refused =
        near.run(&["run", "--repo", ".", "--state", near.state().to_str().unwrap(), "--ca-file", &key]);
    assert!(refused.code != 0 && refused.stderr.contains("`--ca-file`"), "{}", refused.all());
}

#[test]
fn clients_that_trust_the_authority_are_served_and_others_are_told() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let authority = Authority::new(&env);
    let daemon = authority.daemon(&env, &[]);
    assert!(daemon.mcp.starts_with("https://127.0.0.1:"), "{}", daemon.mcp);
    let ca = authority.text("ca.pem");

    let called = env.run(&["call", "greet", "name=Ada", "--admin", daemon.admin_address(), "--ca-file", &ca]);
    assert_eq!(called.stdout, "hello Ada\n", "{}", called.all());
    let refused = env.run(&["call", "greet", "name=Ada", "--url", &daemon.mcp]);
    assert!(refused.code == 1 && refused.stderr.contains("--ca-file"), "{}", refused.all());
    let plain = daemon.mcp.replace("https://", "http://");
    let refused = env.run(&["call", "greet", "name=Ada", "--url", &plain]);
    assert!(refused.stderr.contains("write https:// instead"), "{}", refused.all());

    // The SDK of others, in the era with sessions, and our own for clients that only start commands.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clients/mcp_client.py");
    let python = Command::new(venv("python"))
        .args([script, &daemon.mcp, "greet", r#"{"name": "Ada"}"#])
        .env("SSL_CERT_FILE", &ca)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&python.stdout);
    assert!(said.contains("hello Ada"), "{said}{}", String::from_utf8_lossy(&python.stderr));
    let stdio = env.command(&["stdio", "--url", &daemon.mcp, "--ca-file", &ca]);
    assert!(super::access::initialized(stdio).contains("\"protocolVersion\""));

    let status = env.run(&["status", "--admin", daemon.admin_address()]);
    assert!(status.stdout.contains("certificate until 2099-01-01T00:00:00Z"), "{}", status.all());
    assert!(daemon.log().contains("every user of this machine can read the private key"));
    let (certificate, key) = (authority.text("cert.pem"), authority.text("key.pem"));
    let doctor = env.run(&["doctor", "--tls-cert", &certificate, "--tls-key", &key]);
    assert!(doctor.stdout.contains("can read its key"), "{}", doctor.all());
    let doctor = env.run(&[
        "doctor",
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--public-url",
        "https://tools.example",
    ]);
    assert!(doctor.code == 1 && doctor.stdout.contains("is not for `tools.example`"), "{}", doctor.all());
}

#[test]
fn certificates_are_renewed_under_load_without_a_failed_request() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let authority = Authority::new(&env);
    let daemon = authority.daemon(&env, &[]);
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let load = || {
            let client = authority.client();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                while !over.load(Ordering::Relaxed) {
                    let answer = greeting(&client, &daemon.mcp).send().await.unwrap();
                    assert_eq!(answer.status(), 200);
                    assert!(answer.text().await.unwrap().contains("greet"));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        };
        let clients = [scope.spawn(load), scope.spawn(load)];
        let renewing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for year in 2050..2053 {
                authority.renew(year);
                let until = format!("{year}-01-01T00:00:00Z");
                wait_for("the new certificate", SOON, || {
                    (certificate(&env, &daemon) == json!({"notAfter": until})).then_some(())
                });
            }
            std::fs::write(authority.path("cert.pem"), "cut off").unwrap();
            wait_for("the broken file to be told", SOON, || {
                let told = certificate(&env, &daemon);
                let problem = told["problem"].as_str()?.contains("there is no certificate");
                (problem && told["notAfter"] == "2052-01-01T00:00:00Z").then_some(())
            });
        }));
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        renewing.unwrap();
    });
    assert!(asked.load(Ordering::Relaxed) > 10);
    assert!(daemon.log().contains("the certificate of before stays"));
    let metrics = super::access::get_text(&format!("{}/metrics", daemon.admin));
    assert!(metrics.contains("tls_certificate_failures_total"), "{metrics}");
    // What has expired is served and said, as long as there is nothing better.
    drop(daemon);
    authority.renew(2021);
    let daemon = authority.daemon(&env, &[]);
    assert!(daemon.log().contains("the certificate has expired"), "{}", daemon.log());
    let (certificate, key) = (authority.text("cert.pem"), authority.text("key.pem"));
    let doctor = env.run(&["doctor", "--tls-cert", &certificate, "--tls-key", &key]);
    assert!(doctor.code == 1 && doctor.stdout.contains("it has expired"), "{}", doctor.all());
}

#[test]
fn a_daemon_does_not_start_with_files_that_are_wrong() {
    let env = TestEnv::new();
    env.repo().write("tools.yaml", &greeter("hello")).commit("hello");
    let authority = Authority::new(&env);
    let (certificate, key) = (authority.text("cert.pem"), authority.text("key.pem"));
    let other = authority.text("other.pem");
    std::fs::write(&other, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    for (certificate, key, said) in [
        (certificate.as_str(), other.as_str(), "is not that of the certificate"),
        (&key, &certificate, "there is no certificate"),
        ("nowhere.pem", &key, "failed to read the certificate"),
    ] {
        let ran = env.run(&[
            "run",
            "--repo",
            ".",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--tls-cert",
            certificate,
            "--tls-key",
            key,
        ]);
        assert!(ran.code == 1 && ran.stderr.contains(said) && ran.stderr.contains("hint"), "{}", ran.all());
    }
}
