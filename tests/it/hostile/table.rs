//! One request each: what is wrong with it, and the status and code it gets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::wire::{Asked, LEGACY, MODERN};
use super::{Bystander, World, greeting};

/// What is wrong, the request, the status, and the JSON-RPC code; 0: no error.
type Case = (&'static str, Asked, u16, i64);

/// Bodies of more than this are refused (`mcp::server::MAX_BODY`).
const MAX_BODY: usize = 4 << 20;

const PARSE: i64 = -32700;
const INVALID: i64 = -32600;
const NO_METHOD: i64 = -32601;
const PARAMS: i64 = -32602;
const MISMATCH: i64 = -32020;
const VERSION: i64 = -32022;

fn list() -> Asked {
    Asked::modern("tools/list", json!({}))
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

/// Bodies, in either era: `right` is a request that is served.
fn bodies(right: &Asked) -> Vec<Case> {
    let body = |bytes: &[u8]| right.clone().body(bytes);
    vec![
        ("nothing is wrong", right.clone(), 200, 0),
        ("nothing is wrong, in chunks", right.clone().chunked(7), 200, 0),
        ("a byte order mark and blanks", body(b" \r\n\t").edit("\t", "\t{"), 400, PARSE),
        ("no body", body(b""), 400, PARSE),
        ("not JSON", body(b"tools/list"), 400, PARSE),
        ("cut off", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"par"), 400, PARSE),
        ("two messages", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}{}"), 400, PARSE),
        ("invalid UTF-8", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"\xff\xfe\"}"), 400, PARSE),
        ("invalid UTF-8 in an id", body(b"{\"jsonrpc\":\"2.0\",\"id\":\"\xc3\x28\",\"method\":\"ping\"}"), 400, PARSE),
        ("UTF-16", body(b"\xff\xfe{\0}\0"), 400, PARSE),
        ("a NUL", body(b"\0"), 400, PARSE),
        ("compressed", right.clone().with("Content-Encoding", "gzip"), 415, INVALID),
        ("an empty batch", body(b"[]"), 400, INVALID),
        ("a batch", body(b"[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}]"), 400, INVALID),
        ("a number", body(b"7"), 400, INVALID),
        ("a string", body(b"\"tools/list\""), 400, INVALID),
        ("null", body(b"null"), 400, INVALID),
        ("JSON-RPC 1.0", right.clone().edit("\"jsonrpc\":\"2.0\"", "\"jsonrpc\":\"1.0\""), 400, INVALID),
        ("no version of JSON-RPC", right.clone().edit("\"jsonrpc\":\"2.0\",", ""), 400, INVALID),
        ("an id that is null", right.clone().edit("\"id\":7", "\"id\":null"), 400, INVALID),
        ("an id that is an object", right.clone().edit("\"id\":7", "\"id\":{}"), 400, INVALID),
        ("an id that is true", right.clone().edit("\"id\":7", "\"id\":true"), 400, INVALID),
        ("an id that is long", right.clone().edit("\"id\":7", &format!("\"id\":\"{}\"", "a".repeat(2000))), 400, INVALID),
        ("two ids", right.clone().edit("\"id\":7", "\"id\":7,\"id\":8"), 400, INVALID),
        ("a method that is a number", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":7}"), 400, INVALID),
        ("no method", body(b"{\"jsonrpc\":\"2.0\",\"id\":7}"), 400, INVALID),
        ("a request that is a response", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"result\":{}}"), 400, INVALID),
        ("parameters that are a list", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"params\":[1]}"), 400, PARAMS),
        ("parameters that are a string", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"params\":\"a\"}"), 400, PARAMS),
        ("`_meta` that is a list", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"params\":{\"_meta\":[]}}"), 400, PARAMS),
        ("two names", body(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"params\":{\"name\":\"a\",\"name\":\"b\"}}"), 400, PARAMS),
        ("100,000 lists in one another", body(nested(100_000).as_bytes()), 400, INVALID),
        (
            "100,000 lists in one another, where nobody looks",
            right.clone().edit("\"id\":7", &format!("\"id\":7,\"deep\":{}", nested(100_000))),
            200,
            0,
        ),
        ("too large by its own account", right.clone().with("Content-Length", "4194305"), 413, INVALID),
        ("large by its own account", right.clone().with("Content-Length", "9223372036854775807"), 413, INVALID),
        ("too large", body(&vec![b' '; MAX_BODY + 1]), 413, INVALID),
        ("too large in chunks", body(&vec![b' '; MAX_BODY + 1]).chunked(60_000), 413, INVALID),
        (
            "as large as it may be",
            right.clone().body([right_body(right), vec![b' '; MAX_BODY - right_body(right).len()]].concat()),
            200,
            0,
        ),
    ]
}

