//! Servers as processes: started, listed, connected to once, stopped.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::launch::{Launcher, Request};
use super::ring::Ring;
use crate::desired::Workload;
use crate::live::{Instance, InstanceId, InstanceState};
use crate::ports::{Channel, Identity, Material, PortError, PortResult};
use crate::resource::Name;
use crate::resource::server::Transport;
use crate::secret::Redactor;

/// Bytes read from standard error at once.
const CHUNK: usize = 8 << 10;
/// What a pipe holds: who asks for the log does not wait for what is written after that.
const PIPE: usize = 64 << 10;
/// How long the last output of an ended server is waited for.
const DRAIN: Duration = Duration::from_secs(2);

/// All servers of one runner, also those that have exited and were not stopped yet.
#[derive(Default)]
pub(super) struct Servers {
    by_id: Mutex<BTreeMap<InstanceId, Arc<Server>>>,
    changes: Arc<Notify>,
}

struct Server {
    identity: Identity,
    transport: Transport,
    /// Taken by the one connection a pair of pipes can have.
    pipes: Mutex<Option<(ChildStdin, ChildStdout)>>,
    log: Arc<Mutex<Ring>>,
    /// Those who keep its streams, each until its stream ends.
    keepers: Vec<mpsc::Sender<oneshot::Sender<()>>>,
    stop: watch::Sender<Option<Duration>>,
    /// The exit code, once it has ended and nothing of it is left.
    exit: watch::Receiver<Option<i64>>,
}

