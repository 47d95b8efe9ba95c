//! A `Server` with everything it takes to run it.

use std::sync::Arc;
use std::time::Duration;

use super::context::{Context, LEAST_MEMORY};
use super::place::Findings;
use super::tool::MAX_NAME;
use super::{
    Digests, HealthCheck, Location, Presented, Program, Runner, Server, Workload, egress, files, limits,
    needs, pin, remote, scale, volumes,
};
use crate::build::{self, BuildSpec, Ecosystem, PackageRecipe};
use crate::manifest::{Declared, RepoPath};
use crate::resource::Digest;
use crate::resource::runner::RunnerKind;
use crate::resource::server::{GitSource, Health, Mode, PackageSource, ServerSource, ServerSpec};
use crate::resource::workload::BuildSource;

/// From start to the first complete list, where nothing else is said: a Python server with many
/// imports takes 20 s on a small machine.
const STARTUP_TIMEOUT: Duration = Duration::from_mins(1);
/// How long calls in flight may go on when an instance is replaced, where nothing else is said.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Of one health check, where nothing else is said.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// As in Kubernetes.
const CHECK_FAILURES: u32 = 3;

pub(super) fn server(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    spec: &ServerSpec,
    findings: &mut Findings<'_>,
) -> Option<Server> {
    let prefix = prefix(context, declared, spec, findings);
    if !matches!(spec.source, ServerSource::Url(_)) {
        remote::refused(spec, findings);
    }
    needs::dependencies(context, &declared.metadata.name, &spec.depends_on, findings);
    let located = match &spec.source {
        ServerSource::Url(url) => {
            egress::elsewhere(spec, findings);
            let (location, digest) = remote::location(context, declared, spec, url, findings);
            Some((location, None, digest, None))
        }
        source => workload(context, declared, spec, findings).map(|(workload, build)| {
            let files = match source {
                ServerSource::Command(argv) => {
                    files::of_command(context, declared, &["source", "command"], argv, findings)
                }
                _ => None,
            };
            let digest =
                Digest::of("workload", &(&workload, build.as_ref().map(|build| build.digest), files));
            (Location::Runner(Arc::new(workload)), build, digest, files)
        }),
    };
    let (location, build, workload, files) = located?;
    if findings.failed() || findings.pending {
        return None;
    }
    let strategy = match &location {
        Location::Runner(workload) => volumes::strategy(spec.strategy, &workload.volumes),
        Location::Remote { .. } => spec.strategy.unwrap_or_default(),
    };
    let synced = spec.mode == Mode::Sync;
    let presented = Presented {
        overrides: spec.tools.overrides.clone(),
        instructions: spec.instructions.clone(),
        icon: spec.icon.clone(),
        resources_prefix: spec.resources_prefix.as_deref().map(Box::from),
        when_down: spec.tools.when_down,
    };
    let offer = Digest::of("offer", &(&prefix, &spec.tools.include, &spec.tools.exclude, synced, &presented));
    Some(Server {
        id: declared.id(),
        place: declared.place.clone(),
        labels: declared.metadata.labels.clone(),
        digests: Digests { build: build.as_ref().map(|build| build.digest), workload, offer },
        build,
        location,
        strategy,
        synced,
        prefix,
        include: spec.tools.include.clone(),
        exclude: spec.tools.exclude.clone(),
        presented,
        depends_on: spec.depends_on.clone(),
        sessions: spec.sessions,
        concurrency: spec.concurrency,
        scale: scale::of(spec.lifecycle.as_deref()),
        trust: spec.tools.trust,
        files,
        health: spec.health.as_deref().map(health),
        startup_timeout: spec.startup_timeout.map_or(STARTUP_TIMEOUT, |period| period.0),
        drain_timeout: spec.drain_timeout.map_or(DRAIN_TIMEOUT, |period| period.0),
        timeout: context.timeout(spec.timeout),
        tests: spec.tests.iter().cloned().collect(),
    })
}

fn health(declared: &Health) -> HealthCheck {
    HealthCheck {
        interval: declared.interval.0,
        timeout: declared.timeout.map_or(CHECK_TIMEOUT, |period| period.0),
        failures: declared.failure_threshold.unwrap_or(CHECK_FAILURES),
    }
}

/// What stands before the names of its tools.
fn prefix(
    context: &Context<'_>,
    declared: &Declared,
    spec: &ServerSpec,
    findings: &mut Findings<'_>,
) -> String {
    let naming = &context.crib.naming;
    let own = spec.tools.prefix.as_deref().unwrap_or(declared.metadata.name.as_str());
    let separator = if own.is_empty() { "" } else { naming.separator.as_str() };
    let prefix = format!("{}{own}{separator}", naming.prefix);
    if prefix.len() >= MAX_NAME {
        let message = format!("the prefix `{prefix}` leaves no room in names of {MAX_NAME} characters");
        findings.error(
            &["tools", "prefix"],
            "long-name",
            message,
            "give it a shorter one with `tools.prefix`",
        );
    }
    prefix
}

