//! Who may sign commits: allowed signers as OpenSSH writes them, and what is said of a signature.
//!
//! Input: the text of such a file (`ssh-keygen(1)`, ALLOWED SIGNERS), and a [`Signature`] whose
//! cryptography was checked elsewhere. Output: who signed, or why that does not count. What would
//! be believed more than this version can check (certificates, local times) is a fault of the file.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Signers in one file: as many as sign commits of the largest organisations.
const MAX_SIGNERS: usize = 4096;
/// The namespace of signatures that Git makes.
pub const NAMESPACE: &str = "git";

/// What is known of the signature of one commit, before anybody asks who may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// There is no commit: files of a work tree.
    Uncommitted,
    /// The commit has none.
    Absent,
    /// There is one that proves nothing; the text completes "the signature".
    Unusable(String),
    /// The holder of this key signed exactly this commit.
    Good {
        /// The public key, in the wire form of SSH.
        key: Vec<u8>,
        /// When the signer says that it was committed, in seconds since the Unix epoch.
        at: i64,
    },
}

/// Whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signers(Arc<[Signer]>);

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signer {
    /// Who it is, as written: most often an address of mail.
    pub principals: String,
    #[serde(with = "hex::serde")]
    key: Vec<u8>,
    /// In seconds since the Unix epoch.
    valid_after: Option<i64>,
    valid_before: Option<i64>,
}

/// What is wrong with a file of allowed signers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Invalid {
    pub line: usize,
    pub what: String,
}

/// Why a commit is not followed; completes "the commit".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("is not signed")]
    Unsigned,
    #[error("has a signature that {0}")]
    Unusable(String),
    #[error("is signed with the key {0}, which is nobody's who may sign")]
    Stranger(String),
    #[error("is signed by {0}, whose key does not hold at the time of the commit")]
    Outside(String),
}

impl Signers {
    /// # Errors
    /// At the first line that does not say whose key may sign; also when no line does.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut signers = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = |what: &str| Invalid { line: at + 1, what: what.to_owned() };
            if signers.len() == MAX_SIGNERS {
                return Err(invalid("there are more than 4096 signers"));
            }
            signers.extend(Signer::parse(line).map_err(invalid)?);
        }
        if signers.is_empty() {
            return Err(Invalid {
                line: 1,
                what: "nobody may sign: there is no key for Git in it".to_owned(),
            });
        }
        Ok(Self(signers.into()))
    }

    /// Who signed.
    ///
    /// # Errors
    /// When nobody did whose signature counts.
    pub fn judge(&self, signature: &Signature) -> Result<&Signer, Refusal> {
        let (key, at) = match signature {
            Signature::Uncommitted | Signature::Absent => return Err(Refusal::Unsigned),
            Signature::Unusable(why) => return Err(Refusal::Unusable(why.clone())),
            Signature::Good { key, at } => (key, *at),
        };
        let mut outside = None;
        for signer in self.0.iter().filter(|signer| signer.key == *key) {
            if signer.valid_after.is_none_or(|after| at >= after)
                && signer.valid_before.is_none_or(|before| at < before)
            {
                return Ok(signer);
            }
            outside = Some(signer);
        }
        Err(outside
            .map_or_else(|| Refusal::Stranger(fingerprint(key)), |signer| Refusal::Outside(signer.told())))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter()
    }
}

impl Signer {
    /// `Ok(None)`: a line that is not about Git.
    fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        const SHAPE: &str = "write `name@example.com ssh-ed25519 AAAA…`, as `ssh-keygen` does";
        let mut words = Words(line);
        let principals = words.next().ok_or(SHAPE)?.trim_matches('"').to_owned();
        let mut kind = words.next().ok_or(SHAPE)?;
        let (mut valid_after, mut valid_before, mut git) = (None, None, true);
        if !is_key_type(kind) {
            for option in split(kind, |c| c == ',') {
                let (name, value) = option.split_once('=').unwrap_or((option, ""));
                let value = value.trim_matches('"');
                match name.to_ascii_lowercase().as_str() {
                    "namespaces" => git = value.split(',').any(|name| name == NAMESPACE || name == "*"),
                    "valid-after" => valid_after = Some(instant(value)?),
                    "valid-before" => valid_before = Some(instant(value)?),
                    "cert-authority" => {
                        return Err(
                            "certificates are not supported: write the keys of the signers themselves",
                        );
                    }
                    _ => {
                        return Err("there is an option other than namespaces, valid-after and valid-before");
                    }
                }
            }
            kind = words.next().filter(|kind| is_key_type(kind)).ok_or(SHAPE)?;
        }
        let encoded = words.next().ok_or(SHAPE)?;
        let key = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
        let key = key.map_err(|_| "the key is not Base64: copy it from the file that ends in `.pub`")?;
        if !named(&key, kind) {
            return Err("the key is not of the type that is written before it");
        }
        Ok(git.then_some(Self { principals, key, valid_after, valid_before }))
    }

    /// Who it is, and by which key: `ada@example.com (SHA256:…)`.
    pub fn told(&self) -> String {
        format!("{} ({})", self.principals, fingerprint(&self.key))
    }
}

