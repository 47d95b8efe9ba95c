//! How an operation of the world fails.

/// Whether trying again without a change can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Back off and try again.
    Retry,
    /// Wait for a new revision.
    Stalled,
}

/// A failed operation of an adapter: what failed, its cause in `source`, and what next.
#[derive(Debug, thiserror::Error)]
#[error("{operation}")]
pub struct PortError {
    /// "failed to pull image `x`".
    pub operation: String,
    pub disposition: Disposition,
    /// The next step for a person, when one is known.
    pub hint: Option<String>,
    /// The log of a failed build and the like, bounded by whoever made it.
    pub detail: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    pub fn retry(operation: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            disposition: Disposition::Retry,
            hint: None,
            detail: None,
            source: None,
        }
    }

    pub fn stalled(operation: impl Into<String>) -> Self {
        Self { disposition: Disposition::Stalled, ..Self::retry(operation) }
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The operation and every cause, joined with `: `.
    pub fn chain(&self) -> String {
        let mut text = self.operation.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

pub type PortResult<T> = Result<T, PortError>;
