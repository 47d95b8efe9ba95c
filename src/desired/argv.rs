//! Placeholders to argument vectors. No shell is ever added.
//!
//! Input: `command`, `args` and `stdin` of a `Tool` and the properties of its input schema. Output:
//! a checked [`Command`], and with the arguments of a call the final argv. Invariant: one
//! placeholder fills one element, unless it spreads an array or its parameter says `split: words`;
//! what a caller sends can become an option only where the author allowed it. Not here: checking
//! arguments against the schema.

mod fill;
mod template;
mod words;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::manifest::suggest::nearest;
use crate::resource::tool::ArgTemplate;

pub use fill::{ArgvError, Filled, MAX_BYTES, MAX_ELEMENTS, MAX_STDIN, fill};
use template::Piece;
pub(in crate::desired) use template::{Template, parse};

/// A command with its placeholders, checked against the parameters when it was compiled.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Command {
    /// The program and its fixed arguments; never a placeholder.
    pub command: Vec<String>,
    elements: Vec<Element>,
    stdin: Option<Template>,
    /// Parameters with `split: words`.
    split: BTreeSet<String>,
    /// Parameters with `allowDash`.
    allow_dash: BTreeSet<String>,
    /// What stands in for an argument that was not given.
    defaults: BTreeMap<String, Value>,
}

/// One entry of `args`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Always(Template),
    When { parameter: String, templates: Vec<Template> },
}

/// What is wrong with a command as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Below `spec`: `args[2]`, `args[1].args[0]`, `command[0]`, `stdin` or `parameters.city.split`.
    pub field: String,
    /// The name between `${` and `}`, when one is to blame.
    pub placeholder: Option<String>,
    /// A sentence without its full stop.
    pub message: String,
    /// The next step, a sentence without its full stop.
    pub hint: Option<String>,
}

/// Checks a command against the properties of its input schema.
///
/// Of each property are read `type`, `default`, `split` (`words`) and `allowDash`.
///
/// # Errors
/// All problems there are: unknown or unclosed placeholders, arrays where one element stands,
/// placeholders in `command`.
pub fn compile(
    command: &[String],
    args: &[ArgTemplate],
    stdin: Option<&str>,
    properties: &Map<String, Value>,
) -> Result<Command, Vec<Problem>> {
    let mut compiler = Compiler { properties, problems: Vec::new(), split: BTreeSet::new() };
    compiler.check_command(command);
    let (split, allow_dash) = compiler.flags();
    compiler.split.clone_from(&split);
    let elements = args.iter().enumerate().map(|(at, arg)| compiler.element(at, arg)).collect();
    let stdin = stdin.map(|text| compiler.stdin(text));
    let defaults = properties
        .iter()
        .filter_map(|(name, schema)| Some((name.clone(), schema.get("default")?.clone())))
        .filter(|(_, value)| !value.is_null())
        .collect();
    if !compiler.problems.is_empty() {
        return Err(compiler.problems);
    }
    Ok(Command { command: command.to_vec(), elements, stdin, split, allow_dash, defaults })
}

struct Compiler<'a> {
    properties: &'a Map<String, Value>,
    problems: Vec<Problem>,
    split: BTreeSet<String>,
}

