//! Whether a URI can have come from a URI template (RFC 6570): enough to find its server.

/// Longest URI that is matched: the work is bounded by its length times that of the template.
const MAX_URI: usize = 8192;

/// `{name}` stands for one or more characters other than `/`; `{+name}` and the other operators for
/// any.
pub(super) fn fits(template: &str, uri: &str) -> bool {
    uri.len() <= MAX_URI && parts(template).is_some_and(|parts| matches(&parts, uri))
}

enum Part<'a> {
    Literal(&'a str),
    Variable { reserved: bool },
}

fn parts(template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        let (expression, after) = after.split_once('}')?;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        parts.push(Part::Variable { reserved: expression.starts_with(['+', '#', '/', '.', ';', '?', '&']) });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Some(parts)
}

/// Which prefixes of `uri` the parts so far can have made: one bit for each length.
fn matches(parts: &[Part<'_>], uri: &str) -> bool {
    let bytes = uri.as_bytes();
    let mut reached = vec![false; bytes.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for part in parts {
        let mut next = vec![false; bytes.len() + 1];
        match part {
            Part::Literal(literal) => {
                for at in positions(&reached) {
                    let fits = bytes.get(at..).is_some_and(|rest| rest.starts_with(literal.as_bytes()));
                    if let (true, Some(end)) = (fits, next.get_mut(at + literal.len())) {
                        *end = true;
                    }
                }
            }
            Part::Variable { reserved } => {
                let mut open = false;
                for (at, byte) in bytes.iter().enumerate() {
                    open |= reached.get(at).copied().unwrap_or(false);
                    open &= *reserved || *byte != b'/';
                    if let (true, Some(end)) = (open, next.get_mut(at + 1)) {
                        *end = true;
                    }
                }
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

fn positions(reached: &[bool]) -> impl Iterator<Item = usize> + '_ {
    reached.iter().enumerate().filter(|(_, reached)| **reached).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn templates_find_their_uris() {
        let cases = [
            ("test://template/{id}/data", "test://template/123/data", true),
            ("test://template/{id}/data", "test://template/1/2/data", false),
            ("test://template/{id}/data", "test://template//data", false),
            ("test://template/{id}/data", "test://template/1/data/x", false),
            ("file:///{+path}", "file:///a/b.txt", true),
            ("a{x}b{y}b", "a1b2b3b", true),
            ("a{x", "a1", false),
            ("plain://x", "plain://x", true),
            ("{x}", "é", true),
        ];
        for (template, uri, expected) in cases {
            assert_eq!(fits(template, uri), expected, "{template} {uri}");
        }
    }
}