impl Servers {
    fn map(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Server>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ids(&self) -> Vec<InstanceId> {
        self.map().keys().cloned().collect()
    }

    fn get(&self, id: &InstanceId) -> PortResult<Arc<Server>> {
        let gone = || PortError::retry(format!("there is no process `{id}`"));
        self.map().get(id).cloned().ok_or_else(gone)
    }

    pub(super) fn list(&self, runner: &Name) -> Vec<Instance> {
        self.map().iter().map(|(id, server)| server.instance(id, runner)).collect()
    }

    pub(super) async fn start(
        &self,
        launcher: &Launcher,
        identity: &Identity,
        workload: &Workload,
        material: Material,
    ) -> PortResult<Instance> {
        let speaks_stdio = match workload.transport.endpoint() {
            None => true,
            Some((port, _)) => {
                free(port)?;
                false
            }
        };
        let log = Arc::new(Mutex::new(Ring::new(Redactor::new(&material.secrets))));
        let request = Request {
            name: identity.name.clone(),
            resource: identity.resource.clone(),
            digest: identity.digest,
            revision: identity.revision.clone(),
            program: workload.program.clone(),
            material,
            limits: workload.limits.clone(),
            security: workload.security.clone(),
            stdin: speaks_stdio,
        };
        let mut started = launcher.launch(request).await?;
        let id = InstanceId(format!("{}-{}", started.group, started.start));
        let (stdin, stdout, stderr) =
            (started.child.stdin.take(), started.child.stdout.take(), started.child.stderr.take());
        let (mut kept, mut keepers) = (Vec::new(), Vec::new());
        if let Some(stream) = stderr {
            let (keeper, asked) = mpsc::channel(1);
            keepers.push(keeper);
            kept.push(launcher.tasks().spawn(keep(stream, asked, log.clone())));
        }
        let mut pipes = None;
        if speaks_stdio {
            pipes = stdin.zip(stdout);
        } else if let Some(stream) = stdout {
            // A server over HTTP says what it has to say on either.
            let (keeper, asked) = mpsc::channel(1);
            keepers.push(keeper);
            kept.push(launcher.tasks().spawn(keep(stream, asked, log.clone())));
        }
        let (stop, stopped) = watch::channel(None);
        let (exited, exit) = watch::channel(None);
        let mut supervised = launcher.supervise(started, stopped);
        let changes = self.changes.clone();
        let server = Arc::new(Server {
            identity: identity.clone(),
            transport: workload.transport.clone(),
            pipes: Mutex::new(pipes),
            log,
            keepers,
            stop,
            exit,
        });
        let instance = server.instance(&id, &launcher.config().runner);
        self.map().insert(id, server);
        launcher.tasks().spawn(async move {
            let code = supervised.leader().await;
            supervised.stragglers().await;
            // What could not be found and ended may still hold the streams.
            let _all = tokio::time::timeout(DRAIN, futures::future::join_all(&mut kept)).await;
            kept.iter().for_each(tokio::task::JoinHandle::abort);
            supervised.finish().await;
            exited.send_replace(Some(code));
            changes.notify_one();
        });
        Ok(instance)
    }

    pub(super) fn connect(&self, id: &InstanceId) -> PortResult<Channel> {
        let server = self.get(id)?;
        let name = &server.identity.name;
        if let Some(code) = *server.exit.borrow() {
            return Err(
                PortError::retry(format!("`{name}` has exited with code {code}")).detail(server.log())
            );
        }
        match &server.transport {
            Transport::StreamableHttp { port, path } => Ok(Channel::Http { url: local(*port, path) }),
            Transport::Sse { port, path } => Ok(Channel::Sse { url: local(*port, path), credentials: None }),
            Transport::Stdio => {
                let taken = server.pipes.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (writer, reader) = taken.ok_or_else(|| {
                    PortError::stalled(format!("`{name}` was connected before"))
                        .hint("a server over stdio has one connection: replace the instance")
                })?;
                Ok(Channel::Stdio { reader: Box::new(reader), writer: Box::new(writer) })
            }
        }
    }

    /// Stops an instance and forgets it; nothing to do when there is none.
    pub(super) async fn stop(&self, id: &InstanceId, grace: Duration) {
        let Ok(server) = self.get(id) else { return };
        // A stdio server that waits for the end of its input hears it now.
        drop(server.pipes.lock().unwrap_or_else(PoisonError::into_inner).take());
        server.stop.send_replace(Some(grace));
        // An error means that the task that would tell is gone, and the process with it.
        let _ended = server.exit.clone().wait_for(Option::is_some).await.is_ok();
        self.map().remove(id);
    }

    /// Everything that was written before this was asked: who hears of a server's end by its pipes may be
    /// faster than who keeps its last words.
    pub(super) async fn logs(&self, id: &InstanceId) -> PortResult<String> {
        let server = self.get(id)?;
        for keeper in &server.keepers {
            let (answer, answered) = oneshot::channel();
            if keeper.send(answer).await.is_ok() {
                // An error means that the stream has ended, and all of it is kept.
                let _kept = answered.await;
            }
        }
        Ok(server.log())
    }

    pub(super) async fn changed(&self) {
        self.changes.notified().await;
    }
}

impl Server {
    fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    fn instance(&self, id: &InstanceId, runner: &Name) -> Instance {
        let Identity { name, resource, digest, revision } = self.identity.clone();
        let state = match *self.exit.borrow() {
            None => InstanceState::Running,
            code => InstanceState::Exited { code },
        };
        Instance {
            id: id.clone(),
            name,
            runner: runner.clone(),
            resource,
            digest,
            revision,
            state,
            adoptable: true,
        }
    }
}

/// Keeps the end of a stream in the log, and answers whoever asks when all that was written before is kept.
async fn keep(
    mut stream: impl AsyncRead + AsFd + Unpin,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
    log: Arc<Mutex<Ring>>,
) {
    let mut chunk = vec![0; CHUNK];
    let mut due = 0_usize;
    let mut waiting: Option<oneshot::Sender<()>> = None;
    loop {
        if let Some(answer) = waiting.take_if(|_| due == 0 || !holds(&stream)) {
            // Nobody waits any more when the asker was cancelled.
            let _unheard = answer.send(());
        }
        tokio::select! {
            // Cancel-safe: nothing is taken from the stream unless it is returned.
            read = stream.read(&mut chunk) => {
                let Ok(read @ 1..) = read else { break };
                log.lock().unwrap_or_else(PoisonError::into_inner).write(&chunk[..read]);
                due = due.saturating_sub(read);
            }
            // Cancel-safe: `recv` loses nothing.
            Some(answer) = asked.recv(), if waiting.is_none() => {
                waiting = Some(answer);
                due = PIPE;
            }
        }
    }
    log.lock().unwrap_or_else(PoisonError::into_inner).finish();
}

/// Whether something was written that is not read yet, or the end is there to be read. What the runtime has
/// heard of is not enough: it hears a little later.
fn holds(stream: &impl AsFd) -> bool {
    let mut looked = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut looked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Where a server of this machine listens.
fn local(port: u16, path: &str) -> String {
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("http://127.0.0.1:{port}{slash}{path}")
}

/// Whether the port can be listened on: else we would speak to somebody else's server.
fn free(port: u16) -> PortResult<()> {
    std::net::TcpListener::bind(("127.0.0.1", port)).map(drop).map_err(|error| {
        PortError::retry(format!("port {port} is taken on this machine"))
            .hint("give the server another `transport.port`, or `strategy: recreate` if it is its own")
            .caused_by(error)
    })
}
