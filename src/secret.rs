//! References to values, in memory.
//!
//! Input: a [`SecretRef`]; output: its value, read anew each time so that rotation is noticed.
//! Invariant: no error, log or digest holds a value; [`mac`] is keyed and goes to the inventory
//! alone. Not here: who may use which secret.

#![expect(clippy::disallowed_methods, reason = "reads files: an effect")]

mod known;
mod redact;

use std::ffi::OsString;
use std::io::Read as _;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::ports::{Material, PortError, PortResult, SecretValue, Secrets};
use crate::resource::SecretRef;

pub use known::Known;
pub use redact::Redactor;

/// Bytes of one secret. Certificates with their chains have some 10 KiB; Kubernetes takes 1 MiB.
pub const MAX_SECRET_BYTES: u64 = 1 << 20;

/// Secrets of the daemon's own machine: its environment and absolute files.
#[derive(Clone)]
pub struct LocalSecrets {
    key: [u8; 32],
    variable: Arc<Variable>,
    known: Arc<Known>,
}

/// The raw value of a variable of the daemon's environment.
pub type Variable = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl LocalSecrets {
    /// `key` is the installation's own, random, and kept in its store alone.
    pub fn new(key: [u8; 32], variable: Arc<Variable>) -> Self {
        Self { key, variable, known: Arc::default() }
    }

    /// The values that were resolved, for whoever has to leave them out.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known)
    }
}

impl Secrets for LocalSecrets {
    fn tag(&self, material: &Material) -> String {
        mac(material, &self.key)
    }

    fn resolve(&self, reference: &SecretRef) -> PortResult<SecretValue> {
        let value = match reference {
            SecretRef::Env(name) => from_env(name, &*self.variable),
            SecretRef::File(path) => from_file(path),
        }?;
        self.known.note(reference, &value);
        Ok(value)
    }
}

fn from_env(name: &str, variable: &Variable) -> PortResult<SecretValue> {
    use std::os::unix::ffi::OsStringExt as _;
    let fits = !name.is_empty() && !name.contains(['=', '\0']);
    let value = fits.then(|| variable(name)).flatten().ok_or_else(|| {
        PortError::stalled(format!("secret `env: {name}` is not set"))
            .hint(format!("start the daemon with the environment variable `{name}`"))
    })?;
    Ok(SecretValue::new(value.into_vec()))
}

fn from_file(path: &str) -> PortResult<SecretValue> {
    let failed = |what: &str| PortError::stalled(format!("secret `file: {path}` {what}"));
    if !path.starts_with('/') {
        return Err(failed("is not an absolute path").hint("write the path from `/` on"));
    }
    let hint = "create the file on the daemon's machine, readable for the daemon's user";
    let cannot = |error: std::io::Error| failed("cannot be read").hint(hint).caused_by(error);
    let file = std::fs::File::open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(failed("is not a file").hint(hint));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(failed(&format!("is larger than {MAX_SECRET_BYTES} bytes")).hint("name a smaller file"));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok(SecretValue::new(bytes))
}

/// What tells whether the same material is given again, without telling what it is: an HMAC-SHA-256
/// in hex under the installation's random key.
pub fn mac(material: &Material, key: &[u8; 32]) -> String {
    let Material { env, files, secrets: _ } = material;
    // HMAC pads a key to the block of its hash with zeros.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for (domain, values) in [(b"env", env), (b"fil", files)] {
        mac.update(domain);
        mac.update(&(values.len() as u64).to_le_bytes());
        for (name, value) in values {
            for part in [name.as_bytes(), value.expose()] {
                mac.update(&(part.len() as u64).to_le_bytes());
                mac.update(part);
            }
        }
    }
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ports::Material;
    use crate::resource::EnvValue;

    /// In an empty environment.
    fn local() -> LocalSecrets {
        LocalSecrets::new([0; 32], Arc::new(|_| None))
    }

    #[test]
    fn reads_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        for (bytes, expected) in [
            (&b"abc"[..], &b"abc"[..]),
            (b"abc\n", b"abc"),
            (b"abc\r\n", b"abc"),
            (b"a\nb\n\n", b"a\nb\n"),
            (b"", b""),
        ] {
            let path = write("secret", bytes);
            let value = local().resolve(&SecretRef::File(path)).ok().unwrap();
            assert_eq!(value.expose(), expected);
        }
        let large = write("large", &vec![b'x'; (1 << 20) + 1]);
        for (path, part) in [
            (large.as_str(), "is larger than"),
            ("relative", "is not an absolute path"),
            ("/nowhere/token", "secret `file: /nowhere/token` cannot be read"),
            (folder.path().to_str().unwrap(), "is not a file"),
        ] {
            let error = local().resolve(&SecretRef::File(path.to_owned())).err().unwrap();
            assert!(error.operation.contains(part), "{}", error.operation);
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn names_what_is_missing() {
        let env =
            BTreeMap::from([("TOKEN".to_owned(), EnvValue::Secret(SecretRef::Env("NOT_SET_9".to_owned())))]);
        let error = Material::resolve(&local(), &env, &BTreeMap::new()).err().unwrap();
        assert_eq!(
            error.operation,
            "failed to resolve environment variable `TOKEN`: secret `env: NOT_SET_9` is not set"
        );
        assert!(error.hint.unwrap().contains("NOT_SET_9"));
    }

    #[test]
    fn macs_differ_by_name_value_and_key() {
        let with = |env: &[(&str, &str)], files: &[(&str, &str)]| {
            let map = |pairs: &[(&str, &str)]| {
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), SecretValue::new(value.as_bytes())))
                    .collect()
            };
            Material { env: map(env), files: map(files), secrets: Vec::new() }
        };
        let (one, other) = ([1; 32], [2; 32]);
        let macs = [
            mac(&with(&[], &[]), &one),
            mac(&with(&[("a", "b")], &[]), &one),
            mac(&with(&[("a", "b")], &[]), &other),
            mac(&with(&[], &[("a", "b")]), &one),
            mac(&with(&[("ab", "")], &[]), &one),
            mac(&with(&[("a", "c")], &[]), &one),
        ];
        let distinct: std::collections::BTreeSet<_> = macs.iter().collect();
        assert_eq!(distinct.len(), macs.len());
        assert_eq!(macs[1], mac(&with(&[("a", "b")], &[]), &one));
    }
}
