//! `policy eval`: what rules decide about a question, and why.

#![expect(clippy::disallowed_methods, reason = "the file a person names is read")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::call::arguments;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::render::{Table, harmless};
use crate::cli::validate::{self, Loaded};
use crate::config::Settings;
use crate::daemon;
use crate::desired::{Desired, Location, Runner, Server};
use crate::manifest::suggest;
use crate::policy::{Answer, Decision, PolicySet, Principal, Subject, SubjectKind, admit, annotations};
use crate::ports::judged;
use crate::reconcile::rules_of;
use crate::resource::crib::Role;
use crate::resource::policy::Point;
use crate::resource::{Name, ResourceId, Spec};

/// Bytes of a question: a call and its arguments.
const MAX_INPUT: u64 = 8 << 20;

/// Show what the rules decide about a call, and why.
///
/// Reads the rules and the tools of the work tree, or with --ref of a commit; asks no daemon and runs
/// nothing. A tool of a server is known by the server's name before its own; what it says of itself
/// (annotations) is known only where it runs.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| crate::cli::hide(arg, &["listen", "admin", "public_url", "state", "interval", "name", "worktree"])))]
#[command(after_help = "Examples:
  toolcrib policy eval kubectl command='get pods' --user dan --group developers
  toolcrib policy eval kubectl --role developer --point list
  toolcrib policy eval Server/weather --point admission
  toolcrib policy eval --input question.json --point call
  toolcrib policy eval kubectl --output json | jq .input > question.json")]
pub(in crate::cli) struct Eval {
    /// A published tool, or for admission `Kind/name`.
    #[arg(value_name = "TOOL", required_unless_present = "input")]
    tool: Option<String>,
    /// Arguments of the call, as `call` takes them.
    #[arg(value_name = "KEY=VALUE")]
    pairs: Vec<String>,
    /// Who asks [default: local].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A group of who asks; can be repeated [default: local, when no user is named].
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A role of the `Crib`: whoever asks is in its groups, too; can be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The same as KEY=VALUE; can be repeated.
    #[arg(long = "arg", value_name = "KEY=VALUE")]
    args: Vec<String>,
    /// The runner, where it is not the declared one that is meant.
    #[arg(long, value_name = "NAME", value_parser = Name::parse)]
    runner: Option<Name>,
    /// Where the rules are asked.
    #[arg(long, value_enum, default_value_t = At::Call, value_name = "POINT")]
    point: At,
    /// The whole question as JSON, from a file or `-`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tool", "user", "groups", "roles", "pairs", "args", "runner"])]
    input: Option<PathBuf>,
    /// End with code 1 when it is refused or hidden.
    #[arg(long)]
    fail: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum At {
    Admission,
    List,
    Call,
}

impl From<At> for Point {
    fn from(at: At) -> Self {
        match at {
            At::Admission => Self::Admission,
            At::List => Self::List,
            At::Call => Self::Call,
        }
    }
}

impl Eval {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let point = Point::from(self.point);
        let (_, loaded) = validate::open(self.settings.clone(), None, context).await?;
        let rules = rules(&loaded)?;
        let question = match &self.input {
            Some(file) => read(file)?,
            None => self.question(point, &loaded)?,
        };
        let said = if rules.remotes(point).next().is_some() {
            judged(&*daemon::judge(&context.environment)?, &rules, point, &question).await
        } else {
            Vec::new()
        };
        let (decision, answers) = rules.explain(point, &question, &said);
        let hidden = point == Point::List && decision.hides();
        let told = json!({
            "point": point,
            "allowed": decision.allowed,
            "hidden": hidden,
            "decision": decision,
            "answers": answers,
            "input": question,
        });
        context.out.print(&told, || harmless(&text(self.point, &decision, &answers, &question, &loaded)))?;
        let refused = if point == Point::List { hidden } else { !decision.allowed };
        Ok(if self.fail && refused { Exit::Failure } else { Exit::Success })
    }

