//! A certificate and its key, as two files of PEM hold them.

#![expect(
    clippy::disallowed_methods,
    reason = "the operator's files are read, and certificates end by the clock"
)]

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode as _;

use crate::ports::{PortError, PortResult};
use crate::status::Timestamp;

/// Bytes of a file: chains have a few certificates of 2 KiB.
const MAX_FILE: u64 = 1 << 20;

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// From when to when it is valid: seconds since the epoch.
    pub not_before: u64,
    pub not_after: u64,
    /// Whether others than its owner's group can read the key.
    pub exposed: bool,
    leaf: CertificateDer<'static>,
}

impl Certificate {
    /// Reads both files, and whether they belong together.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn read(files: &Files) -> PortResult<(Self, CertifiedKey)> {
        let chain = chain(&files.certificate)?;
        let (key, exposed) = key(&files.key)?;
        let unusable = || unusable(&files.certificate);
        let leaf = chain.first().cloned().ok_or_else(unusable)?;
        let parsed = x509_cert::Certificate::from_der(&leaf).map_err(|error| unusable().caused_by(error))?;
        let validity = parsed.tbs_certificate.validity;
        let provider = rustls::crypto::ring::default_provider();
        let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => PortError::stalled(format!(
                "the key in `{}` is not that of the certificate in `{}`",
                files.key.display(),
                files.certificate.display()
            ))
            .hint(
                "name the files of one certificate; its own comes first in its file, before its authorities",
            ),
            error => PortError::stalled(format!("the key in `{}` cannot be used", files.key.display()))
                .caused_by(error)
                .hint("RSA of 2048 to 8192 bits, ECDSA (P-256, P-384) and Ed25519 can"),
        })?;
        // A certificate of a form that clients refuse is refused here.
        rustls::server::ParsedCertificate::try_from(&leaf).map_err(|error| unusable().caused_by(error))?;
        let certificate = Self {
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
            exposed,
            leaf,
        };
        if exposed {
            tracing::warn!(
                file = %files.key.display(),
                "every user of this machine can read the private key: chmod 600"
            );
        }
        Ok((certificate, pair))
    }

    /// Whether clients that call this host by its name take it for that host's.
    pub fn is_for(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let (Ok(name), Ok(parsed)) =
            (ServerName::try_from(host), rustls::server::ParsedCertificate::try_from(&self.leaf))
        else {
            return false;
        };
        rustls::client::verify_server_name(&parsed, &name).is_ok()
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "valid until {}", Timestamp(self.not_after))
    }
}

fn chain(path: &Path) -> PortResult<Vec<CertificateDer<'static>>> {
    let text = file(path, "certificate")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| unusable(path).caused_by(error))?;
    if chain.is_empty() {
        let error = PortError::stalled(format!("there is no certificate in `{}`", path.display()));
        return Err(error.hint(match PrivateKeyDer::from_pem_slice(&text) {
            Ok(_) => {
                "it holds a private key: name that one with --tls-key, and the certificate with --tls-cert"
            }
            Err(_) => "write it as PEM: a block that begins with -----BEGIN CERTIFICATE-----",
        }));
    }
    Ok(chain)
}

/// The first key, and whether everybody can read it.
fn key(path: &Path) -> PortResult<(PrivateKeyDer<'static>, bool)> {
    let text = file(path, "private key")?;
    let exposed = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0);
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let none = PortError::stalled(format!("there is no private key in `{}`", path.display()));
        let text = String::from_utf8_lossy(&text);
        match error {
            _ if text.contains("ENCRYPTED") => none
                .hint("it is encrypted: write it without a passphrase with `openssl pkey -in FILE -out NEW`"),
            pem::Error::NoItemsFound if text.contains("BEGIN CERTIFICATE") => {
                none.hint("it holds a certificate: name that one with --tls-cert, and its key with --tls-key")
            }
            pem::Error::NoItemsFound => {
                none.hint("write it as PEM: a block that begins with -----BEGIN PRIVATE KEY-----")
            }
            // What the parser says may repeat what it read.
            _ => none.hint("the file is no PEM, or cut off"),
        }
    })?;
    Ok((key, exposed))
}

fn file(path: &Path, what: &str) -> PortResult<Vec<u8>> {
    let failed = || {
        PortError::stalled(format!("failed to read the {what} in `{}`", path.display()))
            .hint("give the path of a PEM file that this user can read")
    };
    let found = std::fs::metadata(path).map_err(|error| failed().caused_by(error))?;
    if !found.is_file() || found.len() > MAX_FILE {
        return Err(failed().caused_by("it is no file, or has more than 1 MiB"));
    }
    std::fs::read(path).map_err(|error| failed().caused_by(error))
}

fn unusable(path: &Path) -> PortError {
    PortError::stalled(format!("the certificate in `{}` cannot be used", path.display()))
        .hint("`openssl x509 -noout -text -in FILE` shows what it is")
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
