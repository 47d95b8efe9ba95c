//! A `Tool` with everything it takes to run and to list it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::context::{Context, LEAST_MEMORY};
use super::place::Findings;
use super::{Digests, Runner, Tool, argv, egress, limits, needs, pin, schema, volumes};
use crate::build::BuildSpec;
use crate::manifest::{Declared, Diagnostic};
use crate::resource::runner::RunnerKind;
use crate::resource::tool::{ArgTemplate, Isolation, ToolSpec};
use crate::resource::workload::{Egress, Mounts, Security};
use crate::resource::{Digest, Memory};

/// Characters of a published name: what every client takes.
pub(super) const MAX_NAME: usize = 64;
/// Characters beyond which a client that puts its own prefix before a name may pass [`MAX_NAME`].
pub(super) const LONG_NAME: usize = 48;
/// Of stdout and stderr each, where nothing else is said.
const MAX_OUTPUT: Memory = Memory(1 << 20);
/// The most output a tool may ask for: it is held in memory until the call ends.
const MOST_OUTPUT: Memory = Memory(64 << 20);

pub(super) fn tool(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    spec: &ToolSpec,
    findings: &mut Findings<'_>,
) -> Option<Tool> {
    let published = published(context, declared, spec, findings);
    let input = schema::input(spec, findings);
    let command = command(spec, &input.properties, findings);
    let contained = spec.image.is_some() || spec.build.is_some();
    let kind = if contained { RunnerKind::Docker } else { RunnerKind::Process };
    let runner = context.runner(spec.runner.as_ref(), kind, findings);
    let security = context.security(spec.security.as_ref(), findings);
    let mut limits = context.limits(&spec.resources);
    bounds(spec, limits.memory, findings);
    ahead(spec, contained, &security, findings);
    let runner = runner?;
    limits::fit(&mut limits, &spec.resources, &runner, &security, findings);
    let (build, image) = image(context, declared, spec, &runner, findings)?;
    let files = match &image {
        None => super::files::of_command(context, declared, &["command"], &spec.command, findings),
        Some(_) => None,
    };
    let (env, mounted) =
        needs::merge(context, declared, &spec.integrations, (&spec.env, &spec.files), findings);
    let volumes = volumes::mounts(&spec.volumes, runner.kind, &security, &mounted, findings);
    let egress = egress::allowed(context, &runner, (&spec.egress, &spec.integrations), findings);
    let command = command?;
    if findings.failed() || findings.pending {
        return None;
    }
    let definition: Arc<str> = definition(spec, &published, input.schema).into();
    let dir = declared.place.file.parent().to_string();
    let workload = Digest::of(
        "tool",
        &Ingredients {
            runner: runner.name.as_str(),
            image: &image,
            build: build.as_ref().map(|build| build.digest),
            command: &spec.command,
            args: &spec.args,
            stdin: spec.stdin.as_deref(),
            properties: &input.properties,
            volumes: &volumes,
            egress: &egress,
            rest: (&env, &mounted, &dir, &limits, &security, files),
        },
    );
    let offer = Digest::of("definition", &*definition);
    Some(Tool {
        id: declared.id(),
        place: declared.place.clone(),
        labels: declared.metadata.labels.clone(),
        digests: Digests { build: build.as_ref().map(|build| build.digest), workload, offer },
        build,
        runner: runner.name.clone(),
        published,
        definition,
        image,
        command,
        env,
        files: mounted,
        dir,
        limits,
        security,
        volumes: Arc::new(volumes),
        egress,
        timeout: context.timeout(spec.timeout),
        max_output: spec.max_output.unwrap_or(MAX_OUTPUT).0,
        success_exit_codes: spec.success_exit_codes.clone().unwrap_or_else(|| vec![0]),
        concurrency: spec.concurrency,
        warm: spec.warm,
        isolation: spec.isolation,
        tests: spec.tests.iter().cloned().collect(),
    })
}

/// What is built for it, and the image it runs in; none on a process runner.
type Made = (Option<Arc<BuildSpec>>, Option<(String, Option<String>)>);

fn image(
    context: &Context<'_>,
    declared: &Arc<Declared>,
    spec: &ToolSpec,
    runner: &Runner,
    findings: &mut Findings<'_>,
) -> Option<Made> {
    let build = match &spec.build {
        Some(source) => Some(super::server::build(context, declared, &["build"], source, runner, findings)?),
        None => None,
    };
    let image = match (&spec.image, &build) {
        (Some(reference), _) => {
            let asked = pin::image(context.manifest, declared, reference);
            Some((reference.clone(), context.image(&["image"], &runner.name, asked, findings)))
        }
        (None, Some(build)) => Some((build.tag.clone(), None)),
        (None, None) => None,
    };
    Some((build, image))
}

/// What a tool's workload digest is made of.
#[derive(Serialize)]
struct Ingredients<'a, Rest: Serialize> {
    runner: &'a str,
    image: &'a Option<(String, Option<String>)>,
    build: Option<Digest>,
    command: &'a [String],
    args: &'a [ArgTemplate],
    stdin: Option<&'a str>,
    properties: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Mounts::is_empty")]
    volumes: &'a Mounts,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    egress: &'a [Egress],
    rest: Rest,
}

fn published(
    context: &Context<'_>,
    declared: &Declared,
    spec: &ToolSpec,
    findings: &mut Findings<'_>,
) -> String {
    let own = || format!("{}{}", context.crib.naming.prefix, declared.metadata.name);
    let name = spec.publish_as.clone().unwrap_or_else(own);
    let length = name.len();
    if length > MAX_NAME {
        let message =
            format!("the published name `{name}` has {length} characters, and {MAX_NAME} are allowed");
        findings.error(&["publishAs"], "long-name", message, "give it a shorter name with `publishAs`");
    } else if length > LONG_NAME {
        let message = format!(
            "the published name `{name}` has {length} characters; clients put their own prefix before it"
        );
        let warning = Diagnostic::warning("long-name", message);
        findings.add(&["publishAs"], warning.hint(format!("keep it within {LONG_NAME}")));
    }
    name
}

