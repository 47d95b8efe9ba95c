//! Test reports as JUnit XML, which CI systems show.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::contract::Report;

/// One suite for each resource; what was not tested is an error of its own.
pub(super) fn document(reports: &[Report], untested: &BTreeMap<String, String>) -> String {
    let mut suites: BTreeMap<String, Vec<&Report>> = BTreeMap::new();
    for report in reports {
        suites.entry(report.resource.to_string()).or_default().push(report);
    }
    let failures = reports.iter().filter(|report| !report.passed).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{failures}\" errors=\"{}\">\n",
        reports.len() + untested.len(),
        untested.len()
    );
    // Writing to a string cannot fail.
    for (resource, reports) in &suites {
        let failures = reports.iter().filter(|report| !report.passed).count();
        let (name, count) = (escaped(resource), reports.len());
        let _ = writeln!(
            text,
            "  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failures}\" errors=\"0\">"
        );
        for report in reports {
            let case = format!("    <testcase classname=\"{name}\" name=\"{}\"", escaped(&report.test));
            match &report.difference {
                None => {
                    let _ = writeln!(text, "{case}/>");
                }
                Some(difference) => {
                    let first = difference.lines().next().unwrap_or_default();
                    let (first, all) = (escaped(first), escaped(difference));
                    let _ = writeln!(
                        text,
                        "{case}>\n      <failure message=\"{first}\">{all}</failure>\n    </testcase>"
                    );
                }
            }
        }
        text.push_str("  </testsuite>\n");
    }
    for (resource, why) in untested {
        let (name, why) = (escaped(resource), escaped(why));
        let _ = writeln!(
            text,
            "  <testsuite name=\"{name}\" tests=\"1\" failures=\"0\" errors=\"1\">\n    \
             <testcase classname=\"{name}\" name=\"starts\">\n      <error message=\"{why}\"/>\n    </testcase>\n  </testsuite>"
        );
    }
    text + "</testsuites>\n"
}

/// Text in XML; what XML has no place for is replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{Kind, Name, ResourceId};

    #[test]
    fn words_of_others_stay_words() {
        let resource = ResourceId::new(Kind::Tool, Name::parse("say").unwrap());
        let report = |test: &str, difference: Option<&str>| Report {
            resource: resource.clone(),
            test: test.to_owned(),
            tool: None,
            passed: difference.is_none(),
            difference: difference.map(str::to_owned),
        };
        let reports = [report("says", None), report("a \"b\" & <c>", Some("one\ntwo\u{1b}"))];
        let untested = BTreeMap::from([("Server/x".to_owned(), "gone".to_owned())]);
        insta::assert_snapshot!(document(&reports, &untested), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites tests="3" failures="1" errors="1">
          <testsuite name="Tool/say" tests="2" failures="1" errors="0">
            <testcase classname="Tool/say" name="says"/>
            <testcase classname="Tool/say" name="a &quot;b&quot; &amp; &lt;c&gt;">
              <failure message="one">one&#10;two�</failure>
            </testcase>
          </testsuite>
          <testsuite name="Server/x" tests="1" failures="0" errors="1">
            <testcase classname="Server/x" name="starts">
              <error message="gone"/>
            </testcase>
          </testsuite>
        </testsuites>
        "#);
    }
}
