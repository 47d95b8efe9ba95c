//! `call`: one tool, as an MCP client would.

use std::fmt::Write as _;
pub(super) mod arguments;

use std::io::{IsTerminal, Read};
use std::time::Duration;

use serde_json::{Map, Value};
use tracing::Instrument as _;

use super::Context;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::mcp::{Ask, Endpoint, no_tool};
use super::render::{harmless, notice};
use super::target::Target;
use super::token::authorization;
use super::trust::Trust;
use crate::config::raw::variable;
use crate::manifest::suggest::nearest;
use crate::resource::Period;
use crate::status::Status;
use crate::telemetry::progress;

/// Pages of `tools/list` that are looked through for the tool.
const MAX_PAGES: usize = 100;
/// Of one page, which is answered from memory.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of arguments on standard input.
const MAX_STDIN: u64 = 16 << 20;

/// Call a tool.
///
/// Values are read by the tool's input schema: `count=3` is a number where the schema wants one. The
/// text of the result goes to standard output, what the tool says meanwhile to standard error. Where a
/// token is needed, it is taken from the variable `TOOLCRIB_TOKEN`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  toolcrib call hello name=Ada language=fr
  toolcrib call files_search pattern=needle path=src path=tests
  toolcrib call greet --json '{\"name\": \"Ada\"}'
  echo '{\"name\": \"Ada\"}' | toolcrib call greet --json - --output json")]
pub(super) struct Call {
    /// Published name, as `toolcrib tools` lists it.
    tool: String,
    /// Arguments; one that is given twice is a list.
    #[arg(value_name = "KEY=VALUE", conflicts_with = "json")]
    arguments: Vec<String>,
    /// All arguments as one JSON object; `-` reads standard input.
    #[arg(long, value_name = "OBJECT")]
    json: Option<String>,
    /// How long to wait for the result.
    #[arg(long, value_name = "PERIOD", default_value = "300s")]
    timeout: String,
    /// The MCP endpoint [default: the one the daemon names].
    #[arg(long, value_name = "URL", env = variable::URL, hide_env_values = true)]
    url: Option<String>,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    target: Target,
}

impl Call {
    pub(super) async fn execute(self, context: &Context) -> CliResult<Exit> {
        let Period(limit) = Period::parse(&self.timeout)
            .map_err(|error| CliError::usage(format!("`--timeout`: {error}")).hint("write 30s or 5m"))?;
        let url = match &self.url {
            Some(url) => url.clone(),
            None => self.target.reads(context).get_json::<Status>("/api/v1/status").await?.daemon.mcp,
        };
        let authorities = self.trust.read(context)?;
        let endpoint =
            Endpoint::parse(&url, &authorities)?.authorized(authorization(context, variable::TOKEN)?);
        let arguments = self.read_arguments(&endpoint).await?;
        let params = Map::from_iter([
            ("name".to_owned(), Value::from(self.tool.as_str())),
            ("arguments".to_owned(), Value::Object(arguments)),
        ]);
        let ask = Ask { method: "tools/call", name: Some(&self.tool), params, limit };
        let calling = progress::work(format_args!("calling {}", self.tool));
        let result = endpoint.ask(ask, &mut tell).instrument(calling).await?;
        let failed = result.get("isError").and_then(Value::as_bool).unwrap_or(false);
        if context.out.is_json() {
            context.out.json(&result)?;
            return Ok(if failed { Exit::Failure } else { Exit::Success });
        }
        let text = text_of(&result);
        if failed {
            return Err(CliError::failure(format!("tool `{}` failed", self.tool))
                .detail(Some(text))
                .hint(format!("`toolcrib tools {}` shows what it takes", self.tool)));
        }
        context.out.text(&if std::io::stdout().is_terminal() { harmless(&text) } else { text })?;
        Ok(Exit::Success)
    }

