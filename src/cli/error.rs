//! Errors as people read them: what failed, why, and what next.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use super::exit::Exit;
use super::render::harmless;
use crate::config::ConfigError;
use crate::daemon::DaemonError;
use crate::ports::PortError;
use crate::telemetry::progress;

pub type CliResult<T> = Result<T, CliError>;

/// Why a command did not succeed.
#[derive(Debug)]
pub struct CliError {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    detail: Option<String>,
    exit: Exit,
    /// Whoever read our output went away: no error.
    silent: bool,
}

/// Lines of a build's log and the like that are shown.
const MAX_DETAIL_LINES: usize = 40;

impl CliError {
    pub fn failure(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            detail: None,
            exit: Exit::Failure,
            silent: false,
        }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failure(message) }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds an error and all its causes.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            self.causes.push(error.to_string());
            cause = error.source();
        }
        self
    }

    #[must_use]
    pub fn cause(mut self, text: impl Into<String>) -> Self {
        self.causes.push(text.into());
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    pub fn exit(&self) -> Exit {
        if self.silent { Exit::Success } else { self.exit }
    }

    /// Prints the error to standard error; parts of it may be of servers, which control no terminal.
    pub fn report(&self) {
        if !self.silent {
            // There is nowhere else to say it.
            let text = harmless(&self.text());
            let _ = progress::interject(|| std::io::stderr().lock().write_all(text.as_bytes()));
        }
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        // Writing to a string cannot fail.
        match self.causes.as_slice() {
            [] => {}
            [cause] => {
                let _ = writeln!(text, "caused by: {cause}");
            }
            causes => {
                text.push_str("caused by:\n");
                for (index, cause) in causes.iter().enumerate() {
                    let _ = writeln!(text, "  {}. {cause}", index + 1);
                }
            }
        }
        if let Some(detail) = &self.detail {
            let lines: Vec<&str> = detail.lines().collect();
            let from = lines.len().saturating_sub(MAX_DETAIL_LINES);
            if from > 0 {
                let _ = writeln!(text, "  | ({from} lines before)");
            }
            for line in &lines[from..] {
                let _ = writeln!(text, "  | {line}");
            }
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }
}

impl From<std::io::Error> for CliError {
    /// Of writing to standard output.
    fn from(error: std::io::Error) -> Self {
        let silent = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { silent, ..Self::failure("failed to write the output").caused_by(&error) }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let mut made = Self::usage(error.to_string());
        if let Some(cause) = error.source() {
            made = made.caused_by(cause);
        }
        made.hint = error.next_step().map(str::to_owned);
        made
    }
}

impl From<PortError> for CliError {
    fn from(error: PortError) -> Self {
        let mut made = Self::failure(error.operation.clone()).detail(error.detail.clone());
        if let Some(cause) = error.source() {
            made = made.caused_by(cause);
        }
        made.hint = error.hint;
        made
    }
}

impl From<DaemonError> for CliError {
    fn from(error: DaemonError) -> Self {
        let mut made = Self::failure(error.to_string());
        if let Some(cause) = error.source() {
            made = made.caused_by(cause);
        }
        made.hint = error.hint;
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_why_and_what_next() {
        let inner = PortError::retry("connection refused");
        let middle = PortError::retry("failed to reach `host`").caused_by(inner);
        let error = PortError::retry("failed to fetch").caused_by(middle).hint("look at the network");
        assert_eq!(
            CliError::from(error).text(),
            "error: failed to fetch\ncaused by:\n  1. failed to reach `host`\n  2. connection refused\nhint: look at the network\n"
        );
        let log = (0..50).fold(String::new(), |log, line| format!("{log}line {line}\n"));
        let text = CliError::failure("x").detail(Some(log)).text();
        assert!(
            text.contains("(10 lines before)") && text.contains("| line 49") && !text.contains("line 9\n")
        );
        let closed = CliError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(closed.exit(), Exit::Success);
    }
}