fn bounds(spec: &ToolSpec, memory: Memory, findings: &mut Findings<'_>) {
    if memory < LEAST_MEMORY {
        let message = format!("no container starts with {memory} of memory");
        findings.error(
            &["resources", "memory"],
            "invalid-value",
            message,
            &format!("give it at least {LEAST_MEMORY}"),
        );
    }
    if spec.max_output.is_some_and(|most| most > MOST_OUTPUT) {
        let message =
            format!("output is held in memory until the call ends, and at most {MOST_OUTPUT} of it");
        findings.error(&["maxOutput"], "invalid-value", message, &format!("write {MOST_OUTPUT} or less"));
    }
}

/// Whether what is declared of containers that are started ahead can be held.
fn ahead(spec: &ToolSpec, contained: bool, security: &Security, findings: &mut Findings<'_>) {
    let again = spec.isolation != Isolation::Call;
    if !contained && spec.warm > 0 {
        let message = "nothing is started ahead of calls on a process runner";
        findings.error(
            &["warm"],
            "warm-not-held",
            message,
            "give the tool an image or a build, or remove it",
        );
    }
    if !contained && again {
        let message = "a process is of one call: on a process runner there is nothing to use again";
        findings.error(
            &["isolation"],
            "warm-not-held",
            message,
            "give the tool an image or a build, or remove it",
        );
    }
    if !contained || !again {
        return;
    }
    if spec.warm == 0 {
        let message = "no container is used again: `warm` is 0";
        findings.error(&["isolation"], "warm-not-held", message, "write `warm: 1` or more, or remove it");
    }
    let user = security.user.split(':').next().unwrap_or_default();
    let why = match (security.read_only_root, user) {
        (false, _) => "its root can be written (`readOnlyRoot: false`)",
        (true, "" | "0" | "root") => "its user is root",
        (true, _) => return,
    };
    let message = format!("a container cannot be cleaned between two calls when {why}");
    findings.error(
        &["isolation"],
        "warm-not-held",
        message,
        "change that in `security`, or remove `isolation`",
    );
}

/// The command, checked against the parameters, and the parameters against the command.
fn command(
    spec: &ToolSpec,
    properties: &Map<String, Value>,
    findings: &mut Findings<'_>,
) -> Option<argv::Command> {
    for name in properties.keys().filter(|name| !used(spec, name)) {
        let warning = Diagnostic::warning("unused-parameter", format!("the parameter `{name}` goes nowhere"));
        let hint = format!("put `${{{name}}}` in `args` or `stdin`, or remove the parameter");
        let field = if spec.parameters.is_some() { "parameters" } else { "inputSchema" };
        let path: &[&str] = if field == "parameters" { &[field, name] } else { &[field, "properties", name] };
        findings.add(path, warning.hint(hint));
    }
    match argv::compile(&spec.command, &spec.args, spec.stdin.as_deref(), properties) {
        Ok(command) => Some(command),
        Err(problems) => {
            for problem in problems {
                let argv::Problem { field, placeholder: _, message, hint } = problem;
                let path = steps(&field, spec);
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let fault = Diagnostic::error("placeholder", message);
                findings.add(&path, Diagnostic { hint, ..fault });
            }
            None
        }
    }
}

/// Whether anything of the command takes the parameter.
fn used(spec: &ToolSpec, name: &str) -> bool {
    let (one, many) = (format!("${{{name}}}"), format!("${{{name}...}}"));
    let takes = |text: &str| text.contains(&one) || text.contains(&many);
    let arg = |arg: &ArgTemplate| match arg {
        ArgTemplate::Text(text) => takes(text),
        ArgTemplate::When { parameter, args } => parameter == name || args.iter().any(|text| takes(text)),
    };
    spec.args.iter().any(arg)
        || spec.stdin.as_deref().is_some_and(takes)
        || spec.command.iter().any(|text| takes(text))
}

/// `args[1].args[0]` to the steps of a path; a parameter's name may itself hold dots.
fn steps(field: &str, spec: &ToolSpec) -> Vec<String> {
    if let Some(rest) = field.strip_prefix("parameters.") {
        let (name, key) = rest.rsplit_once('.').unwrap_or((rest, ""));
        let mut path: Vec<String> = if spec.parameters.is_some() {
            vec!["parameters".to_owned()]
        } else {
            vec!["inputSchema".to_owned(), "properties".to_owned()]
        };
        path.extend([name.to_owned(), key.to_owned()]);
        return path;
    }
    field.split(['.', '[', ']']).filter(|step| !step.is_empty()).map(str::to_owned).collect()
}

/// The MCP definition: its bytes depend on nothing but the resource.
fn definition(spec: &ToolSpec, name: &str, input: Value) -> String {
    let mut definition = Map::new();
    let mut put = |key: &str, value: Value| definition.insert(key.to_owned(), value);
    put("name", Value::String(name.to_owned()));
    if let Some(title) = &spec.title {
        put("title", Value::String(title.clone()));
    }
    put("description", Value::String(spec.description.trim_end().to_owned()));
    put("inputSchema", input);
    if let Some(output) = &spec.output_schema {
        put("outputSchema", output.clone());
    }
    if let Some(annotations) = &spec.annotations {
        put("annotations", Value::Object(annotations.clone()));
    }
    Value::Object(definition).to_string()
}
