//! The endpoint over a real socket, with a daemon made of fixed answers.

#![expect(clippy::disallowed_methods, reason = "a stale socket is put there")]

use std::sync::Mutex;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::admin::audit::{AuditQuery, AuditRecord};
use crate::admin::grants::{GrantAsk, GrantReply};
use crate::admin::listen::Socket;
use crate::admin::volumes::{VolumeAsk, VolumeReply};
use crate::admin::why::{WhyQuery, WhyReply};
use crate::admin::{PlanView, ReconcileReply};
use crate::catalog::Catalog;
use crate::resource::Revision;
use crate::status::Status;

#[derive(Default)]
struct Fixed {
    catalog: Option<Arc<Catalog>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Control for Fixed {
    fn status(&self) -> Arc<Status> {
        Arc::new(Status { generation: 7, ..Status::default() })
    }
    fn catalog(&self) -> Option<Arc<Catalog>> {
        self.catalog.clone()
    }
    async fn plan(&self) -> PortResult<PlanView> {
        Err(PortError::retry("failed to reach `origin`").caused_by("refused").hint("look at the network"))
    }
    async fn reconcile(&self, request: ReconcileRequest) -> PortResult<ReconcileReply> {
        self.asked.lock().unwrap().push(format!("{request:?}"));
        Ok(ReconcileReply { generation: 8, ..ReconcileReply::default() })
    }
    async fn logs(&self, resource: &ResourceId) -> PortResult<String> {
        Ok(format!("log of {resource}\n"))
    }
    async fn suspend(&self, suspended: bool) -> PortResult<()> {
        self.asked.lock().unwrap().push(format!("suspend {suspended}"));
        Ok(())
    }

    async fn audit(&self, query: AuditQuery) -> PortResult<Vec<AuditRecord>> {
        let user = query.user.unwrap_or_default();
        Ok(vec![AuditRecord { user, ..AuditRecord::default() }])
    }

    async fn volumes(&self, _: VolumeAsk) -> PortResult<VolumeReply> {
        Ok(VolumeReply::default())
    }
    async fn authorizations(&self, _: GrantAsk) -> PortResult<GrantReply> {
        Ok(GrantReply::default())
    }

    async fn why(&self, query: WhyQuery) -> PortResult<WhyReply> {
        Err(PortError::stalled(format!("nobody knows of `{}`", query.tool)))
    }

    async fn locks(&self) -> PortResult<Vec<crate::admin::LockView>> {
        Ok(Vec::new())
    }
}

fn empty_catalog() -> Catalog {
    Catalog::empty(Revision { reference: "main".to_owned(), commit: "ab".repeat(20), dirty: false })
}

/// One request over the socket at `path`.
async fn ask(socket: &std::path::Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(bytes::Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let (response, _) = tokio::join!(
        async {
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            drop(sender);
            (status, String::from_utf8(bytes.to_vec()).unwrap())
        },
        connection,
    );
    response
}

/// Serves while `asking` goes on, and ends as a daemon ends.
async fn served<T>(router: Router, asking: impl AsyncFnOnce(std::path::PathBuf) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let shutdown = CancellationToken::new();
    let socket = Socket::bind(&path).unwrap();
    let (ended, result) = tokio::join!(socket.serve(router, shutdown.clone()), async {
        let result = asking(path.clone()).await;
        shutdown.cancel();
        result
    });
    ended.unwrap();
    assert!(!path.exists(), "the socket is removed");
    result
}

#[tokio::test]
async fn changes_are_made_over_the_socket_only() {
    let control = Arc::new(Fixed::default());
    let admin = Admin { control: control.clone(), metrics: Arc::default() };
    served(all(admin.clone()), async |socket| {
        let wait = r#"{"wait":true,"rebuild":"Server/x"}"#;
        let (status, body) = ask(&socket, "POST", "/api/v1/reconcile", wait).await;
        assert!(status == 200 && body.contains(r#""generation":8"#), "{status} {body}");
        assert_eq!(ask(&socket, "POST", "/api/v1/reconcile", r#"{"what":1}"#).await.0, 400);
        assert_eq!(ask(&socket, "POST", "/api/v1/reconcile", &"x".repeat(MAX_BODY_BYTES + 1)).await.0, 400);
        assert_eq!(ask(&socket, "POST", "/api/v1/suspend", "").await.0, 200);
        let (_, log) = ask(&socket, "GET", "/api/v1/logs/server/x", "").await;
        assert_eq!(log, "log of Server/x\n");
        assert_eq!(ask(&socket, "GET", "/api/v1/logs/nothing/x", "").await.0, 400);
        let (status, body) = ask(&socket, "POST", "/api/v1/audit", r#"{"user":"ada"}"#).await;
        assert!(status == 200 && body.contains(r#""user":"ada""#), "{status} {body}");
        let (status, body) = ask(&socket, "POST", "/api/v1/why", r#"{"tool":"x"}"#).await;
        assert!(status == 409 && body.contains("nobody knows of `x`"), "{status} {body}");
    })
    .await;
    let asked = ["ReconcileRequest { rebuild: Some(Server/x), approve: None, wait: true }", "suspend true"];
    assert_eq!(*control.asked.lock().unwrap(), asked);
    served(reads(admin), async |socket| {
        for path in ["/api/v1/reconcile", "/api/v1/suspend", "/api/v1/resume", "/api/v1/audit", "/api/v1/why"]
        {
            assert_eq!(ask(&socket, "POST", path, "{}").await.0, 404);
        }
        assert_eq!(ask(&socket, "GET", "/api/v1/logs/server/x", "").await.0, 404);
    })
    .await;
    assert_eq!(control.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn ready_when_a_catalog_is_served_and_failures_say_what_next() {
    let admin =
        |catalog| Admin { control: Arc::new(Fixed { catalog, ..Fixed::default() }), metrics: Arc::default() };
    served(reads(admin(None)), async |socket| {
        assert_eq!(ask(&socket, "GET", "/livez", "").await, (200, "ok\n".to_owned()));
        assert_eq!(ask(&socket, "GET", "/readyz", "").await.0, 503);
        assert_eq!(ask(&socket, "GET", "/api/v1/catalog", "").await.0, 503);
        let (status, body) = ask(&socket, "GET", "/api/v1/plan", "").await;
        let failure = Failure {
            error: "failed to reach `origin`: refused".to_owned(),
            hint: Some("look at the network".to_owned()),
            detail: None,
        };
        assert_eq!((status, serde_json::from_str(&body).unwrap()), (503, failure));
        let (_, body) = ask(&socket, "GET", "/api/v1/status", "").await;
        assert_eq!(serde_json::from_str::<Status>(&body).unwrap().generation, 7);
        let (_, page) = ask(&socket, "GET", "/metrics", "").await;
        assert!(page.ends_with("# EOF\n"), "{page}");
    })
    .await;
    served(reads(admin(Some(Arc::new(empty_catalog())))), async |socket| {
        assert_eq!(ask(&socket, "GET", "/readyz", "").await.0, 200);
        let (_, body) = ask(&socket, "GET", "/api/v1/catalog", "").await;
        assert!(
            body.starts_with(r#"{"revision":"main@sha1:abab"#) && body.contains(r#""tools":[]"#),
            "{body}"
        );
    })
    .await;
}

#[tokio::test]
async fn the_socket_is_ours_alone_and_replaces_a_stale_one() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    std::fs::write(&path, b"stale").unwrap();
    let socket = Socket::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(socket);
    let long = folder.path().join("x".repeat(200));
    assert!(Socket::bind(&long).unwrap_err().hint.is_some_and(|hint| hint.contains("--state")));
}
