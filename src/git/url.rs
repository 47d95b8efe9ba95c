//! Addresses and names that Git is given, checked before any of them reaches libgit2.
//!
//! Input: text of a flag or a manifest. Output: [`GitUrl`] and [`RefName`], which cannot be taken
//! for an option, cannot carry a password and cannot name a transport that was not allowed.
//! Pure: no network, no files.

use std::path::PathBuf;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GitUrl {
    /// `https://host/path`, or `http://` on a loopback address where that is allowed.
    Http { url: String },
    /// `ssh://[user@]host[:port]/path`, or `[user@]host:path`, whose path is relative to the home
    /// folder there.
    Ssh { url: String, user: Option<String> },
    /// An absolute path of this machine.
    Local(PathBuf),
}

/// What may be more than https and ssh. Both are the floor's to decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Absolute paths and `file:` addresses.
    pub local: bool,
    /// `http:` on a loopback address. For tests of the transport alone.
    pub http: bool,
}

/// Why an address or a ref is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("`{0}` begins with `-`")]
    Dash(String),
    #[error("the address of the repository is empty, too long, or has a blank or control character in it")]
    Characters,
    #[error("the address holds a user name or password")]
    Credentials,
    #[error("`{0}:` is not a transport that may be used")]
    Transport(String),
    #[error("`{0}` names no host and path")]
    Incomplete(String),
    #[error("`{0}` is a local path, and local repositories are not allowed here")]
    Local(String),
    #[error("`{0}` is not a ref name")]
    Ref(String),
}

impl Refused {
    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Dash(_) | Self::Characters | Self::Incomplete(_) => {
                "write https://host/path, ssh://user@host/path or user@host:path"
            }
            Self::Credentials => "take them out and declare `credentials` with secret references",
            Self::Transport(_) => "use https or ssh",
            Self::Local(_) => "use https or ssh, or start the daemon with local Git sources allowed",
            Self::Ref(_) => "name a branch, a tag or the 40 digits of a commit",
        }
    }
}

/// Bytes of an address: longer ones are mistakes, and servers refuse them too.
const MAX_URL: usize = 2048;
/// Bytes of a ref name: file systems end at 255 a part, Git at 4096 in all.
const MAX_REF: usize = 1024;

impl GitUrl {
    /// # Errors
    /// When `text` is not an address that may be used.
    pub fn parse(text: &str, allow: Allow) -> Result<Self, Refused> {
        if text.starts_with('-') {
            return Err(Refused::Dash(text.to_owned()));
        }
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if text.is_empty() || text.len() > MAX_URL || text.contains(odd) {
            return Err(Refused::Characters);
        }
        match text.split_once("://") {
            Some((scheme, rest)) => Self::with_scheme(text, &scheme.to_ascii_lowercase(), rest, allow),
            None if text.starts_with('/') => local(text, text, allow),
            None => scp(text),
        }
    }

    fn with_scheme(text: &str, scheme: &str, rest: &str, allow: Allow) -> Result<Self, Refused> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        match scheme {
            "file" if authority.is_empty() || authority == "localhost" => {
                local(text, &format!("/{path}"), allow)
            }
            "https" | "http" => {
                let user = authority.rsplit_once('@');
                if user.is_some() {
                    return Err(Refused::Credentials);
                }
                let host = host_of(authority).ok_or_else(|| Refused::Incomplete(text.to_owned()))?;
                if scheme == "http" && !(allow.http && loopback(host)) {
                    return Err(Refused::Transport(scheme.to_owned()));
                }
                if path.is_empty() {
                    return Err(Refused::Incomplete(text.to_owned()));
                }
                Ok(Self::Http { url: format!("{scheme}://{authority}/{path}") })
            }
            "ssh" | "git+ssh" | "ssh+git" => {
                let (user, host) = match authority.rsplit_once('@') {
                    Some((user, host)) => (Some(user), host),
                    None => (None, authority),
                };
                ssh(text, user, host, path)
            }
            other => Err(Refused::Transport(other.to_owned())),
        }
    }

    /// As libgit2 is given it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Http { url } | Self::Ssh { url, .. } => url,
            Self::Local(path) => path.to_str().unwrap_or_default(),
        }
    }
}

fn local(text: &str, path: &str, allow: Allow) -> Result<GitUrl, Refused> {
    if !allow.local {
        return Err(Refused::Local(text.to_owned()));
    }
    Ok(GitUrl::Local(PathBuf::from(path)))
}

/// `[user@]host:path`, as scp and Git write it.
fn scp(text: &str) -> Result<GitUrl, Refused> {
    let incomplete = || Refused::Incomplete(text.to_owned());
    let (authority, path) = text.split_once(':').ok_or_else(incomplete)?;
    if authority.contains('/') {
        return Err(incomplete());
    }
    if path.starts_with(':') {
        // `ext::command` and the like start programs.
        return Err(Refused::Transport(authority.to_owned()));
    }
    if path.contains('@') {
        return Err(Refused::Credentials);
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    match path.strip_prefix('/') {
        Some(absolute) => ssh(text, user, host, absolute),
        // Relative to the home folder there: only this form says so.
        None => ssh(text, user, host, path)
            .map(|_| GitUrl::Ssh { url: text.to_owned(), user: user.map(str::to_owned) }),
    }
}

fn ssh(text: &str, user: Option<&str>, authority: &str, path: &str) -> Result<GitUrl, Refused> {
    if user.is_some_and(|user| user.contains(':')) {
        return Err(Refused::Credentials);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let user_fits =
        user.is_none_or(|user| !user.is_empty() && !user.starts_with('-') && user.chars().all(plain));
    let host = host_of(authority).filter(|_| user_fits && !path.is_empty() && !path.starts_with('-'));
    if host.is_none() {
        return Err(Refused::Incomplete(text.to_owned()));
    }
    let at = user.map(|user| format!("{user}@")).unwrap_or_default();
    Ok(GitUrl::Ssh { url: format!("ssh://{at}{authority}/{path}"), user: user.map(str::to_owned) })
}

/// The host of `host`, `host:port` or `[v6]:port`, when it is one and the port a number.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            if !host.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.') {
                return None;
            }
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let v6 = authority.starts_with('[');
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = !host.is_empty() && !host.starts_with('-') && (v6 || host.chars().all(named));
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    (fits && port_fits).then_some(host)
}

