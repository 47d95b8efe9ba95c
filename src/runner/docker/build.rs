//! Images of our own: built once for each digest, removed when nothing wants them.
//!
//! Everybody who asks for the same digest at the same time waits for the same build. When nobody
//! waits any more its connection to the engine is closed, which ends it there.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bollard::Docker;
use bollard::models::ImageSummary;
use bollard::query_parameters::{
    BuildImageOptions, BuildImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions,
};
use futures::StreamExt;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::engine::{ask, fault, found, status};
use super::{Inner, context, labels, lock};
use crate::build::BuildSpec;
use crate::ports::{BuildInput, Disposition, PortError, PortResult, Progress};
use crate::resource::Digest;

/// Of one build, context and base images included.
const LIMIT: Duration = Duration::from_mins(30);
/// Of its log, from the end.
const MAX_LOG: usize = 256 << 10;
/// Of the log in an error: what people look at first.
const MAX_DETAIL: usize = 16 << 10;
/// Lines of progress a slow listener may be behind; what is beyond is skipped.
const LINES: usize = 256;

/// Builds in progress, by digest.
#[derive(Default)]
pub(super) struct Builds(Mutex<HashMap<Digest, Flight>>);

struct Flight {
    /// Gone when nobody waits: then the build ends.
    waited_for: Weak<DropGuard>,
    lines: broadcast::Sender<Arc<str>>,
    ended: watch::Receiver<Ended>,
}

/// A [`PortError`] that several can be told.
#[derive(Clone)]
struct Failure {
    disposition: Disposition,
    operation: String,
    cause: String,
    log: String,
}

impl Failure {
    fn error(self) -> PortError {
        let Self { disposition, operation, cause, log } = self;
        let mut error = PortError { disposition, ..PortError::retry(operation) }.caused_by(cause);
        if disposition == Disposition::Stalled {
            error = error.hint("correct the Dockerfile; the next commit is tried at once");
        }
        if log.is_empty() { error } else { error.detail(log) }
    }
}

fn operation(spec: &BuildSpec) -> String {
    format!("failed to build the image of `{}`", spec.resource)
}

/// Whether the engine has an image that we made for that digest.
pub(super) async fn built(inner: &Inner, spec: &BuildSpec) -> PortResult<bool> {
    let docker = inner.engine.client().await?;
    Ok(ours(&docker, spec).await?.is_some())
}

/// Its id. The label is ours: it only says which digest the image was made for.
async fn ours(docker: &Docker, spec: &BuildSpec) -> PortResult<Option<String>> {
    let look = async { found(docker.inspect_image(&spec.tag).await) };
    let image = ask(|| format!("failed to look for image `{}`", spec.tag), look).await?;
    Ok(image.and_then(|image| {
        let labels = image.config?.labels?;
        (labels.get(labels::BUILD) == Some(&spec.digest.to_string())).then_some(image.id).flatten()
    }))
}

pub(super) async fn build(
    inner: &Arc<Inner>,
    spec: &BuildSpec,
    input: BuildInput,
    rebuild: bool,
    progress: Progress<'_>,
) -> PortResult<()> {
    if !rebuild && built(inner, spec).await? {
        return Ok(());
    }
    let (mut lines, mut ended, _waiting) = join(inner, spec, input, rebuild);
    loop {
        tokio::select! {
            biased;
            line = lines.recv() => match line {
                Ok(line) => progress(&line),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            },
            changed = ended.changed() => if changed.is_err() || ended.borrow().is_some() { break },
        }
    }
    let outcome = ended.borrow().clone();
    match outcome {
        Some(outcome) => outcome.map_err(Failure::error),
        None => Err(PortError::retry(operation(spec)).caused_by("the daemon is stopping")),
    }
}

/// How a build ended; none while it goes on, or when it was given up.
type Ended = Option<Result<(), Failure>>;
/// What is heard of a build, and what keeps it going.
type Waiting = (broadcast::Receiver<Arc<str>>, watch::Receiver<Ended>, Arc<DropGuard>);
/// Where a build tells of itself.
type Told = (broadcast::Sender<Arc<str>>, watch::Sender<Ended>);

/// The build of that digest that goes on, or a new one.
fn join(inner: &Arc<Inner>, spec: &BuildSpec, input: BuildInput, rebuild: bool) -> Waiting {
    let mut builds = lock(&inner.builds.0);
    if let Some(flight) = builds.get(&spec.digest)
        && let Some(waited_for) = flight.waited_for.upgrade()
    {
        return (flight.lines.subscribe(), flight.ended.clone(), waited_for);
    }
    let (lines, heard) = broadcast::channel(LINES);
    let (end, ended) = watch::channel(None);
    let stop = inner.closing.child_token();
    let waited_for = Arc::new(stop.clone().drop_guard());
    let flight =
        Flight { waited_for: Arc::downgrade(&waited_for), lines: lines.clone(), ended: ended.clone() };
    // One that is ending makes room.
    builds.insert(spec.digest, flight);
    drop(builds);
    inner.tasks.spawn(fly(Arc::clone(inner), spec.clone(), (input, rebuild), (lines, end), stop));
    (heard, ended, waited_for)
}

