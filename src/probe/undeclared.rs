//! Probing something that nobody declared: an image or a command on a runner, or an address.
//!
//! Input: what to try, and where. Output: a [`Record`]. Invariant: what was started is stopped and
//! removed, whatever happens; give up by cancelling, not by dropping the future. Not here: making the
//! runner, which belongs to whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::list;
use super::record::Record;
use crate::desired::{Limits, Program, Workload};
use crate::live::Instance;
use crate::mcp::client::{GreetError, Upstream};
use crate::ports::{
    Channel, Clock, Greeting, Identity, Material, NotModern, Offer, PortError, PortResult, Runner,
    SecretValue,
};
use crate::resource::server::Transport;
use crate::resource::{Digest, EnvValue, Kind, Name, ResourceId};

/// Where servers over HTTP listen when nobody says otherwise: `FastMCP` and the Python SDK, proxies and
/// Java, Node.
const PORTS: [u16; 3] = [8000, 8080, 3000];
const PATHS: [&str; 2] = ["/mcp", "/"];

/// For a server that listens already.
const GREET: Duration = Duration::from_secs(10);

/// To see whether a port is open: on this machine or a bridge of it that takes microseconds.
const KNOCK: Duration = Duration::from_millis(500);

/// Between two looks at the ports of a server that starts.
const PAUSE: Duration = Duration::from_millis(100);

/// How long an answer over stdio is waited for: Python with many imports, on a busy machine.
const STDIO: Duration = Duration::from_secs(30);

/// What a stopped instance has for its goodbye: nothing depends on it.
const GRACE: Duration = Duration::from_secs(2);

/// Where and for how long something is tried.
pub struct Attempt<'a> {
    pub runner: &'a dyn Runner,
    /// The runner's name and kind, as they appear in names and in the record.
    pub name: Name,
    pub kind: &'static str,
    pub clock: &'a dyn Clock,
    /// All of it must end within this.
    pub deadline: Duration,
    pub cancel: &'a CancellationToken,
}

/// Shown while it goes on (`toolcrib::work`, see `telemetry`).
fn work(what: &str) -> tracing::Span {
    tracing::info_span!(target: "toolcrib::work", "work", %what)
}

/// Asks a server at an address. A path of its own is taken as it is; without one the usual are tried.
///
/// # Errors
/// When nothing there speaks MCP.
pub async fn at(
    url: &str,
    clock: &dyn Clock,
    deadline: Duration,
    cancel: &CancellationToken,
) -> PortResult<Record> {
    let failed = || format!("failed to probe `{url}`");
    let parsed: Uri = url.parse().map_err(|error| {
        PortError::stalled(failed())
            .hint("write an address such as http://127.0.0.1:8000/mcp")
            .caused_by(error)
    })?;
    let paths: Vec<&str> = match parsed.path() {
        "" | "/" => PATHS.to_vec(),
        path => vec![path],
    };
    let until = Instant::now() + deadline;
    let mut last = PortError::retry(failed());
    for path in paths {
        let Some(url) = with_path(&parsed, None, path) else { continue };
        let limit = until.min(Instant::now() + GREET);
        let asked = ask(Channel::Http { url: url.clone() }, Greeting::Unknown, limit)
            .instrument(work(&format!("asking {url}")));
        let asked = tokio::select! {
            // Cancel-safe: a connection that is given up closes itself.
            asked = asked => asked,
            () = cancel.cancelled() => return Err(PortError::retry(failed()).caused_by("it was cancelled")),
        };
        match asked {
            Ok(offer) => {
                let port = parsed.port_u16();
                let record = Record::new("http_mcp".to_owned(), clock.now().as_secs_f64(), offer);
                return Ok(Record { url: Some(url), port, ..record });
            }
            Err(Trouble::Error(cause)) => last = PortError::retry(failed()).caused_by(cause),
            Err(Trouble::NotModern) => last = PortError::retry(failed()).caused_by(NotModern),
        }
    }
    Err(last.hint("check that an MCP server listens there, and its path"))
}

/// Starts an image or a command and asks it: over stdio, then over HTTP.
///
/// # Errors
/// When it cannot be started or does not speak MCP in any of these ways.
pub async fn started(attempt: &Attempt<'_>, program: Program) -> PortResult<Record> {
    let program = match program {
        Program::Image { reference, entrypoint, args, .. } => {
            let id = Some(attempt.runner.image(&reference).instrument(work("looking for the image")).await?);
            Program::Image { reference, id, entrypoint, args }
        }
        command @ Program::Command { .. } => command,
    };
    let until = Instant::now() + attempt.deadline;
    // A server that is silent over stdio is still asked over HTTP.
    let silent = Instant::now() + STDIO.min(attempt.deadline / 2);
    let asking = work("starting it and asking over stdio");
    let stdio = match over_stdio(attempt, &program, silent).instrument(asking).await {
        Ok(record) => return Ok(described(record, program)),
        Err(error) => error,
    };
    if attempt.cancel.is_cancelled() {
        return Err(stdio);
    }
    let asking = work("no answer over stdio: starting it and asking over HTTP");
    match over_http(attempt, &program, until).instrument(asking).await {
        Ok(record) => Ok(described(record, program)),
        Err(http) => Err(neither(&program, stdio, http)),
    }
}