/// As `ssh-keygen -l` shows a key.
fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| word.starts_with(prefix)) && !word.contains('=')
}

/// Whether the wire form of a key begins with the name of its type (RFC 4253, section 6.6).
fn named(key: &[u8], kind: &str) -> bool {
    let Some((length, rest)) = key.split_first_chunk::<4>() else { return false };
    usize::try_from(u32::from_be_bytes(*length))
        .is_ok_and(|length| rest.get(..length) == Some(kind.as_bytes()))
}

/// Words between blanks that are not inside quotation marks.
struct Words<'t>(&'t str);

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let text = self.0.trim_start();
        let word = split(text, |c| c == ' ' || c == '\t').next().filter(|word| !word.is_empty())?;
        self.0 = &text[word.len()..];
        Some(word)
    }
}

/// Parts between separators that are not inside quotation marks.
fn split(text: &str, separates: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        !quoted && separates(c)
    })
}

/// `YYYYMMDDZ`, `YYYYMMDDHHMMZ` or `YYYYMMDDHHMMSSZ`.
fn instant(text: &str) -> Result<i64, &'static str> {
    const SHAPE: &str =
        "a time is not in UTC: write `20271231Z` or `202712312359Z`, the same on every machine";
    let digits = text.strip_suffix('Z').ok_or(SHAPE)?;
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SHAPE);
    }
    let number = |from: usize, to: usize| digits.get(from..to).and_then(|part| part.parse::<i64>().ok());
    let (year, month, day) =
        (number(0, 4).ok_or(SHAPE)?, number(4, 6).ok_or(SHAPE)?, number(6, 8).ok_or(SHAPE)?);
    let clock = [number(8, 10), number(10, 12), number(12, 14)].map(Option::unwrap_or_default);
    if !(1970..).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(SHAPE);
    }
    Ok(days_from_civil(year, month, day) * 86_400 + clock[0] * 3600 + clock[1] * 60 + clock[2])
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (H. Hinnant, `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAZ9tS7fhDOq3nBDQkPMZbPS6gUVUKKz8KwKzaFbkQ8a";

    fn of(options: &str) -> Result<Signers, Invalid> {
        Signers::parse(&format!("# who\n\nada@example.com {options}ssh-ed25519 {KEY} Ada\n"))
    }

    fn signed(at: i64) -> Signature {
        Signature::Good { key: STANDARD.decode(KEY).unwrap(), at }
    }

    #[test]
    fn a_key_that_is_listed_counts() {
        let signers = of("").unwrap();
        assert!(signers.judge(&signed(0)).unwrap().told().starts_with("ada@example.com (SHA256:"));
        let other = Signature::Good { key: vec![1], at: 0 };
        assert!(matches!(signers.judge(&other), Err(Refusal::Stranger(_))));
        assert_eq!(signers.judge(&Signature::Absent), Err(Refusal::Unsigned));
        assert_eq!(signers.judge(&Signature::Uncommitted), Err(Refusal::Unsigned));
        let unusable = signers.judge(&Signature::Unusable("is odd".to_owned()));
        assert_eq!(unusable.unwrap_err().to_string(), "has a signature that is odd");
    }

    #[test]
    fn a_key_counts_in_its_time_and_for_git() {
        let signers =
            of("namespaces=\"file,git\",valid-after=\"19700102Z\",valid-before=\"197001030000Z\" ").unwrap();
        for (at, good) in [(86_399, false), (86_400, true), (172_799, true), (172_800, false)] {
            assert_eq!(signers.judge(&signed(at)).is_ok(), good, "{at}");
        }
        assert!(matches!(signers.judge(&signed(0)), Err(Refusal::Outside(_))));
        assert!(of("namespaces=\"file\" ").unwrap_err().what.contains("nobody may sign"));
        assert_eq!(instant("20240229123456Z"), Ok(1_709_210_096));
    }

    #[test]
    fn what_cannot_be_checked_is_a_fault() {
        for (options, part) in [
            ("cert-authority ", "certificates"),
            ("valid-before=20300101 ", "UTC"),
            ("verify-required ", "option other"),
        ] {
            let fault = of(options).unwrap_err();
            assert!(fault.what.contains(part) && fault.line == 3, "{options}: {fault}");
        }
        let other = Signers::parse(&format!("ada@example.com ecdsa-sha2-nistp256 {KEY}")).unwrap_err();
        assert!(other.what.contains("of the type"), "{other}");
        assert!(Signers::parse("ada@example.com").unwrap_err().what.contains("ssh-keygen"));
        assert!(Signers::parse("").unwrap_err().what.contains("nobody"));
        assert!(Signers::parse("ada@example.com ssh-ed25519 ***").unwrap_err().what.contains("Base64"));
    }
}
