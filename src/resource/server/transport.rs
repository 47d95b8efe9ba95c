//! How a server is spoken to.

use serde::{Deserialize, Serialize};

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
    /// Over HTTP, as it was in 2024-11-05: one stream of events, and a place to post messages to.
    Sse {
        /// The port the server listens on. Default: 8000. Example: `9000`.
        port: u16,
        /// The path of its stream of events. Default: `/sse`. Example: `/events`.
        path: String,
    },
}

impl Transport {
    /// Port and path of a server that is reached over HTTP.
    pub fn endpoint(&self) -> Option<(u16, &str)> {
        match self {
            Self::Stdio => None,
            Self::StreamableHttp { port, path } | Self::Sse { port, path } => Some((*port, path)),
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Stdio,
    StreamableHttp,
    Sse,
}

impl Type {
    /// With what is left out; none when it has neither port nor path but was given one.
    fn with(self, port: Option<u16>, path: Option<&str>) -> Option<Transport> {
        let path_or = |default: &str| path.unwrap_or(default).to_owned();
        let at = port.unwrap_or(8000);
        match self {
            Self::Stdio => (port.is_none() && path.is_none()).then_some(Transport::Stdio),
            Self::StreamableHttp => Some(Transport::StreamableHttp { port: at, path: path_or("/mcp") }),
            Self::Sse => Some(Transport::Sse { port: at, path: path_or("/sse") }),
        }
    }
}

impl<'de> Deserialize<'de> for Transport {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Full {
            r#type: Type,
            port: Option<u16>,
            path: Option<String>,
        }
        const NEITHER: &str = "`stdio` has neither port nor path";
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Transport;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`stdio`, `streamable-http`, `sse`, or {type, port, path}")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Transport, E> {
                let word = serde::de::value::StrDeserializer::<E>::new(text);
                Type::deserialize(word)?.with(None, None).ok_or_else(|| E::custom(NEITHER))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Transport, A::Error> {
                let full = Full::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let transport = full.r#type.with(full.port, full.path.as_deref());
                transport.ok_or_else(|| serde::de::Error::custom(NEITHER))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
