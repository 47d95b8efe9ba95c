//! Headers that a server elsewhere is sent: literals as they are, and variables for what looks like a secret.

use std::collections::BTreeMap;

use super::document::Draft;
use super::environment::reference;
use super::yaml::Map;
use super::{name, secrets};
use crate::desired::remote::is_ours;

/// Words that stand before a token.
const SCHEMES: [&str; 3] = ["Bearer ", "Basic ", "token "];

/// One header as a file has it.
pub(super) struct Header<'h> {
    pub(super) name: &'h str,
    /// None: whoever configures the client is asked for it.
    pub(super) value: Option<String>,
    /// The file itself says that it is a secret.
    pub(super) secret: bool,
}

impl<'h> Header<'h> {
    pub(super) fn new(name: &'h str, value: impl Into<String>) -> Self {
        Self { name, value: Some(value.into()), secret: false }
    }
}

/// Writes `headers`, and the variables they speak of to `env`.
pub(super) fn put(server: &str, headers: &[Header<'_>], spec: &mut Map, draft: &mut Draft<'_>) {
    let (mut map, mut env) = (Map::new(), Map::new());
    for Header { name, value, secret } in headers {
        let Ok(parsed) = name.parse::<http::HeaderName>() else {
            spec.remark(format!("`{name}` is no name of a header."));
            draft.note(server, format!("the header `{name}` is left out: that is no name of one"));
            continue;
        };
        if is_ours(parsed.as_str()) || map.has(name) {
            continue;
        }
        let mut writer = Writer { server, own: name, env: &mut env, draft: &mut *draft };
        let text = writer.text(value.as_deref(), *secret);
        if http::HeaderValue::from_str(&text).is_err() {
            spec.remark(format!("The header `{name}` is not one line of visible ASCII."));
            draft.note(server, format!("the header `{name}` is left out: it is not one line of ASCII"));
            continue;
        }
        map.put(name, text);
    }
    if !map.is_empty() {
        spec.put("headers", map);
    }
    if !env.is_empty() {
        spec.put("env", env);
    }
}

/// The text of one header, as it is put together.
struct Writer<'w, 't> {
    server: &'w str,
    own: &'w str,
    env: &'w mut Map,
    draft: &'w mut Draft<'t>,
}

impl Writer<'_, '_> {
    fn text(&mut self, value: Option<&str>, secret: bool) -> String {
        let Some(value) = value else { return self.hidden("") };
        let pieces = pieces(value);
        let literal: String = pieces.iter().filter_map(Piece::literal).collect();
        let filled = pieces.iter().any(|piece| piece.literal().is_none());
        let looks =
            if filled { secrets::is_secret("", &literal) } else { secrets::is_secret(self.own, value) };
        // `Bearer ${TOKEN}` is no secret: what is one stands behind the variable.
        let scheme = SCHEMES.into_iter().find(|scheme| value.starts_with(scheme));
        if !filled && (secret || looks) {
            let scheme = scheme.unwrap_or_default();
            return format!("{scheme}{}", self.hidden(value));
        }
        if filled && looks && scheme.is_none_or(|scheme| literal != scheme) {
            return self.hidden(value);
        }
        pieces.iter().map(|piece| self.piece(piece)).collect()
    }

    /// The whole value behind one variable.
    fn hidden(&mut self, value: &str) -> String {
        let own = if self.own.eq_ignore_ascii_case("authorization") { "TOKEN" } else { self.own };
        let own = format!("{}_{}", name::variable(self.server), name::variable(own));
        let variable = self.draft.variables.given(self.server, &own, value);
        self.refer(&variable)
    }

    fn piece(&mut self, piece: &Piece<'_>) -> String {
        match piece {
            Piece::Literal(text) => (*text).to_owned(),
            Piece::Variable { name, default } => {
                if let Some(default) = default.filter(|default| !secrets::is_secret(name, default)) {
                    self.env.remark(format!("It was `{default}` where the variable was not set."));
                }
                self.refer(name)
            }
            Piece::Input(id) => {
                if let Some(about) = self.draft.inputs.get(*id) {
                    self.env.remark(about.clone());
                }
                self.refer(&name::variable(id))
            }
        }
    }

    /// A variable that the daemon has to be given.
    fn refer(&mut self, variable: &str) -> String {
        if !self.env.has(variable) {
            self.env.put(variable, reference(variable));
            self.draft.note(self.server, format!("give the value to the daemon as the variable {variable}"));
        }
        format!("${{{variable}}}")
    }
}

/// A part of a value.
enum Piece<'v> {
    Literal(&'v str),
    Variable {
        name: &'v str,
        default: Option<&'v str>,
    },
    /// What the client asks its user for.
    Input(&'v str),
}

impl<'v> Piece<'v> {
    fn literal(&self) -> Option<&'v str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Variable { .. } | Self::Input(_) => None,
        }
    }

    /// `${NAME}`, `${env:NAME}`, `${NAME:-default}` and `${input:id}`, by what stands inside.
    fn inside(inner: &'v str) -> Option<Self> {
        if let Some(id) = inner.strip_prefix("input:") {
            return Some(Self::Input(id));
        }
        let inner = inner.strip_prefix("env:").unwrap_or(inner);
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        name::is_variable(name).then_some(Self::Variable { name, default })
    }
}

