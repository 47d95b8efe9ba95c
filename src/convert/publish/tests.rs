//! What becomes of a `Server` of each kind, and what our own import makes of that again.

use serde_json::{Value, json};

use super::*;
use crate::convert::{Format, Target, import};
use crate::lock::{Resolved, Signer};
use crate::manifest::{Declared, RepoPath, parse_file};
use crate::resource::{Kind, ResourceId, Spec};

const AS: As<'static> = As { namespace: "io.github.acme", version: "1.0.0" };

fn declared(spec: &str) -> std::sync::Arc<Declared> {
    let text = format!(
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {{name: weather}}\nspec: {spec}\n"
    );
    let file = parse_file(&RepoPath::parse("a.yaml").unwrap(), text.as_bytes());
    assert!(file.resources.len() == 1, "{:?}", file.diagnostics);
    std::sync::Arc::clone(&file.resources[0])
}

/// What becomes of a spec whose variables are its own, and what is told.
fn published(spec: &str, lock: Option<&Lock>) -> (Value, Vec<String>) {
    let declared = declared(spec);
    let Spec::Server(spec) = &declared.spec else { panic!("a server") };
    let server = Server { name: &declared.metadata.name, spec, env: &spec.env, lock };
    let (json, notes) = publish(&server, AS).unwrap();
    (serde_json::to_value(json).unwrap(), notes.into_iter().map(|note| note.text).collect())
}

/// The spec that is imported from what was exported.
fn back(exported: &Value) -> String {
    let bytes = serde_json::to_vec(exported).unwrap();
    let imported = import(&bytes, Some(Format::ServerJson), &Target::default()).unwrap();
    let server = imported.documents.into_iter().find(|document| document.kind == Kind::Server).unwrap();
    let text = server.text();
    text.split_once("spec:\n").unwrap().1.to_owned()
}

fn locked(digest: &str) -> Lock {
    Lock {
        resource: ResourceId::parse("Server/weather").unwrap(),
        source: json!({}),
        resolved: Resolved { digest: Some(digest.to_owned()), ..Resolved::default() },
        signer: Signer::Unsigned,
        offer: None,
    }
}

#[test]
fn a_package_comes_back_as_it_was() {
    let spec = "{source: {package: {registry: pypi, name: mcp-weather, version: 1.4.0, args: [serve, --units, metric]}}, \
                transport: {type: streamable-http, port: 9000, path: /weather}, \
                instructions: 'Forecasts.\n\nAsk for the city.', icon: 'https://x.example/i.png', \
                env: {LOG: debug, WEATHER_KEY: {secret: {env: KEY}}, OTHER_KEY: in-the-clear}}";
    let (json, notes) = published(spec, None);
    assert_eq!(
        json,
        json!({
            "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
            "name": "io.github.acme/weather",
            "description": "Forecasts. Ask for the city.",
            "version": "1.4.0",
            "icons": [{"src": "https://x.example/i.png"}],
            "packages": [{
                "registryType": "pypi", "identifier": "mcp-weather", "version": "1.4.0", "runtimeHint": "uvx",
                "transport": {"type": "streamable-http", "url": "http://localhost:9000/weather"},
                "packageArguments": [
                    {"type": "positional", "value": "serve"},
                    {"type": "positional", "value": "--units"},
                    {"type": "positional", "value": "metric"},
                ],
                "environmentVariables": [
                    {"name": "LOG", "default": "debug"},
                    {"name": "OTHER_KEY", "isRequired": true, "isSecret": true},
                    {"name": "WEATHER_KEY", "isRequired": true, "isSecret": true},
                ],
            }],
        })
    );
    assert_eq!(notes, ["the value of `OTHER_KEY` looks like a secret and is asked for instead"]);
    assert_eq!(
        back(&json),
        "  source:\n    package: {registry: pypi, name: mcp-weather, version: 1.4.0, args: [serve, --units, metric]}\n  \
         transport: {type: streamable-http, port: 9000, path: /weather}\n  env:\n    LOG: debug\n    \
         OTHER_KEY: {secret: {env: OTHER_KEY}}\n    WEATHER_KEY: {secret: {env: WEATHER_KEY}}\n"
    );
}

