//! A whole probe against a scripted server.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};

use super::*;
use crate::live::InstanceId;
use crate::resource::Name;

/// Answers each request with what `answer` says: a result, or an error when it begins with `!`.
async fn serve(stream: DuplexStream, answer: impl Fn(&str, Option<&str>) -> String) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let Some(id) = request.get("id") else { continue };
        let method = request["method"].as_str().expect("a request");
        let answer = answer(method, request["params"]["cursor"].as_str());
        let answer = match answer.strip_prefix('!') {
            Some(code) => {
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#)
            }
            None => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{answer}}}"#),
        };
        writer.write_all(format!("{answer}\n").as_bytes()).await.expect("memory");
    }
}

fn key() -> UpstreamKey {
    UpstreamKey { server: Name::parse("weather").expect("a name"), instance: InstanceId("i1".to_owned()) }
}

async fn probed(
    answer: impl Fn(&str, Option<&str>) -> String,
    check: impl AsyncFnOnce(Probe, PortResult<Offer>),
) {
    let probe = Probe::new(Arc::default());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(ours);
    let channel = Channel::Stdio { reader: Box::new(reader), writer: Box::new(writer) };
    let client = async {
        let (key, cancel) = (key(), CancellationToken::new());
        let deadline = Duration::from_secs(20);
        let offer = probe.probe(&key, channel, Greeting::Unknown, deadline, &cancel).await;
        check(probe, offer).await;
    };
    tokio::join!(serve(theirs, answer), client);
}

fn legacy(method: &str, capabilities: &str) -> Option<String> {
    match method {
        "server/discover" => Some("!-32601".to_owned()),
        "initialize" => Some(format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{"name":"s"}},"instructions":"do"}}"#
        )),
        _ => None,
    }
}

#[tokio::test]
async fn everything_is_listed_and_the_connection_kept() {
    let answer = |method: &str, cursor: Option<&str>| {
        legacy(method, r#"{"tools":{},"resources":{}}"#).unwrap_or_else(|| match (method, cursor) {
            ("tools/list", None) => r#"{"tools":[{"name":"a"}],"nextCursor":"\"2"}"#.to_owned(),
            ("tools/list", Some("\"2")) => r#"{"tools":[{"name":"b"}]}"#.to_owned(),
            ("resources/list", None) => r#"{"resources":[{"uri":"x://y"}]}"#.to_owned(),
            // Prompts are not among the capabilities, and must not be asked for.
            ("resources/templates/list", None) => "!-32601".to_owned(),
            _ => "!-32603".to_owned(),
        })
    };
    probed(answer, async |probe, offer| {
        let offer = offer.expect("listed");
        assert_eq!(offer.protocol, "legacy 2025-11-25");
        assert_eq!(offer.instructions.as_deref(), Some("do"));
        let tools: Vec<_> = offer.tools.iter().map(AsRef::as_ref).collect();
        assert_eq!(tools, [r#"{"name":"a"}"#, r#"{"name":"b"}"#]);
        assert_eq!((offer.prompts.len(), offer.resources.len(), offer.templates.len()), (0, 1, 0));
        assert_eq!(probe.connected(), BTreeSet::from([key()]));
        assert_eq!(probe.refresh(&key(), Duration::from_secs(9)).await.expect("again"), offer);
        probe.release(&key(), Duration::ZERO).await;
        assert!(probe.connected().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_list_without_end_is_refused_and_the_connection_closed() {
    let page = std::sync::atomic::AtomicUsize::new(0);
    let answer = |method: &str, _: Option<&str>| {
        legacy(method, r#"{"tools":{}}"#).unwrap_or_else(|| {
            let page = page.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let tools: Vec<_> = (0..1000).map(|n| format!(r#"{{"name":"t{page}-{n}"}}"#)).collect();
            format!(r#"{{"tools":[{}],"nextCursor":"{page}"}}"#, tools.join(","))
        })
    };
    probed(answer, async |probe, offer| {
        let error = offer.expect_err("too many");
        assert_eq!(
            error.chain(),
            "failed to list what server `weather` offers: `tools/list` lists more than 20000 items"
        );
        assert_eq!(error.disposition, crate::ports::Disposition::Stalled);
        assert!(probe.connected().is_empty());
    })
    .await;
}
