//! What a container is created with. Pure: everything it may do is decided here.
//!
//! Input: the image's own command, limits, confinement. Output: the engine's create request.
//! Invariant: hardened unless [`Security`] loosens it: no capabilities, no new privileges, root
//! read-only, a user without rights, bounded processes, memory and processor, no swap, no log of the engine's,
//! no restart by the engine, never privileged, nothing of the host mounted but named volumes of ours.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
};

use super::egress::Outlets;
use super::image::Image;
use super::labels::Labels;
use super::{disk, init};
use crate::desired::{Limits, Program};
use crate::ports::{PortError, PortResult};
use crate::resource::workload::Security;

/// Where files are put whose path is relative.
const FILES: &str = "/run/toolcrib";
/// A little more than the largest frame.
const FILES_BYTES: u64 = 8 << 20;
/// Of each path that an image declares as a volume: memory instead of an unbounded disk.
const VOLUME_BYTES: u64 = 64 << 20;

/// Where a container on the network without a way out looks for names that the engine does not know: at
/// itself, where nobody answers. Engines before 26 would ask the machine's own server for it, and what is
/// asked for leaves the machine.
const NO_DNS: &str = "127.0.0.1";

/// Ports below 1024 are for everybody in a container's own network. It is what engines set anyhow.
fn low_ports() -> (String, String) {
    ("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())
}

/// What standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdin {
    /// At its end from the beginning.
    Empty,
    /// Closed when the first who attaches is done.
    Once,
    /// Open until the container ends: whoever attaches later can go on.
    Open,
}

/// What crib-init does first.
#[derive(Clone, Copy)]
pub(super) enum First<'a> {
    /// Starts the program, after a frame where it has to wait for one.
    Run { program: &'a Program, framed: bool },
    /// Waits for what is to be run; for more of it afterwards.
    Wait { reuse: bool },
}

/// One container to create.
pub(super) struct Container<'a> {
    pub(super) image: &'a Image,
    pub(super) first: First<'a>,
    pub(super) limits: &'a Limits,
    pub(super) security: &'a Security,
    /// Variables that are no secrets.
    pub(super) env: BTreeMap<&'a str, &'a str>,
    /// Absolute paths of the files crib-init will write.
    pub(super) files: Vec<&'a str>,
    pub(super) stdin: Stdin,
    /// None: no network.
    pub(super) network: Option<String>,
    /// Of volumes that are there already.
    pub(super) mounts: Vec<Mount>,
    /// None: it reaches nothing outside.
    pub(super) egress: Option<Outlets>,
    pub(super) labels: Labels,
}