#[test]
fn an_image_is_pinned_by_its_lock() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let (json, notes) = published(
        "{source: {image: ghcr.io/acme/weather:1.4}}",
        Some(&locked(&format!("ghcr.io/acme/weather@{digest}"))),
    );
    let package = &json["packages"][0];
    assert_eq!(package["identifier"], format!("ghcr.io/acme/weather:1.4@{digest}"));
    assert_eq!((&package["version"], &json["version"]), (&Value::Null, &json!("1.4")));
    assert!(notes.is_empty(), "{notes:?}");
    assert!(
        back(&json).starts_with(&format!("  source:\n    image: ghcr.io/acme/weather:1.4@{digest}\n")),
        "{}",
        back(&json)
    );

    let (json, notes) =
        published("{source: {image: {ref: acme/weather, command: [python, -m], args: [weather]}}}", None);
    assert_eq!(notes, ["`acme/weather` has no digest: `toolcrib lock` finds it, and then it is written"]);
    assert_eq!(
        json["packages"][0]["runtimeArguments"],
        json!([{"type": "named", "name": "--entrypoint", "value": "python"}])
    );
    assert!(
        back(&json).contains("image: {ref: acme/weather, command: [python], args: [-m, weather]}"),
        "{}",
        back(&json)
    );
    let (json, _) = published(
        "{source: {package: {registry: oci, name: ghcr.io/acme/weather, version: '2.0', args: [serve]}}}",
        None,
    );
    assert_eq!(
        (&json["version"], &json["packages"][0]["identifier"]),
        (&json!("2.0"), &json!("ghcr.io/acme/weather:2.0"))
    );
}

#[test]
fn a_server_elsewhere_keeps_its_headers_and_no_secret() {
    let spec = "{source: {url: 'https://me:CANARY@mcp.example.com/mcp?api_key=CANARY&x=1'}, \
                env: {TOKEN: {secret: {env: T}}, REGION: eu}, \
                headers: {Authorization: 'Bearer ${TOKEN}', X-Region: '${REGION}-1', X-Api-Key: CANARY, X-Plain: 'a $${b}'}}";
    let (json, notes) = published(spec, None);
    assert_eq!(
        json["remotes"],
        json!([{
            "type": "streamable-http",
            "url": "https://mcp.example.com/mcp?x=1",
            "headers": [
                {"name": "Authorization", "value": "Bearer {TOKEN}", "isRequired": true, "isSecret": true,
                 "variables": {"TOKEN": {"isRequired": true, "isSecret": true}}},
                {"name": "X-Api-Key", "isRequired": true, "isSecret": true},
                {"name": "X-Plain", "value": "a ${b}", "isRequired": true},
                {"name": "X-Region", "value": "{REGION}-1", "isRequired": true, "variables": {"REGION": {"default": "eu"}}},
            ],
        }])
    );
    assert_eq!(
        notes,
        [
            "the address holds a secret, which is left out",
            "the header `X-Api-Key` looks like a secret and is asked for instead"
        ]
    );
    assert!(!json.to_string().contains("CANARY"));
    let spec = back(&json);
    assert!(
        spec.contains("Authorization: Bearer ${TOKEN}\n") && spec.contains("TOKEN: {secret: {env: TOKEN}}"),
        "{spec}"
    );
    assert!(spec.contains("X-Region: eu-1\n"), "{spec}");
}

#[test]
fn what_has_no_counterpart_is_told() {
    for source in [
        "build: {context: .}",
        "git: {url: 'https://x/y.git', ref: v1, file: s.py}",
        "command: [python3, s.py]",
    ] {
        let declared = declared(&format!("{{source: {{{source}}}}}"));
        let Spec::Server(spec) = &declared.spec else { panic!("a server") };
        let server = Server { name: &declared.metadata.name, spec, env: &spec.env, lock: None };
        let why = publish(&server, AS).unwrap_err();
        assert!(why.contains("the registry knows packages, images and addresses only"), "{why}");
    }
    let (_, notes) = published(
        "{source: {package: {registry: npm, name: '@acme/x', version: 1.0.0, bin: other, args: [--token, abc]}}, \
          mode: deploy, files: {/run/toolcrib/x: a}, tools: {exclude: [x]}, dependsOn: [y]}",
        None,
    );
    assert_eq!(
        notes,
        [
            "`bin` has no counterpart: clients start `x` instead of `other`",
            "an argument looks like a secret and is asked for instead",
            "without a counterpart: `dependsOn`, `files`, `tools`",
            "it only runs here (`mode: deploy`): its tools are in no catalog",
        ]
    );
}
