//! Faults of a JSON Schema, in words.

use serde_json::Value;

use super::suggest::nearest;
use crate::schema::dialect::{self, Problem};

/// The types of JSON Schema.
pub const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

/// A fault of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaProblem {
    /// Keys and indices from the top of the schema on.
    pub path: Vec<String>,
    /// Whether it is about a type that is none.
    pub of_type: bool,
    pub message: String,
    pub hint: String,
}

/// What is wrong in a schema, by the draft it names.
pub fn problems(schema: &Value) -> Vec<SchemaProblem> {
    let words = |fault: dialect::Fault| {
        let of_type = matches!(fault.problem, Problem::NotAType(_));
        let (message, hint) = words(fault.problem, fault.path.last().map_or("", String::as_str));
        SchemaProblem { path: fault.path, of_type, message, hint }
    };
    dialect::faults(schema).into_iter().map(words).collect()
}

fn words(problem: Problem, last: &str) -> (String, String) {
    match problem {
        Problem::Dialect(named) => (
            format!("`{named}` is not a dialect of JSON Schema that is known"),
            "remove `$schema`, or name `https://json-schema.org/draft/2020-12/schema`".to_owned(),
        ),
        Problem::NotAType(kind) => (format!("`{kind}` is not a type"), type_hint(&kind)),
        Problem::NotASchema if last == "items" => (
            "`items` is one schema, of every item".to_owned(),
            "write a mapping such as `{type: string}`; a schema for each item is `prefixItems`".to_owned(),
        ),
        Problem::NotASchema => (
            "this is not a schema".to_owned(),
            "write a mapping such as `{type: string}`, or `true` for anything".to_owned(),
        ),
        Problem::Value { keyword, .. } if keyword == "required" => (
            "`required` does not list names of properties".to_owned(),
            "write `required: [name, …]` beside the `properties` it is about".to_owned(),
        ),
        Problem::Value { keyword, why } => (
            format!("`{keyword}` does not take this: {why}"),
            format!("correct it, as JSON Schema says of `{keyword}`"),
        ),
        Problem::Pattern(pattern) => (
            format!("`{pattern}` is not a regular expression"),
            "write one as JavaScript has them; what stands for itself is escaped with `\\`".to_owned(),
        ),
        Problem::NoTarget(reference) => (
            format!("`{reference}` leads to nothing"),
            "declare it below `$defs`, or correct the reference".to_owned(),
        ),
        Problem::Outside(reference) => (
            format!("`{reference}` is outside of the schema, and nothing is fetched"),
            "copy what it names below `$defs`, and refer to it as `#/$defs/NAME`".to_owned(),
        ),
        Problem::Unusable(why) => (
            format!("the schema cannot be used: {why}"),
            "correct it, as JSON Schema 2020-12 says".to_owned(),
        ),
    }
}

/// What somebody meant who wrote this as a type.
pub fn type_hint(kind: &str) -> String {
    let meant = match kind {
        "str" | "text" => Some("string"),
        "int" => Some("integer"),
        "float" | "double" => Some("number"),
        "bool" => Some("boolean"),
        "list" => Some("array"),
        "map" | "dict" => Some("object"),
        other => nearest(other, TYPES),
    };
    match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the types are {}", TYPES.join(", ")),
    }
}
