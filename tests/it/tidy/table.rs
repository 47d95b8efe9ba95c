//! The tables: modules in reading order, outside crates with their owners, and the top level.

/// What kind of module it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// No async, clock, files, network, process, logging.
    Pure,
    /// Does something in the world.
    Effect,
    /// Puts the others together.
    Composition,
}

/// One module and what it may import beside the pure modules before it.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) layer: Layer,
    also: &'static [&'static str],
}

impl Rule {
    pub(super) fn reason(&self) -> String {
        match self.layer {
            Layer::Pure => "pure modules import pure modules that stand before them".to_owned(),
            _ if self.also.is_empty() => "it imports pure modules and `ports`".to_owned(),
            _ => format!("it imports pure modules, `ports` and {}", self.also.join(", ")),
        }
    }
}

const fn pure(name: &'static str) -> Rule {
    Rule { name, layer: Layer::Pure, also: &[] }
}

const fn effect(name: &'static str, also: &'static [&'static str]) -> Rule {
    Rule { name, layer: Layer::Effect, also }
}

const fn composition(name: &'static str, also: &'static [&'static str]) -> Rule {
    Rule { name, layer: Layer::Composition, also }
}

/// The modules, in reading order.
pub(super) const MODULES: &[Rule] = &[
    pure("resource"),
    pure("wording"),
    pure("schema"),
    pure("lock"),
    pure("manifest"),
    pure("reference"),
    pure("build"),
    pure("desired"),
    pure("policy"),
    pure("live"),
    pure("plan"),
    pure("status"),
    pure("catalog"),
    pure("relation"),
    pure("update"),
    pure("contract"),
    // What others write, and what they read.
    pure("convert"),
    pure("review"),
    // What registration APIs elsewhere have to be told.
    pure("registration"),
    pure("ports"),
    effect("git", &[]),
    effect("secret", &[]),
    effect("telemetry", &[]),
    effect("store", &[]),
    effect("outgoing", &[]),
    effect("registrar", &["outgoing"]),
    // Output of instances and errors of engines pass the redactor.
    effect("runner", &["secret"]),
    effect("mcp", &["outgoing"]),
    effect("http", &["outgoing"]),
    effect("probe", &["mcp"]),
    effect("execute", &["telemetry", "secret"]),
    effect("gateway", &["mcp", "http", "telemetry"]),
    effect("admin", &["http", "telemetry"]),
    composition("reconcile", &["telemetry"]),
    composition("config", &[]),
    composition(
        "daemon",
        &[
            "git",
            "runner",
            "mcp",
            "http",
            "probe",
            "execute",
            "gateway",
            "admin",
            "store",
            "secret",
            "telemetry",
            "reconcile",
            "registrar",
            // Says once whom all clients trust.
            "outgoing",
            "config",
        ],
    ),
    // Everything except adapters.
    composition("cli", &["mcp", "http", "admin", "telemetry", "reconcile", "config", "daemon"]),
];

/// Whether the module of `rule` may import `to`, another module of the table.
pub(super) fn may_import(rule: &Rule, to: &str) -> bool {
    let place = |name: &str| MODULES.iter().position(|rule| rule.name == name);
    let pure = MODULES.iter().any(|rule| rule.name == to && rule.layer == Layer::Pure);
    match rule.layer {
        Layer::Pure => pure && place(to) < place(rule.name),
        Layer::Effect | Layer::Composition => pure || rule.also.contains(&to),
    }
}

/// Outside crates that have owners. The others (serde, bytes, thiserror, tokio, …) are everybody's,
/// within [`EFFECTS`].
pub(super) const CRATES: &[(&str, &[&str])] = &[
    ("aho_corasick", &["secret"]),
    ("axum", &["http", "admin", "gateway", "mcp"]),
    ("bollard", &["runner"]),
    ("clap", &["cli", "config"]),
    ("clap_complete", &["cli"]),
    ("git2", &["git"]),
    // Secrets told apart, and states of requests sealed.
    ("hmac", &["secret", "gateway"]),
    ("hyper", &["http", "mcp", "gateway", "admin", "cli"]),
    ("hyper_util", &["outgoing", "http", "mcp", "gateway", "admin", "cli"]),
    ("ignore", &["manifest", "build"]),
    ("jsonc_parser", &["convert"]),
    ("jsonschema", &["schema"]),
    ("jsonwebtoken", &["http"]),
    ("nix", &["git", "runner", "http", "cli"]),
    ("notify", &["git"]),
    ("prometheus_client", &["telemetry"]),
    ("redb", &["store"]),
    ("regorus", &["policy"]),
    // Clients are made in `outgoing`; the others speak of requests and answers.
    ("reqwest", &["outgoing", "registrar", "mcp", "http"]),
    // Tokens of users at rest, and challenges of PKCE.
    ("ring", &["http"]),
    ("rmcp", &["mcp"]),
    ("rustls", &["outgoing", "http"]),
    // Derived with the types, read where they are explained.
    ("schemars", &["resource", "reference"]),
    ("serde_yaml", &["manifest", "reference", "convert", "config"]),
    ("sha2", &["resource", "secret", "gateway"]),
    ("similar", &["review"]),
    ("smol_str", &["mcp"]),
    ("ssh_key", &["git"]),
    ("tar", &["runner", "git"]),
    // The server's side; clients are made in `outgoing`.
    ("tokio_rustls", &["http"]),
    ("toml_edit", &["convert"]),
    ("tower_service", &["outgoing", "http", "mcp"]),
    ("tracing_subscriber", &["telemetry"]),
    ("x509_cert", &["http"]),
];

/// What no pure module may name.
pub(super) const EFFECTS: &[&str] = &[
    "async_trait",
    "futures",
    "rand",
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "tokio_util",
    "tracing",
];

/// Below `src`, but programs of their own.
pub(super) const OUTSIDE: &[&str] = &["init"];

/// Lines of one file of the library, and of one file of tests.
pub(super) const MAX_LINES: usize = 600;
pub(super) const MAX_TEST_LINES: usize = 1000;

/// What the top level holds, dot-files aside.
pub(super) const REQUIRED: &[&str] =
    &["CHANGELOG.md", "Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "examples", "src", "tests"];
pub(super) const OPTIONAL: &[&str] = &["flake.lock", "flake.nix", "policies", "schemas"];
