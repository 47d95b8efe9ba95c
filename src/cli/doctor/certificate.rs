//! Whether the certificate of the MCP listener is there, belongs to its key, and is valid now and by its name.

use super::{Check, Verdict};
use crate::config::{Config, TlsFiles};
use crate::http::tls::{Certificate, Files, SOON};
use crate::status::Timestamp;

const NAME: &str = "certificate";

/// None where MCP is not served encrypted.
pub(super) fn certificate(config: &Config, now: u64) -> Option<Check> {
    let TlsFiles { certificate, key } = config.tls.clone()?;
    Some(match Certificate::read(&Files { certificate, key }) {
        Ok((found, _)) => judged(&found, host(config).as_deref(), now),
        Err(error) => Check::refused(NAME, &error),
    })
}

fn judged(found: &Certificate, host: Option<&str>, now: u64) -> Check {
    let bad = |verdict, message: String, hint: &str| Check::bad(NAME, verdict, message, hint);
    if found.not_after < now {
        let message = format!("it has expired: {found}");
        return bad(Verdict::Failure, message, "renew it; a running daemon reads the new files by itself");
    }
    if found.not_before > now {
        let message = format!("it is not valid before {}", Timestamp(found.not_before));
        return bad(Verdict::Failure, message, "look at the clock, or wait");
    }
    if let Some(host) = host.filter(|host| !found.is_for(host)) {
        let message = format!("clients refuse it: it is not for `{host}`");
        return bad(
            Verdict::Failure,
            message,
            "get one whose subject alternative names have the name clients use, or write that in --public-url",
        );
    }
    if found.not_after - now < SOON.as_secs() {
        return bad(Verdict::Warning, format!("it ends soon: {found}"), "see to it that it is renewed");
    }
    if found.exposed {
        let message = "every user of this machine can read its key".to_owned();
        return bad(Verdict::Warning, message, "let only the user of the daemon read it: chmod 600");
    }
    Check::ok(NAME, found.to_string())
}

/// The name by which clients call us, where that is said.
fn host(config: &Config) -> Option<String> {
    let uri: http::Uri = config.public_url.as_deref()?.parse().ok()?;
    uri.host().map(str::to_owned)
}
