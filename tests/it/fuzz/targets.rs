//! The targets: each reads bytes as one of the formats others hand to us.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use toolcrib::config::Settings;
use toolcrib::convert;
use toolcrib::desired::{Floor, argv};
use toolcrib::git::{Allow, GitUrl, RefName};
use toolcrib::lock;
use toolcrib::manifest::{Mode, RepoPath, parse_file};
use toolcrib::mcp::wire::{self, raw};
use toolcrib::policy::PolicySet;
use toolcrib::reconcile::rules_of;
use toolcrib::resource::policy::Point;
use toolcrib::resource::tool::ArgTemplate;
use toolcrib::resource::{Cpu, Digest, Kind, Memory, Name, Period, ResourceId};
use toolcrib::schema::Schemas;

use super::engine::Target;
use crate::manifest::{cases, repository, resolve};

pub(super) fn target(
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
    body: impl Fn(&[u8]) -> String + 'static,
) -> Target {
    Target { name: "", iterations: 0, seeds, words, body: Box::new(body) }
}

pub(super) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Every file of one ending below a folder of this repository.
fn files(folder: &Path, ending: &str, found: &mut Vec<Vec<u8>>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.extend(std::fs::read(path).ok());
        }
    }
}

fn below(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), ending, &mut found);
    found
}

const FLOOR: Floor = Floor { process: true, privileges: false, local_git: false, signers: None };

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

/// Documents of a repository: read, resolved, and every fault of them shown.
pub(super) fn manifests() -> Target {
    let mut seeds = Vec::new();
    files(&cases(), "yaml", &mut seeds);
    seeds.extend(below("examples", "yaml"));
    target(
        seeds,
        &[
            "apiVersion: ",
            "toolcrib.dev/v1alpha1",
            "kind: ",
            "---\n",
            "spec:",
            "- ",
            "&a ",
            "*a",
            "<<: ",
            "!!str ",
            "${x}",
            "${x...}",
            "? ",
        ],
        |bytes| {
            let parsed = parse_file(&path("a.yaml"), bytes);
            assert_eq!(
                parsed.diagnostics,
                parse_file(&path("a.yaml"), bytes).diagnostics,
                "the same each time"
            );
            let length = parsed.diagnostics.iter().map(|fault| fault.to_string().len()).sum::<usize>();
            assert!(length < 200_000, "what is said is bounded");
            let repository = repository(BTreeMap::from([(path("a.yaml"), (Mode::File, bytes.to_vec()))]));
            let (manifest, resolved) = resolve(&repository, &FLOOR, None);
            let codes: Vec<&str> =
                manifest.diagnostics.iter().chain(&resolved.diagnostics).map(|fault| fault.code).collect();
            format!("{codes:?} {}", manifest.resources.len())
        },
    )
}

/// The lock of a server: read, and written as it was read.
pub(super) fn locks() -> Target {
    target(
        below("tests/it/manifest/locks/locks", "yaml"),
        &[
            "kind: Lock",
            "resource: Server/",
            "unsigned: true",
            "signer: ",
            "definition: |\n",
            "- name: ",
            "resolved:\n",
            "{\"name\": \"a\"}",
        ],
        |bytes| {
            let server = b"apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {name: good}\n\
                           spec: {source: {url: \"https://tools.example/mcp\"}}\n";
            let read = |text: &[u8]| {
                let files = [("a.yaml", server.to_vec()), ("locks/server/good.yaml", text.to_vec())];
                let files = files.map(|(name, bytes)| (path(name), (Mode::File, bytes)));
                resolve(&repository(files.into()), &FLOOR, None).0
            };
            let manifest = read(bytes);
            if let Some(lock) = manifest.locks.values().next() {
                let again = read(lock.write().as_bytes());
                assert_eq!(again.locks.values().next(), Some(lock), "{:?}", again.diagnostics);
            }
            let text = String::from_utf8_lossy(bytes);
            let _ = (lock::canonical(&text), lock::pretty(&text), lock::compact(&text));
            let codes: Vec<&str> = manifest.diagnostics.iter().map(|fault| fault.code).collect();
            format!("{codes:?}")
        },
    )
}

