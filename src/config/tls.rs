//! Encryption of the listener, and the origins of browsers: what the flags mean.

use std::path::{Path, PathBuf};

use super::{ConfigError, Settings};

/// A certificate and its key. Whether they are good is known when they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub(super) fn files(settings: &Settings, public_url: Option<&str>) -> Result<Option<TlsFiles>, ConfigError> {
    let (certificate, key) = match (&settings.tls_cert, &settings.tls_key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            return Err(ConfigError::new("`tls-cert` needs the key of the certificate").hint("add --tls-key"));
        }
        (None, Some(_)) => {
            return Err(ConfigError::new("`tls-key` needs the certificate of the key").hint("add --tls-cert"));
        }
    };
    if public_url.is_some_and(|url| url.starts_with("http://")) {
        return Err(ConfigError::new("`public-url` begins with http://, and MCP is served encrypted")
            .hint("write https://, or leave out --tls-cert and --tls-key"));
    }
    let absolute = |name: &str, path: &Path| {
        std::path::absolute(path).map_err(|error| ConfigError::setting(name, &error))
    };
    Ok(Some(TlsFiles { certificate: absolute("tls-cert", certificate)?, key: absolute("tls-key", key)? }))
}

/// An origin as browsers send it: scheme, host and port, nothing else.
pub(super) fn origin(text: &str) -> Result<String, ConfigError> {
    let plain = text.strip_suffix('/').unwrap_or(text);
    let fits = plain.parse::<http::Uri>().is_ok_and(|uri| {
        let authority = uri.authority().is_some_and(|authority| !authority.as_str().contains(['@', '*']));
        let rest = plain.split_once("://").map_or("", |(_, rest)| rest);
        matches!(uri.scheme_str(), Some("http" | "https")) && authority && !rest.contains(['/', '?', '#'])
    });
    if fits {
        return Ok(plain.to_owned());
    }
    Err(ConfigError::new(format!("`allow-origin`: `{text}` is no origin of web pages"))
        .hint("write scheme and host, such as https://app.example.org; every origin by itself, without `*`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_and_key_come_together_and_are_for_https() {
        let parse = |text: &str| files(&Settings::parse(text).unwrap(), None);
        assert_eq!(parse("{}").unwrap(), None);
        assert!(parse("{tls-cert: /c, tls-key: /k}").unwrap().is_some());
        for (text, hint) in [("tls-cert: c", "--tls-key"), ("tls-key: k", "--tls-cert")] {
            let error = parse(text).unwrap_err();
            assert!(error.next_step().unwrap().contains(hint), "{error}");
        }
        let both = Settings::parse("{tls-cert: c, tls-key: k}").unwrap();
        assert!(files(&both, Some("http://a.example")).is_err());
        assert!(files(&both, Some("https://a.example")).unwrap().unwrap().key.is_absolute());
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        for good in ["https://app.example", "http://localhost:3000", "https://app.example/"] {
            assert_eq!(origin(good).unwrap(), good.trim_end_matches('/'));
        }
        for bad in [
            "*",
            "https://*.example",
            "null",
            "app.example",
            "https://a/b",
            "https://u@a",
            "ftp://a",
            "https://a?b",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
