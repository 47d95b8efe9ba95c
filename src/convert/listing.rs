//! What is served, as the MCP registry lists it: the endpoint, its toolsets, and the servers behind them.
//!
//! Input: a catalog, and what of it somebody sees. Output: a [`Listing`], each entry written once. What
//! clients are told to use is always an endpoint of ours, never what stands behind it. Source: the registry's
//! API v0.1 (`GET /v0.1/servers` and below) with `server.json` of 2025-12-11; server cards as the draft of
//! SEP-2127 has them in July 2026. Invariant: nothing of a server is listed to whom none of its entries is
//! shown. Not here: HTTP.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use serde_json::json;

use super::server_json::{self, Input, Named, ServerJson, Transport};
use crate::catalog::{Catalog, Entry, List, Route};
use crate::desired::{Server, Toolset};
use crate::resource::server::Instructions;
use crate::resource::{Name, Revision};
use crate::status::Timestamp;

/// The schema that a server card names.
const CARD_SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json";
/// What a server card is.
pub const CARD_TYPE: &str = "application/mcp-server-card+json";
/// Entries of a page, where nothing else is asked for, and at most: those of the official registry.
const PAGE: usize = 30;
const MAX_PAGE: usize = 100;

/// Where and as whom we are found.
#[derive(Clone, Debug)]
pub struct Place {
    /// `https://tools.example.com/mcp`.
    pub endpoint: String,
    /// Protocol versions that are spoken there, the newest first.
    pub protocols: &'static [&'static str],
    /// Whether clients have to be given a token by hand.
    pub token: bool,
}

/// What of a catalog somebody sees.
pub struct Sight<'a> {
    pub catalog: &'a Catalog,
    /// Since when it is served.
    pub since: Timestamp,
    pub shows: &'a dyn Fn(List, &Entry) -> bool,
    pub admits: &'a dyn Fn(&Toolset) -> bool,
}

/// All of it, in the order of names.
#[derive(Debug, Default)]
pub struct Listing {
    items: BTreeMap<String, Item>,
    since: Timestamp,
    /// By toolset; without a name, of everything.
    cards: BTreeMap<Option<String>, Bytes>,
    /// The AI catalog that names the cards.
    pub ai_catalog: Bytes,
}

#[derive(Debug)]
struct Item {
    version: String,
    /// A `ServerResponse` of the API.
    text: String,
}

/// What of a list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    cursor: Option<String>,
    limit: Option<usize>,
    search: Option<String>,
    version: Option<String>,
    updated_since: Option<Timestamp>,
}

impl Place {
    /// Reverse DNS of the host, as names begin: `com.example.tools`. An address is no name and stays as it is.
    fn namespace(&self) -> String {
        let host = self.host();
        if host == "localhost" || host.starts_with("127.") || host == "[::1]" {
            return "localhost".to_owned();
        }
        if host.starts_with('[') || host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return host.trim_matches(['[', ']']).replace(':', "-");
        }
        host.rsplit('.').collect::<Vec<_>>().join(".")
    }

    fn host(&self) -> String {
        let rest = self.endpoint.split_once("://").map_or(self.endpoint.as_str(), |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        };
        host.to_ascii_lowercase()
    }

    /// Of everything, or of a toolset.
    fn url(&self, toolset: Option<&Name>) -> String {
        toolset.map_or_else(|| self.endpoint.clone(), |name| format!("{}/{name}", self.endpoint))
    }

    fn remote(&self, toolset: Option<&Name>) -> Transport {
        let header = || Named {
            name: "Authorization".to_owned(),
            input: Input { value: Some("Bearer {token}".to_owned()), ..Input::secret() },
            variables: BTreeMap::from([("token".to_owned(), Input::secret())]),
        };
        Transport::StreamableHttp {
            url: self.url(toolset),
            headers: self.token.then(header).into_iter().collect(),
        }
    }
}

