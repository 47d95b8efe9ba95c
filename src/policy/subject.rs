//! One published tool, as rules are asked about it. Lists, calls and `policy eval` ask the same way.

use serde_json::{Map, Value};

use super::{EntryFacts, Input, Principal, RunnerFacts, ToolFacts};
use crate::desired::{Location, Program, Runner, Server, Tool, argv};

/// What is known of a tool before anybody calls it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The published name.
    pub name: &'a str,
    /// `Tool/kubectl` or `Server/weather`.
    pub resource: &'a str,
    pub kind: SubjectKind<'a>,
    pub annotations: Option<&'a Map<String, Value>>,
    /// Where it runs, when it runs on a runner.
    pub runner: Option<&'a Runner>,
}

/// Whose tool it is.
#[derive(Clone, Copy, Debug)]
pub enum SubjectKind<'a> {
    Tool(&'a Tool),
    Server(&'a Server),
}

impl Subject<'_> {
    /// For lists: neither arguments nor runner are known.
    pub fn listed(&self, user: &Principal) -> Value {
        let facts = self.facts();
        let entry =
            EntryFacts { kind: "tool", name: facts.name, resource: facts.resource, server: facts.server };
        Input { entry: Some(entry), tool: Some(facts), user: Some(user), runner: None }.document()
    }

    /// For a call: with its arguments, the argument vector they fill, and the runner.
    pub fn called(&self, user: &Principal, given: &Map<String, Value>) -> Value {
        let argv = match self.kind {
            SubjectKind::Tool(tool) => argv::fill(&tool.command, given).ok().map(|filled| filled.argv),
            SubjectKind::Server(_) => None,
        };
        let runner = self.runner.map(|runner| RunnerFacts {
            name: runner.name.as_str(),
            kind: runner.kind.as_str(),
            attributes: &runner.attributes,
        });
        let tool = ToolFacts { args: Some(given), argv: argv.as_deref(), ..self.facts() };
        Input { entry: None, tool: Some(tool), user: Some(user), runner }.document()
    }

    fn facts(&self) -> ToolFacts<'_> {
        ToolFacts {
            name: self.name,
            resource: self.resource,
            server: match self.kind {
                SubjectKind::Tool(_) => None,
                SubjectKind::Server(server) => Some(server.id.name.as_str()),
            },
            image: self.image(),
            annotations: self.annotations,
            args: None,
            argv: None,
        }
    }

    fn image(&self) -> Option<&str> {
        match self.kind {
            SubjectKind::Tool(tool) => tool.image.as_ref().map(|(reference, _)| reference.as_str()),
            SubjectKind::Server(server) => match &server.location {
                Location::Runner(workload) => match &workload.program {
                    Program::Image { reference, .. } => Some(reference),
                    Program::Command { .. } => None,
                },
                Location::Remote { .. } => None,
            },
        }
    }
}

/// What rules are asked about a prompt, resource or template that a list may hold.
pub fn listed(entry: EntryFacts<'_>, user: &Principal) -> Value {
    Input { entry: Some(entry), user: Some(user), ..Input::default() }.document()
}

/// `annotations` of an MCP definition.
pub fn annotations(definition: &str) -> Option<Map<String, Value>> {
    #[derive(serde::Deserialize)]
    struct Annotated {
        annotations: Option<Map<String, Value>>,
    }
    serde_json::from_str::<Annotated>(definition).ok()?.annotations
}
