//! How a server is spoken to.

use serde::{Deserialize, Serialize};

/// Read by [`crate::manifest`], which makes a diagnostic `not-supported` of it.
const NO_SSE: &str = "this version does not support the transport `sse`; servers are reached over \
                      `streamable-http` or `stdio`, which most servers with `sse` have as well";

/// `transport: stdio`, or `transport: {type: streamable-http, port: 8000, path: /mcp}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Transport {
    /// Over standard input and output.
    #[default]
    Stdio,
    /// Over HTTP, as the protocol has had it since 2025-03-26.
    StreamableHttp {
        /// The port the server listens on. Default: 8000. Example: `9000`.
        port: u16,
        /// The path of its endpoint. Default: `/mcp`. Example: `/`.
        path: String,
    },
}

impl<'de> Deserialize<'de> for Transport {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        enum Type {
            Stdio,
            StreamableHttp,
            Sse,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Full {
            r#type: Type,
            port: Option<u16>,
            path: Option<String>,
        }
        fn http(port: Option<u16>, path: Option<String>) -> Transport {
            Transport::StreamableHttp {
                port: port.unwrap_or(8000),
                path: path.unwrap_or_else(|| "/mcp".to_owned()),
            }
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Transport;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`stdio`, `streamable-http`, or {type, port, path}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Transport, E> {
                match text {
                    "stdio" => Ok(Transport::Stdio),
                    "streamable-http" => Ok(http(None, None)),
                    "sse" => Err(E::custom(NO_SSE)),
                    _ => Err(E::unknown_variant(text, &["stdio", "streamable-http", "sse"])),
                }
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Transport, A::Error> {
                let full = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                match full.r#type {
                    Type::StreamableHttp => Ok(http(full.port, full.path)),
                    Type::Sse => Err(serde::de::Error::custom(NO_SSE)),
                    Type::Stdio if full.port.is_none() && full.path.is_none() => Ok(Transport::Stdio),
                    Type::Stdio => Err(serde::de::Error::custom("`stdio` has neither port nor path")),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