fn loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The name of a branch, a tag or a whole ref, or the digits of a commit: what
/// `git check-ref-format` accepts, and nothing that could be an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefName(String);

impl RefName {
    /// # Errors
    /// When `text` could not be the name of a ref.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.starts_with('-') {
            return Err(Refused::Dash(text.to_owned()));
        }
        let refused = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
        let part_fits = |part: &str| {
            !part.is_empty() && !part.starts_with('.') && !part.to_ascii_lowercase().ends_with(".lock")
        };
        let fits = !text.is_empty()
            && text.len() <= MAX_REF
            && text != "@"
            && !text.contains(refused)
            && !text.contains("..")
            && !text.contains("@{")
            && !text.ends_with('.')
            && text.split('/').all(part_fits);
        if fits { Ok(Self(text.to_owned())) } else { Err(Refused::Ref(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits, when it can only be a whole commit id.
    pub fn commit(&self) -> Option<String> {
        let digits = self.0.len() == 40 && self.0.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| self.0.to_ascii_lowercase())
    }

    /// The refs it may mean, best first: branches before tags, as `git clone --branch` has it.
    pub fn candidates(&self) -> Vec<String> {
        let name = &self.0;
        if name == "HEAD" || name.starts_with("refs/") {
            return vec![name.clone()];
        }
        vec![
            format!("refs/heads/{name}"),
            format!("refs/tags/{name}"),
            format!("refs/remotes/{name}"),
            format!("refs/{name}"),
        ]
    }
}

/// `main` of `refs/heads/main`: what people call a ref.
pub(super) fn short(full: &str) -> &str {
    ["refs/heads/", "refs/tags/", "refs/remotes/"]
        .iter()
        .find_map(|prefix| full.strip_prefix(prefix))
        .unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Allow = Allow { local: false, http: false };
    const LOOSE: Allow = Allow { local: true, http: true };

    #[test]
    fn addresses_that_may_be_used() {
        for (text, expected) in [
            ("https://example.com/a/b.git", "https://example.com/a/b.git"),
            ("HTTPS://example.com:8443/a", "https://example.com:8443/a"),
            ("https://[::1]:8443/a", "https://[::1]:8443/a"),
            ("ssh://git@example.com/a.git", "ssh://git@example.com/a.git"),
            ("ssh://example.com:2222/a", "ssh://example.com:2222/a"),
            ("git@example.com:group/a.git", "git@example.com:group/a.git"),
            ("example.com:/srv/a.git", "ssh://example.com/srv/a.git"),
        ] {
            assert_eq!(GitUrl::parse(text, STRICT).as_ref().map(GitUrl::as_str), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("/srv/a.git", "/srv/a.git"),
            ("file:///srv/a.git", "/srv/a.git"),
            ("http://127.0.0.1:80/a", "http://127.0.0.1:80/a"),
        ] {
            assert_eq!(GitUrl::parse(text, LOOSE).as_ref().map(GitUrl::as_str), Ok(expected), "{text}");
        }
    }

    #[test]
    fn addresses_that_are_refused() {
        for text in [
            "",
            "-oProxyCommand=x",
            "--upload-pack=x",
            "https://",
            "https://example.com",
            "https://user@example.com/a",
            "https://user:secret@example.com/a",
            "https://exa mple.com/a",
            "https://example.com:0/a",
            "https://example.com:x/a",
            "https://-x/a",
            "http://127.0.0.1/a",
            "git://example.com/a",
            "ftp://example.com/a",
            "ext::sh -c id",
            "ext::id",
            "ssh://git:secret@example.com/a",
            "ssh://-oProxyCommand=id/a",
            "ssh://-l@example.com/a",
            "ssh://example.com/-a",
            "git@-host:a",
            "git:secret@example.com:a",
            "a/b:c",
            "/srv/a.git",
            "file:///srv/a.git",
            "file://host/a",
            "relative/path",
            "https://example.com/a\nb",
        ] {
            assert!(GitUrl::parse(text, STRICT).is_err(), "{text}");
        }
        assert!(GitUrl::parse("http://example.com/a", LOOSE).is_err());
        let refused = GitUrl::parse("https://user:hunter2@example.com/a", STRICT).unwrap_err();
        assert!(!refused.to_string().contains("hunter2"));
    }

    #[test]
    fn ref_names() {
        for text in ["main", "v1.2", "feature/x", "refs/heads/main", "HEAD", "release-1", "a@b", "ünïcode"]
        {
            assert!(RefName::parse(text).is_ok(), "{text}");
        }
        for text in [
            "", "-x", "--all", "@", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a@{1}",
            "a.", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a\u{7f}", "a\nb",
        ] {
            assert!(RefName::parse(text).is_err(), "{text}");
        }
        let digits = "ABCDEF0123456789abcdef0123456789abcdef01";
        assert_eq!(RefName::parse(digits).unwrap().commit().as_deref(), Some(digits.to_lowercase().as_str()));
        assert_eq!(RefName::parse("main").unwrap().commit(), None);
    }
}
