//! Where the members of an object stand in a text that is known to be JSON.
//!
//! It was read once, by a parser that refuses what is none, when it arrived. After that each look at it
//! costs a walk over its bytes, without memory of its own. Invariant: of JSON the members are found that
//! any parser finds; of anything else nothing, or something that is a slice of it.

use std::borrow::Cow;

/// One member of an object, with where its value stands in the text.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) key: Cow<'a, str>,
    /// As written.
    pub(super) value: &'a str,
    /// Key and value as written, without the comma.
    pub(super) written: &'a str,
    /// Where the value begins.
    pub(super) start: usize,
}

/// The members of an object, in order; none when it is something else.
pub(super) fn members(text: &str) -> Option<Members<'_>> {
    let open = blank(text.as_bytes(), 0);
    (text.as_bytes().get(open) == Some(&b'{')).then_some(Members { text, at: open + 1 })
}

/// See [`members`].
pub(super) struct Members<'a> {
    text: &'a str,
    /// After the member before.
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let bytes = self.text.as_bytes();
        let mut from = blank(bytes, self.at);
        if bytes.get(from) == Some(&b',') {
            from = blank(bytes, from + 1);
        }
        let after_key = string(bytes, from)?;
        let key = self.text.get(from..after_key)?;
        let colon = blank(bytes, after_key);
        let start = blank(bytes, (bytes.get(colon) == Some(&b':')).then_some(colon + 1)?);
        let end = value(bytes, start)?;
        self.at = end;
        Some(Member {
            key: unescaped(key)?,
            value: self.text.get(start..end)?,
            written: self.text.get(from..end)?,
            start,
        })
    }
}

/// What a string in quotes says.
pub(super) fn unescaped(quoted: &str) -> Option<Cow<'_, str>> {
    match quoted.get(1..quoted.len() - 1)? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(quoted).ok().map(Cow::Owned),
    }
}

/// After blanks.
fn blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// After the string that begins here.
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut rest = bytes.get(at..)?.iter().enumerate();
    (rest.next()?.1 == &b'"').then_some(())?;
    while let Some((offset, byte)) = rest.next() {
        match byte {
            b'"' => return Some(at + offset + 1),
            b'\\' => drop(rest.next()),
            _ => {}
        }
    }
    None
}

/// After the value that begins here.
fn value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string(bytes, at),
        b'{' | b'[' => nested(bytes, at),
        _ => {
            let rest = bytes.get(at..)?;
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            let length = rest.iter().position(ends).unwrap_or(rest.len());
            (length > 0).then_some(at + length)
        }
    }
}

/// After the object or array that begins here.
fn nested(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn found(text: &str) -> Option<Vec<(String, &str)>> {
        Some(members(text)?.map(|member| (member.key.into_owned(), member.value)).collect())
    }

    #[test]
    fn members_stand_where_they_stand() {
        let text = " { \"a\" : 1.5e3 ,\"b\":[{\"x\":\"]}\\\"\"}], \"\\u00e9\\\"\": null,\"s\":\"\\\\\"}";
        let expected = [
            ("a".to_owned(), "1.5e3"),
            ("b".to_owned(), "[{\"x\":\"]}\\\"\"}]"),
            ("é\"".to_owned(), "null"),
            ("s".to_owned(), "\"\\\\\""),
        ];
        assert_eq!(found(text).expect("an object"), expected);
        assert_eq!(found("{}").expect("an object"), []);
        for other in ["", "[]", "7", "\"{}\"", "null"] {
            assert!(members(other).is_none(), "{other}");
        }
        let first = members(text).and_then(|mut all| all.next()).expect("a member");
        assert_eq!((first.written, first.start), ("\"a\" : 1.5e3", 9));
    }

    /// Any JSON, some levels deep.
    fn json() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ -~\"\\\\{}\\[\\],:é\u{1}]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec(("[a-c\"\\\\ é]{0,3}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn of_json_what_a_parser_finds(value in json(), pretty in proptest::prelude::any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("JSON");
            let read = found(&text).map(|members| {
                let read = |(key, text): (String, &str)| (key, serde_json::from_str(text).expect("JSON"));
                members.into_iter().map(read).collect::<Vec<(String, Value)>>()
            });
            let expected = value.as_object().map(|members| members.clone().into_iter().collect::<Vec<_>>());
            proptest::prop_assert_eq!(read, expected);
        }

        #[test]
        fn of_anything_else_no_more_than_there_is(text in "[ -~\"\\\\{}\\[\\],:é]{0,24}", cut in 0..64_usize) {
            let object = format!("{{\"a\":{text}");
            for text in [text.as_str(), object.as_str(), object.get(..cut).unwrap_or_default()] {
                for member in members(text).into_iter().flatten().take(64) {
                    proptest::prop_assert!(text.contains(member.written));
                }
            }
        }
    }
}
