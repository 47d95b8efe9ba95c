//! Build contexts: contents to one tar, the same bytes for the same contents.
//!
//! Invariant: `.toolcrib/` in a context is ours alone; whatever a repository has there is left out,
//! so that it can neither replace nor redirect what we put in.

use std::io::{Error, ErrorKind, Read};

use bytes::Bytes;
use tar::{Archive, Builder, EntryType, Header};

use crate::build::{BuildSpec, Context, Dockerfile};
use crate::manifest::Mode;
use crate::ports::{BuildFiles, BuildInput};

/// Ours in every context.
const OURS: &str = ".toolcrib";
/// Where a Dockerfile written by us is sent.
const GENERATED: &str = ".toolcrib/Dockerfile";
const CA: &str = ".toolcrib/ca.pem";
/// Of one context. It is held in memory while it is sent.
const MAX_CONTEXT: usize = 1 << 30;

/// The Dockerfile's path inside the context.
pub(super) fn dockerfile(spec: &BuildSpec) -> &str {
    match &spec.dockerfile {
        Dockerfile::InContext(path) => path.as_str(),
        Dockerfile::Generated(_) => GENERATED,
    }
}

/// The whole context as an uncompressed tar.
///
/// # Errors
/// When the contents do not fit the spec, an archive cannot be read, or it is larger than 1 GiB.
pub(super) fn tar(spec: &BuildSpec, input: &BuildInput) -> Result<Bytes, Error> {
    let mut tar = Builder::new(Vec::new());
    match (&spec.context, &input.files) {
        (Context::Snapshot { files }, BuildFiles::Snapshot(contents)) if files.len() == contents.len() => {
            for ((path, entry), contents) in files.iter().zip(contents) {
                if !is_ours(path.as_str()) {
                    append(&mut tar, path.as_str(), entry.mode == Mode::Executable, contents)?;
                }
            }
        }
        (Context::Git { .. }, BuildFiles::Archive(archive)) => copy(&mut tar, archive)?,
        (Context::Empty, BuildFiles::Empty) => {}
        _ => return Err(Error::new(ErrorKind::InvalidInput, "the contents are not those of the build")),
    }
    if let Dockerfile::Generated(text) = &spec.dockerfile {
        append(&mut tar, GENERATED, false, text.as_bytes())?;
    }
    for (name, text) in &spec.helpers {
        append(&mut tar, &format!("{OURS}/{name}"), false, text.as_bytes())?;
    }
    if let Some(ca) = &input.ca {
        append(&mut tar, CA, false, ca)?;
    }
    Ok(tar.into_inner()?.into())
}

fn is_ours(path: &str) -> bool {
    path.trim_start_matches("./").split('/').next() == Some(OURS)
}

fn append(tar: &mut Builder<Vec<u8>>, path: &str, executable: bool, contents: &[u8]) -> Result<(), Error> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_size(contents.len() as u64);
    tar.append_data(&mut header, path, contents)?;
    bounded(tar)
}

/// Files, folders and symbolic links of an archive; nothing else, with the times and owners of
/// nobody.
fn copy(tar: &mut Builder<Vec<u8>>, archive: &[u8]) -> Result<(), Error> {
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(name) = path.to_str().map(str::to_owned) else {
            return Err(Error::new(ErrorKind::InvalidData, "a path of the archive is not UTF-8"));
        };
        if is_ours(&name) || name.is_empty() || name == "." {
            continue;
        }
        let kind = entry.header().entry_type();
        let executable = entry.header().mode()? & 0o100 != 0;
        if kind.is_file() {
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents)?;
            append(tar, &name, executable, &contents)?;
        } else if kind.is_symlink() {
            let target = entry.link_name()?.unwrap_or_default().into_owned();
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, &name, target)?;
        } else if kind.is_dir() {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            tar.append_data(&mut header, &name, std::io::empty())?;
        }
        bounded(tar)?;
    }
    Ok(())
}

fn bounded(tar: &Builder<Vec<u8>>) -> Result<(), Error> {
    if tar.get_ref().len() > MAX_CONTEXT {
        return Err(Error::new(ErrorKind::FileTooLarge, "the build context has more than 1 GiB"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::manifest::{BlobId, RepoPath, TreeEntry};
    use crate::resource::{Digest, Kind, Name, ResourceId};

    fn spec(context: Context, dockerfile: Dockerfile) -> BuildSpec {
        BuildSpec {
            digest: Digest::of_bytes(b"x"),
            resource: ResourceId::new(Kind::Server, Name::parse("a").unwrap()),
            context,
            dockerfile,
            helpers: BTreeMap::from([("run.sh", "true")]),
            target: None,
            args: BTreeMap::new(),
            network: None,
            ca: None,
            tag: "toolcrib.local/a:x".to_owned(),
        }
    }

    fn listing(tar: &[u8]) -> Vec<(String, u32, String)> {
        let mut archive = Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap(), text)
        });
        entries.collect()
    }

    #[test]
    fn a_snapshot_becomes_the_same_tar_each_time() {
        let entry = |mode| TreeEntry { mode, id: BlobId([0; 20]) };
        let files = BTreeMap::from([
            (RepoPath::parse(".toolcrib/Dockerfile").unwrap(), entry(Mode::File)),
            (RepoPath::parse("bin/run").unwrap(), entry(Mode::Executable)),
        ]);
        let spec = spec(Context::Snapshot { files }, Dockerfile::Generated("FROM scratch\n".to_owned()));
        let input = BuildInput {
            files: BuildFiles::Snapshot(vec![Bytes::from("FROM evil"), Bytes::from("#!")]),
            ca: Some(Bytes::from("pem")),
        };
        let made = tar(&spec, &input).unwrap();
        assert_eq!(made, tar(&spec, &input).unwrap());
        assert_eq!(dockerfile(&spec), ".toolcrib/Dockerfile");
        let expected = [
            ("bin/run", 0o755, "#!"),
            (".toolcrib/Dockerfile", 0o644, "FROM scratch\n"),
            (".toolcrib/run.sh", 0o644, "true"),
            (".toolcrib/ca.pem", 0o644, "pem"),
        ];
        assert_eq!(listing(&made), expected.map(|(p, m, c)| (p.to_owned(), m, c.to_owned())));
        assert!(tar(&spec, &BuildInput::default()).is_err());
    }

    #[test]
    fn an_archive_cannot_take_our_place() {
        let mut archive = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, ".toolcrib", "/etc").unwrap();
        append(&mut archive, "server.py", false, b"print()").unwrap();
        let context = Context::Git {
            url: "https://example.org/a".to_owned(),
            commit: "0".repeat(40),
            subdir: None,
            credentials: None,
        };
        let spec = spec(context, Dockerfile::Generated("FROM x".to_owned()));
        let files = BuildFiles::Archive(archive.into_inner().unwrap().into());
        let made = tar(&spec, &BuildInput { files, ca: None }).unwrap();
        let names: Vec<_> = listing(&made).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(names, ["server.py", ".toolcrib/Dockerfile", ".toolcrib/run.sh"]);
    }
}