fn workload(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    spec: &ServerSpec,
    findings: &mut Findings<'_>,
) -> Option<(Workload, Option<Arc<BuildSpec>>)> {
    let process = matches!(spec.source, ServerSource::Command(_));
    let kind = if process { RunnerKind::Process } else { RunnerKind::Docker };
    let runner = context.runner(spec.runner.as_ref(), kind, findings);
    let security = context.security(spec.security.as_ref(), findings);
    let mut limits = context.limits(&spec.resources);
    if limits.memory < LEAST_MEMORY {
        let message = format!("no container starts with {} of memory", limits.memory);
        findings.error(
            &["resources", "memory"],
            "invalid-value",
            message,
            &format!("give it at least {LEAST_MEMORY}"),
        );
    }
    let runner = runner?;
    limits::fit(&mut limits, &spec.resources, &runner, &security, findings);
    let own = (&spec.env, &spec.files);
    let (env, files) = needs::merge(context, declared, &spec.integrations, own, findings);
    let volumes = volumes::mounts(&spec.volumes, runner.kind, &security, &files, findings);
    let egress = egress::allowed(context, &runner, (&spec.egress, &spec.integrations), findings);
    egress::apart(&egress, &spec.transport, findings);
    let (program, build) = program(context, declared, spec, &runner, findings)?;
    let workload = Workload {
        resource: declared.id(),
        runner: runner.name.clone(),
        program,
        env,
        files,
        transport: spec.transport.clone(),
        limits,
        security,
        volumes,
        egress,
    };
    Some((workload, build))
}

fn program(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    spec: &ServerSpec,
    runner: &Runner,
    findings: &mut Findings<'_>,
) -> Option<(Program, Option<Arc<BuildSpec>>)> {
    let build = match &spec.source {
        ServerSource::Image(image) => {
            let asked = pin::image(context.manifest, declared, &image.reference);
            let id = context.image(&["source", "image"], &runner.name, asked, findings);
            let program = Program::Image {
                reference: image.reference.clone(),
                id,
                entrypoint: image.command.clone(),
                args: image.args.clone(),
            };
            return Some((program, None));
        }
        ServerSource::Command(argv) => {
            let dir = declared.place.file.parent().to_string();
            return Some((Program::Command { argv: argv.clone(), dir }, None));
        }
        ServerSource::Build(source) => {
            build(context, declared, &["source", "build"], source, runner, findings)?
        }
        ServerSource::Git(source) => git(context, declared, spec, source, runner, findings)?,
        ServerSource::Package(source) => match (Ecosystem::of(source.registry), source.image()) {
            (Some(ecosystem), _) => package(context, declared, source, ecosystem, runner, findings)?,
            (None, image) => {
                let reference = image?;
                let asked = pin::image(context.manifest, declared, &reference);
                let id = context.image(&["source", "package"], &runner.name, asked, findings);
                let args = (!source.args.is_empty()).then(|| source.args.clone());
                return Some((Program::Image { reference, id, entrypoint: None, args }, None));
            }
        },
        ServerSource::Url(_) => return None,
    };
    let program = Program::Image { reference: build.tag.clone(), id: None, entrypoint: None, args: None };
    Some((program, Some(build)))
}

/// What the runner adds to each build.
fn settings(context: &Context<'_>, runner: &Runner) -> build::Settings {
    build::Settings {
        network: runner.build.network.clone(),
        args: runner.build.args.clone(),
        ca: context.bundles.get(&runner.name).copied(),
    }
}

/// A build from a folder of this repository.
pub(super) fn build(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    field: &[&str],
    source: &BuildSource,
    runner: &Runner,
    findings: &mut Findings<'_>,
) -> Option<Arc<BuildSpec>> {
    let at = |name| [field, &[name]].concat();
    let Some(folder) = declared.place.file.parent().join(&source.context) else {
        let message = format!("`{}` leaves the repository", source.context);
        findings.error(&at("context"), "outside-repository", message, "name a folder of this repository");
        return None;
    };
    let snapshot = context.snapshot;
    if let Some(entry) = snapshot.files.get(&folder) {
        if files::regular(entry.mode) {
            let message = format!("`{folder}` is a file, and a build context is a folder");
            findings.error(
                &at("context"),
                "no-such-folder",
                message,
                "name the folder that holds the Dockerfile",
            );
        } else {
            files::special(&at("context"), &folder, entry.mode, findings);
        }
        return None;
    }
    if snapshot.under(&folder).next().is_none() {
        files::absent(snapshot, &at("context"), &folder, "folder", findings);
        return None;
    }
    let ignored = folder
        .join(".dockerignore")
        .and_then(|path| snapshot.files.get(&path))
        .and_then(|entry| context.resolutions.blobs.get(&entry.id))
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let dockerfile = folder.join(&source.dockerfile).and_then(|path| inside(&folder, &path));
    let Some(dockerfile) = dockerfile else {
        let message = format!("`{}` is not inside the context `{folder}`", source.dockerfile);
        findings.error(
            &at("dockerfile"),
            "outside-context",
            message,
            "name it relative to the context, or choose a context that holds it",
        );
        return None;
    };
    let mut listing = build::context::list(snapshot, &folder, ignored.as_deref(), &dockerfile);
    // A lock says what was built, so it cannot be part of that.
    listing
        .files
        .retain(|path, _| folder.join(path.as_str()).is_none_or(|path| !context.manifest.is_lock(&path)));
    for (path, mode) in listing.refused.iter().take(MAX_REFUSED) {
        files::special(&at("context"), path, *mode, findings);
    }
    let Some(_) = listing.files.get(&dockerfile) else {
        let path = folder.join(&source.dockerfile)?;
        files::absent(snapshot, &at("dockerfile"), &path, "file", findings);
        return None;
    };
    Some(Arc::new(BuildSpec::of_folder(
        declared.id(),
        source,
        dockerfile,
        listing.files,
        settings(context, runner),
    )))
}

