//! The structure as a test: who may import whom, who owns which outside crate, and how files look.
//!
//! The tables are in `tidy/table.rs`. A change of the structure changes them, in the same commit.

mod scan;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use scan::{Found, Kind};
use table::{CRATES, Layer, MAX_LINES, MAX_TEST_LINES, MODULES, OPTIONAL, OUTSIDE, REQUIRED};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The files of the library with their module path: `src/git/url.rs` is `[git, url]`.
fn modules() -> Vec<(PathBuf, Vec<String>)> {
    let source = root().join("src");
    let path = |file: PathBuf| {
        let inside = file.strip_prefix(&source).unwrap().with_extension("");
        let parts: Vec<String> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        (file, parts)
    };
    let ours = |(_, parts): &(PathBuf, Vec<String>)| {
        let first = parts[0].as_str();
        first != "main" && first != "lib" && !OUTSIDE.contains(&first)
    };
    let is_test = |(_, parts): &(PathBuf, Vec<String>)| parts.iter().any(|part| part == "tests");
    files("src").into_iter().map(path).filter(|file| ours(file) && !is_test(file)).collect()
}

fn found_in(file: &Path, module: &[String]) -> BTreeSet<Found> {
    let text = std::fs::read_to_string(file).unwrap();
    scan::scan(&text, module).unwrap_or_else(|error| panic!("{}: {error}", shown(file)))
}

fn import_complaint(from: &str, found: &Found) -> Option<String> {
    let Kind::Module(to) = &found.kind else { return None };
    let rule = MODULES.iter().find(|rule| rule.name == from)?;
    if to == from || !MODULES.iter().any(|rule| rule.name == to.as_str()) {
        return None;
    }
    (!table::may_import(rule, to)).then(|| format!("`{from}` may not import `{to}` ({})", rule.reason()))
}

fn crate_complaint(from: &str, found: &Found) -> Option<String> {
    let Kind::Crate(path) = &found.kind else { return None };
    let name = path.split("::").next().unwrap_or_default();
    let owned = CRATES.iter().find(|(owned, _)| *owned == name);
    if let Some((name, owners)) = owned.filter(|(_, owners)| !owners.contains(&from)) {
        return Some(format!("`{from}` may not use `{name}`: its owners are {}", owners.join(", ")));
    }
    let rule = MODULES.iter().find(|rule| rule.name == from)?;
    let effect = |effect: &&&str| path == **effect || path.starts_with(&format!("{effect}::"));
    if rule.layer == Layer::Pure
        && from != "ports"
        && let Some(effect) = table::EFFECTS.iter().find(effect)
    {
        return Some(format!("`{from}` is pure and may not use `{effect}`: decide here, act in an effect"));
    }
    None
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut complaints = Vec::new();
    for (file, module) in modules() {
        let from = module[0].as_str();
        let row = MODULES.iter().find(|rule| rule.name == from);
        if row.is_none() {
            complaints.push(format!("{}: module `{from}` has no row in the import table", shown(&file)));
            continue;
        }
        for found in found_in(&file, &module) {
            let place = format!("{}:{}", shown(&file), found.line);
            complaints.extend(import_complaint(from, &found).map(|text| format!("{place}: {text}")));
            complaints.extend(crate_complaint(from, &found).map(|text| format!("{place}: {text}")));
            let pure = row.is_some_and(|rule| rule.layer == Layer::Pure);
            if found.kind == Kind::Async && pure && from != "ports" {
                complaints.push(format!("{place}: `{from}` is pure and may hold nothing async"));
            }
        }
    }
    report(&complaints);
}

#[test]
fn every_row_of_the_tables_is_of_something_that_exists() {
    let there: BTreeSet<String> = modules().into_iter().map(|(_, module)| module[0].clone()).collect();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut complaints = Vec::new();
    for rule in MODULES {
        if !there.contains(rule.name) {
            complaints.push(format!("the import table speaks of `{}`, which is not in src", rule.name));
        }
    }
    for (name, owners) in CRATES {
        if !manifest.contains(&format!("\n{} =", name.replace('_', "-")))
            && !manifest.contains(&format!("\n{name} ="))
        {
            complaints.push(format!("the table of owners speaks of `{name}`, which is no dependency"));
        }
        for owner in owners.iter().filter(|owner| !there.contains(**owner)) {
            complaints.push(format!("`{name}` is owned by `{owner}`, which is not in src"));
        }
    }
    report(&complaints);
}

