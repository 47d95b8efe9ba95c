//! What is written is what is read.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

#[test]
fn it_looks_as_a_person_writes() {
    let mut git = Map::new();
    git.put("url", "git@internal-git:ops/mcp-utils.git").put("ref", "main").remark("A note.");
    let mut source = Map::new();
    source.put("git", git);
    let mut transport = Map::inline();
    transport.put("type", "streamable-http").put("port", 9000);
    let mut spec = Map::new();
    spec.put("source", source)
        .put("transport", transport)
        .remark("Why it is so.")
        .put("args", vec!["-n".to_owned(), "--".to_owned(), "${name}".to_owned(), "-".to_owned()])
        .put("version", "1.0")
        .put("other", "2025.9.25")
        .put("text", "One.\n\nTwo: three.\n")
        .put("long", "word ".repeat(30).trim_end());
    insta::assert_snapshot!(text(&spec), @r#"
    source:
      git:
        url: git@internal-git:ops/mcp-utils.git
        ref: main
        # A note.
    transport: {type: streamable-http, port: 9000}
    # Why it is so.
    args: [-n, --, "${name}", "-"]
    version: "1.0"
    other: 2025.9.25
    text: |
      One.

      Two: three.
    long: >-
      word word word word word word word word word word word word word word word word word word word
      word word word word word word word word word word word
    "#);
}

#[test]
fn what_looks_like_something_else_is_quoted() {
    for text in [
        "",
        " ",
        "no",
        "On",
        "014",
        "1_000",
        "0x1F",
        "1e5",
        "-5",
        ".5",
        ".inf",
        "2025-09-25",
        "12:30",
        "~",
        "null",
        "- a",
        "a: b",
        "a #b",
        "a:",
        "*x",
        "&x",
        "!x",
        "%x",
        "@x",
        "`x",
        "{a}",
        "[a]",
        "\"a",
        "'a",
        "a\tb",
        "a\rb",
        "a\u{85}b",
        "\u{feff}a",
        "---",
        "...",
        "?",
        "? a",
        "|",
        ">",
        "a\n",
        "\na",
        " a\n b",
        "a\n\n",
        "a  \nb",
        "#a",
        "0:?",
        "a? b",
    ] {
        let mut inline = Map::inline();
        inline.put(text, "key").put("v", text);
        let mut map = Map::new();
        map.put("k", text).put("l", vec![text.to_owned(), "x".to_owned()]).put("m", inline).put(text, "key");
        let written = super::text(&map);
        let expected = json!({"k": text, "l": [text, "x"], "m": {text: "key", "v": text}, text: "key"});
        assert_eq!(read(&written), expected, "{written}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(|number| json!(number)),
        "[ -~äß\n\t]{0,160}".prop_map(Value::String),
        "\\PC{0,12}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map("[ -~]{0,20}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(value in value(), blocks in any::<bool>()) {
        let mut map = Map::new();
        map.remark("before\nand more").put("value", &value).remark("after");
        if blocks {
            let mut nested = Map::new();
            nested.put("value", &value);
            map.put("nested", nested);
        }
        let written = text(&map);
        let read: Value = serde_yaml::from_str(&written).map_err(|error| TestCaseError::fail(format!("{error}:\n{written}")))?;
        prop_assert_eq!(&read["value"], &value, "{}", written);
        if blocks {
            prop_assert_eq!(&read["nested"]["value"], &value, "{}", written);
        }
    }
}
