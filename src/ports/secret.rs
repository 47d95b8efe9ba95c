//! Secrets: references to values, and what one start is given.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PortError, PortResult};
use crate::resource::{EnvValue, SecretRef};

/// A secret in memory. It has no `Debug`, `Display` or `Serialize`, on purpose.
#[derive(Clone)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes: call it only where they leave for the workload.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Takes secrets out of text, by value.
pub trait Mask: Send + Sync {
    /// The text with a mark where a secret stood.
    fn masked<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str>;
}

/// References to values.
pub trait Secrets: Send + Sync {
    /// # Errors
    /// When there is no such secret; the message names the reference, never a value.
    fn resolve(&self, reference: &SecretRef) -> PortResult<SecretValue>;
    /// What tells whether the same material is given again, without telling what it is: an HMAC under
    /// the installation's random key.
    fn tag(&self, material: &Material) -> String;
}

/// Environment and files of one start, secrets among them. Made by [`Material::resolve`].
#[derive(Clone, Default)]
pub struct Material {
    pub env: BTreeMap<String, SecretValue>,
    pub files: BTreeMap<String, SecretValue>,
    /// Those of the values above that are secrets: what the workload prints is redacted of them
    /// with [`crate::secret::Redactor`].
    pub secrets: Vec<SecretValue>,
}

impl Material {
    /// Resolves the declared environment and files of one start.
    ///
    /// # Errors
    /// When a secret is missing; the message says for which variable or file.
    pub fn resolve(
        secrets: &dyn Secrets,
        env: &BTreeMap<String, EnvValue>,
        files: &BTreeMap<String, EnvValue>,
    ) -> PortResult<Self> {
        let mut material = Self::default();
        for (declared, values, what) in
            [(env, &mut material.env, "environment variable"), (files, &mut material.files, "file")]
        {
            for (name, value) in declared {
                let value = match value {
                    EnvValue::Literal(text) => SecretValue::new(text.as_bytes()),
                    EnvValue::Secret(reference) => {
                        let secret = secrets.resolve(reference).map_err(|error| PortError {
                            operation: format!("failed to resolve {what} `{name}`: {}", error.operation),
                            ..error
                        })?;
                        material.secrets.push(secret.clone());
                        secret
                    }
                };
                values.insert(name.clone(), value);
            }
        }
        Ok(material)
    }
}
