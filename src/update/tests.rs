//! Ranges as people write them, and what is chosen of what there is.

use super::*;

#[test]
fn the_newest_of_its_kind_within_the_range() {
    let cases: &[(&str, &str, &[&str], Option<&str>)] = &[
        ("1.2.0", "^1.2", &["1.1.9", "1.2.1", "1.10.0", "2.0.0"], Some("1.10.0")),
        ("1.2.0", "~1.2", &["1.2.1", "1.3.0"], Some("1.2.1")),
        ("0.2.1", "^0.2", &["0.2.9", "0.3.0"], Some("0.2.9")),
        ("0.0.3", "^0.0.3", &["0.0.4"], None),
        ("1.2", ">=1, <3", &["2.9", "3.0"], Some("2.9")),
        ("1.2", "*", &["1.2", "1.1", "1.2.0"], None),
        ("2025.9.25", "^2025", &["2025.10.2", "2026.1.1"], Some("2025.10.2")),
        ("v1.2", "^1", &["1.9", "v1.3", "v1.4-rc1"], Some("v1.3")),
        ("3.12-slim", "^3.12", &["3.13", "3.13-slim", "3.14-alpine"], Some("3.13-slim")),
        ("1.0", "^1", &["1.1rc1", "1.1.post1", "1.1.dev0"], None),
        ("main", "*", &["1.0"], None),
        ("1.0", ">1.1 <=1.3", &["1.1", "1.3", "1.4"], Some("1.3")),
        ("1.0", "=1.5", &["1.4", "1.5", "1.6"], Some("1.5")),
        ("1.0", "*", &["99999999999999999999999.0", "1.1"], Some("1.1")),
    ];
    for (written, range, there, expected) in cases {
        let range = Range::parse(range).unwrap();
        assert_eq!(newest(written, &range, there.iter().copied()), *expected, "{written} {range:?}");
    }
}

#[test]
fn what_is_no_range_is_refused() {
    for text in ["", "1.2", "^", "latest", "^1.2-rc1", "!1", "^18446744073709551615"] {
        let why = Range::parse(text).unwrap_err();
        assert!(why.contains("write `^1.2`"), "{text}: {why}");
    }
}

#[test]
fn tags_of_images() {
    assert_eq!(tagged("host:5000/a/b:1.2"), Some(("host:5000/a/b", "1.2")));
    assert_eq!(tagged("python:3.12-slim"), Some(("python", "3.12-slim")));
    assert_eq!(tagged("host:5000/a/b"), None);
    assert_eq!(tagged("a@sha256:00"), None);
}