fn right_body(asked: &Asked) -> Vec<u8> {
    let bytes = asked.bytes("x");
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    bytes[head + 4..].to_vec()
}

/// Headers that are everybody's.
fn headers(right: &Asked) -> Vec<Case> {
    let with = |name: &str, value: &str| right.clone().with(name, value);
    vec![
        ("no Content-Type", right.clone().without("Content-Type"), 415, INVALID),
        ("text", with("Content-Type", "text/plain"), 415, INVALID),
        ("a form", with("Content-Type", "application/x-www-form-urlencoded"), 415, INVALID),
        ("nearly JSON", with("Content-Type", "application/jsonp"), 415, INVALID),
        ("JSON with a charset", with("Content-Type", "Application/JSON; charset=utf-8"), 200, 0),
        ("no Accept", right.clone().without("Accept"), 200, 0),
        ("any Accept", with("Accept", "*/*"), 200, 0),
        ("a version that is no text", right.clone().with("MCP-Protocol-Version", b"\xff\xfe"), 400, MISMATCH),
        ("two versions", right.clone().also("mcp-protocol-version", MODERN), 400, MISMATCH),
        ("another Host", with("Host", "evil.example.com"), 403, INVALID),
        ("no Host", right.clone().without("Host"), 400, INVALID),
        ("two Hosts", right.clone().also("Host", "evil.example.com"), 400, INVALID),
        ("another Origin", with("Origin", "https://evil.example.com"), 403, INVALID),
        ("an Origin that is none", with("Origin", "null"), 403, INVALID),
        ("an Origin that is no text", right.clone().with("Origin", b"http://\xff"), 403, INVALID),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn modern() -> Vec<Case> {
    let call =
        |arguments: Value| Asked::modern("tools/call", json!({"name": "where", "arguments": arguments}));
    let base64 =
        |text: &str| format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(text));
    let deep = |depth: usize| greeting("x").edit("\"name\":\"x\"", &format!("\"name\":{}", nested(depth)));
    vec![
        ("no version in the header", list().without("MCP-Protocol-Version"), 400, MISMATCH),
        ("an older version in the header", list().with("MCP-Protocol-Version", LEGACY), 400, MISMATCH),
        ("a newer version in the header", list().with("MCP-Protocol-Version", "2030-01-01"), 400, MISMATCH),
        ("an older version in the body", list().edit(MODERN, LEGACY), 400, MISMATCH),
        ("a version in the body that is a number", list().edit("\"2026-07-28\"", "20260728"), 400, PARAMS),
        ("no version in the body", list().edit("protocolVersion", "protocolversion"), 400, PARAMS),
        ("no capabilities", list().edit("clientCapabilities", "clientcapabilities"), 400, PARAMS),
        (
            "capabilities that are a list",
            list().edit("clientCapabilities\":{}", "clientCapabilities\":[]"),
            400,
            PARAMS,
        ),
        (
            "a version nobody speaks",
            list().edit(MODERN, "2030-01-01").with("MCP-Protocol-Version", "2030-01-01"),
            400,
            VERSION,
        ),
        (
            "a version of sessions in a request without",
            list().edit(MODERN, LEGACY).with("MCP-Protocol-Version", LEGACY),
            400,
            VERSION,
        ),
        ("no Mcp-Method", list().without("Mcp-Method"), 400, MISMATCH),
        ("another Mcp-Method", list().with("Mcp-Method", "prompts/list"), 400, MISMATCH),
        ("Mcp-Method in capitals", list().with("Mcp-Method", "TOOLS/LIST"), 400, MISMATCH),
        ("two Mcp-Method", list().also("Mcp-Method", "tools/list"), 400, MISMATCH),
        ("no Mcp-Name", greeting("x").without("Mcp-Name"), 400, MISMATCH),
        ("another Mcp-Name", greeting("x").with("Mcp-Name", "where"), 400, MISMATCH),
        ("two Mcp-Name", greeting("x").also("Mcp-Name", "greet"), 400, MISMATCH),
        ("Mcp-Name in Base64", greeting("x").with("Mcp-Name", base64("greet")), 200, 0),
        ("Mcp-Name in bad Base64", greeting("x").with("Mcp-Name", "=?base64?Z?="), 400, MISMATCH),
        ("Mcp-Name of no text", greeting("x").with("Mcp-Name", b"gr\xc3\xa9et"), 400, MISMATCH),
        ("a mirrored parameter", call(json!({"region": "eu"})).with("Mcp-Param-Region", "eu"), 200, 0),
        ("mirrored in Base64", call(json!({"region": "é"})).with("Mcp-Param-Region", base64("é")), 200, 0),
        ("mirrored wrongly", call(json!({"region": "eu"})).with("Mcp-Param-Region", "us"), 400, MISMATCH),
        ("not mirrored", call(json!({"region": "eu"})), 400, MISMATCH),
        ("mirrored and not there", call(json!({})).with("Mcp-Param-Region", "eu"), 400, MISMATCH),
        (
            "mirrored twice",
            call(json!({"region": "eu"})).with("Mcp-Param-Region", "eu").also("Mcp-Param-Region", "eu"),
            400,
            MISMATCH,
        ),
        (
            "a number mirrored as another",
            call(json!({"count": 7})).with("Mcp-Param-Count", "8"),
            400,
            MISMATCH,
        ),
        ("a number mirrored", call(json!({"count": 7})).with("Mcp-Param-Count", "7"), 200, 0),
        ("a method that does not exist", Asked::modern("tools/destroy", json!({})), 404, NO_METHOD),
        ("a method without letters", Asked::modern("", json!({})), 404, NO_METHOD),
        ("a method of sessions", Asked::modern("ping", json!({})), 404, NO_METHOD),
        ("a handshake that has none", Asked::modern("initialize", json!({})), 404, NO_METHOD),
        ("a notification", list().edit("\"id\":7,", ""), 202, 0),
        ("a response", list().body("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}"), 400, INVALID),
        ("no tool's name", Asked::modern("tools/call", json!({})), 200, PARAMS),
        ("a name that is a number", Asked::modern("tools/call", json!({"name": 7})), 200, PARAMS),
        ("an unknown tool", Asked::modern("tools/call", json!({"name": "nobody"})), 200, PARAMS),
        ("an unknown prompt", Asked::modern("prompts/get", json!({"name": "nobody"})), 200, PARAMS),
        ("an unknown resource", Asked::modern("resources/read", json!({"uri": "x://1"})), 200, PARAMS),
        (
            "arguments that are a list",
            Asked::modern("tools/call", json!({"name": "greet", "arguments": [1]})),
            200,
            PARAMS,
        ),
        (
            "arguments that do not fit",
            Asked::modern("tools/call", json!({"name": "greet", "arguments": {"name": 1}})),
            200,
            0,
        ),
        ("an argument of 100 lists", deep(100), 200, 0),
        ("an argument of 100,000 lists", deep(100_000), 200, PARAMS),
        ("a reference to nothing", Asked::modern("completion/complete", json!({})), 200, PARAMS),
        (
            "a log level nobody knows",
            list().edit("\"_meta\":{", "\"_meta\":{\"io.modelcontextprotocol/logLevel\":\"loud\","),
            400,
            PARAMS,
        ),
        (
            "a progress token that is long",
            list().edit("\"_meta\":{", &format!("\"_meta\":{{\"progressToken\":\"{}\",", "a".repeat(2000))),
            400,
            PARAMS,
        ),
        ("a subscription without a filter", Asked::modern("subscriptions/listen", json!({})), 400, PARAMS),
        (
            "a subscription to a list",
            Asked::modern("subscriptions/listen", json!({"notifications": []})),
            400,
            PARAMS,
        ),
        (
            "a subscription to too much",
            Asked::modern(
                "subscriptions/listen",
                json!({"notifications": {"resourceSubscriptions": vec!["x://1"; 257]}}),
            ),
            400,
            PARAMS,
        ),
        (
            "a subscription to too many tasks",
            Asked::modern(
                "subscriptions/listen",
                json!({"notifications": {"taskIds": (0..65).map(|id| id.to_string()).collect::<Vec<_>>()}}),
            ),
            400,
            PARAMS,
        ),
        (
            "a subscription to a long URI",
            Asked::modern(
                "subscriptions/listen",
                json!({"notifications": {"resourceSubscriptions": ["x".repeat(5000)]}}),
            ),
            400,
            PARAMS,
        ),
        (
            "a subscription without a stream",
            Asked::modern("subscriptions/listen", json!({"notifications": {}}))
                .with("Accept", "application/json"),
            406,
            INVALID,
        ),
        ("GET", list().verb("GET").body(""), 405, INVALID),
        ("DELETE", list().verb("DELETE").body(""), 405, INVALID),
        ("PUT", list().verb("PUT"), 405, INVALID),
        ("OPTIONS", list().verb("OPTIONS").body(""), 405, INVALID),
        ("TRACE", list().verb("TRACE").body(""), 405, INVALID),
        ("a method of HTTP nobody knows", list().verb("BREW").body(""), 405, INVALID),
        ("a session, which is ignored", list().with("Mcp-Session-Id", "forged"), 200, 0),
    ]
}

/// Cursors: of each list, and of endpoints that share them.
fn cursors(next: &str) -> Vec<Case> {
    let at = |path: &str, method: &str, cursor: Value| {
        Asked::modern(method, json!({"cursor": cursor})).target(path)
    };
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(next).unwrap()).unwrap();
    let made = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        json!(URL_SAFE_NO_PAD.encode(text.replacen(from, to, 1)))
    };
    vec![
        ("the next page", at("/mcp", "tools/list", json!(next)), 200, 0),
        ("a cursor that is empty", at("/mcp", "tools/list", json!("")), 200, PARAMS),
        ("a cursor that is null", at("/mcp", "tools/list", Value::Null), 200, 0),
        ("a cursor that is a number", at("/mcp", "tools/list", json!(7)), 200, PARAMS),
        ("a cursor that is a list", at("/mcp", "tools/list", json!([next])), 200, PARAMS),
        ("a cursor that is garbage", at("/mcp", "tools/list", json!("!!!")), 200, PARAMS),
        ("a cursor that is long", at("/mcp", "tools/list", json!("A".repeat(1 << 20))), 200, PARAMS),
        ("a cursor with more", at("/mcp", "tools/list", json!(format!("{next}AAAA"))), 200, PARAMS),
        ("a cursor into the middle", at("/mcp", "tools/list", made(".1000.", ".999.")), 200, PARAMS),
        (
            "a cursor behind the end",
            at("/mcp", "tools/list", made(".1000.", ".18446744073709551615.")),
            200,
            PARAMS,
        ),
        (
            "a cursor of a number too large",
            at("/mcp", "tools/list", made(".1000.", ".99999999999999999999.")),
            200,
            PARAMS,
        ),
        ("a cursor of another catalog", at("/mcp", "tools/list", made(&text[..7], "0000000")), 200, PARAMS),
        ("a cursor of another list", at("/mcp", "prompts/list", json!(next)), 200, PARAMS),
        ("a cursor of another endpoint", at("/mcp/many", "tools/list", json!(next)), 200, PARAMS),
        ("a cursor of a larger endpoint", at("/mcp/few", "tools/list", json!(next)), 200, PARAMS),
    ]
}

