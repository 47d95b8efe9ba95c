//! What to do about an error of the library, for people who write Rego for the first time or wrote it before
//! version 1.

use crate::manifest::suggest::nearest;
use crate::resource::policy::RegoVersion;

/// The next step; `line` is the one that the error names, as far as it has text.
pub(super) fn of(message: &str, line: &str, package: &str, version: RegoVersion) -> Option<String> {
    let old = "or set `regoVersion: v0` if the module is that old";
    let trimmed = line.trim();
    let text = if message == "not a valid rule path" {
        "write the answer as one rule, such as `deny contains \"why\" if { … }`, not as `deny[…]` or `deny.part`"
            .to_owned()
    } else if message.contains("`if` keyword") {
        match set(trimmed) {
            Some((name, member)) => format!("write `{name} contains {member} if {{`, {old}"),
            None => format!("write `if` before the body, {old}"),
        }
    } else if message.contains("Missing package") {
        format!("begin the module with the line `package {package}`")
    } else if let Some(name) = undefined(message) {
        match nearest(name, ["input", "data", "true", "false"]) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "quote it if it is a text, `\"{name}\"`; else give it a value before, with `some` or `:=`"
            ),
        }
    } else if message.contains("must have a body") {
        if trimmed.contains(" or ") || trimmed.contains("||") {
            "there is no `or`: write the rule twice, once for each case".to_owned()
        } else {
            "write `name if { … }`, `name contains value if { … }` or `name := value`".to_owned()
        }
    } else if trimmed.contains("&&") {
        "there is no `&&`: every line of a body has to hold, and `;` parts them on one line".to_owned()
    } else if trimmed.contains("||") {
        "there is no `||`: write the rule twice, once for each case".to_owned()
    } else if message == "invalid character" && trimmed.contains('\'') {
        "write texts in double quotes".to_owned()
    } else if message.contains("invalid character in string") {
        "close the text with a double quote on the same line, or begin and end it with a backquote".to_owned()
    } else if message.contains("cannot be shadowed") {
        "this is no rule: conditions stand in the body of one, between `{` and `}`".to_owned()
    } else if message.contains("expecting `}`") {
        "a `{` above is not closed".to_owned()
    } else if version == RegoVersion::V0 {
        "the module is read as Rego v0: set `regoVersion: v1` if it is newer".to_owned()
    } else {
        return None;
    };
    Some(text)
}

/// `deny[msg] {`, as sets were written before version 1: the name and the member.
fn set(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once('[')?;
    let (member, after) = rest.split_once(']')?;
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    (word(name) && word(member) && after.trim_start().starts_with('{')).then_some((name, member))
}

/// The name in ``use of undefined variable `x` is unsafe``.
fn undefined(message: &str) -> Option<&str> {
    message.strip_prefix("use of undefined variable `")?.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_before_version_one_are_known() {
        for (line, expected) in [
            ("deny[msg] {", Some(("deny", "msg"))),
            ("deny[msg] { input.x }", Some(("deny", "msg"))),
            ("f(x) = y { y := x }", None),
            ("deny contains msg {", None),
            ("deny[\"x\"] {", None),
            ("x := a[b]", None),
        ] {
            assert_eq!(set(line), expected, "{line}");
        }
    }
}
