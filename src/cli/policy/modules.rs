//! Finds the modules of rules below folders: `*.rego`, and rules written inside manifests.

#![expect(clippy::disallowed_methods, reason = "the files a person names are read")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::error::{CliError, CliResult};
use crate::manifest::{self, RepoPath};
use crate::policy::Module;
use crate::resource::Spec;

/// Files that are looked at: folders of rules have tens, repositories thousands. Above it, the wrong
/// folder was named.
const MAX_FILES: usize = 50_000;
/// Bytes of one file; rules and manifests of people have kilobytes.
const MAX_BYTES: u64 = 8 << 20;

/// The modules below `paths`, each once, in the order of their names.
///
/// # Errors
/// When a path is not there or a file cannot be read.
pub(super) fn find(paths: &[PathBuf]) -> CliResult<Vec<Module>> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let mut files = BTreeSet::new();
    let mut base: Option<PathBuf> = None;
    for path in paths {
        let full = path.canonicalize().map_err(|error| {
            CliError::usage(format!("there is no file or folder `{}`", path.display())).caused_by(&error)
        })?;
        base = Some(shared(base, &full));
        walk(&full, &mut files)?;
    }
    let here = std::env::current_dir()
        .map_err(|error| CliError::failure("failed to find the current folder").caused_by(&error))?;
    let base = shared(base, &here);
    let mut modules = Vec::new();
    for file in &files {
        modules.extend(read(file, &base)?);
    }
    modules.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(modules)
}

/// The folder above both, by which files are named.
fn shared(one: Option<PathBuf>, other: &Path) -> PathBuf {
    let Some(one) = one else { return other.to_owned() };
    let same = one.components().zip(other.components()).take_while(|(a, b)| a == b);
    same.map(|(part, _)| part).collect()
}

fn walk(path: &Path, files: &mut BTreeSet<PathBuf>) -> CliResult<()> {
    let failed = |path: &Path, error: &std::io::Error| {
        CliError::failure(format!("failed to read `{}`", path.display())).caused_by(error)
    };
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        if !path.is_dir() {
            files.insert(path);
            if files.len() > MAX_FILES {
                return Err(CliError::usage(format!("there are more than {MAX_FILES} files"))
                    .hint("name the folder that holds the rules"));
            }
            continue;
        }
        for entry in std::fs::read_dir(&path).map_err(|error| failed(&path, &error))? {
            let entry = entry.map_err(|error| failed(&path, &error))?;
            let kind = entry.file_type().map_err(|error| failed(&path, &error))?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let wanted = kind.is_dir() || (kind.is_file() && is_source(&entry.path()));
            if wanted && !hidden {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

fn is_source(path: &Path) -> bool {
    matches!(extension(path), Some("rego" | "yaml" | "yml"))
}

fn read(file: &Path, base: &Path) -> CliResult<Vec<Module>> {
    let named = file.strip_prefix(base).ok().and_then(Path::to_str).and_then(RepoPath::parse);
    let name =
        named.ok_or_else(|| CliError::failure(format!("the path `{}` is not UTF-8", file.display())))?;
    let failed =
        |error: std::io::Error| CliError::failure(format!("failed to read `{name}`")).caused_by(&error);
    let size = file.metadata().map_err(failed)?.len();
    let rego = extension(file) == Some("rego");
    if size > MAX_BYTES {
        // A manifest of that size is none; `validate` says more.
        let complaint = CliError::failure(format!("`{name}` has more than {MAX_BYTES} bytes"));
        return if rego { Err(complaint) } else { Ok(Vec::new()) };
    }
    let bytes = std::fs::read(file).map_err(failed)?;
    if !rego {
        return Ok(inside(&name, &bytes));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| CliError::failure(format!("`{name}` is not UTF-8 text")).caused_by(&error))?;
    Ok(vec![Module { file: name, line: 1, indent: 0, text: text.into() }])
}

/// Rules written in place, of the policies of a manifest.
fn inside(name: &RepoPath, bytes: &[u8]) -> Vec<Module> {
    let policies = manifest::parse_file(name, bytes).resources.into_iter();
    let modules = policies.filter_map(|declared| match &declared.spec {
        Spec::Policy(spec) => {
            let text = spec.rego.as_deref()?;
            let (line, indent) = declared.text_start(&["spec", "rego"]);
            Some(Module { file: name.clone(), line, indent, text: text.into() })
        }
        _ => None,
    });
    modules.collect()
}