    /// The document that rules would see.
    fn question(&self, point: Point, loaded: &Loaded) -> CliResult<Value> {
        let name = self.tool.as_deref().unwrap_or_default();
        if point == Point::Admission {
            return admission(name, loaded);
        }
        let user = self.principal(loaded)?;
        let (subject, definition) = subject(name, &loaded.desired)?;
        let runner = match &self.runner {
            Some(name) => Some(runner(name, &loaded.desired)?),
            None => subject.runner,
        };
        let annotations = definition.and_then(annotations);
        let resource = subject.resource();
        let subject = Subject {
            name,
            resource: &resource,
            kind: subject.kind,
            annotations: annotations.as_ref(),
            runner,
        };
        if point == Point::List {
            return Ok(subject.listed(&user));
        }
        let definition: Value =
            definition.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let args =
            arguments::parse(&[self.pairs.as_slice(), &self.args].concat(), &definition["inputSchema"])?;
        Ok(subject.called(&user, &args))
    }

    fn principal(&self, loaded: &Loaded) -> CliResult<Principal> {
        let anybody = self.user.is_none() && self.groups.is_empty() && self.roles.is_empty();
        let mut groups = if anybody { vec!["local".to_owned()] } else { self.groups.clone() };
        let cribs = loaded.manifest.resources.values().filter_map(|declared| match &declared.spec {
            Spec::Crib(crib) => Some(&crib.roles),
            _ => None,
        });
        let declared: BTreeMap<&String, &Role> = cribs.flatten().collect();
        for name in &self.roles {
            let role = declared
                .get(name)
                .ok_or_else(|| unknown_role(name, declared.keys().map(|name| name.as_str())))?;
            groups.extend(role.groups.iter().filter(|group| !self.groups.contains(group)).cloned());
        }
        Ok(Principal {
            name: self.user.clone().unwrap_or_else(|| "local".to_owned()),
            groups,
            scopes: Vec::new(),
        })
    }
}

fn unknown_role<'a>(name: &str, declared: impl Iterator<Item = &'a str>) -> CliError {
    let names: Vec<_> = declared.map(|name| format!("`{name}`")).collect();
    let hint = if names.is_empty() {
        "declare roles in the `Crib`: `roles: {developer: {groups: [dev]}}`".to_owned()
    } else {
        format!("the roles are {}", names.join(", "))
    };
    CliError::usage(format!("no role `{name}` is declared")).hint(hint)
}

/// A tool as far as manifests know it.
struct Found<'a> {
    kind: SubjectKind<'a>,
    runner: Option<&'a Runner>,
}

impl Found<'_> {
    fn resource(&self) -> String {
        match self.kind {
            SubjectKind::Tool(tool) => tool.id.to_string(),
            SubjectKind::Server(server) => server.id.to_string(),
        }
    }
}

/// The tool of that name with its definition, or the server whose tool it would be.
fn subject<'a>(name: &str, desired: &'a Desired) -> CliResult<(Found<'a>, Option<&'a str>)> {
    let on = |name: &Name| desired.runners.get(name).map(|runner| &**runner);
    if let Some(tool) = desired.tools.values().find(|tool| tool.published == name) {
        let found = Found { kind: SubjectKind::Tool(tool), runner: on(&tool.runner) };
        return Ok((found, Some(&tool.definition)));
    }
    let servers = desired.servers.values().filter(|server| !server.prefix.is_empty());
    let server =
        servers.filter(|server| name.starts_with(&server.prefix)).max_by_key(|server| server.prefix.len());
    let server: &Server = server.ok_or_else(|| {
        let near = suggest::nearest(name, desired.tools.values().map(|tool| tool.published.as_str()));
        let hint = near.map_or_else(
            || "`toolcrib get tools` lists the tools that are declared".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        CliError::usage(format!("no tool `{name}` is declared")).hint(hint)
    })?;
    let runner = match &server.location {
        Location::Runner(workload) => on(&workload.runner),
        Location::Remote { .. } => None,
    };
    Ok((Found { kind: SubjectKind::Server(server), runner }, None))
}

fn runner<'a>(name: &Name, desired: &'a Desired) -> CliResult<&'a Runner> {
    desired.runners.get(name).map(|runner| &**runner).ok_or_else(|| {
        let names: Vec<_> = desired.runners.keys().map(|name| format!("`{name}`")).collect();
        CliError::usage(format!("there is no runner `{name}`"))
            .hint(format!("the runners are {}", names.join(", ")))
    })
}

