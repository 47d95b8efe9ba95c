//! What a request is sent on with: what came, under the server's own names.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::mcp::wire::{WireError, raw};

/// Parameters as they came, but for what they are about, which may have a name of the server's own. It
/// is written when the message is, so that they are not written twice.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    given: &'a RawValue,
    renamed: Option<(&'static str, &'a str)>,
}

impl<'a> Params<'a> {
    /// As they came. `null` is as good as none.
    pub fn of(given: &'a RawValue) -> Self {
        Self { given, renamed: None }
    }

    /// With another string as the value of `key`.
    pub fn renamed_to(given: &'a RawValue, key: &'static str, own: &'a str) -> Self {
        Self { given, renamed: Some((key, own)) }
    }

    /// The same names, in parameters that were changed elsewhere.
    #[must_use]
    pub fn with<'b>(&self, given: &'b RawValue) -> Params<'b>
    where
        'a: 'b,
    {
        Params { given, renamed: self.renamed }
    }

    /// As they came.
    pub fn given(&self) -> &'a RawValue {
        self.given
    }

    pub(super) fn renamed(&self) -> Option<(&'static str, &'a str)> {
        self.renamed
    }

    /// The value of a member that is a string.
    pub(super) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        match self.renamed {
            Some((changed, own)) if changed == key => Some(Cow::Borrowed(own)),
            _ => raw::get_str(self.given, key),
        }
    }

    /// Written out.
    ///
    /// # Errors
    /// When they are no object.
    pub fn whole(&self) -> Result<Cow<'a, RawValue>, WireError> {
        match self.renamed {
            Some((key, own)) => raw::set_str(self.given, key, own).map(Cow::Owned),
            None => Ok(Cow::Borrowed(self.given)),
        }
    }
}
