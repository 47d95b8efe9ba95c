//! Whatever a file holds: no panic, nothing that our own reader refuses, and the same again.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::manifest::{RepoPath, parse_file};

/// Words that importers look for.
const KEYS: [&str; 42] = [
    "mcpServers",
    "servers",
    "server",
    "registry",
    "command",
    "args",
    "env",
    "url",
    "type",
    "id",
    "mode",
    "image",
    "git_repo_url",
    "git_branch_or_tag",
    "server_file_path",
    "mcp_instance_name",
    "service_port",
    "docker_image",
    "name",
    "packages",
    "remotes",
    "registryType",
    "identifier",
    "version",
    "transport",
    "packageArguments",
    "environmentVariables",
    "container",
    "parameters",
    "integrations",
    "execution_timeout",
    "tools",
    "secrets",
    "A",
    "resource_requirements",
    "memory",
    "value",
    "default",
    "description",
    "headers",
    "poci",
    "config",
];
/// Texts that mean something to them.
const TEXTS: [&str; 25] = [
    "npx",
    "docker",
    "run",
    "-e",
    "x@1.2.3",
    "sync",
    "deploy",
    "https://h/x",
    "git@h:x",
    "npm",
    "oci",
    "1.0.0",
    "${A}",
    "{{a.b}}",
    "poci",
    "stdio",
    "sse",
    "-",
    "--",
    "",
    "8080",
    "\u{0}",
    "a\nb",
    "string",
    "5m",
];

/// Values under the words that importers look for.
fn value() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(&KEYS[..]);
    let text = prop_oneof![prop::sample::select(&TEXTS[..]).prop_map(str::to_owned), "\\PC{0,8}",];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..7).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_comes_out_is_valid_in_itself(value in value(), format in prop::option::of(0..Format::ALL.len())) {
        let text = value.to_string();
        let format = format.map(|at| Format::ALL[at]);
        let target = Target::default();
        let Ok(imported) = import(text.as_bytes(), format, &target) else { return Ok(()) };
        let path = RepoPath::parse("x.yaml").unwrap();
        for document in &imported.documents {
            let written = document.text();
            let parsed = parse_file(&path, written.as_bytes());
            let errors: Vec<_> = parsed.diagnostics.iter().filter(|found| found.is_error()).collect();
            prop_assert!(errors.is_empty() && parsed.resources.len() == 1, "{errors:?}\n{written}");
        }
        let again = import(text.as_bytes(), format, &target).unwrap();
        prop_assert_eq!(imported.documents, again.documents);
    }
}