fn described(record: Record, program: Program) -> Record {
    match program {
        Program::Image { reference, .. } => Record { source_image: Some(reference), ..record },
        Program::Command { argv, .. } => Record { command: Some(argv), ..record },
    }
}

fn neither(program: &Program, stdio: PortError, http: PortError) -> PortError {
    let what = match program {
        Program::Image { reference, .. } => format!("image `{reference}`"),
        Program::Command { argv, .. } => format!("command `{}`", argv.join(" ")),
    };
    let error = PortError::retry(format!("found no MCP server in {what}"))
        .hint("say how it is started: its arguments, its transport, its port")
        .caused_by(format!("over stdio: {}; over HTTP: {}", stdio.chain(), http.chain()));
    match stdio.detail.or(http.detail) {
        Some(detail) => error.detail(detail),
        None => error,
    }
}

async fn over_stdio(attempt: &Attempt<'_>, program: &Program, until: Instant) -> PortResult<Record> {
    let mut greeting = Greeting::Unknown;
    loop {
        let asking = run(attempt, program, Transport::Stdio, until, async |instance| {
            ask(attempt.runner.connect(&instance.id).await?, greeting, until).await
        });
        let (name, asked) = Box::pin(asking).await?;
        match asked {
            Ok(offer) => {
                let method = format!("{}_mcp_stdio", attempt.kind);
                let record = Record::new(method, attempt.clock.now().as_secs_f64(), offer);
                return Ok(Record { container: Some(name), ..record });
            }
            // It is started anew, as it may have died of the greeting.
            Err((Trouble::NotModern, _)) if matches!(greeting, Greeting::Unknown) => {
                greeting = Greeting::Known("legacy");
            }
            Err(trouble) => return Err(explained(trouble)),
        }
    }
}

async fn over_http(attempt: &Attempt<'_>, program: &Program, until: Instant) -> PortResult<Record> {
    // What listens on this machine before a command is started is not that command.
    let taken = match program {
        Program::Command { .. } => open_ports("127.0.0.1", &PORTS).await,
        Program::Image { .. } => Vec::new(),
    };
    let ports: Vec<u16> = PORTS.into_iter().filter(|port| !taken.contains(port)).collect();
    let Some(first) = ports.first().copied() else {
        return Err(PortError::retry(format!("ports {PORTS:?} are in use on this machine")));
    };
    let transport = Transport::StreamableHttp { port: first, path: PATHS[0].to_owned() };
    let asking = run(attempt, program, transport, until, async |instance| {
        let Channel::Http { url } = attempt.runner.connect(&instance.id).await? else {
            return Err(PortError::stalled("the runner gives no address").into());
        };
        find(attempt, instance, &url, &ports, until).await
    });
    let (name, asked) = Box::pin(asking).await?;
    let (offer, url, port) = asked.map_err(explained)?;
    let method = format!("{}_http_mcp", attempt.kind);
    let record = Record::new(method, attempt.clock.now().as_secs_f64(), offer);
    Ok(Record { container: Some(name), url: Some(url), port: Some(port), ..record })
}

