//! What a one-off probe found, in the shape such records have elsewhere.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ports::Offer;

/// The outcome of probing something that nobody declared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// How it answered: `docker_mcp_stdio`, `docker_http_mcp`, `process_mcp_stdio`,
    /// `process_http_mcp` or `http_mcp`.
    pub discovery_method: String,
    /// Seconds since the Unix epoch.
    pub timestamp: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Where it answered: of something reached over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the instance was called. It is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The era and version that was spoken: `modern 2026-07-28`.
    pub protocol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_info: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Definitions, byte for byte.
    pub tools: Vec<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_templates: Vec<Box<RawValue>>,
}

impl Record {
    pub(super) fn new(discovery_method: String, timestamp: f64, offer: Offer) -> Self {
        Self {
            discovery_method,
            timestamp,
            source_image: None,
            command: None,
            url: None,
            container: None,
            port: None,
            protocol: offer.protocol,
            server_info: offer.server_info.as_deref().and_then(raw),
            instructions: offer.instructions,
            tools: definitions(&offer.tools),
            prompts: definitions(&offer.prompts),
            resources: definitions(&offer.resources),
            resource_templates: definitions(&offer.templates),
        }
    }
}

fn definitions(items: &[Arc<str>]) -> Vec<Box<RawValue>> {
    items.iter().filter_map(|item| raw(item)).collect()
}

fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_definitions_and_leaves_out_what_is_not_known() {
        let offer = Offer {
            protocol: "modern 2026-07-28".to_owned(),
            tools: vec![r#"{"name":"a", "x":1.0}"#.into()],
            ..Offer::default()
        };
        let record = Record { port: Some(8000), ..Record::new("http_mcp".to_owned(), 1.5, offer) };
        let text = serde_json::to_string(&record).expect("JSON");
        let expected = r#"{"discovery_method":"http_mcp","timestamp":1.5,"port":8000,"protocol":"modern 2026-07-28","tools":[{"name":"a", "x":1.0}]}"#;
        assert_eq!(text, expected);
        let again: Record = serde_json::from_str(&text).expect("a record");
        assert_eq!(serde_json::to_string(&again).expect("JSON"), expected);
    }
}
