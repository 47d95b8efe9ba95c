//! JSON as nobody's serializer writes it: numbers and escapes that mean the same as others and are other
//! text, and members that nobody knows.

use proptest::prelude::{Just, Strategy, prop, prop_oneof};
use proptest::strategy::BoxedStrategy;

use super::server::Offer;

/// Numbers that a reader would write otherwise.
const NUMBERS: [&str; 12] = [
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1.50",
    "1E+2",
    "1e-7",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "0.1000000000000000055511151231257827",
    "2.5e+300",
];

/// Strings that a reader would write otherwise.
const STRINGS: [&str; 12] = [
    r#""""#,
    r#""plain""#,
    r#""\u0041\u00e9""#,
    r#""\ud83d\ude00 😀""#,
    r#""a\/b""#,
    r#""\u0000""#,
    r#""line\nbreak\r\t\b\f""#,
    r#""\"quoted\" \\""#,
    r#""isError\":true""#,
    r#""\u2028""#,
    r#""\"resultType\":\"task\"""#,
    "\"é ü 漢\"",
];

/// White space that stands between tokens.
const SPACES: [&str; 4] = ["", "", " ", "  "];

fn object(members: &[(String, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Any JSON.
fn any() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        prop::sample::select(&["null", "true", "false"][..]).prop_map(str::to_owned),
        prop::sample::select(&NUMBERS[..]).prop_map(str::to_owned),
        prop::sample::select(&STRINGS[..]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let space = prop::sample::select(&SPACES[..]);
        let array = (prop::collection::vec(inner.clone(), 0..4), space.clone())
            .prop_map(|(items, space)| format!("[{space}{}]", items.join(&format!("{space},"))));
        prop_oneof![array, unknown(inner)]
    })
    .boxed()
}

/// An object of members that nobody knows; some names are escaped.
fn unknown(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = prop::sample::select(&["x", "icons", "\\u006bey", "a/b", "é"][..]);
    prop::collection::vec((key, value), 0..4).prop_map(|members| {
        let numbered = members.into_iter().enumerate();
        let members: Vec<_> = numbered.map(|(n, (key, value))| (format!("{key}{n}"), value)).collect();
        object(&members)
    })
}

/// Members, and what anybody may add: icons, annotations, `_meta` and something unknown.
fn with_more(known: Vec<(String, String)>) -> impl Strategy<Value = String> {
    let more = (unknown(any()), unknown(any()), any(), prop::collection::vec(unknown(any()), 0..3));
    (Just(known), more, prop::bool::ANY).prop_map(|(mut known, (meta, annotations, other, icons), has)| {
        known.push(("icons".to_owned(), format!("[{}]", icons.join(","))));
        known.push(("annotations".to_owned(), annotations));
        known.push(("notKnownYet".to_owned(), other));
        if has {
            known.push(("_meta".to_owned(), meta));
        }
        object(&known)
    })
}

fn pair(key: &str, value: impl Into<String>) -> (String, String) {
    (key.to_owned(), value.into())
}

/// `count` documents, each with its name.
fn named(
    count: usize,
    name: fn(usize) -> String,
    document: impl Fn(&str) -> BoxedStrategy<String>,
) -> BoxedStrategy<Vec<(String, String)>> {
    let all: Vec<_> = (0..count)
        .map(|n| {
            let name = name(n);
            document(&name).prop_map(move |text| (name.clone(), text))
        })
        .collect();
    all.boxed()
}

fn tool(name: &str) -> BoxedStrategy<String> {
    let name = name.to_owned();
    (any(), any(), prop::sample::select(&STRINGS[..]))
        .prop_flat_map(move |(one, other, title)| {
            let schema =
                format!(r#"{{"type":"object","properties":{{"n":{{"default":{one}}}}},"x-own":{other}}}"#);
            with_more(vec![
                pair("name", format!("\"{name}\"")),
                pair("title", title),
                pair("inputSchema", schema.clone()),
                pair("outputSchema", schema),
            ])
        })
        .boxed()
}

fn prompt(name: &str) -> BoxedStrategy<String> {
    let name = pair("name", format!("\"{name}\""));
    any()
        .prop_flat_map(move |other| {
            let argument = format!(r#"[{{"name":"a","x-own":{other}}}]"#);
            with_more(vec![name.clone(), pair("arguments", argument)])
        })
        .boxed()
}

fn resource(uri: &str) -> BoxedStrategy<String> {
    with_more(vec![pair("uri", format!("\"{uri}\"")), pair("name", "\"r\""), pair("size", "12.0")]).boxed()
}

fn template(uri: &str) -> BoxedStrategy<String> {
    with_more(vec![pair("uriTemplate", format!("\"{uri}\"")), pair("name", "\"t\"")]).boxed()
}

/// A result with content below `member`.
fn result(member: &'static str, structured: bool) -> BoxedStrategy<String> {
    let text = prop::sample::select(&STRINGS[..]);
    (prop::collection::vec((text, any()), 0..3), any())
        .prop_flat_map(move |(items, other)| {
            let item = |(text, other): &(&str, String)| match member {
                "messages" => format!(
                    r#"{{"role":"user","content":{{"type":"text","text":{text},"_meta":{{"x":{other}}}}}}}"#
                ),
                "contents" => format!(r#"{{"uri":"x://1","text":{text},"x-own":{other}}}"#),
                _ => format!(r#"{{"type":"text","text":{text},"annotations":{{"x":{other}}}}}"#),
            };
            let items: Vec<_> = items.iter().map(item).collect();
            let mut members = vec![pair(member, format!("[{}]", items.join(",")))];
            if structured {
                members.push(pair("structuredContent", other));
            }
            with_more(members)
        })
        .boxed()
}

/// Everything a server offers and answers.
pub(super) fn offer(count: usize) -> impl Strategy<Value = Offer> {
    let lists = (
        named(count, |n| format!("t{n}"), tool),
        named(count, |n| format!("p{n}"), prompt),
        named(count, |n| format!("x://{n}"), resource),
        named(count, |n| format!("y://{n}/{{a}}"), template),
    );
    let many = |one: BoxedStrategy<String>| prop::collection::vec(one, count);
    let answers = (
        prop::collection::vec((unknown(any()), result("content", true)), count),
        many(result("messages", false)),
        many(result("contents", false)),
    );
    (lists, answers).prop_map(|((tools, prompts, resources, templates), (calls, messages, contents))| Offer {
        tools,
        prompts,
        resources,
        templates,
        calls,
        messages,
        contents,
    })
}