fn admission(name: &str, loaded: &Loaded) -> CliResult<Value> {
    let id = ResourceId::parse(name)
        .ok_or_else(|| CliError::usage(format!("`{name}` is not Kind/name")).hint("write Tool/kubectl"))?;
    admit::question(&id, &loaded.manifest, &loaded.desired)
        .ok_or_else(|| CliError::usage(format!("there is no server or tool `{id}`")))
}

fn rules(loaded: &Loaded) -> CliResult<PolicySet> {
    let sources = loaded.desired.policies.values().map(|source| rules_of(source)).collect();
    PolicySet::compile(sources).map_err(|found| {
        let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n");
        CliError::failure("the rules do not compile").detail(Some(text)).hint("`toolcrib validate` says more")
    })
}

fn read(file: &Path) -> CliResult<Value> {
    let named = file.display();
    let failed =
        |error: std::io::Error| CliError::failure(format!("failed to read `{named}`")).caused_by(&error);
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_INPUT).read_to_string(&mut text).map_err(failed)?;
    } else {
        let open = std::fs::File::open(file).map_err(failed)?;
        open.take(MAX_INPUT).read_to_string(&mut text).map_err(failed)?;
    }
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| CliError::usage(format!("`{named}` is not JSON")).caused_by(&error))?;
    if value.is_object() { Ok(value) } else { Err(CliError::usage(format!("`{named}` is no JSON object"))) }
}

fn text(at: At, decision: &Decision, answers: &[Answer], question: &Value, loaded: &Loaded) -> String {
    let outcome = match (at, decision.allowed) {
        (At::List, _) if decision.hides() => "hidden",
        (At::List, _) => "shown",
        (At::Admission, true) => "admitted",
        (_, true) => "allowed",
        (_, false) => "refused",
    };
    let mut text = format!("{outcome}\n");
    // Writing to a string cannot fail.
    for (refusals, what) in [(&decision.refusals, ""), (&decision.audited, "only audited: ")] {
        for refusal in refusals {
            let _ = writeln!(text, "  {what}{refusal}");
            if let Some(policy) = loaded.desired.policies.get(&refusal.policy.name) {
                let _ = writeln!(text, "  declared at {}", policy.place);
            }
        }
    }
    if let Some(runners) = &decision.allowed_runners {
        let names: Vec<_> = runners.iter().map(String::as_str).collect();
        let _ = writeln!(text, "  runners: {}", names.join(", "));
    }
    if answers.is_empty() {
        text.push_str("  no policy is asked here\n");
    } else {
        let mut table = Table::new(["POLICY", "RULE", "ANSWER"]);
        for answer in answers {
            let said = match (&answer.error, &answer.value) {
                (Some(error), _) => format!("error: {error}"),
                (None, Some(value)) => value.to_string(),
                (None, None) => "undefined".to_owned(),
            };
            table.row([&answer.policy.to_string(), &answer.rule, &said]);
        }
        let _ = write!(text, "\n{}", table.text());
    }
    for line in answers.iter().flat_map(|answer| &answer.printed) {
        let _ = writeln!(text, "print: {line}");
    }
    let asked = serde_json::to_string_pretty(question).unwrap_or_default();
    let _ = write!(text, "\nasked: {asked}\n");
    text
}
