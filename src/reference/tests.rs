//! Schemas are what the types say: the files, their defaults and examples, and every document of the tests.

#![expect(clippy::disallowed_methods, reason = "the schemas and documents are files of this repository")]

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::comment::Comment;
use super::page::page_name;
use super::*;
use crate::manifest::{RepoPath, parse_file};
use crate::resource::Kind;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a file of `schemas/` with what it is made of; with `BLESS=1` writes it.
fn same(name: &str, made: &str, wrong: &mut Vec<String>) {
    let file = root().join("schemas").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, made).unwrap();
    } else if std::fs::read_to_string(file).unwrap_or_default() != made {
        wrong.push(name.to_owned());
    }
}

fn json(schema: &Value) -> String {
    serde_json::to_string_pretty(schema).unwrap() + "\n"
}

#[test]
fn the_folder_of_schemas_is_what_the_types_say() {
    let mut wrong = Vec::new();
    same(&file_name(None), &json(&any()), &mut wrong);
    same("README.md", &index(), &mut wrong);
    for one in Kind::ALL {
        same(&file_name(Some(one)), &json(&kind(one)), &mut wrong);
        same(&page_name(one), &page(one), &mut wrong);
    }
    assert!(wrong.is_empty(), "run `BLESS=1 cargo test --lib reference` and read the difference: {wrong:?}");
    let there = std::fs::read_dir(root().join("schemas")).unwrap().count();
    assert_eq!(there, 2 + 2 * Kind::ALL.len(), "nothing else is there");
}

/// Every schema inside a schema, with its place.
fn walk<'a>(schema: &'a Value, place: &str, found: &mut Vec<(String, &'a Value)>) {
    found.push((place.to_owned(), schema));
    let form = place.rsplit('.').next().is_some_and(|last| last.starts_with("oneOf"));
    for key in ["properties", "$defs"].into_iter().filter(|key| !form || *key != "properties") {
        for (name, inner) in schema.get(key).and_then(Value::as_object).into_iter().flatten() {
            walk(inner, &format!("{place}.{name}"), found);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key).filter(|inner| inner.is_object()) {
            walk(inner, &format!("{place}.{key}"), found);
        }
    }
    for key in ["anyOf", "oneOf"] {
        for (at, inner) in schema.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            walk(inner, &format!("{place}.{key}{at}"), found);
        }
    }
}

#[test]
fn defaults_and_examples_fit_their_own_schemas() {
    let mut examples = 0;
    for one in Kind::ALL {
        let whole = kind(one);
        assert!(jsonschema::draft202012::meta::is_valid(&whole), "{one}");
        let mut all = Vec::new();
        walk(&whole, &one.to_string(), &mut all);
        for (place, schema) in all {
            let mut alone = schema.clone();
            alone["$defs"] = whole["$defs"].clone();
            let validator = jsonschema::draft202012::new(&alone).unwrap();
            let given = schema.get("examples").and_then(Value::as_array).into_iter().flatten();
            for value in given.chain(schema.get("default")) {
                let wrong: Vec<String> =
                    validator.iter_errors(value).map(|error| error.to_string()).collect();
                assert!(wrong.is_empty(), "{place}: {value}: {wrong:?}");
                examples += 1;
            }
            let inner = place.rsplit('.').next().unwrap_or_default();
            let field = place.contains('.') && !["items", "additionalProperties"].contains(&inner);
            let named = schema.get("description").is_some() || schema.get("$ref").is_some();
            let form = inner.starts_with("anyOf") || inner.starts_with("oneOf");
            assert!(named || !field || form, "{place} has no description: {schema}");
        }
    }
    assert!(examples > 100, "{examples}");
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml") {
            found.push(path);
        }
    }
}

/// Faults that a schema can see as well.
const SEEN: &[&str] =
    &["unknown-field", "unknown-kind", "unknown-value", "missing-field", "wrong-type", "unknown-version"];

/// The schema takes what the types take, and what they refuse by its shape it refuses.
#[test]
fn documents_of_examples_and_cases_are_taken_as_the_types_take_them() {
    let mut paths = Vec::new();
    files(&root().join("examples"), &mut paths);
    files(&root().join("tests/it/manifest"), &mut paths);
    let validator = jsonschema::draft202012::new(&any()).unwrap();
    let name = RepoPath::parse("a.yaml").unwrap();
    let (mut taken, mut refused) = (0, 0);
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if ["manifest/parameters", "manifest/schemas"]
            .iter()
            .any(|case| path.parent().is_some_and(|folder| folder.ends_with(case)))
        {
            // Faults of parameters, which the schema sees, are found when they are resolved.
            continue;
        }
        for document in text.replace("\r\n", "\n").split("\n---\n") {
            let read = parse_file(&name, document.as_bytes());
            let Ok(value) = serde_yaml::from_str::<Value>(document.trim_start_matches('\u{feff}')) else {
                continue;
            };
            let wrong: Vec<String> = validator
                .iter_errors(&value)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            let seen = read.diagnostics.iter().any(|fault| SEEN.contains(&fault.code));
            if read.resources.len() == 1 {
                assert!(wrong.is_empty(), "{}: {document}\n{wrong:?}", path.display());
                taken += 1;
            } else if seen && value.is_object() {
                assert!(!wrong.is_empty(), "{}: {document}\n{:?}", path.display(), read.diagnostics);
                refused += 1;
            }
        }
    }
    assert!(taken > 60 && refused > 15, "{taken} {refused}");
}

