//! Which part of what is served a request is about: its path says so.

use std::fmt;
use std::sync::Arc;

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `/mcp`: everything.
    #[default]
    All,
    /// `/mcp/<toolset>`: a named part.
    Toolset(Arc<str>),
    /// `/mcp@<revision>`: a catalog that was served lately, by its commit.
    Revision(Arc<str>),
}

/// Letters of a name in a path: names of resources have 63, commits 64 digits.
const MAX_NAME: usize = 64;

impl Scope {
    /// The endpoint at a path; a slash at its end is in many configurations of clients.
    pub fn of_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/mcp")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(Self::All);
        }
        let at = rest.strip_prefix('@').or_else(|| rest.strip_prefix("%40"));
        let (name, revision) = match at {
            Some(name) => (name, true),
            None => (rest.strip_prefix('/')?, false),
        };
        let fits = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let name = fits.then(|| Arc::from(name))?;
        Some(if revision { Self::Revision(name) } else { Self::Toolset(name) })
    }
}

impl fmt::Display for Scope {
    /// As its path is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("/mcp"),
            Self::Toolset(name) => write!(f, "/mcp/{name}"),
            Self::Revision(commit) => write!(f, "/mcp@{commit}"),
        }
    }
}

/// Why an endpoint is not served to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// There is none: a sentence with what to do.
    Absent(String),
    /// It is not for this principal.
    Forbidden(String),
    /// It wants a token with more scopes; the challenge (`WWW-Authenticate`) says which.
    Scopes { why: String, challenge: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_an_endpoint() {
        let toolset = |name: &str| Some(Scope::Toolset(name.into()));
        let revision = |name: &str| Some(Scope::Revision(name.into()));
        let cases = [
            ("/mcp", Some(Scope::All)),
            ("/mcp/", Some(Scope::All)),
            ("/mcp/data", toolset("data")),
            ("/mcp/data/", toolset("data")),
            ("/mcp@0bff1b7", revision("0bff1b7")),
            ("/mcp%400bff1b7/", revision("0bff1b7")),
            ("/mcp@", None),
            ("/mcp/a/b", None),
            ("/mcp//", None),
            ("/mcp/..", None),
            ("/mcp/%2e%2e", None),
            ("/mcpx", None),
            ("/", None),
        ];
        for (path, expected) in cases {
            assert_eq!(Scope::of_path(path), expected, "{path}");
        }
        assert_eq!(Scope::of_path(&format!("/mcp/{}", "a".repeat(65))), None);
    }
}
