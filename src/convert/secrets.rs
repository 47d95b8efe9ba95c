//! What looks like a secret, and is therefore written nowhere.

use serde_json::{Map, Value};

use crate::manifest::credential;

/// How tokens of well-known services begin.
const PREFIXES: [&str; 22] = [
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "npm_",
    "pypi-",
    "hf_",
    "dop_v1_",
];

/// Whether a value under that name should be given by reference. Where that is not sure, the answer is
/// yes: a reference too many is written anew in a minute, a secret in Git for ever.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    credential(&name.replace(['-', '.', ' '], "_")) || camel(name) || value_is_secret(value)
}

/// `apiKey`, `accessToken`: words that are not parted by `_`.
fn camel(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower == "authorization"
        || lower == "cookie"
        || [
            "apikey",
            "token",
            "secret",
            "password",
            "passwd",
            "privatekey",
            "accesskey",
            "credentials",
            "_pat",
        ]
        .iter()
        .any(|word| lower.ends_with(word))
}

fn value_is_secret(value: &str) -> bool {
    let value = value.trim();
    let bearer = ["Bearer ", "bearer ", "Basic ", "token "].iter().any(|scheme| value.starts_with(scheme));
    let known = PREFIXES.iter().any(|prefix| value.strip_prefix(prefix).is_some_and(|rest| rest.len() >= 8));
    let key = value.contains("-----BEGIN ") && value.contains("PRIVATE KEY");
    bearer || known || key || is_jwt(value) || has_password(value) || is_random(value)
}

fn is_jwt(value: &str) -> bool {
    value.starts_with("eyJ") && value.matches('.').count() == 2 && !value.contains(' ')
}

/// `scheme://user:password@host`.
pub(super) fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

/// Long, without blanks or the marks of paths and addresses, and with letters and digits mixed as only
/// machines do.
fn is_random(value: &str) -> bool {
    const SHORTEST: usize = 32;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '=' | '_' | '-');
    if value.len() < SHORTEST || !value.chars().all(fits) || value.matches('-').count() > 5 {
        return false;
    }
    let digits = value.chars().filter(char::is_ascii_digit).count();
    let letters = value.chars().filter(char::is_ascii_alphabetic).count();
    digits >= 5 && letters >= 5
}

/// A value of JSON without what looks like a secret in it.
pub(super) fn masked(key: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_secret(key, text) => Value::String("…".to_owned()),
        Value::Array(items) => Value::Array(items.iter().map(|item| masked(key, item)).collect()),
        Value::Object(fields) => {
            let fields: Map<String, Value> =
                fields.iter().map(|(key, value)| (key.clone(), masked(key, value))).collect();
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

/// An argument of a command that carries a secret: `--api-key=…`, or a value after `--token`.
pub(super) fn in_argument(before: Option<&str>, argument: &str) -> bool {
    let flag = |text: &str| text.starts_with('-') && named(text);
    match argument.split_once('=') {
        Some((name, value)) if !value.is_empty() => {
            flag(name) || is_secret(name.trim_start_matches('-'), value)
        }
        _ => value_is_secret(argument) || (before.is_some_and(flag) && !argument.starts_with('-')),
    }
}

fn named(flag: &str) -> bool {
    let name = flag.trim_start_matches('-');
    // A file is where a secret belongs.
    let file = name.ends_with("file") || name.ends_with("path");
    !file && (credential(&name.replace('-', "_")) || camel(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_or_by_looks() {
        for (name, value) in [
            ("API_KEY", ""),
            ("apiKey", "x"),
            ("github-token", "x"),
            ("DB", "postgres://me:pw@host/db"),
            ("X", "ghp_0123456789abcdef"),
            ("X", "Bearer abc"),
            ("X", "eyJhbGciOi.eyJzdWIi.c2ln"),
            ("X", "4f9a0c1b2d3e4f5a6b7c8d9e0f1a2b3c"),
            ("Authorization", "x"),
        ] {
            assert!(is_secret(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("LOG_LEVEL", "debug"),
            ("URL", "https://example.com/a/very/long/path/with/0123456789/in/it"),
            ("DIR", "/home/me/projects/0123456789-abcdefghij"),
            ("IMAGE", "ghcr.io/acme/notes:1.2.3"),
            ("MONKEY", "banana"),
            ("ID", "0c7e6b6a-9d33-4c0e-8a5e-2d1f0a9b8c7d-not-a-secret"),
        ] {
            assert!(!is_secret(name, value), "{name}={value}");
        }
        assert!(in_argument(Some("--token"), "abc") && in_argument(None, "--api-key=abc"));
        assert!(in_argument(None, "GITHUB_TOKEN=x") && in_argument(None, "sk-0123456789abcdef"));
        assert!(!in_argument(Some("--token-file"), "/run/t") && !in_argument(Some("--token"), "--verbose"));
        assert!(!in_argument(None, "--name=x") && !in_argument(Some("-y"), "@acme/server@1.0.0"));
    }
}