fn legacy(session: &str) -> Vec<Case> {
    let ask = |method: &str, params: Value| Asked::legacy(session, method, params);
    let list = || ask("tools/list", json!({}));
    vec![
        ("no version, which is an old one", list().without("MCP-Protocol-Version"), 200, 0),
        ("an older version", list().with("MCP-Protocol-Version", "2024-11-05"), 200, 0),
        ("a version nobody speaks", list().with("MCP-Protocol-Version", "2030-01-01"), 400, INVALID),
        ("a version that is empty", list().with("MCP-Protocol-Version", ""), 400, INVALID),
        ("the version without sessions", list().with("MCP-Protocol-Version", MODERN), 400, PARAMS),
        ("a method that does not exist", ask("tools/destroy", json!({})), 200, NO_METHOD),
        ("a handshake without a version", ask("initialize", json!({})), 400, PARAMS),
        ("a level nobody knows", ask("logging/setLevel", json!({"level": "loud"})), 200, PARAMS),
        ("an unknown tool", ask("tools/call", json!({"name": "nobody"})), 200, PARAMS),
        ("an unknown resource", ask("resources/read", json!({"uri": "x://1"})), 200, -32002),
        ("a subscription to nothing", ask("resources/subscribe", json!({})), 200, PARAMS),
        (
            "a subscription to a long URI",
            ask("resources/subscribe", json!({"uri": "x".repeat(5000)})),
            200,
            PARAMS,
        ),
        ("the end of no subscription", ask("resources/unsubscribe", json!({"uri": "x://1"})), 200, 0),
        ("a cursor that is garbage", ask("tools/list", json!({"cursor": "!!!"})), 200, PARAMS),
        (
            "a notification nobody knows",
            list().edit("\"id\":7,", "").edit("tools/list", "notifications/x"),
            202,
            0,
        ),
        (
            "the cancellation of nothing",
            list().body(
                "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":99}}",
            ),
            202,
            0,
        ),
        (
            "the cancellation of a list",
            list().body(
                "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":[]}}",
            ),
            202,
            0,
        ),
        (
            "an answer nobody asked for",
            list().body("{\"jsonrpc\":\"2.0\",\"id\":\"toolcrib-1\",\"result\":{}}"),
            202,
            0,
        ),
        (
            "an error nobody asked for",
            list().body("{\"jsonrpc\":\"2.0\",\"id\":99,\"error\":{\"code\":1,\"message\":\"no\"}}"),
            202,
            0,
        ),
        ("GET that takes no stream", Asked::new("GET", "/mcp").with("Mcp-Session-Id", session), 406, INVALID),
        ("PUT", list().verb("PUT"), 405, INVALID),
    ]
}

#[test]
fn each_has_the_status_and_code_of_the_specification_and_harms_nobody() {
    let world = World::start(&[]);
    let mut bystander = Bystander::of(&world);
    let session = world.session();
    let first = world.ask(&list()).message();
    assert_eq!(first["result"]["tools"].as_array().unwrap().len(), 1_000);
    let next = first["result"]["nextCursor"].as_str().unwrap();

    let in_session = Asked::legacy(&session, "tools/list", json!({}));
    let both = [bodies(&list()), headers(&list()), bodies(&in_session)].concat();
    let cases = [both, modern(), cursors(next), legacy(&session)].concat();
    let mut wrong = Vec::new();
    for (what, asked, status, code) in &cases {
        let answer = world.ask(asked);
        answer.check(what);
        if (answer.status, answer.code()) != (*status, *code) {
            wrong.push(format!("{what}: {status} {code} expected: {}", answer.shown()));
        }
        bystander.is_served(what);
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}\n", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(!world.daemon.log().contains("panicked"), "{}", world.daemon.log());
}