impl Compiler<'_> {
    fn problem(&mut self, field: &str, placeholder: Option<&str>, message: String, hint: &str) {
        self.problems.push(Problem {
            field: field.to_owned(),
            placeholder: placeholder.map(str::to_owned),
            message,
            hint: Some(hint.to_owned()),
        });
    }

    fn check_command(&mut self, command: &[String]) {
        for (at, element) in command.iter().enumerate() {
            let field = format!("command[{at}]");
            if element.contains('\0') {
                self.problem(&field, None, format!("`{field}` holds a NUL"), "remove it");
            }
            let held =
                template::parse(element).ok().and_then(|parsed| parsed.names().next().map(str::to_owned));
            if let Some(name) = held.filter(|name| self.properties.contains_key(name)) {
                let message = format!("`command` is fixed, but holds the placeholder `${{{name}}}`");
                self.problem(&field, Some(&name), message, "move the element to `args`");
            }
        }
    }

    /// Parameters with `split: words`, and with `allowDash: true`.
    fn flags(&mut self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut split, mut allow_dash) = (BTreeSet::new(), BTreeSet::new());
        for (name, schema) in self.properties {
            match schema.get("split") {
                None => {}
                Some(Value::String(how)) if how == "words" && !is_compound(schema) => {
                    split.insert(name.clone());
                }
                Some(_) => {
                    let message = format!("`split` of parameter `{name}` cannot be used so");
                    let field = format!("parameters.{name}.split");
                    self.problem(&field, None, message, "write `split: words` on a parameter of type string");
                }
            }
            match schema.get("allowDash") {
                None | Some(Value::Bool(false)) => {}
                Some(Value::Bool(true)) => {
                    allow_dash.insert(name.clone());
                }
                Some(_) => {
                    let message = format!("`allowDash` of parameter `{name}` is neither true nor false");
                    self.problem(
                        &format!("parameters.{name}.allowDash"),
                        None,
                        message,
                        "write `allowDash: true`",
                    );
                }
            }
        }
        (split, allow_dash)
    }

    fn element(&mut self, at: usize, arg: &ArgTemplate) -> Element {
        match arg {
            ArgTemplate::Text(text) => Element::Always(self.argument(&format!("args[{at}]"), text)),
            ArgTemplate::When { parameter, args } => {
                self.known(&format!("args[{at}].if"), parameter);
                let inner =
                    |(nth, text): (usize, &String)| self.argument(&format!("args[{at}].args[{nth}]"), text);
                let templates = args.iter().enumerate().map(inner).collect();
                Element::When { parameter: parameter.clone(), templates }
            }
        }
    }

    fn argument(&mut self, field: &str, text: &str) -> Template {
        let template = self.parse(field, text);
        if text.contains('\0') {
            self.problem(field, None, format!("`{field}` holds a NUL"), "remove it");
        }
        let alone = template.pieces.len() == 1;
        for piece in &template.pieces {
            match piece {
                Piece::Literal(_) => {}
                Piece::Value(name) => self.value(field, name, alone),
                Piece::Spread(name) => self.spread(field, name, alone),
            }
        }
        template
    }

    fn value(&mut self, field: &str, name: &str, alone: bool) {
        let Some(schema) = self.known(field, name) else { return };
        if is_compound(schema) {
            let message = format!("`${{{name}}}` fills one element, but `{name}` is an array or an object");
            self.problem(
                field,
                Some(name),
                message,
                &format!("write `${{{name}...}}` to spread an array over several"),
            );
        }
        if !alone && self.split.contains(name) {
            let message = format!("`{name}` is split in words, but `${{{name}}}` stands inside other text");
            self.problem(field, Some(name), message, "make the placeholder an element of its own");
        }
    }

    fn spread(&mut self, field: &str, name: &str, alone: bool) {
        let Some(schema) = self.known(field, name) else { return };
        let kind = schema.get("type").and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "array") {
            let message = format!("`${{{name}...}}` spreads an array, but `{name}` is none");
            self.problem(
                field,
                Some(name),
                message,
                &format!("write `${{{name}}}`, or declare `type: array`"),
            );
        }
        if !alone {
            let message = format!("`${{{name}...}}` stands inside other text");
            self.problem(field, Some(name), message, "make the placeholder an element of its own");
        }
    }

    fn stdin(&mut self, text: &str) -> Template {
        let template = self.parse("stdin", text);
        for piece in &template.pieces {
            match piece {
                Piece::Literal(_) => {}
                Piece::Value(name) => {
                    self.known("stdin", name);
                }
                Piece::Spread(name) => {
                    let message = format!("`${{{name}...}}` cannot be spread in `stdin`");
                    let hint = format!("write `${{{name}}}`: it becomes JSON text");
                    self.problem("stdin", Some(name), message, &hint);
                }
            }
        }
        template
    }

    fn parse(&mut self, field: &str, text: &str) -> Template {
        template::parse(text).unwrap_or_else(|error| {
            self.problem(
                field,
                error.placeholder.as_deref(),
                error.message,
                "write `$${` for the characters `${`",
            );
            Template::default()
        })
    }

    /// The schema of a parameter; a problem when there is none.
    fn known(&mut self, field: &str, name: &str) -> Option<&Value> {
        if !self.properties.contains_key(name) {
            let known = || self.properties.keys().map(String::as_str);
            let same = known().find(|known| known.eq_ignore_ascii_case(name));
            let hint = match same.map(|same| (same, true)).or_else(|| Some((nearest(name, known())?, false)))
            {
                Some((same, true)) => format!("the parameter is called `{same}`"),
                Some((near, false)) => format!("did you mean `{near}`?"),
                None if self.properties.is_empty() => format!("declare `parameters.{name}`"),
                None => {
                    let names: Vec<_> = self.properties.keys().map(|known| format!("`{known}`")).collect();
                    format!("declare `parameters.{name}`, or use one of {}", names.join(", "))
                }
            };
            self.problem(field, Some(name), format!("there is no parameter `{name}`"), &hint);
        }
        self.properties.get(name)
    }
}

/// Whether the schema says that values are arrays or objects, and nothing else.
fn is_compound(schema: &Value) -> bool {
    matches!(schema.get("type").and_then(Value::as_str), Some("array" | "object"))
}
