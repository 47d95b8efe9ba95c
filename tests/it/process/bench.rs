//! A process runner with a state folder of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use toolcrib::desired::{Limits, Program};
use toolcrib::ports::{Material, Run, RunEvent, Runner as _};
use toolcrib::resource::{Digest, Kind, Name, ResourceId};
use toolcrib::runner::process::{Config, ProcessRunner};

pub(super) struct Bench {
    folder: tempfile::TempDir,
    pub(super) config: Config,
    pub(super) runner: Arc<ProcessRunner>,
    count: AtomicUsize,
}

/// How a run went.
pub(super) struct Ended {
    /// The exit code, or what the runner said.
    pub(super) code: Result<i64, String>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            launcher: env!("CARGO_BIN_EXE_toolcrib").into(),
            ..Config::local(Name::parse("local").unwrap(), &folder.path().join("state"), &|name| {
                std::env::var_os(name)
            })
        };
        let runner = Arc::new(ProcessRunner::new(config.clone()).ok().unwrap());
        Self { folder, config, runner, count: AtomicUsize::new(0) }
    }

    /// Where programs start.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn script(&self, script: &str) -> Program {
        self.program(&["/bin/sh", "-c", script])
    }

    fn program(&self, argv: &[&str]) -> Program {
        Program::Command {
            argv: argv.iter().map(|part| (*part).to_owned()).collect(),
            dir: self.folder().to_str().unwrap().to_owned(),
        }
    }

    pub(super) fn shell(&self, script: &str) -> Run {
        self.command(&["/bin/sh", "-c", script])
    }

    pub(super) fn command(&self, argv: &[&str]) -> Run {
        Run {
            name: format!("run-{}", self.count.fetch_add(1, Ordering::Relaxed)),
            resource: ResourceId::new(Kind::Tool, Name::parse("t").unwrap()),
            revision: "main@sha1:0".to_owned(),
            digest: Digest::of_bytes(b""),
            program: self.program(argv),
            stdin: None,
            material: Material::default(),
            limits: Limits::default(),
            security: Arc::default(),
            volumes: Arc::default(),
            egress: Arc::default(),
            timeout: Duration::from_secs(30),
        }
    }

    pub(super) async fn run(&self, run: Run) -> Ended {
        let mut running = self.runner.run(run).await.map_err(|error| error.chain()).unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut code = Err("the events ended before the run".to_owned());
        while let Some(event) = running.events.recv().await {
            match event {
                Ok(RunEvent::Stdout(bytes)) => stdout.extend(bytes),
                Ok(RunEvent::Stderr(bytes)) => stderr.extend(bytes),
                Ok(RunEvent::Exit(exit)) => code = Ok(exit),
                Err(error) => code = Err(error.chain()),
            }
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code, stdout: text(stdout), stderr: text(stderr) }
    }

    /// Records, homes and files that are there now.
    pub(super) fn leftovers(&self) -> Vec<PathBuf> {
        [Some(&self.config.state), self.config.memory.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// A named pipe: whoever holds its other end (`exec 3>alive`) lives as long as it has not ended.
    pub(super) fn alive(&self) -> tokio::net::unix::pipe::Receiver {
        let path = self.folder().join("alive");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        tokio::net::unix::pipe::OpenOptions::new().open_receiver(path).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(memory) = &self.config.memory {
            let _absent = std::fs::remove_dir(memory);
        }
    }
}