/// Files of other programs, of whichever format they seem to be.
pub(super) fn imports() -> Target {
    let mut seeds = below("tests/fixtures/import", "json");
    seeds.extend(below("tests/fixtures/import", "yaml"));
    seeds.extend(below("tests/fixtures/import", "toml"));
    seeds.retain(|seed| seed.len() < 16 << 10);
    target(
        seeds,
        &[
            "\"mcpServers\": {",
            "\"command\": ",
            "\"args\": [",
            "\"env\": {",
            "\"url\": ",
            "\"packages\": [",
            "${X}",
            "//",
            "/* */",
        ],
        |bytes| match convert::import(bytes, None, &convert::Target::default()) {
            Ok(imported) => {
                let length: usize = imported.documents.iter().map(|document| document.text().len()).sum();
                assert!(length < 100 * bytes.len() + 10_000, "what is written is bounded");
                let kinds: Vec<&str> =
                    imported.documents.iter().map(|document| document.kind.as_str()).collect();
                format!("{kinds:?} {}", imported.notes.len())
            }
            Err(error) => error.to_string().chars().take(40).collect(),
        },
    )
}

/// Templates of arguments, and arguments for them.
pub(super) fn arguments() -> Target {
    let seeds = texts(&[
        r#"{"args": ["${a}", {"if": "b", "args": ["-n", "${b}"]}, "--", "${c...}"], "stdin": "${a}",
            "properties": {"a": {"type": "string"}, "b": {"type": "string", "default": "x"}, "c": {"type": "array"}},
            "given": {"a": "1 2", "c": ["x", 3, true]}}"#,
        r#"{"args": ["x=${a}", "$${a}"], "properties": {"a": {"split": "words", "allowDash": true}}, "given": {"a": "-A 'b c' \"d"}}"#,
    ]);
    target(
        seeds,
        &[
            "${",
            "}",
            "...}",
            "$${",
            "\"-x\"",
            "\"--\"",
            "\"if\"",
            "\"args\"",
            "\"split\": \"words\"",
            "\\u0000",
            "[[]]",
        ],
        |bytes| {
            let Ok(input) = serde_json::from_slice::<Value>(bytes) else { return String::new() };
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let texts =
                |value: &Value| value.as_array().into_iter().flatten().filter_map(text).collect::<Vec<_>>();
            let args: Vec<ArgTemplate> = input["args"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|arg| match (arg.as_str(), arg["if"].as_str()) {
                    (Some(text), _) => ArgTemplate::Text(text.to_owned()),
                    (None, name) => ArgTemplate::When {
                        parameter: name.unwrap_or_default().to_owned(),
                        args: texts(&arg["args"]),
                    },
                })
                .collect();
            let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
            let compiled = argv::compile(
                &texts(&input["command"]),
                &args,
                input["stdin"].as_str(),
                &object(&input["properties"]),
            );
            match compiled {
                Ok(command) => match argv::fill(&command, &object(&input["given"])) {
                    Ok(filled) => format!("{}", filled.argv.len()),
                    Err(error) => {
                        format!("{error}").chars().filter(char::is_ascii_alphabetic).take(20).collect()
                    }
                },
                Err(problems) => format!("{} problems", problems.len()),
            }
        },
    )
}

/// A module of Rego: compiled within its bounds, and asked.
pub(super) fn rego() -> Target {
    let mut seeds = below("policies", "rego");
    seeds.extend(below("examples/policies", "rego"));
    seeds.extend(texts(&["package a\ndeny contains x if { some x in input.user.groups; not x == \"a\" }\n"]));
    target(
        seeds,
        &[
            "package ",
            "deny ",
            "contains ",
            "if {",
            "not ",
            "some x in ",
            "input.",
            "[_]",
            ":= ",
            "every ",
            "else ",
            "with input as ",
            "data.",
            "sprintf(",
            "`",
            "import rego.v1\n",
        ],
        |bytes| {
            let policy = b"apiVersion: toolcrib.dev/v1alpha1\nkind: Policy\nmetadata: {name: a}\n\
                           spec: {package: a, modules: [a.rego]}\n";
            let repository = repository(BTreeMap::from([
                (path("a.yaml"), (Mode::File, policy.to_vec())),
                (path("a.rego"), (Mode::File, bytes.to_vec())),
            ]));
            let (_, resolved) = resolve(&repository, &FLOOR, None);
            let sources = resolved.desired.policies.values().map(|source| rules_of(source)).collect();
            match PolicySet::compile(sources) {
                Ok(set) => {
                    let input = json!({
                        "tool": {"name": "t", "args": {"x": [1]}, "argv": ["t"]},
                        "user": {"name": "ada", "groups": ["a", "b"]},
                    });
                    let decision = set.decide(Point::Call, &input);
                    format!("{}", decision.allowed)
                }
                Err(found) => format!("{:?}", found.iter().map(|fault| fault.code).collect::<Vec<_>>()),
            }
        },
    )
}

