//! What can be declared, as data: a JSON Schema of every kind, explanations of single fields, and pages.
//!
//! Input: the types of [`crate::resource`] with their comments. Output: JSON Schema 2020-12 for editors,
//! [`Field`]s for `toolcrib explain`, Markdown for `schemas/`. Invariant: there is one source, the types;
//! a comment says "Default: …" and "Example: `…`" where there are any. Nothing here is kept in memory: a
//! schema is made when somebody asks. Not here: reading documents ([`crate::manifest`]).

mod comment;
mod explain;
mod page;
mod schema;
#[cfg(test)]
mod tests;

pub use explain::{Field, Unknown, find};
pub use page::{first_sentence, index, page};
pub use schema::{any, file_name, kind};
