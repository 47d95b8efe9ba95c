//! What one start needs: the program, the environment, private folders. Made before, removed after.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Config, group};
use crate::desired::Program;
use crate::manifest::RepoPath;
use crate::ports::{Material, PortError, PortResult};

/// Where a container has its files; a process has them below `$TOOLCRIB_FILES`.
const CONTAINER_FILES: &str = "/run/toolcrib/";

/// A start that is ready to be spawned.
pub(super) struct Prepared {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) dir: PathBuf,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) folders: Folders,
}

/// The private folders of one start; removed on drop.
pub(super) struct Folders {
    home: PathBuf,
    files: Option<PathBuf>,
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in [Some(&self.home), self.files.as_ref()].into_iter().flatten() {
            if let Err(error) = std::fs::remove_dir_all(folder) {
                tracing::warn!(folder = %folder.display(), %error, "failed to remove a private folder");
            }
        }
    }
}

pub(super) fn prepare(
    config: &Config,
    name: &str,
    program: &Program,
    material: &Material,
) -> PortResult<Prepared> {
    let Program::Command { argv, dir } = program else {
        return Err(PortError::stalled("a process runner cannot run an image")
            .hint("use `command` without `image`, or a runner that runs containers"));
    };
    let (first, args) = argv.split_first().ok_or_else(|| {
        PortError::stalled("there is no command to run").hint("declare `command` with a program")
    })?;
    let dir = PathBuf::from(dir);
    if !dir.is_absolute() || !dir.is_dir() {
        return Err(PortError::retry(format!("there is no folder `{}` to start in", dir.display()))
            .hint("a command starts in the folder of the file that declares it"));
    }
    let path =
        material.env.get("PATH").map_or(config.path.as_os_str(), |path| OsStr::from_bytes(path.expose()));
    let program = find(first, &dir, path)?;
    if let Some(name) = material.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(PortError::stalled(format!("`{name}` cannot be the name of an environment variable"))
            .hint("use letters, digits and `_`"));
    }
    let folders = folders(config, name, material)?;
    let env = environment(config, name, material, &folders);
    Ok(Prepared { program, args: args.to_vec(), dir, env, folders })
}

/// The program: relative to `dir` when it has a slash, else the first on `path` that is executable.
fn find(first: &str, dir: &Path, path: &OsStr) -> PortResult<PathBuf> {
    let executable = |file: &Path| {
        std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if !first.contains('/') {
        return std::env::split_paths(path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(first))
            .find(|file| executable(file))
            .ok_or_else(|| {
                PortError::stalled(format!("there is no program `{first}` on PATH"))
                    .hint("install it where the daemon runs, or write the path of the program")
            });
    }
    let file = dir.join(first);
    if executable(&file) {
        return Ok(file);
    }
    Err(if file.is_file() {
        PortError::stalled(format!("`{first}` is not executable"))
            .hint(format!("`git update-index --chmod=+x {first}` in its folder, and commit"))
    } else {
        PortError::stalled(format!("there is no program `{first}`"))
            .hint("paths start at the folder of the file that declares the command")
    })
}

fn environment(
    config: &Config,
    name: &str,
    material: &Material,
    folders: &Folders,
) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), config.path.clone()),
        ("LANG".into(), "C.UTF-8".into()),
        ("HOME".into(), folders.home.clone().into()),
    ];
    for (name, value) in &material.env {
        env.push((name.into(), OsStr::from_bytes(value.expose()).to_owned()));
    }
    // Ours come last, so that nothing declared replaces them.
    env.extend(folders.files.clone().map(|files| ("TOOLCRIB_FILES".into(), files.into())));
    env.push((group::MARKER.into(), format!("{}/{name}", config.installation).into()));
    env
}

fn folders(config: &Config, name: &str, material: &Material) -> PortResult<Folders> {
    let failed = |error| PortError::retry(format!("failed to make the folders of `{name}`")).caused_by(error);
    let home = config.state.join(name);
    private(&config.state).and_then(|()| private(&home)).map_err(failed)?;
    let mut folders = Folders { home, files: None };
    if material.files.is_empty() {
        return Ok(folders);
    }
    let memory = config.memory.as_ref().ok_or_else(|| {
        PortError::stalled("there is no memory file system for the files of a process")
            .hint("mount a tmpfs on /dev/shm, or set XDG_RUNTIME_DIR for the daemon")
    })?;
    let files = memory.join(name);
    private(memory).and_then(|()| private(&files)).map_err(failed)?;
    folders.files = Some(files.clone());
    for (declared, value) in &material.files {
        let relative = relative(declared)?;
        write(&files, &relative, value.expose()).map_err(|error| {
            PortError::retry(format!("failed to write the file `{declared}` of `{name}`")).caused_by(error)
        })?;
    }
    Ok(folders)
}

/// A process has no file system of its own, so a file can only be put below `$TOOLCRIB_FILES`:
/// where the path says, when it is relative or below `/run/toolcrib`.
fn relative(declared: &str) -> PortResult<RepoPath> {
    let path = declared.strip_prefix(CONTAINER_FILES).unwrap_or(declared);
    RepoPath::parse(path).filter(|path| !path.as_str().is_empty()).ok_or_else(|| {
        PortError::stalled(format!("a process cannot have a file at `{declared}`")).hint(format!(
            "declare a path below `{CONTAINER_FILES}`; processes find it below the folder in $TOOLCRIB_FILES"
        ))
    })
}

fn write(folder: &Path, path: &RepoPath, bytes: &[u8]) -> std::io::Result<()> {
    let path = folder.join(path.as_str());
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Makes a folder that only we can read, or finds it so.
pub(super) fn private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    match builder.recursive(false).mode(0o700).create(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let data = std::fs::symlink_metadata(folder)?;
    if data.is_dir()
        && data.uid() == nix::unistd::geteuid().as_raw()
        && data.permissions().mode() % 0o100 == 0
    {
        return Ok(());
    }
    Err(std::io::Error::other(format!(
        "`{}` is there, but is not a private folder of ours",
        folder.display()
    )))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    #[test]
    fn files_land_in_the_private_folder_or_nowhere() {
        for (declared, expected) in [("token", "token"), ("/run/toolcrib/tls/key", "tls/key"), ("a/b", "a/b")]
        {
            assert_eq!(relative(declared).ok().unwrap().as_str(), expected);
        }
        for declared in ["/etc/passwd", "../x", "/run/toolcrib/../x", "", "/run/toolcrib/", "a//b"] {
            assert!(relative(declared).is_err(), "{declared}");
        }
    }

    #[test]
    fn finds_programs_and_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plain"), "").unwrap();
        let path = OsStr::new("relative:/bin:/usr/bin");
        assert!(find("sh", folder.path(), path).ok().unwrap().ends_with("bin/sh"));
        for (first, message) in [
            ("no-such-program", "there is no program `no-such-program` on PATH"),
            ("./plain", "`./plain` is not executable"),
            ("./absent", "there is no program `./absent`"),
        ] {
            let error = find(first, folder.path(), path).err().unwrap();
            assert_eq!(error.operation, message);
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn a_folder_of_others_is_not_private() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private(&open).is_err());
        std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
        assert!(private(&folder.path().join("link")).is_err());
        assert!(private(&folder.path().join("new")).is_ok());
        assert!(private(&folder.path().join("new")).is_ok());
    }
}
