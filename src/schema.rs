//! Arguments against the input schema of a tool, and schemas against what JSON Schema is.
//!
//! Input: the schema's text and the arguments. Output: nothing, or what is wrong and where.
//! Invariants: a schema is compiled once while it is in use; nothing outside the schema is ever
//! fetched; work and memory are bounded. 2020-12 is the dialect when `$schema` names none.

pub mod dialect;
mod plain;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::resource::Digest;

/// Compiled schemas kept: far more than are in use at a time; each takes some 10 KiB.
const MAX_COMPILED: usize = 1024;
/// Bytes of one schema: what nobody writes by hand, and a compilation of some milliseconds.
const MAX_SCHEMA: usize = 256 << 10;
/// Backtracking steps of one `pattern`, so that no pattern can hold a thread.
const MAX_BACKTRACKS: usize = 10_000;
/// Faults that are told at once, and characters of each.
const MAX_FAULTS: usize = 5;
const MAX_FAULT: usize = 300;

/// Why arguments are not passed on.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The message names each place as a JSON pointer.
    #[error("the arguments do not fit the tool's input schema: {0}")]
    Arguments(String),
    #[error("the tool's input schema cannot be used: {0}")]
    Schema(String),
}

/// Compiled schemas, by what they say.
#[derive(Default)]
pub struct Schemas(Mutex<Compiled>);

#[derive(Default)]
struct Compiled {
    by_digest: HashMap<Digest, Arc<Validator>>,
    /// Oldest first.
    order: VecDeque<Digest>,
}

impl Schemas {
    /// # Errors
    /// When `arguments` do not fit `schema`, or `schema` is none.
    pub fn check(&self, schema: &str, arguments: &Value) -> Result<(), SchemaError> {
        let validator = self.compiled(schema)?;
        if validator.is_valid(arguments) {
            return Ok(());
        }
        let mut message = String::new();
        for (n, error) in validator.iter_errors(arguments).take(MAX_FAULTS).enumerate() {
            let separator = if n > 0 { "; " } else { "" };
            let place = match error.instance_path().as_str() {
                "" => String::new(),
                place => format!("`{place}`: "),
            };
            // The value is masked: it may be long, and it may be a secret.
            let fault = error.masked_with("the value").to_string();
            let fault: String = fault.chars().take(MAX_FAULT).collect();
            let _ = write!(message, "{separator}{place}{fault}");
        }
        Err(SchemaError::Arguments(message))
    }

    fn compiled(&self, schema: &str) -> Result<Arc<Validator>, SchemaError> {
        if schema.len() > MAX_SCHEMA {
            return Err(SchemaError::Schema(format!("it has more than {MAX_SCHEMA} bytes")));
        }
        let digest = Digest::of_bytes(schema.as_bytes());
        if let Some(validator) = self.lock().by_digest.get(&digest) {
            return Ok(Arc::clone(validator));
        }
        let validator = Arc::new(compile(schema)?);
        let mut compiled = self.lock();
        if compiled.by_digest.insert(digest, Arc::clone(&validator)).is_none() {
            compiled.order.push_back(digest);
        }
        if compiled.order.len() > MAX_COMPILED
            && let Some(oldest) = compiled.order.pop_front()
        {
            compiled.by_digest.remove(&oldest);
        }
        Ok(validator)
    }

    /// Nothing that holds the lock can panic half way; a poisoned one is as good.
    fn lock(&self) -> std::sync::MutexGuard<'_, Compiled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Errors
/// When it is no schema, or refers to something outside itself.
pub fn compile(schema: &str) -> Result<Validator, SchemaError> {
    let schema: Value =
        serde_json::from_str(schema).map_err(|error| SchemaError::Schema(error.to_string()))?;
    build(&schema).map_err(|error| SchemaError::Schema(error.to_string()))
}

fn build(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let mut options = jsonschema::options();
    if schema.get("$schema").is_none() {
        options = options.with_draft(Draft::Draft202012);
    }
    options
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(true)
        .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS))
        .build(schema)
}