/// Addresses of repositories, and refs.
pub(super) fn git_names() -> Target {
    let seeds = texts(&[
        "https://example.org/a.git",
        "http://127.0.0.1:80/a",
        "ssh://git@example.org:22/a",
        "git@example.org:a/b.git",
        "file:///a",
        "/a/b",
        "refs/heads/main",
        "v1.2.0",
        "0123456789012345678901234567890123456789",
    ]);
    target(
        seeds,
        &[
            "https://",
            "ssh://",
            "file://",
            "@",
            ":",
            "-",
            "-oProxyCommand=x",
            "..",
            ".lock",
            "refs/tags/",
            "[::1]",
            "%2e",
            "~",
            "^",
        ],
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let mut said = String::new();
            for (local, http) in [(false, false), (true, false), (false, true), (true, true)] {
                match GitUrl::parse(&text, Allow { local, http }) {
                    Ok(url) => {
                        let spelled = url.as_str();
                        assert!(!spelled.is_empty() && !spelled.starts_with('-'), "{spelled}");
                        assert!(!spelled.chars().any(char::is_control), "{spelled:?}");
                        assert!(local || !matches!(url, GitUrl::Local(_)), "{spelled}");
                        said.push('+');
                    }
                    Err(refused) => {
                        assert!(!refused.hint().is_empty());
                        said.push_str(&format!("{refused:?}")[..4]);
                    }
                }
            }
            if let Ok(name) = RefName::parse(&text) {
                assert!(!name.as_str().starts_with('-') && !name.as_str().contains(".."), "{name:?}");
                said.push_str(&name.candidates().len().to_string());
            }
            said
        },
    )
}

/// Messages of JSON-RPC, and what is cut out of them and put in.
pub(super) fn wire() -> Target {
    let seeds = texts(&[
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1},"_meta":{"progressToken":"t"}}}"#,
        r#"{"jsonrpc":"2.0","id":"a","result":{"tools":[{"name":"a","inputSchema":{"type":"object"}}],"nextCursor":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no","data":[1]}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":0.5}}"#,
    ]);
    target(
        seeds,
        &[
            "\"jsonrpc\":\"2.0\"",
            "\"id\":",
            "\"method\":",
            "\"params\":",
            "\"result\":",
            "\"error\":",
            "\"_meta\":",
            "\\u0000",
            "\\ud800",
            "1e400",
            "[{}]",
        ],
        |bytes| {
            let said = match wire::parse(bytes, wire::MAX_MESSAGE) {
                Ok(message) => {
                    let said = format!("{message:?}");
                    said.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
                }
                Err(error) => format!("{}", error.code()),
            };
            let Ok(text) = std::str::from_utf8(bytes) else { return said };
            let Ok(value) = raw::into_raw(text.to_owned()) else { return said };
            let members = raw::pairs(&value, "an object").map_or(0, |members| members.len());
            let _ = (raw::get(&value, "params"), raw::get_str(&value, "method"), raw::text_of(&value));
            let _ = raw::get_meta(&value, "progressToken");
            // Text that no string holds (a lone surrogate) passes through us, and is read by nobody here.
            let plain = serde_json::from_slice::<Value>(bytes).is_ok();
            if let Ok(changed) = raw::set(&value, &[("method", "\"x\""), ("new", "{}")]) {
                let read: Value = serde_json::from_str(&changed).unwrap_or_default();
                assert!(!plain || (read["method"] == "x" && read["new"] == json!({})), "{changed}");
            }
            let quoted = wire::quote(text);
            assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
            format!("{said} {members}")
        },
    )
}