/// Lists what somebody sees.
pub fn listing(place: &Place, sight: &Sight<'_>) -> Listing {
    let writer = Writer { place, sight, space: place.namespace() };
    let mut out = Listing { since: sight.since, ..Listing::default() };
    let lists = [List::Tools, List::Prompts, List::Resources, List::Templates];
    let all =
        lists.into_iter().flat_map(|list| sight.catalog.entries(list).values().map(move |it| (list, it)));
    let seen: Vec<&Entry> = all.filter(|(list, it)| (sight.shows)(*list, it)).map(|(_, it)| &**it).collect();
    let toolsets = sight.catalog.toolsets().filter_map(|name| sight.catalog.toolset(name));
    let toolsets: Vec<&Toolset> = toolsets.map(|it| &**it).filter(|it| (sight.admits)(it)).collect();

    let mut entries = vec![json!({
        "identifier": writer.urn(WHOLE), "type": CARD_TYPE, "url": format!("{}/server-card", place.endpoint),
    })];
    let whole = ServerJson { title: Some("Toolcrib".to_owned()), ..writer.server(WHOLE, WHOLE_TEXT) };
    out.cards.insert(None, writer.card(&whole, None));
    out.add(writer.at(whole, &[None]));
    for toolset in &toolsets {
        let name = &toolset.id.name;
        let about = toolset.instructions.as_deref().and_then(first).map(str::to_owned);
        let about = about.unwrap_or_else(|| format!("The toolset {name}"));
        let own = format!("toolset.{name}");
        let server = writer.server(&own, &about);
        entries.push(json!({
            "identifier": writer.urn(&own), "type": CARD_TYPE,
            "url": format!("{}/server-card", place.url(Some(name))),
        }));
        out.cards.insert(Some(name.to_string()), writer.card(&server, Some(name)));
        out.add(writer.at(server, &[Some(name)]));
    }
    for (name, (server, entries)) in behind(&seen) {
        let icons = server.presented.icon.as_deref().and_then(server_json::icon).into_iter().collect();
        let one = ServerJson { icons, ..writer.server(name.as_str(), &told(server)) };
        out.add(writer.at(one, &reached(&entries, &toolsets, &seen)));
    }
    out.ai_catalog = json!({"specVersion": "1.0", "entries": entries}).to_string().into();
    out
}

/// What the endpoint is called; names of resources have no dot, so that none of them is called so.
const WHOLE: &str = "toolcrib.mcp";
const WHOLE_TEXT: &str = "Tools, prompts and resources that one Git repository declares";

struct Writer<'w> {
    place: &'w Place,
    sight: &'w Sight<'w>,
    space: String,
}

impl Writer<'_> {
    fn server(&self, own: &str, about: &str) -> ServerJson {
        ServerJson::new(format!("{}/{own}", self.space), about, &version(&self.sight.catalog.revision))
    }

    fn urn(&self, own: &str) -> String {
        format!("urn:air:{}:mcp:{own}", self.place.host().trim_matches(['[', ']']).replace(':', "-"))
    }

    /// The entry of a server that is reached at these endpoints.
    fn at(&self, mut server: ServerJson, endpoints: &[Option<&Name>]) -> (String, Item) {
        server.remotes = endpoints.iter().map(|toolset| self.place.remote(*toolset)).collect();
        let since = self.sight.since;
        let entry = json!({
            "server": server,
            "_meta": {
                "io.modelcontextprotocol.registry/official":
                    {"status": "active", "publishedAt": since, "updatedAt": since, "isLatest": true},
                "dev.toolcrib/revision": self.sight.catalog.revision.to_string(),
            },
        });
        (server.name, Item { version: server.version, text: entry.to_string() })
    }

    fn card(&self, server: &ServerJson, toolset: Option<&Name>) -> Bytes {
        let mut remote = serde_json::to_value(self.place.remote(toolset)).unwrap_or_default();
        remote["supportedProtocolVersions"] = json!(self.place.protocols);
        let mut card = json!({
            "$schema": CARD_SCHEMA,
            "name": server.name,
            // That of the implementation, as `server/discover` says it.
            "version": env!("CARGO_PKG_VERSION"),
            "description": server.description,
            "remotes": [remote],
            "_meta": {"dev.toolcrib/revision": self.sight.catalog.revision.to_string()},
        });
        if let Some(title) = &server.title {
            card["title"] = json!(title);
        }
        card.to_string().into()
    }
}

