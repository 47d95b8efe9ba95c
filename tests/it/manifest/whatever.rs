//! Whatever a file holds is answered, and a plain scalar means what YAML says it means.

use proptest::prelude::{any, prop, prop_assume, proptest};

use super::*;

/// All manifests of the cases: seeds for what a hand may do to one.
fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for case in std::fs::read_dir(cases()).unwrap() {
        let input = case.unwrap().path().join("input.yaml");
        all.extend(std::fs::read(input).ok());
    }
    all
}

proptest! {
    /// Cuts, doubles and replaces pieces of real manifests: whatever comes out is answered.
    #[test]
    fn reading_never_panics(
        seed in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "[ -~\n\t&*!|>{}\\[\\]:#'\"%@`\u{0}\u{e9}\r-]{0,6}"), 1..6),
    ) {
        let seeds = seeds();
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        for (at, length, text) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, text.bytes());
        }
        let path = RepoPath::parse("a.yaml").unwrap();
        let parsed = parse_file(&path, &bytes);
        for diagnostic in &parsed.diagnostics {
            assert!(!diagnostic.to_string().is_empty());
        }
        let files = BTreeMap::from([(path, (Mode::File, bytes))]);
        let repository = repository(files);
        let floor = Floor { process: true, privileges: false, local_git: false, signers: None };
        resolve(&repository, &floor, None);
    }
}

proptest! {
    /// Whatever a plain scalar looks like, it means what serde_yaml says it means.
    #[test]
    fn plain_scalars_mean_what_serde_yaml_says(text in "[-+.~a-zA-Z0-9_]{1,12}") {
        let document = format!(
            "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {{name: a}}\nspec:\n  process: {{}}\n  attributes:\n    x: {text}\n"
        );
        let expected: Result<serde_json::Value, _> = serde_yaml::from_str(&document);
        // A lone dash is no scalar.
        prop_assume!(expected.is_ok());
        let path = RepoPath::parse("a.yaml").unwrap();
        let parsed = parse_file(&path, document.as_bytes());
        match parsed.resources.first().map(|declared| &declared.spec) {
            Some(toolcrib::resource::Spec::Runner(spec)) => {
                let expected = expected.unwrap();
                assert_eq!(spec.attributes["x"], expected["spec"]["attributes"]["x"], "{text}");
            }
            // Infinities, which JSON cannot hold: serde_yaml makes them null.
            _ => assert!(expected.unwrap()["spec"]["attributes"]["x"].is_null(), "{text}"),
        }
    }
}
