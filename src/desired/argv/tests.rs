//! Placeholders and what becomes of them.

use serde_json::{Value, json};

use super::*;

fn parameters() -> Map<String, Value> {
    let schema = json!({
        "city": {"type": "string"},
        "days": {"type": "integer", "default": 3},
        "paths": {"type": "array", "items": {"type": "string"}},
        "namespace": {"type": "string"},
        "verbose": {"type": "boolean"},
        "any": {},
        "filter": {"type": "string", "allowDash": true},
        "command": {"type": "string", "split": "words"},
        "flags": {"type": "string", "split": "words", "allowDash": true},
    });
    schema.as_object().cloned().unwrap()
}

fn templates(args: &Value) -> Vec<ArgTemplate> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |arg: &Value| match arg.as_object() {
        None => ArgTemplate::Text(text(arg)),
        Some(when) => ArgTemplate::When {
            parameter: text(&when["if"]),
            args: when["args"].as_array().unwrap().iter().map(text).collect(),
        },
    };
    args.as_array().unwrap().iter().map(one).collect()
}

#[expect(clippy::unwrap_in_result, reason = "the error is that of filling")]
fn filled(args: &Value, arguments: &Value) -> Result<Vec<String>, ArgvError> {
    let command = compile(&["run".to_owned()], &templates(args), None, &parameters()).unwrap();
    fill(&command, arguments.as_object().unwrap()).map(|filled| filled.argv[filled.fixed..].to_vec())
}

#[test]
fn fills() {
    let cases = [
        // One element each, whatever the value holds.
        (json!(["${city}"]), json!({"city": "New York; rm -rf $HOME"}), json!(["New York; rm -rf $HOME"])),
        (json!(["--city=${city}"]), json!({"city": "-x"}), json!(["--city=-x"])),
        (json!(["${city}/${days}"]), json!({"city": "Bern"}), json!(["Bern/3"])),
        (json!(["${any}"]), json!({"any": true}), json!(["true"])),
        (json!(["${any}"]), json!({"any": 2.5}), json!(["2.5"])),
        (
            json!(["$${city}", "$$", "$x", "a$$${city}"]),
            json!({}),
            json!(["${city}", "$$", "$x", "a$${city}"]),
        ),
        (json!([""]), json!({}), json!([""])),
        (json!(["${city}"]), json!({"city": ""}), json!([""])),
        // Absent: the whole element goes, a default stays, null is absent.
        (json!(["a", "${city}", "b"]), json!({}), json!(["a", "b"])),
        (json!(["${days}"]), json!({}), json!(["3"])),
        (json!(["${days}"]), json!({"days": null}), json!(["3"])),
        (json!(["${days}"]), json!({"days": 9}), json!(["9"])),
        // Spread.
        (json!(["${paths...}", "z"]), json!({"paths": ["a b", "c"]}), json!(["a b", "c", "z"])),
        (json!(["${paths...}", "z"]), json!({"paths": []}), json!(["z"])),
        (json!(["${paths...}", "z"]), json!({}), json!(["z"])),
        // Conditions.
        (
            json!([{"if": "namespace", "args": ["-n", "${namespace}"]}]),
            json!({"namespace": "x"}),
            json!(["-n", "x"]),
        ),
        (json!([{"if": "namespace", "args": ["-n", "${namespace}"]}]), json!({}), json!([])),
        (json!([{"if": "verbose", "args": ["-v"]}]), json!({"verbose": true}), json!(["-v"])),
        (json!([{"if": "verbose", "args": ["-v"]}]), json!({"verbose": false}), json!([])),
        // Words.
        (
            json!(["${command}"]),
            json!({"command": "get  pods 'a b' \"c\\\"d\" e\\ f"}),
            json!(["get", "pods", "a b", "c\"d", "e f"]),
        ),
        (
            json!(["${command}"]),
            json!({"command": "$HOME `id` * | ;"}),
            json!(["$HOME", "`id`", "*", "|", ";"]),
        ),
        (json!(["${command}"]), json!({"command": " '' "}), json!([""])),
        (json!(["${command}"]), json!({"command": ""}), json!([])),
        (json!(["${flags}"]), json!({"flags": "get pods -A"}), json!(["get", "pods", "-A"])),
        // Dashes.
        (json!(["${filter}"]), json!({"filter": "-x"}), json!(["-x"])),
        (json!(["--", "${city}"]), json!({"city": "-x"}), json!(["--", "-x"])),
        (json!(["--", "${paths...}"]), json!({"paths": ["-x", "--"]}), json!(["--", "-x", "--"])),
    ];
    for (args, arguments, expected) in cases {
        let expected: Vec<String> = serde_json::from_value(expected).unwrap();
        assert_eq!(filled(&args, &arguments).unwrap(), expected, "{args} with {arguments}");
    }
}