/// The servers that somebody sees something of, with that.
fn behind<'a>(seen: &[&'a Entry]) -> BTreeMap<&'a Name, (&'a Server, Vec<&'a Entry>)> {
    let mut servers: BTreeMap<&Name, (&Server, Vec<&Entry>)> = BTreeMap::new();
    for entry in seen {
        if let Route::Server { server, .. } = &entry.route {
            servers.entry(&server.id.name).or_insert_with(|| (server, Vec::new())).1.push(entry);
        }
    }
    servers
}

/// The endpoints at which all of it is served, the narrowest first.
fn reached<'a>(entries: &[&Entry], toolsets: &[&'a Toolset], seen: &[&Entry]) -> Vec<Option<&'a Name>> {
    let takes = |toolset: &Toolset, entry: &Entry| toolset.takes(&entry.owner, entry.labels(), &entry.name);
    let whole = toolsets.iter().filter(|toolset| entries.iter().all(|entry| takes(toolset, entry)));
    let mut whole: Vec<(usize, &Name)> = whole
        .map(|toolset| (seen.iter().filter(|entry| takes(toolset, entry)).count(), &toolset.id.name))
        .collect();
    whole.sort_unstable();
    whole.into_iter().map(|(_, name)| Some(name)).chain([None]).collect()
}

/// What a server says of itself, in the manifest.
fn told(server: &Server) -> String {
    let own = match server.presented.instructions.as_deref() {
        Some(Instructions::Replace(text)) => first(text),
        Some(Instructions::Append(_)) | None => None,
    };
    own.map_or_else(|| format!("The MCP server {}", server.id.name), str::to_owned)
}

/// The first paragraph.
fn first(text: &str) -> Option<&str> {
    text.trim().split("\n\n").next().filter(|text| !text.is_empty())
}

/// A pre-release of this program's version, named by the commit: equal where the same commit is served.
fn version(revision: &Revision) -> String {
    let commit = revision.commit.get(..12).unwrap_or(&revision.commit);
    let dirty = if revision.dirty { ".dirty" } else { "" };
    format!("{}-g{commit}{dirty}", env!("CARGO_PKG_VERSION"))
}

impl Listing {
    fn add(&mut self, (name, item): (String, Item)) {
        self.items.insert(name, item);
    }

    /// The card of everything, or of a toolset.
    pub fn card(&self, toolset: Option<&str>) -> Option<Bytes> {
        self.cards.get(&toolset.map(str::to_owned)).cloned()
    }

    /// A page: a `ServerList` of the API.
    pub fn page(&self, query: &Query) -> String {
        let after = query.cursor.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let since = query.updated_since.is_none_or(|since| since <= self.since);
        let version = |item: &Item| match query.version.as_deref() {
            None | Some("latest") => true,
            Some(version) => version == item.version,
        };
        let named =
            |name: &str| query.search.as_ref().is_none_or(|part| name.to_ascii_lowercase().contains(part));
        let mut found = self
            .items
            .range::<str, _>((after, Bound::Unbounded))
            .filter(|(name, item)| since && version(item) && named(name));
        let page: Vec<(&String, &Item)> = found.by_ref().take(query.limit.unwrap_or(PAGE)).collect();
        let next = page.last().filter(|_| found.next().is_some()).map(|(name, _)| name.as_str());
        list(page.iter().map(|(_, item)| item.text.as_str()), next)
    }

    /// All versions of a server: the one that is served. None: there is no such server.
    pub fn versions(&self, name: &str) -> Option<String> {
        self.items.get(name).map(|item| list([item.text.as_str()].into_iter(), None))
    }

    /// One version of a server, or `latest`. None: there is no such server or version.
    pub fn version(&self, name: &str, version: &str) -> Option<&str> {
        let item = self.items.get(name).filter(|item| version == "latest" || version == item.version)?;
        Some(&item.text)
    }
}