#[test]
fn files_are_short_begin_with_their_purpose_and_leave_nothing_to_do() {
    let mut complaints = Vec::new();
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("dbg", "!(")];
    for file in files("src").into_iter().chain(files("tests")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = shown(&file);
        let tests = name.starts_with("tests/") || name.ends_with("/tests.rs") || name.contains("/tests/");
        let most = if tests { MAX_TEST_LINES } else { MAX_LINES };
        let lines = text.lines().count();
        if lines > most {
            complaints.push(format!("{name}: {lines} lines, {most} are the most: split it by what it does"));
        }
        if !text.starts_with("//!") {
            complaints.push(format!("{name}:1: the file does not begin with `//!` and its purpose"));
        }
        if name.ends_with("/mod.rs") {
            complaints.push(format!("{name}: name it after its module, beside its folder"));
        }
        for (number, line) in text.lines().enumerate() {
            let words = unfinished.iter().filter(|word| line.contains(**word));
            complaints
                .extend(words.map(|word| format!("{name}:{}: `{word}`: do it or open an issue", number + 1)));
            if line.trim_start().starts_with("#[ignore") {
                complaints.push(format!("{name}:{}: a test that is ignored proves nothing", number + 1));
            }
        }
    }
    report(&complaints);
}

#[test]
fn the_top_level_is_what_is_prescribed() {
    let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let ignored: BTreeSet<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let entries = std::fs::read_dir(root()).unwrap();
    let there: BTreeSet<String> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    let mut complaints = Vec::new();
    for name in there.iter().filter(|name| !name.starts_with('.') && !ignored.contains(name.as_str())) {
        if !REQUIRED.contains(&name.as_str()) && !OPTIONAL.contains(&name.as_str()) {
            complaints.push(format!("{name}: the top level holds only what the design names"));
        }
    }
    for name in REQUIRED.iter().filter(|name| !there.contains(**name)) {
        complaints.push(format!("{name}: missing at the top level"));
    }
    report(&complaints);
}

/// The scanner itself: each way to name something, in a module where it is not allowed.
#[test]
fn every_way_to_import_is_seen() {
    let module = ["plan".to_owned(), "diff".to_owned()];
    for (source, expected) in [
        ("use crate::{resource::Name, git::{self, url as u}};", "1 module git"),
        ("use super::super::runner as place;", "1 module runner"),
        ("\nfn f() -> crate::store::Redb { todo() }", "2 module store"),
        ("fn f() {\n  let x = crate::http::guard();\n}", "2 module http"),
        ("fn f() {\n  println!(\"{}\", crate::probe::x());\n}", "2 module probe"),
        ("mod inner { use super::super::super::daemon; }", "1 module daemon"),
        ("use bollard::Docker;", "1 crate bollard::Docker"),
        ("use std::{fs, time::{Duration, Instant}};", "1 crate std::fs"),
        ("use std::{fs, time::{Duration, Instant}};", "1 crate std::time::Instant"),
        ("type T = ::tokio::task::JoinHandle<()>;", "1 crate tokio::task::JoinHandle"),
        ("fn f() { tokio::select! { x = git2::y() => {} } }", "1 crate git2::y"),
        ("async fn f() {}", "1 async"),
        ("fn f() { let x = async { 1 }; }", "1 async"),
        ("#[derive(clap::Args)] struct S;", "1 crate clap::Args"),
    ] {
        let found: Vec<String> =
            scan::scan(source, &module).unwrap().iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|one| one == expected), "{source}: {expected} is not in {found:?}");
    }
    for source in [
        "#[cfg(test)] mod tests { use crate::git; }",
        "/// See [`crate::git`].\nfn f() { let crate_name = \"crate::git\"; }",
        "use self::inner::x; mod inner { use super::y; }",
    ] {
        let found = scan::scan(source, &module).unwrap();
        let outside = |found: &&Found| !matches!(&found.kind, Kind::Module(name) if name == "plan");
        assert!(!found.iter().any(|one| outside(&one)), "{source}: {found:?}");
    }
}

#[test]
fn what_the_tables_forbid_is_reported() {
    let complaint = |from: &str, source: &str| {
        let found = scan::scan(source, &[from.to_owned()]).unwrap();
        found
            .iter()
            .find_map(|one| import_complaint(from, one).or_else(|| crate_complaint(from, one)))
            .unwrap_or_default()
    };
    assert!(complaint("manifest", "use crate::plan::Plan;").contains("may not import `plan`"));
    assert!(complaint("reconcile", "use crate::git::open;").contains("may not import `git`"));
    assert!(complaint("cli", "use crate::runner::docker;").contains("may not import `runner`"));
    assert!(complaint("daemon", "use crate::cli::Args;").contains("may not import `cli`"));
    assert!(complaint("gateway", "use redb::Database;").contains("its owners are store"));
    assert!(complaint("plan", "use std::fs::File;").contains("is pure"));
    assert_eq!(complaint("plan", "use crate::live::Live; use std::time::Duration;"), "");
}
