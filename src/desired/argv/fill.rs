//! A checked command and the arguments of a call to the final argv.

use serde_json::{Map, Value};

use super::template::{Piece, Template};
use super::{Command, Element, words};

/// Elements of one argv. Real commands have hundreds at most; beyond this somebody spreads data.
pub const MAX_ELEMENTS: usize = 4096;
/// Bytes of one argv, terminators included. Linux takes no single string above 128 KiB.
pub const MAX_BYTES: usize = 128 << 10;
/// Bytes of standard input made from a template, which may repeat a large argument.
pub const MAX_STDIN: usize = 16 << 20;

/// What a call runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// `command`, then `args`.
    pub argv: Vec<String>,
    /// How many of the first elements are `command`.
    pub fixed: usize,
    pub stdin: Option<String>,
}

/// Why arguments do not make an argv. Names parameters, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgvError {
    #[error("placeholder `${{{0}}}` has no argument: give `{0}`")]
    Missing(String),
    #[error("`{0}` is an array or an object and cannot fill one argument")]
    Compound(String),
    #[error("`{0}` is not an array of strings, numbers and booleans and cannot be spread over arguments")]
    NotSpreadable(String),
    #[error(
        "`{0}` begins with `-` and would be taken for an option; the tool's author can put `--` before it or \
         say `allowDash: true`"
    )]
    Dash(String),
    #[error("`{0}` holds a NUL character, which no argument can")]
    Nul(String),
    #[error("`{0}` cannot be split in words: a quote is not closed")]
    Words(String),
    #[error("the command would have more than {MAX_ELEMENTS} arguments")]
    TooMany,
    #[error("the command would be longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("standard input would be longer than {MAX_STDIN} bytes")]
    StdinTooLong,
}

/// Fills every placeholder from `arguments`, or else from the defaults.
///
/// An element that is nothing but `${x}` is left out when `x` has no value; `{if: x, …}` when `x`
/// has none or is `false`. `null` is no value.
///
/// # Errors
/// When an argument is missing, or cannot stand where its placeholder stands.
pub fn fill(command: &Command, arguments: &Map<String, Value>) -> Result<Filled, ArgvError> {
    let mut filler = Filler { command, arguments, argv: Vec::new(), bytes: 0, after_dashes: false };
    for element in &command.command {
        filler.literal(element.clone())?;
    }
    for element in &command.elements {
        match element {
            Element::Always(template) => filler.template(template)?,
            Element::When { parameter, templates } => {
                if filler.value(parameter).is_some_and(|value| *value != Value::Bool(false)) {
                    for template in templates {
                        filler.template(template)?;
                    }
                }
            }
        }
    }
    let stdin = command.stdin.as_ref().map_or(Ok(None), |template| filler.stdin(template))?;
    Ok(Filled { argv: filler.argv, fixed: command.command.len(), stdin })
}

struct Filler<'a> {
    command: &'a Command,
    arguments: &'a Map<String, Value>,
    argv: Vec<String>,
    bytes: usize,
    /// Whether a literal `--` was pushed.
    after_dashes: bool,
}

impl<'a> Filler<'a> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        let given = self.arguments.get(name).filter(|value| !value.is_null());
        given.or_else(|| self.command.defaults.get(name))
    }

    fn template(&mut self, template: &Template) -> Result<(), ArgvError> {
        match &*template.pieces {
            [] => self.literal(String::new()),
            [Piece::Literal(text)] => self.literal(text.clone()),
            [Piece::Spread(name)] => self.spread(name),
            [Piece::Value(name)] => {
                let Some(value) = self.value(name) else { return Ok(()) };
                let text = scalar(value).ok_or_else(|| ArgvError::Compound(name.clone()))?;
                if !self.command.split.contains(name) {
                    return self.filled(text, Some(name));
                }
                let words = words::split(&text).ok_or_else(|| ArgvError::Words(name.clone()))?;
                words.into_iter().try_for_each(|word| self.filled(word, Some(name)))
            }
            pieces => self.mixed(pieces),
        }
    }

    fn spread(&mut self, name: &str) -> Result<(), ArgvError> {
        let Some(value) = self.value(name) else { return Ok(()) };
        let not_spreadable = || ArgvError::NotSpreadable(name.to_owned());
        for item in value.as_array().ok_or_else(not_spreadable)? {
            self.filled(scalar(item).ok_or_else(not_spreadable)?, Some(name))?;
        }
        Ok(())
    }

    /// Text and placeholders in one element. Who gives the first character answers for a dash.
    fn mixed(&mut self, pieces: &[Piece]) -> Result<(), ArgvError> {
        let mut text = String::new();
        let mut first = None;
        for piece in pieces {
            let (name, part) = match piece {
                Piece::Literal(literal) => (None, literal.clone()),
                Piece::Value(name) | Piece::Spread(name) => {
                    let value = self.value(name).ok_or_else(|| ArgvError::Missing(name.clone()))?;
                    (Some(name), scalar(value).ok_or_else(|| ArgvError::Compound(name.clone()))?)
                }
            };
            if let Some(name) = name.filter(|_| part.contains('\0')) {
                return Err(ArgvError::Nul(name.clone()));
            }
            if text.is_empty() && !part.is_empty() {
                first = name;
            }
            text.push_str(&part);
            if text.len() > MAX_BYTES {
                return Err(ArgvError::TooLong);
            }
        }
        self.filled(text, first.map(String::as_str))
    }

    fn literal(&mut self, text: String) -> Result<(), ArgvError> {
        self.after_dashes |= text == "--";
        self.push(text)
    }

    /// An element whose first character came from parameter `name`, if from any.
    fn filled(&mut self, text: String, name: Option<&str>) -> Result<(), ArgvError> {
        if let Some(name) = name {
            if text.contains('\0') {
                return Err(ArgvError::Nul(name.to_owned()));
            }
            if text.starts_with('-') && !self.after_dashes && !self.command.allow_dash.contains(name) {
                return Err(ArgvError::Dash(name.to_owned()));
            }
        }
        self.push(text)
    }

    fn push(&mut self, text: String) -> Result<(), ArgvError> {
        self.bytes += text.len() + 1;
        if self.bytes > MAX_BYTES {
            return Err(ArgvError::TooLong);
        }
        if self.argv.len() >= MAX_ELEMENTS {
            return Err(ArgvError::TooMany);
        }
        self.argv.push(text);
        Ok(())
    }

    /// Standard input: none when it is nothing but a placeholder without a value. Arrays and
    /// objects become JSON text.
    fn stdin(&self, template: &Template) -> Result<Option<String>, ArgvError> {
        if let [Piece::Value(name)] = &*template.pieces
            && self.value(name).is_none()
        {
            return Ok(None);
        }
        let mut text = String::new();
        for piece in &template.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value(name) | Piece::Spread(name) => {
                    let value = self.value(name).ok_or_else(|| ArgvError::Missing(name.clone()))?;
                    text.push_str(&scalar(value).unwrap_or_else(|| value.to_string()));
                }
            }
            if text.len() > MAX_STDIN {
                return Err(ArgvError::StdinTooLong);
            }
        }
        Ok(Some(text))
    }
}

/// The text of a string, number or boolean.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