/// A `ServerList` of entries that are written already.
fn list<'a>(entries: impl Iterator<Item = &'a str>, next: Option<&str>) -> String {
    let entries: Vec<&str> = entries.collect();
    let mut metadata = json!({"count": entries.len()});
    if let Some(next) = next {
        metadata["nextCursor"] = json!(next);
    }
    format!("{{\"servers\":[{}],\"metadata\":{metadata}}}", entries.join(","))
}

impl Query {
    /// From the pairs of a query; what the API does not name is ignored.
    ///
    /// # Errors
    /// Which value is none of those that can be: a sentence without its full stop.
    pub fn of<'q>(pairs: impl Iterator<Item = (Cow<'q, str>, Cow<'q, str>)>) -> Result<Self, String> {
        let mut query = Self::default();
        for (key, value) in pairs.filter(|(_, value)| !value.is_empty()) {
            match &*key {
                "cursor" => query.cursor = Some(value.into_owned()),
                "search" => query.search = Some(value.to_ascii_lowercase()),
                "version" => query.version = Some(value.into_owned()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                    query.limit =
                        Some(limit.ok_or_else(|| {
                            format!("`limit` is a number from 1 to {MAX_PAGE}, not `{value}`")
                        })?);
                }
                "updated_since" => {
                    let time = instant(&value);
                    let fault =
                        || format!("`updated_since` is a time such as 2026-11-20T13:15:00Z, not `{value}`");
                    query.updated_since = Some(time.ok_or_else(fault)?);
                }
                // Nothing that is deleted is kept, so that `include_deleted` includes nothing more.
                _ => {}
            }
        }
        Ok(query)
    }
}

/// A time of RFC 3339 to the second: with a fraction, which is dropped, and an offset.
fn instant(text: &str) -> Option<Timestamp> {
    let local = Timestamp::parse(&format!("{}Z", text.get(..19)?))?;
    let rest = text.get(19..)?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    if rest.eq_ignore_ascii_case("z") {
        return Some(local);
    }
    // A `+` of a query that nobody encoded is a blank.
    let (sign, offset) = rest.split_at_checked(1)?;
    let (hours, minutes) = offset.split_once(':')?;
    let seconds =
        hours.parse::<u64>().ok()?.checked_mul(3600)?.checked_add(minutes.parse::<u64>().ok()? * 60)?;
    match sign {
        "+" | " " => local.0.checked_sub(seconds).map(Timestamp),
        "-" => local.0.checked_add(seconds).map(Timestamp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_the_host_turned_around() {
        for (endpoint, space, host) in [
            ("https://tools.example.com/mcp", "com.example.tools", "tools.example.com"),
            ("https://Tools.Example.com:8443/mcp", "com.example.tools", "tools.example.com"),
            ("http://127.0.0.1:7800/mcp", "localhost", "127.0.0.1"),
            ("http://[::1]:7800/mcp", "localhost", "[::1]"),
            ("http://10.0.0.5/mcp", "10.0.0.5", "10.0.0.5"),
            ("http://[fd00::1]:7800/mcp", "fd00--1", "[fd00::1]"),
            ("https://crib/mcp", "crib", "crib"),
        ] {
            let place = Place { endpoint: endpoint.to_owned(), protocols: &[], token: false };
            assert_eq!((place.namespace().as_str(), place.host().as_str()), (space, host), "{endpoint}");
            assert!(server_json::is_namespace(&place.namespace()));
        }
    }

    #[test]
    fn times_of_rfc_3339_are_read() {
        let noon = Timestamp::parse("2026-11-20T12:00:00Z");
        for text in [
            "2026-11-20T12:00:00Z",
            "2026-11-20T12:00:00z",
            "2026-11-20T12:00:00.123456Z",
            "2026-11-20T13:00:00+01:00",
            "2026-11-20T13:00:00 01:00",
            "2026-11-20T06:30:00.5-05:30",
        ] {
            assert_eq!(instant(text), noon, "{text}");
        }
        for text in ["", "2026-11-20", "2026-11-20T12:00:00", "2026-11-20T12:00:00+1", "2026-11-20T12:00:00é"]
        {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}
