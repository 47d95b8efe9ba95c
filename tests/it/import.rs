//! `import`: files as other programs have them, in a repository of somebody who has none of ours yet.

use std::path::Path;

use crate::support::TestEnv;

/// Every file of the fixtures, with the format it is found to have.
const FILES: [(&str, &str); 11] = [
    ("servers_to_sync.json", "servers-to-sync"),
    ("claude_desktop.json", "clients"),
    ("vscode.json", "clients"),
    ("zed.json", "clients"),
    ("codex.toml", "clients"),
    ("server.json", "server-json"),
    ("registry.json", "server-json"),
    ("catalog.yaml", "catalog"),
    ("definitions.yaml", "definitions"),
    ("tools.yaml", "definitions"),
    ("tools.json", "definitions"),
];

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    folder.join(name).to_str().unwrap().to_owned()
}

fn written(env: &TestEnv, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(env.repo().path().join(folder));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_format_becomes_resources_that_are_valid() {
    for (name, format) in FILES {
        let env = TestEnv::new();
        let printed = env.run(&["import", &fixture(name)]);
        assert_eq!(printed.code, 0, "{name}: {}", printed.all());
        insta::with_settings!({snapshot_suffix => name, omit_expression => true, prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("import", printed.all());
        });
        let named = env.run(&["import", &fixture(name), "--format", format]);
        assert_eq!((named.stdout, named.stderr), (printed.stdout, printed.stderr), "{name}");

        let said = env.run(&["import", &fixture(name), "--out", "servers"]);
        assert_eq!(said.code, 0, "{name}: {}", said.all());
        let valid = env.run(&["validate"]);
        assert_eq!(valid.code, 0, "{name}: {}", valid.all());
        assert!(!valid.stdout.contains("secret-in-clear"), "{name}: {}", valid.all());
        assert_eq!(written(&env, ".toolcrib"), ["resource.schema.json"]);
        let files = written(&env, "servers");
        assert!(files.len() >= 2, "{name}: {files:?}");
        for file in files {
            let text = std::fs::read_to_string(env.repo().path().join("servers").join(&file)).unwrap();
            let line = "# yaml-language-server: $schema=../.toolcrib/resource.schema.json\n";
            assert!(text.starts_with(line), "{file}: {text}");
            assert!(!text.contains("CANARY"), "{file}: {text}");
        }
    }
}

#[test]
fn no_secret_leaves_the_file() {
    for (name, _) in FILES {
        let env = TestEnv::new();
        let before = std::fs::read_to_string(fixture(name)).unwrap();
        for args in [&["import"][..], &["import", "--output", "json"], &["import", "--out", "x", "--dry-run"]]
        {
            let said = env.run(&[args, &[&fixture(name)]].concat());
            assert!(said.code == 0 && !said.all().contains("CANARY"), "{name}: {}", said.all());
        }
        assert!(before.contains("CANARY") || !name.contains("claude"), "the fixture has something to lose");
    }
}

#[test]
fn nothing_is_replaced_unless_it_is_said() {
    let env = TestEnv::new();
    let file = fixture("server.json");
    let dry = env.run(&["import", &file, "--out", "servers", "--dry-run"]);
    assert!(dry.code == 0 && written(&env, "servers").is_empty(), "{}", dry.all());
    insta::assert_snapshot!(dry.stdout.lines().take(3).collect::<Vec<_>>().join("\n"), @"
    would write servers/crib.yaml (Crib/crib)
    would write servers/runner-docker.yaml (Runner/docker)
    would write servers/weather.yaml (Server/weather)
    ");
    assert_eq!(env.run(&["import", &file, "--out", "servers"]).code, 0);
    assert_eq!(written(&env, "servers"), ["crib.yaml", "runner-docker.yaml", "weather.yaml"]);

    // What is declared there is a fault of the import, with or without the file in its way.
    let again = env.run(&["import", &file, "--out", "servers"]);
    assert!(
        again.code == 1 && again.stderr.contains("`Server/weather` is already declared there"),
        "{}",
        again.all()
    );
    std::fs::remove_file(env.repo().path().join("servers/weather.yaml")).unwrap();
    env.repo().write("servers/weather.yaml", "# kept\n");
    let again = env.run(&["import", &file, "--out", "servers"]);
    assert!(
        again.code == 1 && again.stderr.contains("files that are there would be replaced"),
        "{}",
        again.all()
    );
    let kept = || std::fs::read_to_string(env.repo().path().join("servers/weather.yaml")).unwrap();
    assert_eq!(kept(), "# kept\n");
    assert_eq!(env.run(&["import", &file, "--out", "servers", "--force"]).code, 0);
    assert!(kept().contains("kind: Server"));
}

#[test]
fn a_repository_that_has_runners_and_images_gets_no_second_ones() {
    let env = TestEnv::new();
    env.repo().write(
        "crib.yaml",
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Crib\nmetadata: {name: us}\nspec: {}\n---\n\
         apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: engine}\nspec: {docker: {}}\n",
    );
    // Another example beside has nothing to do with it.
    env.repo().write(
        "other/runner.yaml",
        "apiVersion: toolcrib.dev/v1alpha1\nkind: Runner\nmetadata: {name: here}\nspec: {process: {}}\n",
    );
    assert_eq!(env.run(&["import", &fixture("claude_desktop.json"), "--out", "servers"]).code, 0);
    let files = written(&env, "servers");
    assert!(
        files.contains(&"runner-process.yaml".to_owned())
            && !files.contains(&"runner-docker.yaml".to_owned())
    );
    assert!(!files.contains(&"crib.yaml".to_owned()), "{files:?}");
    let time = std::fs::read_to_string(env.repo().path().join("servers/time.yaml")).unwrap();
    assert!(time.contains("base: python:3.12-slim"), "the Crib names no image: {time}");
    std::fs::remove_dir_all(env.repo().path().join("other")).unwrap();
    let valid = env.run(&["validate"]);
    assert_eq!(valid.code, 0, "{}", valid.all());
}

#[test]
fn mistakes_are_told_all_at_once_and_nothing_is_written() {
    let env = TestEnv::new();
    let import = |text: &str, more: &[&str]| {
        env.repo().write("foreign", text);
        env.run(&[&["import", "foreign", "--out", "servers"], more].concat())
    };
    for (text, parts) in [
        ("[\n  {\"id\": \"a\" \"b\": 1}\n]", &["as JSON", "line 2 column 13"][..]),
        ("{mcpServers: {}}", &["as JSON", "line 1"]),
        ("a: [\n", &["as YAML", "line"]),
        ("[mcp_servers.x]\ncommand = \n", &["as TOML", "line 2"]),
        ("{\"x\": 1}", &["it is not clear what kind of file this is", "hint: name it with --format"]),
        ("{\"mcpServers\": {}}", &["the file names no server or tool"]),
        ("", &["it is not clear"]),
        (
            "[{\"id\": \"a\", \"git_repo_url\": \"https://x/y.git\", \"mode\": \"depoy\", \"service_port\": 99999}, 7]",
            &[
                "[0].mode: there is no mode `depoy`",
                "did you mean `deploy`?",
                "[0]: `git_branch_or_tag` is missing",
                "[0]: `server_file_path` is missing",
                "[0].service_port: `99999` is not a port",
                "[1]: expected an object, found a number",
                "nothing was written",
            ],
        ),
        (
            "[{\"id\": \"a\", \"mode\": \"deploy\", \"service_port\": 80}]",
            &["mode `deploy` needs `docker_image`"],
        ),
        (
            "{\"mcpServers\": {\"a\": {\"command\": \"docker\", \"args\": [\"run\", \"in valid\"]}, \"b\": {\"args\": {}}}}",
            &["mcpServers.b: `command` is missing"],
        ),
        ("registry: {a: {image: 'in valid'}}", &["a: `in valid` is not a reference of an image"]),
        ("{\"name\": \"x\", \"args\": []}", &["`x` says nothing to run"]),
    ] {
        let said = import(text, &[]);
        assert_eq!(said.code, 1, "{text}: {}", said.all());
        for part in parts {
            assert!(said.stderr.contains(part), "{text}: `{part}` is not in\n{}", said.stderr);
        }
        assert!(written(&env, "servers").is_empty());
    }
    let said = import("{}", &["--format", "xml"]);
    assert!(said.code == 2 && said.stderr.contains("servers-to-sync"), "{}", said.all());
    let said = env.run(&["import", "nowhere.json"]);
    assert!(said.code == 1 && said.stderr.contains("failed to read `nowhere.json`"), "{}", said.all());
    let said = import(&"[".repeat(100_000), &[]);
    assert!(said.code == 1 && said.stderr.contains("nesting depth"), "{}", said.all());
}
