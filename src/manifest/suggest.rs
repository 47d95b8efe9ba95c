//! "Did you mean": the known word nearest to one that is not known.

/// The nearest of `known`, when it is near enough to be a slip: the same but for case, `-` and `_`,
/// within a third of its letters, one of the words that make it up, or the beginning of it alone.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let part = || {
        known
            .iter()
            .copied()
            .find(|candidate| word.len() > 2 && candidate.split('-').any(|part| part == word))
    };
    slip(word, &known).or_else(part).or_else(|| longer(word, &known))
}

/// The only word that this one is the beginning of: `desc` of `description`.
fn longer<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = word.to_lowercase();
    let mut found = known.iter().copied().filter(|known| known.to_lowercase().starts_with(&wanted));
    let only = found.next().filter(|_| wanted.len() > 2)?;
    found.next().is_none().then_some(only)
}

fn slip<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted: Vec<char> = plain(word).chars().take(MAX_WORD).collect();
    let far = wanted.len() / 3;
    known
        .iter()
        .copied()
        .map(|candidate| (distance(&wanted, &plain(candidate).chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, _)| *distance <= far.min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters of a word that are compared: the work is their product. Field names have at most 20.
const MAX_WORD: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_nothing_else() {
        let known = ["source", "transport", "publishAs", "inputSchema", "env", "streamable-http"];
        for (word, expected) in [
            ("sourc", Some("source")),
            ("trasnport", Some("transport")),
            ("publish_as", Some("publishAs")),
            ("input-schema", Some("inputSchema")),
            ("http", Some("streamable-http")),
            ("trans", Some("transport")),
            ("replicas", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
