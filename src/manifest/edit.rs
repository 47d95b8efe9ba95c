//! One scalar of a file replaced, and every other byte left as it was.

use super::{Declared, document};

impl Declared {
    /// The file's text with the scalar at `path` replaced. None when `old` does not stand there on one
    /// line, plain or in quotes: an alias, a block or an escape is nothing to edit blindly.
    pub fn replaced(&self, path: &[&str], old: &str, new: &str) -> Option<String> {
        let (line, column) = document::locate(&self.text, self.document, path)?;
        let start: usize =
            self.text.split_inclusive('\n').take((line as usize).checked_sub(1)?).map(str::len).sum();
        let rest = self.text.get(start..)?;
        let inside = rest.char_indices().nth((column as usize).checked_sub(1)?).map(|(at, _)| at)?;
        let at = start + inside;
        let scalar = self.text.get(at..)?;
        let quote = scalar.chars().next().filter(|c| matches!(c, '"' | '\''));
        let opened = quote.map_or(0, char::len_utf8);
        let after = scalar.get(opened..)?.strip_prefix(old)?;
        let whole = match quote {
            Some(quote) => after.starts_with(quote),
            None => after.is_empty() || after.starts_with([' ', '\t', '\r', '\n', ',', '}', ']']),
        };
        let (before, rest) = (self.text.get(..at + opened)?, after);
        whole.then(|| format!("{before}{new}{rest}"))
    }
}