#[test]
fn examples_begin_with_the_line_for_editors() {
    let mut paths = Vec::new();
    files(&root().join("examples"), &mut paths);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("apiVersion: toolcrib.dev/") {
            continue;
        }
        let inside = path.strip_prefix(root()).unwrap();
        let up = "../".repeat(inside.components().count() - 1);
        let line = format!("# yaml-language-server: $schema={up}schemas/{}\n", file_name(None));
        assert!(text.starts_with(&line), "{} does not begin with\n{line}", inside.display());
    }
}

#[test]
fn a_comment_is_taken_apart() {
    let comment = Comment::read(
        "What it is,\nin two lines.\n\nMore. Default: `a.b`, or `c`.\nExample: `x.y`, or `{a: 1}` there.\n\n```yaml\nkind: A\n```\n",
    );
    assert_eq!(comment.text, "What it is, in two lines.\n\nMore. Default: `a.b`, or `c`.");
    assert_eq!(comment.body(), "What it is, in two lines.\n\nMore.");
    assert_eq!(comment.default.as_deref(), Some("`a.b`, or `c`"));
    assert_eq!(
        (comment.examples, comment.document.as_deref()),
        (vec!["x.y".to_owned(), "{a: 1}".to_owned()], Some("kind: A\n"))
    );
    for (text, expected) in [
        ("Default: 512Mi.", Some("512Mi")),
        ("Default: `/mcp`. Example: `/`.", Some("/mcp")),
        ("Default: 30.", Some("30")),
        ("Default: `{/tmp: 64Mi}`.", Some("{/tmp: 64Mi}")),
        ("Default: none.", None),
        ("Default: 300 s.", None),
        ("Default: `a` or `b`.", None),
        ("No default.", None),
    ] {
        assert_eq!(Comment::read(text).default_value(), expected, "{text}");
    }
}

#[test]
fn fields_are_found_by_their_paths() {
    let found = |kind, path: &str| find(kind, &path.split('.').collect::<Vec<_>>());
    let reference = found(Kind::Server, "source.git.ref").unwrap();
    assert_eq!((reference.path.as_str(), reference.kind.as_str()), ("spec.source.git.ref", "text"));
    assert!(reference.required && reference.examples == ["v1.2.0"], "{reference:?}");
    let source = found(Kind::Server, "spec.source").unwrap();
    assert!(source.one_of && source.fields.iter().all(|field| !field.required));
    let names: Vec<&str> = source.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["image", "build", "git", "package", "command", "url"]);
    for (kind, path, words) in [
        (Kind::Server, "env.API_KEY.secret.env", "text"),
        (Kind::Server, "env", "mapping of names to text or mapping"),
        (Kind::Server, "transport.port", "whole number"),
        (Kind::Server, "startupTimeout", "text"),
        (Kind::Tool, "args", "list of text or mapping"),
        (Kind::Tool, "args.0.if", "text"),
        (Kind::Tool, "parameters.city.required", "true or false"),
        (Kind::Tool, "successExitCodes", "list of whole number"),
        (Kind::Runner, "docker.host", "text"),
        (Kind::Crib, "sync.drift", "text"),
        (Kind::Crib, "patches.name", "text"),
        (Kind::Toolset, "select.matchLabels.team", "text"),
        (Kind::Tool, "metadata.name", "text"),
    ] {
        let field = found(kind, path).unwrap_or_else(|unknown| panic!("{kind}.{path}: {unknown:?}"));
        assert_eq!(field.kind, words, "{kind}.{path}");
    }
    let drift = found(Kind::Crib, "sync.drift").unwrap();
    assert_eq!(
        drift.values.iter().map(|(value, _)| value.as_str()).collect::<Vec<_>>(),
        ["correct", "report"]
    );
    assert!(
        drift.values.iter().all(|(_, meaning)| !meaning.is_empty())
            && drift.default.as_deref() == Some("correct")
    );
    let slip = found(Kind::Server, "source.gti").unwrap_err();
    assert_eq!(
        (slip.to_string().as_str(), slip.near.as_deref()),
        ("there is no field `gti` in `server.source`", Some("git"))
    );
    for one in Kind::ALL {
        let whole = find(one, &[]).unwrap();
        assert!(!whole.description.is_empty() && !whole.fields.is_empty(), "{one}");
    }
}
