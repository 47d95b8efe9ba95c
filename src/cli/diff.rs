//! `diff`: what a change of the repository changes for those who use it.

use std::path::Path;
use std::sync::Arc;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::render::Format;
use super::validate::{load, locate, read};
use crate::config::{Config, Repository, Settings};
use crate::daemon::source;
use crate::desired::{self, Desired};
use crate::manifest::{BlobId, Diagnostic, Manifest, Snapshot};
use crate::policy::PolicySet;
use crate::policy::admit::Admission;
use crate::ports::Source;
use crate::reconcile::rules_of;
use crate::review::{self, OPEN, Review, Side, markdown, plain};

/// The forms in which it is printed.
pub(super) const FORMATS: &[Format] = &[Format::Text, Format::Json, Format::Markdown];

/// What `--fail-on` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// A caller of a tool may have to be changed.
    Breaking,
    /// Something may do more than before.
    Widening,
    /// A text holds what a person does not see.
    HiddenText,
    /// A text gives the model orders.
    InstructsModel,
    /// The new revision has errors.
    Errors,
}

/// Show what a change of the repository changes for models, callers and machines.
///
/// Compares two revisions as declared: what needs a careful look (images, privileges, secrets, networks,
/// rules), text that hides something or gives a model orders, tools with every change of what a model
/// reads, who may call what, and resources field by field. It needs nothing but the repository: what
/// servers offer is read from their locks. With one revision, compares it with HEAD; with none, HEAD with
/// the work tree.
#[derive(Debug, clap::Args)]
#[command(mut_args(|arg| super::hide(arg, &["listen", "admin", "public_url", "interval", "name", "reference", "allow_process", "allow_privileges", "allow_local_git"])))]
#[command(after_help = "Examples:
  toolcrib diff                               uncommitted edits
  toolcrib diff main                          main against HEAD
  toolcrib diff main...feature                what a branch adds since it left main
  toolcrib diff v1.0 v1.1 --path tools
  toolcrib diff origin/main... --output markdown > comment.md
  toolcrib diff HEAD~1 --fail-on widening --fail-on hidden-text")]
pub(super) struct Diff {
    /// One or two revisions: `A`, `A B`, `A..B`, or `A...B` from where they parted.
    #[arg(value_name = "REV", num_args = 0..=2)]
    revisions: Vec<String>,
    /// End with code 3 when anything changed.
    #[arg(long)]
    exit_code: bool,
    /// End with code 1 when the change has this; can be given several times.
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    fail_on: Vec<FailOn>,
    #[command(flatten)]
    settings: Settings,
}

/// One side as it was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Revision(String),
    /// Where two parted.
    Base(String, String),
    /// Uncommitted edits.
    WorkTree,
}

/// One side, read and resolved.
struct Read {
    name: String,
    snapshot: Snapshot,
    manifest: Manifest,
    desired: Desired,
    policies: Option<Arc<PolicySet>>,
    diagnostics: Vec<Diagnostic>,
    refused: bool,
}

impl Diff {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let asked = asked(&self.revisions, self.settings.worktree == Some(true))?;
        let mut settings = self.settings;
        (settings.reference, settings.worktree) = (None, None);
        if settings.repo.is_none() {
            let (repo, inside) = locate(Path::new("."))?;
            let path = settings.path.take().map(|path| path.trim_matches('/').to_owned());
            settings.repo = Some(repo);
            settings.path = Some(path.unwrap_or(inside));
        }
        let mut settings = settings.over(context.file.clone());
        (settings.reference, settings.worktree) = (None, None);
        let before = Read::of(asked.0, &settings, context, None).await?;
        let after = Read::of(asked.1, &settings, context, Some(&before)).await?;
        let review = review::review(&before.side(None), &after.side(before.policies.as_deref()));
        match context.out.format() {
            Format::Markdown => context.out.text(&markdown::render(&review))?,
            _ => context.out.print(&review, || plain::render(&review))?,
        }
        if let Some(error) = self.fail_on.iter().find_map(|what| refusal(*what, &review)) {
            return Err(error);
        }
        Ok(if self.exit_code && review.summary.changed { Exit::ChangesPending } else { Exit::Success })
    }
}

/// Why the command ends with a failure, when it does.
fn refusal(what: FailOn, review: &Review) -> Option<CliError> {
    let found = &review.summary;
    let (count, says) = match what {
        FailOn::Breaking => (found.breaking, "may break callers"),
        FailOn::Widening => (found.widening, "may do more than before"),
        FailOn::HiddenText => (found.hidden_text, "holds text that a person does not see"),
        FailOn::InstructsModel => (found.instructs_model, "holds text that gives a model orders"),
        FailOn::Errors => (found.errors, "has errors"),
    };
    let plural = if count == 1 { "place" } else { "places" };
    (count > 0).then(|| {
        CliError::failure(format!("the change {says} in {count} {plural}"))
            .hint("look at what is told above; whoever agrees to it leaves out this --fail-on")
    })
}

