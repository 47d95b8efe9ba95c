//! What the daemon says about itself: log lines and metrics.
//!
//! Input: events of `tracing` and calls to [`Metrics`]. Output: lines on standard error, and one
//! page in OpenMetrics; records of calls on the disk. Invariant: a secret is never handed to either. Not here: status, which is
//! data of its own.

pub mod journal;
pub mod metrics;
pub mod progress;

use std::error::Error;
use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use journal::Journal;
pub use metrics::Metrics;
pub use progress::Show;

/// What is logged unless said otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// `text` or `json`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{filter}` is not a level or filter")]
    Filter {
        filter: String,
        #[source]
        cause: tracing_subscriber::filter::ParseError,
    },
    #[error("logging is set up already")]
    Twice,
}

/// Sends events to standard error from now on, for the whole process, and shows work under way.
///
/// # Errors
/// When `filter` cannot be read, or when this was called before.
pub fn init(filter: &str, format: LogFormat, show: Show) -> Result<(), LogError> {
    let parsed =
        EnvFilter::try_new(filter).map_err(|cause| LogError::Filter { filter: filter.to_owned(), cause })?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(|| progress::Beside);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(terminal).with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let is_work = |metadata: &tracing::Metadata<'_>| metadata.target() == progress::TARGET;
    let set = if show == Show::Nothing {
        // Spans of work would be written before each event in them, and say the same.
        tracing_subscriber::registry()
            .with(lines)
            .with(parsed)
            .with(filter_fn(move |it| !is_work(it)))
            .try_init()
    } else {
        let shown = progress::Shown(progress::Board::install(show)).with_filter(filter_fn(is_work));
        let log = lines.with_filter(parsed.and(filter_fn(move |metadata| !is_work(metadata))));
        tracing_subscriber::registry().with(log).with(shown).try_init()
    };
    set.map_err(|_| LogError::Twice)
}

/// An error and all its causes in one line, joined with `: `. What is already in the line before is
/// not repeated.
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::PortError;

    #[test]
    fn chain_names_every_cause_once() {
        let inner = PortError::retry("connection refused");
        let outer = PortError::retry("failed to pull image `x`").caused_by(inner);
        assert_eq!(ErrorChain(&outer).to_string(), "failed to pull image `x`: connection refused");
        let echo = PortError::retry("failed: no such file")
            .caused_by(PortError::retry("no such file").caused_by(PortError::retry("root")));
        assert_eq!(ErrorChain(&echo).to_string(), "failed: no such file: root");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = init("loud=very=much", LogFormat::Text, Show::Nothing).unwrap_err();
        assert!(error.to_string().contains("`loud=very=much`"), "{error}");
    }
}