fn pieces(value: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), value);
    while let Some((before, from)) = rest.split_once("${") {
        let Some((inner, after)) = from.split_once('}') else { break };
        if !before.is_empty() {
            pieces.push(Piece::Literal(before));
        }
        // What is no name of a variable is filled in by the client in a way of its own.
        pieces.push(Piece::inside(inner).unwrap_or(Piece::Input(inner)));
        rest = after;
    }
    // `${` without an end is no text that a header of ours could hold.
    let rest = rest.split("${").next().unwrap_or_default();
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    pieces
}

/// `{curly_braces}` of the registry as `${NAME}`, where they are no known text.
pub(super) fn registry(value: &str, known: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, from)) = rest.split_once('{') {
        let Some((inner, after)) = from.split_once('}') else { break };
        text.push_str(before);
        match known.get(inner) {
            Some(known) => text.push_str(known),
            None => text.extend(["${", &name::variable(inner), "}"]),
        }
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::super::document::Target;
    use super::*;

    fn written(name: &str, value: Option<&str>, secret: bool) -> String {
        let target = Target::default();
        let mut draft = Draft::new(&target);
        let (mut spec, value) = (Map::new(), value.map(str::to_owned));
        put("my server", &[Header { name, value, secret }], &mut spec, &mut draft);
        super::super::yaml::text(&spec).replace('\n', ";")
    }

    #[test]
    fn what_looks_like_a_secret_is_a_variable() {
        for (name, value, secret, expected) in [
            ("X-Region", Some("eu"), false, "headers:;  X-Region: eu;"),
            (
                "Authorization",
                Some("Bearer abc"),
                false,
                "headers:;  Authorization: Bearer ${MY_SERVER_TOKEN};env:;  MY_SERVER_TOKEN: {secret: {env: MY_SERVER_TOKEN}};",
            ),
            (
                "Authorization",
                Some("Bearer ${env:TOKEN}"),
                false,
                "headers:;  Authorization: Bearer ${TOKEN};env:;  TOKEN: {secret: {env: TOKEN}};",
            ),
            (
                "X-Api-Key",
                None,
                true,
                "headers:;  X-Api-Key: ${MY_SERVER_X_API_KEY};env:;  MY_SERVER_X_API_KEY: {secret: {env: MY_SERVER_X_API_KEY}};",
            ),
            (
                "X-Key",
                Some("${input:the-key}"),
                false,
                "headers:;  X-Key: ${THE_KEY};env:;  THE_KEY: {secret: {env: THE_KEY}};",
            ),
            (
                "X-Both",
                Some("ghp_0123456789abcdef-${A}"),
                false,
                "headers:;  X-Both: ${MY_SERVER_X_BOTH};env:;  MY_SERVER_X_BOTH: {secret: {env: MY_SERVER_X_BOTH}};",
            ),
            ("Accept", Some("text/plain"), false, ""),
            ("no name", Some("x"), false, "# `no name` is no name of a header.;"),
        ] {
            assert_eq!(written(name, value, secret), expected, "{name}: {value:?}");
        }
    }

    #[test]
    fn braces_of_the_registry_become_variables() {
        let known = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
        for (value, expected) in [
            ("Bearer {api-key}", "Bearer ${API_KEY}"),
            ("{region}-1", "eu-1"),
            ("plain", "plain"),
            ("{open", "{open"),
        ] {
            assert_eq!(registry(value, &known), expected);
        }
    }
}
