//! What needs a careful look: what widens, what is trusted, and who may call.

use super::*;

#[test]
fn rules_are_compared_by_line_and_by_what_they_let_through() {
    let crib = doc("Crib", "crib", "roles:\n  admin: {groups: [admins]}\n  developer: {groups: [devs]}\n");
    let tools = format!("{RUNNERS}---\n{crib}---\n{}", tool("drop", "Drops.", ""));
    let strict = policy("allow if \"admins\" in input.user.groups");
    let loose = policy("allow if \"admins\" in input.user.groups\nallow if \"devs\" in input.user.groups");
    let review =
        compare(&[("t.yaml", &tools), ("p.yaml", &strict)], &[("t.yaml", &tools), ("p.yaml", &loose)]);
    insta::assert_snapshot!(plain::render(&review), @r#"
    old (00000000) -> new (00000000)

    Needs a careful look
      ! Tool/drop was refused to somebody, and now is open to: developer: may call drop [access]  (t.yaml:11:1)
      ~ Policy/rules has other rules; who may call what is told below for the declared roles [rules]  (p.yaml:1:1)

    Who may call what
      developer: refused -> may call: drop

    Context of a model: ~22 tokens, as before, estimated within 35 %

    Resources: 1 changed
      ~ Policy/rules at p.yaml:1:1
          spec.rego:  (p.yaml:7)
            … 22 characters the same
              "admins" in input.user.groups
            + allow if "devs" in input.user.groups
    "#);
}

#[test]
fn what_rules_say_of_arguments_is_not_guessed() {
    let tools =
        format!("{RUNNERS}---\n{}", tool("drop", "Drops.", "args: [\"${x}\"]\nparameters: {x: string}\n"));
    let rules = policy("allow if input.tool.args.x == \"y\"");
    let review = compare(&[("t.yaml", &tools)], &[("t.yaml", &tools), ("p.yaml", &rules)]);
    let change = &review.access.changes[0];
    assert_eq!((change.role.as_str(), change.before, change.after), ("local", May::Call, May::SomeArguments));
}

#[test]
fn what_widens_is_told_by_its_kind() {
    let image = |reference: &str, more: &str| {
        doc("Tool", "t", &format!("description: Runs.\nimage: {reference:?}\ncommand: [run]\n{more}"))
    };
    let plain_image = image("a:1", "");
    for (after, expected) in [
        (image("a:2", ""), &["~ image: Tool/t runs another version a:1 -> a:2"][..]),
        (image("b:1", ""), &["! image: Tool/t runs another image a:1 -> b:1"]),
        (
            image("a:latest", ""),
            &[
                "! unpinned: Tool/t may run something else tomorrow under the same name: a:latest",
                "~ image: Tool/t runs another version a:1 -> a:latest",
            ],
        ),
        (image("a:1", "security: {user: \"0\"}\n"), &["! root: Tool/t runs as root"]),
        (
            image("a:1", "security: {readOnlyRoot: false}\n"),
            &["! writable-root: Tool/t may write to its whole file system"],
        ),
        (
            image("a:1", "security: {capabilities: [NET_ADMIN]}\n"),
            &["! capability: Tool/t has the capability NET_ADMIN"],
        ),
        (
            image("a:1", "env: {TOKEN: {secret: {env: TOKEN}}}\n"),
            &["! secret: Tool/t is given the secret env TOKEN"],
        ),
        (image("a:1", "resources: {memory: 64Mi}\n"), &[]),
    ] {
        assert_eq!(concern_of(&plain_image, &after), expected, "{after}");
        let back: Vec<String> = concern_of(&after, &plain_image);
        assert!(
            back.iter().all(|concern| concern.starts_with("~ image") || concern.starts_with("! image")),
            "{back:?}"
        );
    }
    let process = concern_of("", &tool("t", "Runs.", ""));
    assert_eq!(
        process,
        [
            "! process: Tool/t runs beside the daemon, not in a container, on the runner here",
            "~ command: Tool/t is new, and runs the command echo",
        ]
    );
}

#[test]
fn what_leaves_for_a_server_elsewhere_is_told_with_where_it_goes() {
    let server =
        |more: &str| doc("Server", "far", &format!("source: {{url: \"https://a.example/mcp\"}}\n{more}"));
    let header = "env: {KEY: {secret: {env: KEY}}}\nheaders: {X-Key: \"${KEY}\"}\n";
    let shown = ["! secret: Server/far sends elsewhere the secret env KEY to https://a.example/mcp"];
    assert_eq!(concern_of(&server(""), &server(header)), shown);
    assert_eq!(concern_of(&server(header), &server(header)), [""; 0]);
    let moved = server(header).replace("a.example", "b.example");
    let told = concern_of(&server(header), &moved);
    assert!(told.contains(&shown[0].replace("a.example", "b.example")), "{told:?}");
    let oauth =
        "oauth: {tokenUrl: \"https://l.example/t\", clientId: c, clientSecret: {secret: {env: CS}}}\n";
    let told = concern_of(&server(""), &server(oauth));
    assert_eq!(
        told,
        [
            "! secret: Server/far sends elsewhere the secret env CS to https://l.example/t",
            "! token: Server/far sends elsewhere a token of https://l.example/t to https://a.example/mcp",
        ]
    );
}

#[test]
fn defaults_of_the_crib_widen_what_they_are_for() {
    let crib = |user: &str| doc("Crib", "c", &format!("defaults: {{security: {{user: {user:?}}}}}\n"));
    let image = doc("Tool", "t", "description: Runs.\nimage: \"a:1\"\ncommand: [run]\n");
    let found =
        concern_of(&format!("{}---\n{image}", crib("1000")), &format!("{}---\n{image}", crib("root")));
    assert_eq!(found, ["! root: Tool/t runs as root"]);
}

#[test]
fn whoever_may_sign_from_now_on_is_told() {
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAZ9tS7fhDOq3nBDQkPMZbPS6gUVUKKz8KwKzaFbkQ8a";
    let crib = doc("Crib", "c", "verify: {allowedSigners: signers}\n");
    let files = |who: &'static str| format!("{who} {KEY}\n");
    let (ada, eve) = (files("ada@a.example"), files("eve@a.example"));
    let found = concerns(&[("c.yaml", &crib), ("signers", &ada)], &[("c.yaml", &crib), ("signers", &eve)]);
    assert!(
        found[0].starts_with("! signer: Crib/c follows commits that are signed by eve@a.example"),
        "{found:?}"
    );
    assert!(found[1].starts_with("~ signer-removed: ") && found.len() == 2, "{found:?}");
    let none = doc("Crib", "c", "naming: {prefix: a_}\n");
    let gone = concerns(&[("c.yaml", &crib), ("signers", &ada)], &[("c.yaml", &none), ("signers", &ada)]);
    assert!(gone[0].starts_with("! verify: Crib/c checks signatures in another way"), "{gone:?}");
}

#[test]
fn policies_trust_and_locks_are_not_loosened_unseen() {
    let tools = format!("{RUNNERS}---\n{}", tool("drop", "Drops.", ""));
    let rules = policy("deny contains \"no\" if input.user.name == \"local\"");
    let gone = concerns(&[("t.yaml", &tools), ("p.yaml", &rules)], &[("t.yaml", &tools)]);
    assert_eq!(
        gone,
        [
            "! policy-removed: Policy/rules is removed, and holds nothing back any more",
            "! access: Tool/drop was refused to somebody, and now is open to: local: may call drop",
        ]
    );
    let audit = rules.replace("  package: team\n", "  package: team\n  enforcement: audit\n");
    let loosened =
        concerns(&[("t.yaml", &tools), ("p.yaml", &rules)], &[("t.yaml", &tools), ("p.yaml", &audit)]);
    assert!(
        loosened.contains(&"! policy-loosened: Policy/rules only records what it refused before".to_owned()),
        "{loosened:?}"
    );
    let server = doc("Server", "weather", WEATHER);
    let locked = lock(&[("a", "b")]);
    let found =
        concerns(&[("a.yaml", &server), ("locks/server/weather.yaml", &locked)], &[("a.yaml", &server)]);
    assert_eq!(
        found,
        [
            "! lock-removed: Server/weather has no lock any more: nobody reviewed what it offers",
            "! trust: Server/weather is believed more in what it offers reviewed -> live",
        ]
    );
}
