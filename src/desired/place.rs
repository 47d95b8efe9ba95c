//! Faults of resolving, as they gather.

use std::sync::Arc;

use crate::manifest::{Declared, Diagnostic};

/// What is found out about one resource while it is resolved.
pub(super) struct Findings<'d> {
    declared: &'d Arc<Declared>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// An answer is missing that was not given yet.
    pub(super) pending: bool,
}

impl<'d> Findings<'d> {
    pub(super) fn new(declared: &'d Arc<Declared>) -> Self {
        Self { declared, diagnostics: Vec::new(), pending: false }
    }

    /// Adds a diagnostic at a field below `spec`.
    pub(super) fn add(&mut self, path: &[&str], diagnostic: Diagnostic) {
        let path: Vec<&str> = std::iter::once("spec").chain(path.iter().copied()).collect();
        self.diagnostics.push(self.declared.point(diagnostic, &path));
    }

    pub(super) fn error(
        &mut self,
        path: &[&str],
        code: &'static str,
        message: impl Into<String>,
        hint: &str,
    ) {
        self.add(path, Diagnostic::error(code, message).hint(hint));
    }

    pub(super) fn failed(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}
