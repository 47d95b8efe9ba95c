//! How grave a log message is, and which of them a client wants.

/// Severities of `notifications/message`, lowest first (RFC 5424).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

/// Which log messages a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// It never said, so that the server may choose (2025-11-25, `server/utilities/logging`).
    Unsaid,
    /// Those of this severity and above.
    From(Severity),
}

impl Severity {
    const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// Its name as a JSON string.
    pub fn as_json(self) -> &'static str {
        match self {
            Self::Debug => "\"debug\"",
            Self::Info => "\"info\"",
            Self::Notice => "\"notice\"",
            Self::Warning => "\"warning\"",
            Self::Error => "\"error\"",
            Self::Critical => "\"critical\"",
            Self::Alert => "\"alert\"",
            Self::Emergency => "\"emergency\"",
        }
    }

    /// By its name. None: there is no such severity.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_json().trim_matches('"') == name)
    }
}

impl Logs {
    /// The lowest severity that is let through.
    pub fn lowest(self) -> Severity {
        match self {
            Self::Unsaid => Severity::Debug,
            Self::From(severity) => severity,
        }
    }
}