/// Links and submodules of one context that are told of; the rest is like them.
const MAX_REFUSED: usize = 5;

/// The path below a folder.
fn inside(folder: &RepoPath, path: &RepoPath) -> Option<RepoPath> {
    if folder.as_str().is_empty() {
        return Some(path.clone());
    }
    RepoPath::parse(path.as_str().strip_prefix(folder.as_str())?.strip_prefix('/')?)
}

/// How an address of a repository is reached.
fn local(url: &str) -> bool {
    url.starts_with("file:") || url.starts_with(['/', '.', '~'])
}

fn git(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    spec: &ServerSpec,
    source: &GitSource,
    runner: &Runner,
    findings: &mut Findings<'_>,
) -> Option<Arc<BuildSpec>> {
    let field = ["source", "git", "url"];
    let url = &source.url;
    let scp = || {
        url.split_once(':')
            .is_some_and(|(host, path)| !host.contains('/') && host.contains('@') && !path.starts_with('/'))
    };
    if local(url) {
        if !context.floor.local_git {
            let hint = "name it by https or ssh, or start the daemon with `--allow-local-git`";
            let message =
                format!("`{url}` is a path of the daemon's machine, which its operator does not allow");
            findings.error(&field, "floor-local-git", message, hint);
        }
    } else if !["https://", "ssh://"].iter().any(|scheme| url.starts_with(scheme)) && !scp() {
        let message = format!("`{url}` is not an address over https or ssh");
        findings.error(
            &field,
            "invalid-value",
            message,
            "write `https://host/path.git` or `git@host:path.git`",
        );
    }
    let base = base(context, source.base.as_ref(), Ecosystem::Python, findings);
    if findings.failed() {
        return None;
    }
    let pin = pin::pinned(context.manifest, declared).and_then(|pin| pin.commit.clone()).map(Ok);
    let answer =
        pin.as_ref().or_else(|| context.resolutions.git.get(&(url.clone(), source.reference.clone())));
    let commit = match answer {
        None => {
            findings.pending = true;
            return None;
        }
        Some(Err(why)) => {
            let message = format!("`{}` of `{url}` cannot be found: {why}", source.reference);
            findings.error(
                &["source", "git", "ref"],
                "git-unavailable",
                message,
                "check the address, the ref and the credentials",
            );
            return None;
        }
        Some(Ok(commit)) => commit.clone(),
    };
    let recipe = build::GitRecipe { source, commit, base: base?, transport: &spec.transport };
    Some(Arc::new(BuildSpec::of_git(declared.id(), recipe, settings(context, runner))))
}

fn package(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    source: &PackageSource,
    ecosystem: Ecosystem,
    runner: &Runner,
    findings: &mut Findings<'_>,
) -> Option<Arc<BuildSpec>> {
    let base = base(context, source.base.as_ref(), ecosystem, findings)?;
    let recipe = PackageRecipe { source, ecosystem, base };
    Some(Arc::new(BuildSpec::of_package(declared.id(), &recipe, settings(context, runner))))
}

/// The image to build on: the source's, else the Crib's.
fn base(
    context: &Context<'_>,
    own: Option<&String>,
    ecosystem: Ecosystem,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let images = &context.crib.defaults.images;
    let (field, default, kind) = match ecosystem {
        Ecosystem::Python => ("python", &images.python, "Python"),
        Ecosystem::Node => ("node", &images.node, "Node"),
    };
    let base = own.or(default.as_ref());
    if base.is_none() {
        let message = format!("no image with {kind} is named to build on");
        let hint = format!("name one in `base`, or for all in `defaults.images.{field}` of the `Crib`");
        findings.error(&["source"], "no-base-image", message, &hint);
    }
    base.cloned()
}
