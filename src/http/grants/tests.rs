//! What becomes of tokens, with a provider at the other end of a connection.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::vault::Tokens;
use super::*;
use crate::ports::SecretValue;
use crate::resource::remote::Provider;
use crate::secret::LocalSecrets;
use crate::store::Redb;

struct World {
    grants: Arc<Grants>,
    wanted: Wanted,
    provider: TcpListener,
    calls: TaskTracker,
    _state: tempfile::TempDir,
}

/// Ada's token has ended, and can be refreshed.
async fn world() -> World {
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}", provider.local_addr().unwrap());
    let user = UserOAuth {
        client_id: Some("people".to_owned()),
        client_secret: None,
        scopes: Box::default(),
        resource: None,
        issuer: None,
        provider: Some(Provider {
            issuer: place.clone(),
            authorization_url: format!("{place}/authorize"),
            token_url: format!("{place}/token"),
            revocation_url: None,
        }),
        list_as: None,
    };
    let server = Name::parse("far").unwrap();
    let declared = Arc::new(Declared::of_users(user));
    let wanted = Wanted { server: server.clone(), url: "https://far.example/mcp".to_owned(), declared };
    let state = tempfile::tempdir().unwrap();
    let secrets = Arc::new(LocalSecrets::new([0; 32], Arc::new(|_| None)));
    let store = Arc::new(Redb::open(state.path()).unwrap());
    let grants = Arc::new(Grants::new(secrets, store, &[1; 32]).unwrap());
    grants.know(&wanted);
    let about = Authorization {
        user: "ada".to_owned(),
        server,
        issuer: place,
        since: 1,
        until: 2,
        declared: wanted.digest(),
        client: Digest::of_bytes(b"people").to_string(),
        scopes: Vec::new(),
        raised: 0,
    };
    let secret = |text: &'static str| SecretValue::new(text.as_bytes());
    grants.vault.keep(about, &Tokens { access: secret("old"), refresh: Some(secret("once")) }).unwrap();
    World { grants, wanted, provider, calls: TaskTracker::new(), _state: state }
}

impl World {
    fn ask(&self) -> tokio::task::JoinHandle<PortResult<http::HeaderValue>> {
        let (grants, wanted) = (Arc::clone(&self.grants), self.wanted.clone());
        self.calls.spawn(async move { grants.bearer("ada", &wanted, None).await })
    }

    /// The next request, read whole.
    async fn asked(&self) -> (TcpStream, String) {
        let (mut stream, _) = self.provider.accept().await.unwrap();
        let mut text = String::new();
        while !text.contains("resource=") {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).await.unwrap();
            assert!(length > 0, "{text}");
            text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        (stream, text)
    }
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_refreshed_for_a_call_that_was_cancelled_is_kept() {
    let world = world().await;
    let call = world.ask();
    let (mut stream, asked) = world.asked().await;
    assert!(asked.contains("refresh_token=once"), "{asked}");
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let given =
        r#"{"access_token": "new", "token_type": "Bearer", "expires_in": 300, "refresh_token": "two"}"#;
    answer(&mut stream, "200 OK", given).await;
    assert_eq!(world.ask().await.unwrap().unwrap(), "Bearer new");
}

#[tokio::test]
async fn only_the_provider_ends_an_authorization() {
    let world = world().await;
    for (status, body) in [
        ("404 Not Found", "<html>no such page</html>"),
        ("403 Forbidden", ""),
        ("429 Too Many Requests", r#"{"error": "invalid_request"}"#),
        ("503 Service Unavailable", r#"{"error": "temporarily_unavailable"}"#),
    ] {
        let call = world.ask();
        answer(&mut world.asked().await.0, status, body).await;
        let error = call.await.unwrap().unwrap_err().chain();
        assert!(error.contains("failed to refresh"), "{status}: {error}");
        assert_eq!(world.grants.list().len(), 1, "{status}");
    }
    let call = world.ask();
    answer(&mut world.asked().await.0, "400 Bad Request", r#"{"error": "invalid_grant"}"#).await;
    let error = call.await.unwrap().unwrap_err().chain();
    assert!(error.contains("has not authorized server `far`") && world.grants.list().is_empty(), "{error}");
}

#[tokio::test]
async fn scopes_that_nobody_was_asked_for_in_time_make_room() {
    let world = world().await;
    let challenge = r#"Bearer error="insufficient_scope", scope="write""#;
    let now = Instant::now();
    let lacks_at = |user: &str, at| world.grants.lacks_at(user, &world.wanted, challenge, at);
    let lacks = |user: &str| lacks_at(user, now);
    for n in 0..MAX_PENDING {
        assert!(matches!(lacks(&format!("u{n}")), crate::ports::Refusal::Ask(_)), "{n}");
    }
    assert!(matches!(lacks("eve"), crate::ports::Refusal::Final(_)));
    assert!(matches!(lacks_at("eve", now + LIFE), crate::ports::Refusal::Ask(_)));
}