/// Builds until it is done, or nobody waits for it.
async fn fly(
    inner: Arc<Inner>,
    spec: BuildSpec,
    (input, rebuild): (BuildInput, bool),
    (lines, end): Told,
    stop: CancellationToken,
) {
    let work = tokio::time::timeout(LIMIT, make(&inner, &spec, input, rebuild, &lines));
    let outcome = match stop.run_until_cancelled(work).await {
        Some(Ok(outcome)) => Some(outcome),
        Some(Err(_)) => Some(Err(Failure {
            disposition: Disposition::Retry,
            operation: operation(&spec),
            cause: "it took longer than 30 min".to_owned(),
            log: String::new(),
        })),
        None => None,
    };
    let mut builds = lock(&inner.builds.0);
    // Somebody may have asked anew meanwhile.
    if builds.get(&spec.digest).is_some_and(|flight| flight.ended.same_channel(&end.subscribe())) {
        builds.remove(&spec.digest);
    }
    drop(builds);
    end.send_replace(outcome);
}

async fn make(
    inner: &Inner,
    spec: &BuildSpec,
    input: BuildInput,
    rebuild: bool,
    lines: &broadcast::Sender<Arc<str>>,
) -> Result<(), Failure> {
    let failed = |error: &PortError, log: &Log| Failure {
        disposition: error.disposition,
        operation: operation(spec),
        cause: error.chain(),
        log: log.end(),
    };
    let mut log = Log::default();
    let quick = inner.engine.client().await.map_err(|error| failed(&error, &log))?;
    let before = ours(&quick, spec).await.map_err(|error| failed(&error, &log))?;
    let listed = spec.clone();
    let tar = tokio::task::spawn_blocking(move || context::tar(&listed, &input)).await;
    let tar = tar.map_err(std::io::Error::other).and_then(|tar| tar).map_err(|error| {
        failed(&PortError::stalled("failed to put the build context together").caused_by(error), &log)
    })?;
    let docker = inner.engine.patient(LIMIT).await.map_err(|error| failed(&error, &log))?;
    let pieces = tar.chunks(64 << 10).map(|piece| tar.slice_ref(piece)).collect::<Vec<_>>();
    let body = bollard::body_stream(futures::stream::iter(pieces));
    let mut steps = docker.build_image(options(spec, &inner.owner, rebuild), None, Some(body));
    while let Some(step) = steps.next().await {
        let step = step.map_err(|error| failed(&refused(error), &log))?;
        let text = plain(&step.stream.or(step.status).unwrap_or_default());
        log.push(&text);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            tracing::debug!(resource = %spec.resource, "{line}");
            // As the classic builder says where it is: `Step 2/5 : RUN …`.
            if line.starts_with("Step ") {
                let _ = lines.send(line.into());
            }
        }
    }
    let after = ours(&quick, spec).await.map_err(|error| failed(&error, &log))?;
    if after.is_none() {
        return Err(failed(&PortError::retry("the engine did not make the image"), &log));
    }
    if let Some(before) = before.filter(|before| Some(before) != after.as_ref()) {
        remove(&quick, &before).await.map_err(|error| failed(&error, &log))?;
    }
    Ok(())
}

fn options(spec: &BuildSpec, owner: &str, rebuild: bool) -> BuildImageOptions {
    let digest = spec.digest.to_string();
    let labels = HashMap::from([(labels::BUILD, digest.as_str()), (labels::OWNER, owner)]);
    let args = spec.args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut options = BuildImageOptionsBuilder::default()
        .dockerfile(context::dockerfile(spec))
        .t(&spec.tag)
        .labels(&labels)
        .buildargs(&args)
        .nocache(rebuild)
        .rm(true)
        .forcerm(true);
    if let Some(target) = &spec.target {
        options = options.target(target);
    }
    if let Some(network) = &spec.network {
        options = options.networkmode(network);
    }
    options.build()
}

/// A Dockerfile that is wrong in itself stays wrong; a step that failed may work the next time.
fn refused(error: bollard::errors::Error) -> PortError {
    let failed = fault("the engine says".to_owned(), error);
    let text = failed.chain().to_lowercase();
    let wrong = ["dockerfile parse error", "unknown instruction", "failed to parse dockerfile"];
    let wrong = wrong.iter().any(|part| text.contains(part))
        || text.contains("file with no instructions")
        || (text.contains("dockerfile") && text.contains("cannot be empty"))
        || text.contains("cannot locate specified dockerfile")
        || text.contains("failed to reach build target");
    let disposition = if wrong { Disposition::Stalled } else { failed.disposition };
    PortError { disposition, ..failed }
}

