//! How a call ended, as the `CallToolResult` of MCP. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::output::Output;
use crate::desired::Tool;
use crate::ports::PortError;

/// How a call ended.
pub(super) enum End {
    /// The command did: its exit code, or negative the signal that ended it.
    Exited(i64),
    /// The arguments make no command.
    Refused(String),
    /// It could not be run, or the runner lost it.
    Failed(PortError),
    TimedOut,
    Cancelled,
    /// It printed more than this many bytes.
    TooMuch(u64),
}

/// Everything a result is made of.
pub(super) struct Report<'a> {
    pub(super) tool: &'a Tool,
    pub(super) end: End,
    pub(super) output: &'a Output,
    pub(super) took: Duration,
}

impl Report<'_> {
    /// Text of stdout and of stderr, each when there is any and marked with its stream; after them
    /// a line of status when there is something to say. `structuredContent` is stdout, when the
    /// tool declares an output schema.
    pub(super) fn json(&self) -> String {
        let ((stdout, stdout_replaced), (stderr, stderr_replaced)) =
            (self.output.stdout.text(), self.output.stderr.text());
        let mut status: Vec<String> = Vec::from_iter(self.problem());
        let mut failed = !status.is_empty();
        let mut structured = None;
        if !failed && declares_output(self.tool) {
            match serde_json::from_str::<Map<String, Value>>(&stdout) {
                Ok(object) => structured = Some(Value::Object(object)),
                Err(error) => {
                    failed = true;
                    status.push(format!(
                        "the tool declares an output schema, but did not print a JSON object: {error}"
                    ));
                }
            }
        }
        let cut = [("stdout", self.output.stdout.cut()), ("stderr", self.output.stderr.cut())];
        let cut: Vec<_> = cut.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        status.extend(cut.iter().map(|(stream, bytes)| {
            format!("{stream} is cut after {} bytes: {bytes} more are missing", self.tool.max_output)
        }));
        let mut content: Vec<Value> = [("stdout", stdout), ("stderr", stderr), ("status", status.join("\n"))]
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(stream, text)| block(stream, &text))
            .collect();
        if content.is_empty() {
            content.push(block("stdout", ""));
        }
        let replaced = [("stdout", stdout_replaced), ("stderr", stderr_replaced)];
        let replaced =
            replaced.into_iter().filter(|(_, replaced)| *replaced).map(|(stream, _)| stream.into());
        let mut result = json!({"content": content, "isError": failed});
        if let Some(structured) = structured {
            result["structuredContent"] = structured;
        }
        result["_meta"] = self.meta(&cut, replaced.collect());
        result.to_string()
    }

    /// What is wrong, when it is an error.
    fn problem(&self) -> Option<String> {
        let timeout = self.tool.timeout;
        match &self.end {
            End::Exited(code) if self.tool.success_exit_codes.contains(code) => None,
            End::Exited(code) if *code < 0 => Some(format!("ended by signal {}", -code)),
            End::Exited(code) => Some(format!("exited with code {code}")),
            End::Refused(why) => Some(why.clone()),
            End::Failed(error) => {
                let mut text = error.chain();
                for more in [&error.hint, &error.detail].into_iter().flatten() {
                    text.push('\n');
                    text.push_str(more);
                }
                Some(self.output.clean(&text))
            }
            End::TimedOut => Some(format!("took longer than {timeout:?} and was ended")),
            End::Cancelled => Some("cancelled, and ended".to_owned()),
            End::TooMuch(bytes) => Some(format!("printed more than {bytes} bytes and was ended")),
        }
    }

    fn meta(&self, cut: &[(&str, u64)], replaced: Vec<Value>) -> Value {
        let mut meta = Map::new();
        if let End::Exited(code) = self.end {
            meta.insert("dev.toolcrib/exitCode".to_owned(), code.into());
        }
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        meta.insert("dev.toolcrib/durationMs".to_owned(), millis.into());
        meta.insert("dev.toolcrib/runner".to_owned(), self.tool.runner.as_str().into());
        if !cut.is_empty() {
            let cut = cut.iter().map(|(stream, bytes)| ((*stream).to_owned(), Value::from(*bytes)));
            meta.insert("dev.toolcrib/truncated".to_owned(), Value::Object(cut.collect()));
        }
        if !replaced.is_empty() {
            meta.insert("dev.toolcrib/notUtf8".to_owned(), replaced.into());
        }
        Value::Object(meta)
    }
}

fn block(stream: &str, text: &str) -> Value {
    json!({"type": "text", "text": text, "_meta": {"dev.toolcrib/stream": stream}})
}

fn declares_output(tool: &Tool) -> bool {
    #[derive(Deserialize)]
    struct Definition {
        #[serde(rename = "outputSchema")]
        output_schema: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_str::<Definition>(&tool.definition).is_ok_and(|found| found.output_schema.is_some())
}
