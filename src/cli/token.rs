//! `token`: a new token for a caller, and what the caller shows.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde_json::json;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use crate::resource::Digest;

/// What tokens of ours begin with, so that scanners of secrets know them.
const PREFIX: &str = "toolcrib_";

/// Make a token for a caller.
///
/// The token is printed once and kept nowhere: give it to the caller. The line goes into the file
/// that the daemon is given with `--tokens-file`, which it reads again when it changes; taking the
/// line out ends the token.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib token ci --group developers
  toolcrib token ada --group admin --group developers --output json
  toolcrib run --repo . --tokens-file /etc/toolcrib/tokens --listen 0.0.0.0:7800 \\
    --public-url https://tools.example.org")]
pub(super) struct Token {
    /// The caller's name, which policies see as `input.user.name`.
    name: String,
    /// A group of the caller; can be given more than once.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
}

impl Token {
    pub(super) fn execute(self, context: &Context) -> CliResult<Exit> {
        let fits = |text: &String| !text.trim().is_empty() && !text.contains([':', ',', '#', '\n', '\r']);
        if let Some(wrong) = std::iter::once(&self.name).chain(&self.groups).find(|text| !fits(text)) {
            return Err(CliError::usage(format!("`{wrong}` cannot be written in a file of tokens"))
                .hint("leave out `:`, `,` and `#`"));
        }
        let random: [u8; 32] = rand::random();
        let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let hash = Digest::of_bytes(token.as_bytes()).hex();
        let line = format!("{}:{hash}:{}", self.name, self.groups.join(","));
        if context.out.is_json() {
            context.out.json(&json!({"token": token, "line": line}))?;
        } else {
            context.out.text(&format!(
                "token, shown only now:\n  {token}\nline for the file of --tokens-file:\n  {line}\n"
            ))?;
        }
        Ok(Exit::Success)
    }
}

/// What a caller shows: the token in a variable.
///
/// # Errors
/// When it cannot stand in a header.
pub(super) fn authorization(context: &Context, name: &str) -> CliResult<Option<HeaderValue>> {
    let Some(token) = context.environment.get(name).filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| {
        CliError::usage(format!("the variable {name} holds no token"))
            .hint("a token has letters, digits, `-`, `_` and `.`")
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The name of a variable, as it is typed. A token that is typed instead is not told again.
pub(super) fn variable(text: &str) -> Result<String, String> {
    let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let fits = fits && !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit());
    if fits && text.len() <= 64 {
        Ok(text.to_owned())
    } else {
        Err("write the name of a variable, such as TOOLCRIB_TOKEN, not the token".to_owned())
    }
}