/// Without the colours and cursor movements that programs send to terminals.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match char {
            // A control sequence ends with a letter or one of its like.
            '\u{1b}' if rest.as_str().starts_with('[') => {
                rest.next();
                rest.by_ref().find(|char| ('@'..='~').contains(char));
            }
            '\r' if !rest.as_str().starts_with('\n') => plain.push('\n'),
            '\n' | '\t' => plain.push(char),
            _ if char.is_control() => {}
            _ => plain.push(char),
        }
    }
    plain
}

/// The end of a build's output.
#[derive(Default)]
struct Log(String);

impl Log {
    fn push(&mut self, text: &str) {
        self.0.push_str(text);
        if !text.ends_with('\n') {
            self.0.push('\n');
        }
        if self.0.len() > 2 * MAX_LOG {
            self.0 = last(&self.0, MAX_LOG).to_owned();
        }
    }

    fn end(&self) -> String {
        last(&self.0, MAX_DETAIL).trim_end().to_owned()
    }
}

/// The last `bytes` of a text, from the beginning of a line.
fn last(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let from = text.len() - bytes;
    let line =
        text.as_bytes()[from..].iter().position(|byte| *byte == b'\n').map_or(from, |at| from + at + 1);
    text.get(line..).unwrap_or_default()
}

/// Removes images of ours that are not in `keep`. One that a container uses stays.
pub(super) async fn collect(inner: &Inner, keep: &BTreeSet<Digest>) -> PortResult<()> {
    let docker = inner.engine.client().await?;
    let filters = labels::filter(&[(labels::OWNER, &inner.owner)]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let images = ask(|| "failed to list images".to_owned(), docker.list_images(Some(options))).await?;
    for image in images {
        let wanted = digest(&image).is_some_and(|digest| keep.contains(&digest));
        let tagged = image.repo_tags.iter().any(|tag| tag != "<none>:<none>");
        let flying = digest(&image).is_some_and(|digest| lock(&inner.builds.0).contains_key(&digest));
        if flying || (wanted && tagged) {
            continue;
        }
        for name in image.repo_tags.iter().filter(|_| tagged) {
            remove(&docker, name).await?;
        }
        if !tagged {
            remove(&docker, &image.id).await?;
        }
    }
    Ok(())
}

fn digest(image: &ImageSummary) -> Option<Digest> {
    Digest::parse(image.labels.get(labels::BUILD)?)
}

async fn remove(docker: &Docker, image: &str) -> PortResult<()> {
    ask(|| format!("failed to remove image `{image}`"), async {
        match found(docker.remove_image(image, None::<RemoveImageOptions>, None).await) {
            // 409: a container or another image needs it.
            Err(error) if status(&error) == Some(409) => Ok(()),
            other => other.map(|_| ()),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wrong_dockerfiles_stay_wrong() {
        let server = |status_code, message: &str| bollard::errors::Error::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        };
        let stream = |error: &str| bollard::errors::Error::DockerStreamError { error: error.to_owned() };
        for (error, disposition) in [
            (server(400, "dockerfile parse error line 1: unknown instruction: X"), Disposition::Stalled),
            (server(500, "Cannot locate specified Dockerfile: D"), Disposition::Stalled),
            (stream("the Dockerfile (D) cannot be empty"), Disposition::Stalled),
            (stream("failed to reach build target x in Dockerfile"), Disposition::Stalled),
            (stream("The command '/bin/sh -c false' returned a non-zero code: 1"), Disposition::Retry),
            (stream("pull access denied for x"), Disposition::Retry),
            (server(500, "no space left on device"), Disposition::Retry),
        ] {
            let text = format!("{error}");
            assert_eq!(refused(error).disposition, disposition, "{text}");
        }
    }

    #[test]
    fn logs_are_plain_text() {
        for (said, kept) in [
            ("\u{1b}[91mnpm warn\u{1b}[0m\n", "npm warn\n"),
            ("10 %\r20 %\r\ndone\u{7}\tüber", "10 %\n20 %\ndone\tüber"),
            ("cut \u{1b}[9", "cut "),
        ] {
            assert_eq!(plain(said), kept);
        }
    }

    #[test]
    fn logs_are_bounded_at_lines() {
        let mut log = Log::default();
        for number in 0..60_000 {
            log.push(&format!("line {number}"));
        }
        assert!(log.0.len() <= 2 * MAX_LOG);
        let end = log.end();
        assert!(end.len() <= MAX_DETAIL && end.starts_with("line ") && end.ends_with("line 59999"));
    }
}
