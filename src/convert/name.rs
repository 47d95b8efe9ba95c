//! Names of ours from names of others.

use crate::resource::Name;

/// Characters of a DNS-1123 label.
const MAX_LABEL: usize = 63;

/// The nearest DNS-1123 label: lower case, with `-` for everything that is not a letter or digit.
pub(super) fn label(text: &str) -> Name {
    let mut label = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            label.push(c.to_ascii_lowercase());
        } else if !label.ends_with('-') {
            label.push('-');
        }
    }
    let label: String = label.trim_matches('-').chars().take(MAX_LABEL).collect();
    let label = label.trim_matches('-');
    Name::parse(label).unwrap_or_else(|_| fallback())
}

/// For what has no letter or digit at all.
fn fallback() -> Name {
    match Name::parse("imported") {
        Ok(name) => name,
        Err(_) => unreachable!("`imported` is a label"),
    }
}

/// The name itself, then `name-2`, `name-3` and so on.
pub(super) fn variants(name: &Name) -> impl Iterator<Item = Name> + use<> {
    let own = name.clone();
    let numbered = (2..10_000_u32).filter_map({
        let own = own.clone();
        move |number| {
            let end = format!("-{number}");
            let kept: String = own.as_str().chars().take(MAX_LABEL - end.len()).collect();
            Name::parse(&format!("{kept}{end}")).ok()
        }
    });
    std::iter::once(own).chain(numbered)
}

/// The name of an environment variable: upper case, with `_` for everything else.
pub(super) fn variable(text: &str) -> String {
    let mut name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        name.insert(0, '_');
    }
    name
}

/// Whether others can name a variable so: what `env` takes.
pub(super) fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_labels() {
        for (text, expected) in [
            ("weather", "weather"),
            ("Weather_Service PROD", "weather-service-prod"),
            ("--a..b--", "a-b"),
            ("ümlaut", "mlaut"),
            ("…", "imported"),
            (&"x".repeat(70), &"x".repeat(63)),
        ] {
            assert_eq!(label(text).as_str(), expected, "{text}");
        }
        let names: Vec<String> =
            variants(&label(&"x".repeat(63))).take(2).map(|name| name.to_string()).collect();
        assert_eq!(names[1], format!("{}-2", "x".repeat(61)));
        assert_eq!(variable("my-mcp.SECRET key"), "MY_MCP_SECRET_KEY");
        assert_eq!(variable("1st"), "_1ST");
        assert!(is_variable("A_1") && !is_variable("1A") && !is_variable("A-B"));
    }
}