impl Container<'_> {
    pub(super) fn body(&self) -> PortResult<ContainerCreateBody> {
        let (verb, flag) = match self.first {
            First::Run { framed, .. } => ("run", framed.then_some("--frame")),
            First::Wait { reuse } => ("wait", reuse.then_some("--reuse")),
        };
        let mut entrypoint = vec![init::PATH.to_owned(), verb.to_owned()];
        entrypoint.extend(flag.map(str::to_owned));
        for address in self.egress.iter().flat_map(|egress| &egress.addresses) {
            entrypoint.extend(["--egress".to_owned(), address.to_string()]);
        }
        let cmd = match self.first {
            First::Run { program, .. } => {
                entrypoint.push("--".to_owned());
                command(self.image, program)?
            }
            First::Wait { .. } => Vec::new(),
        };
        let mut env: Vec<_> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !self.image.home && !self.env.contains_key("HOME") && self.security.tmpfs.contains_key("/tmp") {
            env.push("HOME=/tmp".to_owned());
        }
        let open = self.stdin != Stdin::Empty;
        Ok(ContainerCreateBody {
            image: Some(self.image.id.clone()),
            entrypoint: Some(entrypoint),
            cmd: Some(cmd),
            env: Some(env),
            user: Some(self.security.user.clone()),
            labels: Some(self.labels.clone()),
            attach_stdin: Some(open),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(open),
            stdin_once: Some(self.stdin == Stdin::Once),
            tty: Some(false),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            stop_signal: Some("SIGTERM".to_owned()),
            host_config: Some(self.host_config()?),
            ..ContainerCreateBody::default()
        })
    }

    fn host_config(&self) -> PortResult<HostConfig> {
        let memory = i64::try_from(self.limits.memory.0).unwrap_or(i64::MAX);
        let mounts = std::iter::once(init::mount())
            .chain(self.egress.as_ref().map(Outlets::mount))
            .chain(self.mounts.iter().cloned())
            .collect();
        Ok(HostConfig {
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(self.security.capabilities.clone()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            privileged: Some(false),
            readonly_rootfs: Some(self.security.read_only_root),
            tmpfs: Some(self.tmpfs()?),
            mounts: Some(mounts),
            extra_hosts: self.egress.as_ref().map(|egress| egress.hosts.clone()),
            dns: self.network.as_ref().map(|_| vec![NO_DNS.to_owned()]),
            sysctls: self.egress.as_ref().map(|_| HashMap::from([low_ports()])),
            memory: Some(memory),
            memory_swap: Some(memory),
            nano_cpus: Some(i64::try_from(self.limits.cpu.0.saturating_mul(1_000_000)).unwrap_or(i64::MAX)),
            storage_opt: disk::layer(self.limits, self.security)
                .map(|most| HashMap::from([("size".to_owned(), most.to_string())])),
            device_requests: (self.limits.gpu > 0).then(|| vec![self.gpus()]),
            pids_limit: Some(i64::from(self.limits.pids)),
            network_mode: Some(self.network.clone().unwrap_or_else(|| "none".to_owned())),
            ipc_mode: Some("private".to_owned()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            init: Some(false),
            auto_remove: Some(false),
            publish_all_ports: Some(false),
            ..HostConfig::default()
        })
    }

    /// Whether what is in memory stays within what may be written, with what the image wanted volumes for.
    fn within(&self, wanted: usize) -> PortResult<()> {
        let Some(most) = self.limits.ephemeral_storage.filter(|_| wanted > 0) else { return Ok(()) };
        let declared = self.security.tmpfs.values().fold(0_u64, |sum, size| sum.saturating_add(size.0));
        let sum = declared.saturating_add(VOLUME_BYTES.saturating_mul(wanted as u64));
        if sum <= most.0 {
            return Ok(());
        }
        Err(PortError::stalled("failed to limit what the container writes")
            .caused_by(format!(
                "its file systems in memory have {sum} bytes together, {} for each folder its image declares a \
                 volume, and {most} are allowed",
                crate::resource::Memory(VOLUME_BYTES)
            ))
            .hint("mount volumes there, give them a size in `security.tmpfs`, or raise `ephemeralStorage`"))
    }

    fn gpus(&self) -> DeviceRequest {
        DeviceRequest {
            count: Some(i64::from(self.limits.gpu)),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        }
    }

    /// Memory file systems: the declared ones, those the image wanted volumes for, and those that
    /// the given files lie on.
    fn tmpfs(&self) -> PortResult<HashMap<String, String>> {
        let plain = "rw,noexec,nosuid,nodev,mode=1777,size=";
        let mut mounts: HashMap<String, String> = HashMap::new();
        for path in &self.image.volumes {
            let path = path.trim_end_matches('/');
            // A declared volume is what the image wanted.
            if !self.mounts.iter().any(|mount| mount.target.as_deref() == Some(path)) {
                mounts.insert(path.to_owned(), format!("{plain}{VOLUME_BYTES}"));
            }
        }
        for (path, size) in &self.security.tmpfs {
            mounts.insert(path.trim_end_matches('/').to_owned(), format!("{plain}{}", size.0));
        }
        self.within(mounts.len() - self.security.tmpfs.len())?;
        for path in &self.files {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let covered = |mount: &String| {
                folder
                    .strip_prefix(mount.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if mounts.keys().any(covered) {
                continue;
            }
            let below = if folder.starts_with(FILES) { FILES } else { folder };
            if below.matches('/').count() < 2 {
                return Err(PortError::stalled(format!("cannot put a file at `{path}`"))
                    .caused_by(format!(
                        "a memory file system at `{folder}/` would hide what the image has there"
                    ))
                    .hint(format!("put it below `{FILES}/`, or declare a `tmpfs` it lies on")));
            }
            let owner = owner(&self.security.user);
            mounts.insert(below.to_owned(), format!("rw,noexec,nosuid,nodev,{owner},size={FILES_BYTES}"));
        }
        Ok(mounts)
    }
}

/// Where a file is put: relative paths lie below `/run/toolcrib`.
pub(super) fn file_path(path: &str) -> PortResult<String> {
    let strange = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if path.trim_start_matches('/').split('/').any(strange) {
        return Err(PortError::stalled(format!("cannot put a file at `{path}`"))
            .caused_by("it is not a plain path to a file"));
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("{FILES}/{path}") })
}

/// Closed to everybody else where the user is a number; a name is known to the image alone.
fn owner(user: &str) -> String {
    let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
    match (uid.parse::<u32>(), gid.parse::<u32>()) {
        (Ok(uid), Ok(gid)) => format!("mode=0700,uid={uid},gid={gid}"),
        (Ok(uid), Err(_)) => format!("mode=0700,uid={uid}"),
        _ => "mode=1777".to_owned(),
    }
}

/// What crib-init starts: as Docker reads entry points, an own one drops the image's command.
pub(super) fn command(image: &Image, program: &Program) -> PortResult<Vec<String>> {
    let Program::Image { reference, entrypoint, args, .. } = program else {
        return Err(PortError::stalled("cannot run a command in a container without an image")
            .hint("give `image` or `build`, or choose a `process` runner"));
    };
    let default = || if entrypoint.is_some() { Vec::new() } else { image.command.clone() };
    let mut command = entrypoint.clone().unwrap_or_else(|| image.entrypoint.clone());
    command.extend(args.clone().unwrap_or_else(default));
    if command.is_empty() {
        return Err(PortError::stalled(format!("image `{reference}` does not say what to start"))
            .hint("give the `command`"));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Memory;

    fn program(entrypoint: Option<&[&str]>, args: Option<&[&str]>) -> Program {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Program::Image {
            reference: "x".to_owned(),
            id: None,
            entrypoint: entrypoint.map(owned),
            args: args.map(owned),
        }
    }

    #[test]
    fn commands_are_read_as_docker_reads_them() {
        let image =
            Image { entrypoint: vec!["e".to_owned()], command: vec!["c".to_owned()], ..Image::default() };
        for (entrypoint, args, expected) in [
            (None, None, vec!["e", "c"]),
            (Some(&["x"][..]), None, vec!["x"]),
            (None, Some(&["y"][..]), vec!["e", "y"]),
            (Some(&["x"][..]), Some(&["y"][..]), vec!["x", "y"]),
            (None, Some(&[][..]), vec!["e"]),
        ] {
            assert_eq!(command(&image, &program(entrypoint, args)).unwrap(), expected);
        }
        assert!(command(&Image::default(), &program(None, None)).is_err());
    }

    #[test]
    fn disk_and_graphics_processors_are_in_the_request() {
        let limits =
            |disk: Option<u64>, gpu| Limits { ephemeral_storage: disk.map(Memory), gpu, ..Limits::default() };
        let config = |limits: Limits, read_only_root, image: Image| {
            let security = Security { read_only_root, ..Security::default() };
            container(&image, &program(None, None), &limits, &security, Vec::new()).host_config()
        };
        let plain = config(limits(None, 0), false, Image::default()).unwrap();
        assert!(plain.storage_opt.is_none() && plain.device_requests.is_none());
        let config_of = |disk, gpu, root| config(limits(disk, gpu), root, Image::default()).unwrap();
        let size = config_of(Some(2 << 30), 0, false).storage_opt.unwrap();
        assert_eq!(size, HashMap::from([("size".to_owned(), "2147483648".to_owned())]));
        assert!(config_of(Some(2 << 30), 0, true).storage_opt.is_none(), "nothing is written there");
        let asked = serde_json::to_value(config_of(None, 2, true).device_requests).unwrap();
        assert_eq!(asked, serde_json::json!([{"Count": 2, "Capabilities": [["gpu"]]}]));
        let image = || Image { volumes: vec!["/data".to_owned()], ..Image::default() };
        assert!(config(limits(Some(128 << 20), 0), true, image()).is_ok());
        assert!(config(limits(Some(100 << 20), 0), true, image()).is_err(), "two times 64Mi");
    }

    fn container<'a>(
        image: &'a Image,
        program: &'a Program,
        limits: &'a Limits,
        security: &'a Security,
        files: Vec<&'a str>,
    ) -> Container<'a> {
        Container {
            image,
            first: First::Run { program, framed: true },
            limits,
            security,
            env: BTreeMap::new(),
            files,
            stdin: Stdin::Open,
            network: None,
            mounts: Vec::new(),
            egress: None,
            labels: Labels::new(),
        }
    }

    fn tmpfs(files: Vec<&str>, user: &str) -> PortResult<Vec<String>> {
        let security = Security {
            user: user.to_owned(),
            tmpfs: BTreeMap::from([("/tmp".to_owned(), Memory(1)), ("/var/cache/".to_owned(), Memory(2))]),
            ..Security::default()
        };
        let image = Image { volumes: vec!["/data".to_owned()], ..Image::default() };
        let (program, limits) = (program(None, None), Limits::default());
        let container = container(&image, &program, &limits, &security, files);
        let mut mounts: Vec<_> = container.tmpfs()?.into_iter().map(|(p, o)| format!("{p} {o}")).collect();
        mounts.sort();
        Ok(mounts)
    }

    #[test]
    fn files_lie_on_memory_and_hide_nothing() {
        let base = [
            "/data rw,noexec,nosuid,nodev,mode=1777,size=67108864",
            "/tmp rw,noexec,nosuid,nodev,mode=1777,size=1",
            "/var/cache rw,noexec,nosuid,nodev,mode=1777,size=2",
        ];
        assert_eq!(tmpfs(vec!["/tmp/a/b", "/var/cache/x"], "1").unwrap(), base);
        let key = "/run/toolcrib rw,noexec,nosuid,nodev,mode=0700,uid=65534,gid=65534,size=8388608";
        let expected = [&base[..1], &[key], &base[1..]].concat();
        assert_eq!(tmpfs(vec!["/run/toolcrib/deep/key"], "65534:65534").unwrap(), expected);
        assert!(
            tmpfs(vec!["/etc/app/key"], "app").unwrap()[1]
                .starts_with("/etc/app rw,noexec,nosuid,nodev,mode=1777")
        );
        for hiding in ["/key", "/etc/key", "/tmpfile/key"] {
            assert!(tmpfs(vec![hiding], "1").is_err(), "{hiding}");
        }
    }

    #[test]
    fn paths_of_files() {
        assert_eq!(file_path("token").unwrap(), "/run/toolcrib/token");
        assert_eq!(file_path("/etc/app/x").unwrap(), "/etc/app/x");
        for strange in ["", "/", "../x", "/a/../b", "a//b", "a\0"] {
            assert!(file_path(strange).is_err(), "{strange:?}");
        }
    }
}