/// Files that say what is left out: of manifests and of build contexts.
pub(super) fn ignore_files() -> Target {
    let seeds =
        texts(&["*.yml\n!kept.yml\n/vendor/**\n# remark\n", "node_modules\n**/*.pyc\n!a/[a-c]?.py\n\\#x\n"]);
    target(seeds, &["**/", "/**", "!", "[", "]", "[!a-", "{a,b}", "\\", "*", "?"], |bytes| {
        let manifest = b"apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: a}\nspec: {docker: {}}\n---\n\
                         apiVersion: toolcrib.dev/v1alpha1\nkind: Server\nmetadata: {name: a}\nspec: {source: {build: {context: vendor}}}\n";
        let file = |bytes: &[u8]| (Mode::File, bytes.to_vec());
        let repository = repository(BTreeMap::from([
            (path(".toolcribignore"), file(bytes)),
            (path("a.yaml"), file(manifest)),
            (path("vendor/.dockerignore"), file(bytes)),
            (path("vendor/Dockerfile"), file(b"FROM scratch")),
            (path("vendor/a/b.py"), file(b"1")),
        ]));
        let (manifest, resolved) = resolve(&repository, &FLOOR, None);
        let codes: Vec<&str> = resolved.diagnostics.iter().map(|fault| fault.code).collect();
        format!("{} {codes:?}", manifest.resources.len())
    })
}

/// The daemon's configuration file.
pub(super) fn configurations() -> Target {
    let seeds = texts(&[
        "repo: https://github.com/team/tools\nref: main\npath: tools\ninterval: 30s\nallow-process: false\n",
        "listen: 127.0.0.1:0\nlog: debug\ngit-username: x\n",
    ]);
    target(seeds, &["repo: ", "ref: ", "state: ", "*a", "&a ", "- ", "<<: "], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match Settings::parse(&text) {
            Ok(settings) => format!("{}", settings.repo.is_some()),
            Err(error) => error.to_string().chars().take(24).collect(),
        }
    })
}

/// Names, quantities, ids and paths.
pub(super) fn small_words() -> Target {
    let seeds =
        texts(&["128Mi", "500m", "90s", "weather-1", "Server/weather", "a/b/../c", "sha256:00", "servers"]);
    target(seeds, &["Mi", "ms", "h", "e9", ".", "-", "/", "..", "Tool/", "policies"], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let again = |memory: Memory| Memory::parse(&memory.to_string()) == Ok(memory);
        assert!(Memory::parse(&text).is_ok_and(again) || Memory::parse(&text).is_err(), "{text}");
        if let Some(path) = path("a/b").join(&text) {
            assert!(RepoPath::parse(path.as_str()).is_some(), "{path}");
        }
        if let Some(id) = ResourceId::parse(&text) {
            assert_eq!(ResourceId::parse(&id.to_string()), Some(id));
        }
        let known = [
            Memory::parse(&text).is_ok(),
            Cpu::parse(&text).is_ok(),
            Period::parse(&text).is_ok(),
            Name::parse(&text).is_ok(),
            Digest::parse(&text).is_some(),
            Kind::parse(&text).is_some(),
            RepoPath::parse(&text).is_some(),
            toolcrib::catalog::Cursor::decode(&text).is_some(),
        ];
        format!("{known:?}")
    })
}

/// A server's schema, and arguments for it.
pub(super) fn schemas() -> Target {
    let seeds = texts(&[
        r##"{"type":"object","properties":{"a":{"type":"integer","minimum":0},"b":{"$ref":"#/$defs/b"}},"$defs":{"b":{"anyOf":[{"type":"string","pattern":"^a+$"},{"type":"null"}]}},"required":["a"],"additionalProperties":false}"##,
        r#"{"type":"object","patternProperties":{"^x":{"enum":[1,2]}},"if":{"required":["x"]},"then":{"minProperties":2},"unevaluatedProperties":false}"#,
    ]);
    let schemas = Schemas::default();
    target(
        seeds,
        &[
            "\"$ref\":\"#\"",
            "\"$ref\":\"https://example.org/a\"",
            "\"pattern\":\"(a+)+$\"",
            "\"allOf\":[",
            "\"not\":",
            "\"$dynamicRef\":\"#a\"",
            "\"maxLength\":1e30",
            "\"type\":[\"null\"]",
        ],
        move |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let said: Vec<String> = [
                json!({"a": 1, "b": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"}),
                json!({}),
                Value::Object(Map::new()),
            ]
            .iter()
            .map(|arguments| match schemas.check(&text, arguments) {
                Ok(()) => "fits".to_owned(),
                Err(error) => format!("{error:?}").chars().take(12).collect(),
            })
            .collect();
            said.join(" ")
        },
    )
}
