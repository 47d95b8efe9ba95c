//! Annotations: the lines by which a job of GitHub Actions marks lines of a pull request.
//!
//! The form and its escapes are those of GitHub's workflow commands.

use std::fmt::Write as _;

use crate::manifest::{Diagnostic, Severity};

/// One line for each diagnostic, in their order.
pub(super) fn annotations(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let command = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut properties = Vec::new();
        if let Some(place) = &diagnostic.place {
            properties.push(format!("file={}", property(place.file.as_str())));
            properties.push(format!("line={}", place.line));
            properties.push(format!("col={}", place.column));
        }
        properties.push(format!("title={}", property(diagnostic.code)));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "::{command} {}::{}", properties.join(","), data(&sentences(diagnostic)));
    }
    text
}

/// What is wrong, of which resource, and what next.
pub(super) fn sentences(diagnostic: &Diagnostic) -> String {
    let mut text = diagnostic.message.clone();
    if let Some(resource) = &diagnostic.resource {
        let _ = write!(text, " ({resource})");
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = write!(text, "\nhelp: {hint}");
    }
    text
}

/// A message: what would end the line or begin an escape is escaped.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property: likewise, and what would end it.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Place, RepoPath};

    #[test]
    fn nothing_in_a_diagnostic_ends_its_line_or_its_property() {
        let file = RepoPath::parse("a,b/c:d 100%.yaml").unwrap();
        let diagnostics = [
            Diagnostic::error("unknown-field", "there is no field `a::b,\r\nc` here: 100%")
                .at(Place { file, line: 3, column: 5 }, None)
                .hint("did you mean `x`?"),
            Diagnostic::warning("long-name", "too long"),
        ];
        assert_eq!(
            annotations(&diagnostics),
            "::error file=a%2Cb/c%3Ad 100%25.yaml,line=3,col=5,title=unknown-field::there is no field \
             `a::b,%0D%0Ac` here: 100%25%0Ahelp: did you mean `x`?\n\
             ::warning title=long-name::too long\n"
        );
    }
}
