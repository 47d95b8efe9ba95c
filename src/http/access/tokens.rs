//! Static tokens: a file with the hash of each, read again when it changes.
//!
//! One token on a line: `name:sha256:group,group`, where `sha256` is 64 hex digits of the token's
//! SHA-256. Tokens are long and random, so that a plain hash cannot be turned back. `#` begins a
//! comment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::http::stamp::Stamp;
use crate::policy::Principal;
use crate::ports::{PortError, PortResult};
use crate::resource::Digest;

/// How old the knowledge of the file may be: so long a token that was taken out is still good.
const FRESH: Duration = Duration::from_secs(1);
/// Bytes of the file: some ten thousand tokens.
const MAX_FILE: u64 = 1 << 20;

/// The tokens of a file.
pub struct Tokens {
    path: PathBuf,
    known: ArcSwap<Known>,
    looked: Mutex<Looked>,
}

type Known = HashMap<Digest, Arc<Principal>>;

/// When the file was looked at, and what it was then.
struct Looked {
    at: Instant,
    stamp: Stamp,
}

impl Tokens {
    /// # Errors
    /// When the file cannot be read, or a line of it is no token.
    pub fn read(path: &Path) -> PortResult<Self> {
        let stamp = Stamp::of(path);
        let known = load(path)?;
        Ok(Self {
            path: path.to_owned(),
            known: ArcSwap::from_pointee(known),
            looked: Mutex::new(Looked { at: Instant::now(), stamp }),
        })
    }

    /// Whose token it is.
    ///
    /// What is looked up is the token's hash. How long that takes tells nothing: nobody can choose
    /// tokens by how their hashes begin.
    pub(super) async fn find(&self, token: &str) -> Option<Arc<Principal>> {
        self.refresh().await;
        self.known.load().get(&Digest::of_bytes(token.as_bytes())).cloned()
    }

    /// Reads the file again when it is another one. One that cannot be read changes nothing.
    async fn refresh(&self) {
        // Whoever comes while somebody looks goes on with what is known.
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if looked.at.elapsed() < FRESH {
            return;
        }
        let path = self.path.clone();
        let before = looked.stamp;
        let read = tokio::task::spawn_blocking(move || {
            let now = Stamp::of(&path);
            (now, (now != before).then(|| load(&path)))
        });
        let Ok((stamp, loaded)) = read.await else { return };
        (looked.at, looked.stamp) = (Instant::now(), stamp);
        match loaded {
            None => {}
            Some(Ok(known)) => {
                tracing::info!(tokens = known.len(), file = %self.path.display(), "tokens were read again");
                self.known.store(Arc::new(known));
            }
            Some(Err(error)) => {
                tracing::error!(error = %error.chain(), "the tokens of before stay");
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the file of tokens is the operator's")]
fn load(path: &Path) -> PortResult<Known> {
    let failed = || PortError::stalled(format!("failed to read the tokens in `{}`", path.display()));
    let size = std::fs::metadata(path).map_err(|error| failed().caused_by(error))?.len();
    if size > MAX_FILE {
        return Err(failed().hint("it has more than 1 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed().caused_by(error))?;
    parse(&text).map_err(|(line, why)| {
        PortError::stalled(format!("line {line} of the tokens in `{}`: {why}", path.display()))
            .hint("`toolcrib token NAME` writes such lines: `name:sha256:group,group`")
    })
}

/// The lines of a file. The line is never repeated: what is wrong with it may be that it is a token.
fn parse(text: &str) -> Result<Known, (usize, &'static str)> {
    let mut known = Known::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |why| (at + 1, why);
        let mut fields = line.split(':').map(str::trim);
        let name = fields.next().filter(|name| !name.is_empty()).ok_or(wrong("the name is empty"))?;
        let digest = fields.next().and_then(|hex| Digest::parse(&format!("sha256:{hex}")));
        let digest = digest.ok_or(wrong("the second field is no SHA-256 of 64 hex digits"))?;
        let groups = fields.next().unwrap_or_default().split(',').map(str::trim);
        let groups = groups.filter(|group| !group.is_empty()).map(str::to_owned).collect();
        if fields.next().is_some() {
            return Err(wrong("there are more than three fields"));
        }
        let principal = Principal { name: name.to_owned(), groups, ..Principal::default() };
        if known.insert(digest, Arc::new(principal)).is_some() {
            return Err(wrong("another line has the same token"));
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn lines_are_names_hashes_and_groups() {
        let known = parse(&format!("# who\n\nada:{HASH}:admin, developers # the lead\n")).expect("tokens");
        let ada = &known[&Digest::of_bytes(b"secret")];
        assert_eq!(
            (ada.name.as_str(), ada.groups.as_slice()),
            ("ada", &["admin".to_owned(), "developers".to_owned()][..])
        );
        for (text, line) in [
            (format!(":{HASH}:a"), 1),
            ("ada:secret:a".to_owned(), 1),
            ("\nada".to_owned(), 2),
            (format!("ada:{HASH}:a:b"), 1),
            (format!("ada:{HASH}\nbob:{HASH}"), 2),
        ] {
            assert_eq!(parse(&text).expect_err(&text).0, line, "{text}");
        }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the test writes the file")]
    async fn a_line_that_is_taken_out_is_no_token_any_more() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let write = |text: &str| std::fs::write(file.path(), text).expect("written");
        write(&format!("ada:{HASH}:admin\n"));
        let tokens = Tokens::read(file.path()).expect("tokens");
        assert!(tokens.find("secret").await.is_some() && tokens.find("other").await.is_none());
        // As if a while had passed.
        let later =
            || async { tokens.looked.lock().await.at = Instant::now().checked_sub(FRESH).expect("uptime") };
        write("this is no token");
        later().await;
        assert!(tokens.find("secret").await.is_some(), "a broken file changes nothing");
        write("");
        later().await;
        assert!(tokens.find("secret").await.is_none());
    }
}