    async fn read_arguments(&self, endpoint: &Endpoint) -> CliResult<Map<String, Value>> {
        let Some(json) = self.json.as_deref() else {
            if self.arguments.is_empty() {
                return Ok(Map::new());
            }
            return arguments::parse(&self.arguments, &self.schema(endpoint).await?);
        };
        let text = if json == "-" {
            let mut text = String::new();
            std::io::stdin().take(MAX_STDIN).read_to_string(&mut text).map_err(|error| {
                CliError::failure("failed to read arguments from standard input").caused_by(&error)
            })?;
            text
        } else {
            json.to_owned()
        };
        serde_json::from_str(&text).map_err(|error| {
            CliError::usage("`--json` is not one JSON object")
                .caused_by(&error)
                .hint("write it in single quotes: --json '{\"key\": \"value\"}'")
        })
    }

    /// The tool's input schema.
    async fn schema(&self, endpoint: &Endpoint) -> CliResult<Value> {
        let mut params = Map::new();
        let mut known: Vec<String> = Vec::new();
        for _ in 0..MAX_PAGES {
            let ask = Ask { method: "tools/list", name: None, params, limit: LIST_TIMEOUT };
            let page = endpoint.ask(ask, &mut |_| {}).await?;
            let tools = page.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            if let Some(tool) = tools.iter().find(|tool| tool["name"] == *self.tool) {
                return Ok(tool["inputSchema"].clone());
            }
            known.extend(tools.iter().filter_map(|tool| Some(tool["name"].as_str()?.to_owned())));
            let Some(cursor) = page.get("nextCursor").filter(|cursor| !cursor.is_null()) else { break };
            params = Map::from_iter([("cursor".to_owned(), cursor.clone())]);
        }
        let missing = no_tool(&format!("`{}`", self.tool));
        Err(match nearest(&self.tool, known.iter().map(String::as_str)) {
            Some(near) => missing.hint(format!("did you mean `{near}`?")),
            None => missing,
        })
    }
}

/// Shows how far the call is, and prints log messages on standard error. What a tool prints is shown
/// while it runs; it is printed with the result.
fn tell(message: &Value) {
    let params = &message["params"];
    match (message["method"].as_str(), &params["data"]) {
        (Some("notifications/progress"), _) => {
            if let Some(text) = params["message"].as_str() {
                progress::step(text.trim_end());
            }
        }
        (Some("notifications/message"), Value::Object(data)) if data.contains_key("stream") => {
            progress::step(data.get("text").and_then(Value::as_str).unwrap_or_default().trim_end());
        }
        (Some("notifications/message"), Value::Null) => {}
        (Some("notifications/message"), data) => {
            let text = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
            notice(&format!("{}\n", harmless(text.trim_end())));
        }
        _ => {}
    }
}

/// What a person reads of a result: its texts, a line for what is none, or its structured content.
fn text_of(result: &Value) -> String {
    let mut text = String::new();
    for block in result["content"].as_array().map_or(&[][..], Vec::as_slice) {
        match (block["type"].as_str(), block["text"].as_str()) {
            (Some("text"), Some(block)) => text.push_str(block),
            (Some("resource_link"), _) => text.push_str(block["uri"].as_str().unwrap_or("(a link)")),
            (kind, _) => {
                let mime = block["mimeType"].as_str().unwrap_or("unknown type");
                let _ = write!(text, "({}, {mime}; --output json shows it)", kind.unwrap_or("block"));
            }
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    if text.is_empty()
        && let Some(structured) = result.get("structuredContent")
    {
        text = format!("{structured:#}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_is_its_text() {
        let result = json!({"content": [
            {"type": "text", "text": "one"},
            {"type": "text", "text": "two\n"},
            {"type": "image", "mimeType": "image/png", "data": "…"}
        ]});
        assert_eq!(text_of(&result), "one\ntwo\n(image, image/png; --output json shows it)\n");
        assert_eq!(text_of(&json!({"structuredContent": {"n": 1}})), "{\n  \"n\": 1\n}\n");
    }
}