/// Looks at the ports until one of them answers, the instance ends, or the time is over.
async fn find(
    attempt: &Attempt<'_>,
    instance: &Instance,
    url: &str,
    ports: &[u16],
    until: Instant,
) -> Result<(Offer, String, u16), Trouble> {
    let base: Uri =
        url.parse().map_err(|error| PortError::stalled("the runner's address").caused_by(error))?;
    let host = base.host().unwrap_or_default().to_owned();
    let mut last = Trouble::from(PortError::retry(format!("none of its ports {ports:?} is open")));
    while Instant::now() < until {
        for port in open_ports(&host, ports).await {
            for path in PATHS {
                let Some(url) = with_path(&base, Some(port), path) else { continue };
                let limit = until.min(Instant::now() + GREET);
                match ask(Channel::Http { url: url.clone() }, Greeting::Unknown, limit).await {
                    Ok(offer) => return Ok((offer, url, port)),
                    Err(trouble) => last = trouble,
                }
            }
        }
        let there = attempt.runner.observe().await.unwrap_or_default();
        let ended = |other: &Instance| {
            other.id == instance.id && matches!(other.state, crate::live::InstanceState::Exited { .. })
        };
        if there.iter().any(ended) {
            return Err(PortError::retry("it ended").into());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last)
}

/// Starts an instance, does `work` with it, and takes it away again. What `work` could not do comes
/// with the instance's log.
async fn run<T>(
    attempt: &Attempt<'_>,
    program: &Program,
    transport: Transport,
    until: Instant,
    work: impl AsyncFnOnce(&Instance) -> Result<T, Trouble>,
) -> PortResult<(String, Result<T, (Trouble, String)>)> {
    let (identity, workload) = described_workload(attempt, program, transport)?;
    let env = workload.env.iter().filter_map(|(name, value)| match value {
        EnvValue::Literal(text) => Some((name.clone(), SecretValue::new(text.as_bytes()))),
        EnvValue::Secret(_) => None,
    });
    let material = Material { env: env.collect(), ..Material::default() };
    let instance = attempt.runner.start(&identity, &workload, material).await?;
    let outcome = tokio::select! {
        outcome = work(&instance) => outcome,
        () = tokio::time::sleep_until(until) => Err(PortError::retry("no answer in time").into()),
        () = attempt.cancel.cancelled() => Err(PortError::retry("it was cancelled").into()),
    };
    let outcome = match outcome {
        Ok(done) => Ok(done),
        Err(trouble) => Err((trouble, attempt.runner.logs(&instance.id).await.unwrap_or_default())),
    };
    let stopped = attempt.runner.stop(&instance.id, GRACE).await;
    if let Err(error) = stopped {
        return Err(error.hint(format!("remove `{}` by hand", identity.name)));
    }
    Ok((identity.name, outcome))
}

fn described_workload(
    attempt: &Attempt<'_>,
    program: &Program,
    transport: Transport,
) -> PortResult<(Identity, Workload)> {
    let name =
        Name::parse("probe").map_err(|error| PortError::stalled("failed to name it").caused_by(error))?;
    let resource = ResourceId::new(Kind::Server, name);
    let stdio = ("MCP_TRANSPORT".to_owned(), EnvValue::Literal("stdio".to_owned()));
    let workload = Workload {
        resource: resource.clone(),
        runner: attempt.name.clone(),
        program: program.clone(),
        env: BTreeMap::from_iter((transport == Transport::Stdio).then_some(stdio)),
        files: BTreeMap::new(),
        transport,
        limits: Limits::default(),
        security: Arc::default(),
        volumes: BTreeMap::new(),
        egress: Arc::default(),
    };
    let digest = Digest::of("probe", &workload);
    let unique = hex::encode(rand::random::<[u8; 4]>());
    let name = format!("probe-{}-{unique}", digest.short());
    Ok((Identity { name, resource, digest, revision: "undeclared".to_owned() }, workload))
}

/// Why a server was not asked.
enum Trouble {
    NotModern,
    Error(PortError),
}

impl From<PortError> for Trouble {
    fn from(error: PortError) -> Self {
        Self::Error(error)
    }
}

fn explained((trouble, log): (Trouble, String)) -> PortError {
    let error = match trouble {
        Trouble::NotModern => PortError::retry("it did not survive either greeting"),
        Trouble::Error(error) => error,
    };
    if log.trim().is_empty() { error } else { error.detail(log) }
}

async fn ask(channel: Channel, greeting: Greeting<'_>, until: Instant) -> Result<Offer, Trouble> {
    let left = until.saturating_duration_since(Instant::now());
    let upstream = match Upstream::connect(channel, greeting, left, || {}).await {
        Ok(upstream) => upstream,
        Err(GreetError::NotModern(_)) => return Err(Trouble::NotModern),
        Err(error) => return Err(PortError::retry("no handshake").caused_by(error).into()),
    };
    let offer = list::offer(&upstream, until).await;
    upstream.close().await;
    offer.map_err(|error| PortError::retry("no list").caused_by(error).into())
}

async fn open_ports(host: &str, ports: &[u16]) -> Vec<u16> {
    let knock = async |port: u16| {
        let open = timeout(KNOCK, TcpStream::connect((host.trim_matches(['[', ']']), port))).await;
        matches!(open, Ok(Ok(_))).then_some(port)
    };
    futures::future::join_all(ports.iter().map(|port| knock(*port))).await.into_iter().flatten().collect()
}

fn with_path(base: &Uri, port: Option<u16>, path: &str) -> Option<String> {
    let authority = match port {
        Some(port) => format!("{}:{port}", base.host()?),
        None => base.authority()?.to_string(),
    };
    let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{}://{authority}{path}{query}", base.scheme_str()?))
}
