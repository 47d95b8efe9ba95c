//! Servers that run elsewhere: an address, and what is sent along with each request.

use super::document::Draft;
use super::name;
use super::secrets;
use super::yaml::Map;

/// The source of a server at an address.
pub(super) fn source(server: &str, url: &str, sse: bool, spec: &mut Map, draft: &mut Draft<'_>) {
    if sse {
        spec.remark(
            "It was spoken to over HTTP+SSE, which is old; most servers have streamable HTTP at `/mcp`.",
        );
    }
    let (url, asked) = without_secrets(url);
    if asked {
        spec.remark("The address held a secret, which is left out.");
        draft.note(server, "the address held a secret, which is left out");
    }
    if url.contains('{') {
        spec.remark("Fill in what stands in braces.");
        draft.note(server, "the address has parts in braces that have to be filled in");
    }
    let mut source = Map::new();
    source.put("url", url);
    spec.put("source", source);
}

/// An address without user, password and what of its query looks like a secret.
pub(super) fn without_secrets(url: &str) -> (String, bool) {
    let (mut kept, mut left_out) = (url.to_owned(), false);
    if let Some((scheme, rest)) = url.split_once("://") {
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if let Some((_, host)) = authority.rsplit_once('@') {
            kept = format!("{scheme}://{host}{path}");
            left_out = true;
        }
    }
    if let Some((before, query)) = kept.clone().split_once('?') {
        let harmless = |part: &&str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            value.starts_with("${") || !secrets::is_secret(key, value)
        };
        let parts: Vec<&str> = query.split('&').collect();
        let rest: Vec<&str> = parts.iter().copied().filter(harmless).collect();
        left_out |= rest.len() < parts.len();
        kept = if rest.is_empty() { before.to_owned() } else { format!("{before}?{}", rest.join("&")) };
    }
    (kept, left_out)
}

/// `http://localhost:{port}/path` of a package that serves HTTP: its port and path.
pub(super) fn local(url: &str) -> (Option<u16>, Option<String>) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let path = path.trim_end_matches('/');
    (port, (!path.is_empty() && !path.contains('{')).then(|| path.to_owned()))
}

/// The variable an unnamed input gets.
pub(super) fn variable(server: &str, own: &str) -> String {
    if name::is_variable(own) {
        own.to_owned()
    } else {
        format!("{}_{}", name::variable(server), name::variable(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_secrets() {
        for (url, kept, left_out) in [
            ("https://a.example/mcp", "https://a.example/mcp", false),
            ("https://me:pw@a.example/mcp", "https://a.example/mcp", true),
            ("https://a.example/mcp?api_key=abc&x=1", "https://a.example/mcp?x=1", true),
            ("https://a.example/?token=abc", "https://a.example/", true),
            ("https://a.example/mcp?x=1", "https://a.example/mcp?x=1", false),
        ] {
            assert_eq!(without_secrets(url), (kept.to_owned(), left_out), "{url}");
        }
        assert_eq!(local("http://localhost:8080/mcp/"), (Some(8080), Some("/mcp".to_owned())));
        assert_eq!(local("http://localhost:{port}"), (None, None));
    }
}