#[test]
fn refuses_to_fill() {
    let name = |name: &str| name.to_owned();
    let cases = [
        (json!(["in ${city}"]), json!({}), ArgvError::Missing(name("city"))),
        (json!(["${any}"]), json!({"any": ["a"]}), ArgvError::Compound(name("any"))),
        (json!(["x${any}"]), json!({"any": {}}), ArgvError::Compound(name("any"))),
        (json!(["${any...}"]), json!({"any": "a"}), ArgvError::NotSpreadable(name("any"))),
        (json!(["${any...}"]), json!({"any": [["a"]]}), ArgvError::NotSpreadable(name("any"))),
        (json!(["${city}"]), json!({"city": "--output=/etc/passwd"}), ArgvError::Dash(name("city"))),
        (json!(["${any}"]), json!({"any": -5}), ArgvError::Dash(name("any"))),
        (json!(["${any}${city}"]), json!({"any": "", "city": "-x"}), ArgvError::Dash(name("city"))),
        (json!(["${paths...}"]), json!({"paths": ["a", "-x"]}), ArgvError::Dash(name("paths"))),
        (json!(["${command}"]), json!({"command": "get -A"}), ArgvError::Dash(name("command"))),
        // A `--` that a caller sends protects nothing.
        (json!(["${command}"]), json!({"command": "-- -x"}), ArgvError::Dash(name("command"))),
        (json!(["${flags}", "${city}"]), json!({"flags": "--", "city": "-x"}), ArgvError::Dash(name("city"))),
        (
            json!([{"if": "verbose", "args": ["--"]}, "${city}"]),
            json!({"city": "-x"}),
            ArgvError::Dash(name("city")),
        ),
        (json!(["${city}"]), json!({"city": "a\u{0}b"}), ArgvError::Nul(name("city"))),
        (json!(["x${city}"]), json!({"city": "a\u{0}b"}), ArgvError::Nul(name("city"))),
        (json!(["${command}"]), json!({"command": "a 'b"}), ArgvError::Words(name("command"))),
        (json!(["${command}"]), json!({"command": "a\\"}), ArgvError::Words(name("command"))),
        (json!(["${paths...}"]), json!({"paths": vec!["a"; 5000]}), ArgvError::TooMany),
        (json!(["${city}"]), json!({"city": "a".repeat(MAX_TEST)}), ArgvError::TooLong),
        (json!(["${city}${city}"]), json!({"city": "a".repeat(MAX_TEST / 2)}), ArgvError::TooLong),
    ];
    for (args, arguments, expected) in cases {
        assert_eq!(filled(&args, &arguments).unwrap_err(), expected, "{args}");
    }
}

const MAX_TEST: usize = fill::MAX_BYTES;

#[test]
fn standard_input() {
    let cases = [
        ("${city}", json!({}), Ok(None)),
        ("${city}", json!({"city": "-\u{0}"}), Ok(Some("-\u{0}"))),
        ("a ${any} $${b}", json!({"any": [1, "x"]}), Ok(Some("a [1,\"x\"] ${b}"))),
        ("a ${city}", json!({}), Err(ArgvError::Missing("city".to_owned()))),
    ];
    for (stdin, arguments, expected) in cases {
        let command = compile(&[], &[], Some(stdin), &parameters()).unwrap();
        let found = fill(&command, arguments.as_object().unwrap()).map(|filled| filled.stdin);
        assert_eq!(found, expected.map(|text: Option<&str>| text.map(str::to_owned)), "{stdin}");
    }
}

#[test]
fn refuses_to_compile() {
    let cases = [
        (json!(["${town}"]), "args[0]", Some("town"), "there is no parameter `town`"),
        (json!(["${CITY}"]), "args[0]", Some("CITY"), "there is no parameter `CITY`"),
        (json!(["a", "${city"]), "args[1]", None, "a placeholder is not closed by `}`"),
        (json!(["${}"]), "args[0]", Some(""), "`${}` is not a placeholder"),
        (json!(["${city:-x}"]), "args[0]", Some("city:-x"), "`${city:-x}` is not a placeholder"),
        (
            json!(["${paths}"]),
            "args[0]",
            Some("paths"),
            "`${paths}` fills one element, but `paths` is an array or an object",
        ),
        (json!(["${city...}"]), "args[0]", Some("city"), "`${city...}` spreads an array, but `city` is none"),
        (json!(["x${paths...}"]), "args[0]", Some("paths"), "`${paths...}` stands inside other text"),
        (
            json!(["x${command}"]),
            "args[0]",
            Some("command"),
            "`command` is split in words, but `${command}` stands inside other text",
        ),
        (json!([{"if": "town", "args": []}]), "args[0].if", Some("town"), "there is no parameter `town`"),
        (
            json!([{"if": "city", "args": ["a", "${town}"]}]),
            "args[0].args[1]",
            Some("town"),
            "there is no parameter `town`",
        ),
    ];
    for (args, field, placeholder, message) in cases {
        let problems = compile(&[], &templates(&args), None, &parameters()).unwrap_err();
        let found = problems.first().unwrap();
        assert_eq!((found.field.as_str(), found.placeholder.as_deref()), (field, placeholder), "{args}");
        assert_eq!(found.message, message);
        assert!(found.hint.is_some(), "{args}");
    }
    let problems = compile(&["${city}".to_owned()], &[], Some("${paths...}"), &parameters()).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["command[0]", "stdin"], "all problems, not the first");
    let hint = &compile(&[], &templates(&json!(["${CITY}"])), None, &parameters()).unwrap_err()[0].hint;
    assert_eq!(hint.as_deref(), Some("the parameter is called `city`"));
}

#[test]
fn refuses_parameters() {
    for property in [
        json!({"type": "string", "split": "lines"}),
        json!({"type": "array", "split": "words"}),
        json!({"allowDash": "yes"}),
    ] {
        let properties = Map::from_iter([("x".to_owned(), property.clone())]);
        assert!(compile(&[], &[], None, &properties).is_err(), "{property}");
    }
}
