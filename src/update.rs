//! Newer versions within a declared range, and their place in a manifest.
//!
//! Input: the version that is written, the range of the annotation [`RANGE`], and what there is. Output:
//! the newest that fits. Invariants: nothing older is ever chosen, nothing outside the range, and
//! nothing of another flavour (`1.2-slim` is followed by `1.3-slim` only; what is written without a
//! suffix never by a pre-release). Not here: asking what there is.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

/// The annotation of a `Server` or `Tool` that says how far `toolcrib update` may go: `^1.2`.
pub const RANGE: &str = "toolcrib.dev/update";
/// Comparators of one range; more say nothing new.
const MAX_COMPARATORS: usize = 16;

/// A version, a tag or the like: numbers with dots between, and what stands around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `v` of `v1.2`.
    prefix: String,
    numbers: Vec<u64>,
    /// `-slim` of `3.12-slim`, `rc1` of `1.0rc1`.
    suffix: String,
}

impl Version {
    /// None: there is no number in it, or one that is too long.
    pub fn parse(text: &str) -> Option<Self> {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let (prefix, rest) = text.split_at(start);
        let mut numbers = Vec::new();
        let mut left = rest;
        loop {
            let end = left.find(|c: char| !c.is_ascii_digit()).unwrap_or(left.len());
            let (digits, after) = left.split_at(end);
            numbers.push(digits.parse().ok()?);
            left = after;
            match left.strip_prefix('.') {
                Some(next) if next.starts_with(|c: char| c.is_ascii_digit()) => left = next,
                _ => break,
            }
        }
        Some(Self { prefix: prefix.to_owned(), numbers, suffix: left.to_owned() })
    }

    /// Whether one may follow the other: the same words around the numbers.
    fn like(&self, other: &Self) -> bool {
        self.prefix == other.prefix && self.suffix == other.suffix
    }
}

/// Missing numbers are zero.
fn order(a: &[u64], b: &[u64]) -> Ordering {
    let at = |list: &[u64], index: usize| list.get(index).copied().unwrap_or(0);
    let length = a.len().max(b.len());
    (0..length)
        .map(|index| at(a, index).cmp(&at(b, index)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Which versions are allowed: all comparators hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range(Vec<(Comparator, Vec<u64>)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparator {
    At,
    From,
    Above,
    To,
    Below,
}

impl Range {
    /// `^1.2`, `~1.2.3`, `>=1, <3`, `=1.2` or `*`.
    ///
    /// # Errors
    /// What is wrong with it, with the next step.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no range; write `^1.2` (up to the next 2), `~1.2` (up to 1.3), `>=1.2, <3`, or `*`"
            )
        };
        let mut range = Vec::new();
        for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
            if part == "*" {
                continue;
            }
            let digits = part.find(|c: char| c.is_ascii_digit()).ok_or_else(wrong)?;
            let (sign, version) = part.split_at(digits);
            let sign = sign.strip_suffix('v').unwrap_or(sign);
            let version =
                Version::parse(version).filter(|version| version.suffix.is_empty()).ok_or_else(wrong)?;
            let numbers = version.numbers;
            match sign {
                "^" => {
                    let at = numbers.iter().position(|number| *number != 0).unwrap_or(numbers.len() - 1);
                    let below = next(&numbers, at).ok_or_else(wrong)?;
                    range.extend([(Comparator::From, numbers), (Comparator::Below, below)]);
                }
                "~" => {
                    let below = next(&numbers, 1.min(numbers.len() - 1)).ok_or_else(wrong)?;
                    range.extend([(Comparator::From, numbers), (Comparator::Below, below)]);
                }
                "=" => range.push((Comparator::At, numbers)),
                ">=" => range.push((Comparator::From, numbers)),
                ">" => range.push((Comparator::Above, numbers)),
                "<=" => range.push((Comparator::To, numbers)),
                "<" => range.push((Comparator::Below, numbers)),
                _ => return Err(wrong()),
            }
        }
        let empty = text.trim().is_empty();
        if empty || range.len() > MAX_COMPARATORS { Err(wrong()) } else { Ok(Self(range)) }
    }

    fn takes(&self, version: &Version) -> bool {
        self.0.iter().all(|(comparator, bound)| {
            let order = order(&version.numbers, bound);
            match comparator {
                Comparator::At => order.is_eq(),
                Comparator::From => order.is_ge(),
                Comparator::Above => order.is_gt(),
                Comparator::To => order.is_le(),
                Comparator::Below => order.is_lt(),
            }
        })
    }
}

/// The first version that counts one more at a place.
fn next(numbers: &[u64], at: usize) -> Option<Vec<u64>> {
    let mut next = numbers.get(..=at)?.to_vec();
    let last = next.last_mut()?;
    *last = last.checked_add(1)?;
    Some(next)
}

/// The newest of `there` that is newer than `written`, within `range` and of its kind.
pub fn newest<'a>(written: &str, range: &Range, there: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = Version::parse(written)?;
    there
        .into_iter()
        .filter_map(|text| Some((Version::parse(text)?, text)))
        .filter(|(version, _)| {
            version.like(&written)
                && order(&version.numbers, &written.numbers).is_gt()
                && range.takes(version)
        })
        .max_by(|(a, x), (b, y)| order(&a.numbers, &b.numbers).then(y.cmp(x)))
        .map(|(_, text)| text)
}

/// Name and tag of an image reference; none when it has a digest or no tag.
pub fn tagged(reference: &str) -> Option<(&str, &str)> {
    let (name, tag) = reference.rsplit_once(':')?;
    (!reference.contains('@') && !tag.contains('/') && !name.is_empty()).then_some((name, tag))
}
