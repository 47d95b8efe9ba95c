//! What somebody reads who has just run `init`, and breaks what it made in ways that everybody does.

use std::path::Path;

use crate::support::TestEnv;

const TOOL: &str = "tools/word-count.yaml";
const SERVER: &str = "servers/clock.yaml";
const POLICY: &str = "policies/guard.yaml";
const RULES: &str = "policies/guard.rego";

/// A repository that `init` made.
struct Begun(TestEnv);

impl Begun {
    fn new() -> Self {
        let env = TestEnv::new();
        assert_eq!(env.run(&["init"]).code, 0);
        env.repo().commit("begin");
        Self(env)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.repo().path().join(file)).unwrap()
    }

    /// One edit, and what `validate` says before it is taken back.
    fn edit(&self, what: &str, file: &str, edit: impl Fn(&str) -> String) -> String {
        let before = self.read(file);
        let after = edit(&before);
        assert_ne!(before, after, "{what} changes nothing");
        self.0.repo().write(file, &after);
        let said = self.said(what);
        self.0.repo().write(file, &before);
        said
    }

    fn replace(&self, what: &str, file: &str, from: &str, to: &str) -> String {
        self.edit(what, file, |text| text.replace(from, to))
    }

    fn append(&self, what: &str, file: &str, more: &str) -> String {
        self.edit(what, file, |text| format!("{text}{more}\n"))
    }

    fn said(&self, what: &str) -> String {
        let said = self.0.run(&["validate"]);
        let told = said.stdout.rsplit_once("\n\n").map_or("", |(told, _)| told);
        format!("## {what} (exit {})\n{told}\n", said.code)
    }
}

#[test]
fn what_init_made_broken_in_many_ways() {
    let new = Begun::new();
    let all = [
        new.replace("a comma forgotten", TOOL, "readOnlyHint: true, ", "readOnlyHint: true "),
        new.replace("a quote not closed", TOOL, "title: Word", "title: \"Word"),
        new.replace("a colon forgotten", TOOL, "spec:", "spec"),
        new.replace("one blank too many", TOOL, "  command:", "   command:"),
        new.replace("the kind forgotten", TOOL, "kind: Tool\n", ""),
        new.replace("a field of another kind", TOOL, "  timeout: 5s", "  transport: stdio"),
        new.replace("a line for a shell", TOOL, "[wc, -w]", "[\"wc -w | sort\"]"),
        new.replace("a number with a unit of its own", TOOL, "timeout: 5s", "timeout: 5sec"),
        new.append("a secret in the clear", SERVER, "  env: {API_KEY: abc}"),
        new.append("a second source", SERVER, "    image: acme/clock:1"),
        new.append("a tag that moves", SERVER, "---\napiVersion: toolcrib.dev/v1alpha1\nkind: Tool\nmetadata: {name: x}\nspec: {description: X., image: acme/x}"),
        new.replace("a module misspelt", POLICY, "[guard.rego]", "[gaurd.rego]"),
        new.replace("another package", RULES, "package guard", "package rules"),
        new.replace("no package", RULES, "package guard\n", "\n"),
        new.replace("Rego as it was before version 1", RULES, "deny contains message if {", "deny[message] {"),
        new.replace("Rego without `if`", RULES, "message if {", "message {"),
        new.replace("a word misspelt in Rego", RULES, "input.tool.annotations", "imput.tool.annotations"),
        new.replace("an and of other languages", RULES, "== true", "== true && input.user"),
        new.append("an or of other languages", RULES, "\nallow if input.user.name == \"a\" or input.user.name == \"b\""),
        new.append("a text in single quotes", RULES, "\ndeny contains 'never' if input.tool.name == 'x'"),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn files_that_are_not_there_any_more() {
    let new = Begun::new();
    let root = new.0.repo().path().to_owned();
    let without = |what: &str, file: &str| {
        let before = new.read(file);
        std::fs::remove_file(root.join(file)).unwrap();
        let said = new.said(what);
        new.0.repo().write(file, &before);
        said
    };
    let renamed = || {
        std::fs::rename(root.join("servers/clock.py"), root.join("servers/clocks.py")).unwrap();
        let said = new.said("the program renamed");
        std::fs::rename(root.join("servers/clocks.py"), root.join("servers/clock.py")).unwrap();
        said
    };
    let copied = || {
        new.0.repo().write("tools/copy.yaml", &new.read(TOOL));
        let said = new.said("a file copied");
        std::fs::remove_file(root.join("tools/copy.yaml")).unwrap();
        said
    };
    let all = [
        without("the program of the server deleted", "servers/clock.py"),
        renamed(),
        without("the runner deleted", "runner.yaml"),
        copied(),
    ];
    insta::assert_snapshot!(all.join("\n"));
    assert!(Path::new(&root).join(SERVER).exists() && new.0.run(&["validate"]).code == 0);
}