/// What two sides the arguments mean, as users of Git expect.
fn asked(revisions: &[String], worktree: bool) -> CliResult<(Asked, Asked)> {
    let revision =
        |text: &str| Asked::Revision(if text.is_empty() { "HEAD".to_owned() } else { text.to_owned() });
    let end = |text: &str| if worktree { Asked::WorkTree } else { revision(text) };
    match revisions {
        [] => Ok((Asked::Revision("HEAD".to_owned()), Asked::WorkTree)),
        [one] => {
            let ranged = one
                .split_once("...")
                .map(|parts| (parts, true))
                .or_else(|| one.split_once("..").map(|parts| (parts, false)));
            match ranged {
                Some(_) if worktree => Err(CliError::usage("a range and --worktree exclude each other")
                    .hint("name one revision: it is compared with the work tree")),
                Some(((from, to), true)) => {
                    let or_head = |text: &str| if text.is_empty() { "HEAD" } else { text }.to_owned();
                    Ok((Asked::Base(or_head(from), or_head(to)), revision(to)))
                }
                Some(((from, to), false)) => Ok((revision(from), revision(to))),
                None => Ok((revision(one), end("HEAD"))),
            }
        }
        [from, to] if !worktree => {
            if [from, to].iter().any(|text| text.contains("..")) {
                return Err(CliError::usage("a range stands alone").hint("write `A..B`, or `A B`"));
            }
            Ok((revision(from), revision(to)))
        }
        _ => Err(CliError::usage("two revisions and --worktree exclude each other")
            .hint("name one revision: it is compared with the work tree")),
    }
}

impl Read {
    async fn of(
        asked: Asked,
        settings: &Settings,
        context: &Context,
        before: Option<&Self>,
    ) -> CliResult<Self> {
        let mut settings = settings.clone();
        let config = Config::new(&settings, context.environment.clone())?;
        let name = match &asked {
            Asked::WorkTree => "work tree".to_owned(),
            Asked::Revision(text) | Asked::Base(text, _) => text.clone(),
        };
        match (&config.repository, asked) {
            (_, Asked::WorkTree) => settings.worktree = Some(true),
            (Repository::Local(path), Asked::Revision(text)) => {
                settings.reference = Some(source::commit(path, &text)?);
            }
            (Repository::Local(path), Asked::Base(one, other)) => {
                settings.reference = Some(source::merge_base(path, &one, &other)?);
            }
            (Repository::Remote(_), Asked::Revision(text)) if text == "HEAD" => {}
            (Repository::Remote(_), Asked::Revision(text)) => settings.reference = Some(text),
            (Repository::Remote(_), Asked::Base(..)) => {
                return Err(CliError::usage(
                    "where two branches parted is in the history, which is not fetched",
                )
                .hint("compare with two dots, or clone the repository and compare there"));
            }
        }
        let config = Config::new(&settings, context.environment.clone())?;
        let opened = source::open(&config)?;
        let source: &dyn Source = &*opened;
        let snapshot = source.fetch().await?;
        let manifest = load(source, &snapshot, before.map(|before| &before.manifest)).await?;
        let mut answers = review::answers(desired::questions(&manifest, &snapshot, &OPEN), &manifest);
        let wanted: Vec<BlobId> = desired::blobs(&manifest, &snapshot).into_iter().collect();
        answers.blobs.extend(read(source, &wanted).await?);
        // As a daemon that served the old revision would take the new one.
        let previous = before.map(|before| &before.desired);
        let resolved = desired::resolve(&manifest, &snapshot, &answers, &OPEN, previous);
        let mut diagnostics = manifest.diagnostics.clone();
        diagnostics.extend(resolved.diagnostics);
        let mut desired = resolved.desired;
        let rules = desired.policies.values().map(|source| rules_of(source)).collect();
        let (policies, refused) = match PolicySet::compile(rules) {
            Ok(policies) => {
                let policies = Arc::new(policies);
                diagnostics.extend(Admission::default().admit(&policies, &manifest, &mut desired));
                (Some(policies), resolved.refused)
            }
            Err(found) => {
                diagnostics.extend(found);
                (None, true)
            }
        };
        diagnostics.sort();
        diagnostics.dedup();
        Ok(Self { name, snapshot, manifest, desired, policies, diagnostics, refused })
    }

    /// `served`: the rules that stay when those of this side cannot be used.
    fn side<'a>(&'a self, served: Option<&'a PolicySet>) -> Side<'a> {
        Side {
            name: &self.name,
            snapshot: &self.snapshot,
            manifest: &self.manifest,
            desired: &self.desired,
            policies: self.policies.as_deref().or(served),
            diagnostics: &self.diagnostics,
            refused: self.refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_understood_as_git_does() {
        let revision = |text: &str| Asked::Revision(text.to_owned());
        let base = |a: &str, b: &str| Asked::Base(a.to_owned(), b.to_owned());
        for (args, worktree, expected) in [
            (&[][..], false, (revision("HEAD"), Asked::WorkTree)),
            (&["a"], false, (revision("a"), revision("HEAD"))),
            (&["a"], true, (revision("a"), Asked::WorkTree)),
            (&["a", "b"], false, (revision("a"), revision("b"))),
            (&["a..b"], false, (revision("a"), revision("b"))),
            (&["a.."], false, (revision("a"), revision("HEAD"))),
            (&["..b"], false, (revision("HEAD"), revision("b"))),
            (&["a...b"], false, (base("a", "b"), revision("b"))),
            (&["a..."], false, (base("a", "HEAD"), revision("HEAD"))),
        ] {
            let args: Vec<String> = args.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(asked(&args, worktree).unwrap(), expected, "{args:?}");
        }
        let wrong = |args: &[&str], worktree| {
            let args: Vec<String> = args.iter().map(|text| (*text).to_owned()).collect();
            asked(&args, worktree).unwrap_err().exit()
        };
        assert_eq!(wrong(&["a..b"], true), Exit::Usage);
        assert_eq!(wrong(&["a", "b"], true), Exit::Usage);
        assert_eq!(wrong(&["a..b", "c"], false), Exit::Usage);
    }
}
