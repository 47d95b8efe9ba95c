//! `connect`: files of clients as their users have them.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use crate::support::{Said, TestEnv};

/// Every client with its file below the home, and below a project; empty where it has none.
const FILES: [(&str, &str, &str); 13] = [
    ("claude-code", ".claude.json", ".mcp.json"),
    ("claude-desktop", ".config/Claude/claude_desktop_config.json", ""),
    ("cursor", ".cursor/mcp.json", ".cursor/mcp.json"),
    ("vscode", ".config/Code/User/mcp.json", ".vscode/mcp.json"),
    ("windsurf", ".codeium/windsurf/mcp_config.json", ""),
    ("zed", ".config/zed/settings.json", ".zed/settings.json"),
    ("gemini-cli", ".gemini/settings.json", ".gemini/settings.json"),
    ("codex", ".codex/config.toml", ".codex/config.toml"),
    ("copilot-cli", ".copilot/mcp-config.json", ""),
    ("opencode", ".config/opencode/opencode.json", "opencode.json"),
    ("kiro", ".kiro/settings/mcp.json", ".kiro/settings/mcp.json"),
    ("roo-code", "", ".roo/mcp.json"),
    ("lm-studio", ".lmstudio/mcp.json", ""),
];

fn run(env: &TestEnv, args: &[&str]) -> Said {
    env.run(&[&["connect"], args].concat())
}

/// A file below the home.
fn put(env: &TestEnv, file: &str, text: &str) -> PathBuf {
    let path = env.home().join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

fn text(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_client_is_connected_and_disconnected() {
    for (client, user, project) in FILES {
        let env = TestEnv::new();
        for (file, base, more) in
            [(user, env.home(), &[][..]), (project, env.repo().path(), &["--project"][..])]
        {
            let said = run(&env, &[&[client], more].concat());
            if file.is_empty() {
                assert!(said.code == 2 && said.stderr.contains("hint:"), "{client}: {}", said.all());
                continue;
            }
            assert_eq!(said.code, 0, "{client}: {}", said.all());
            let path = base.join(file);
            let written = text(&path);
            assert!(
                written.contains("toolcrib") && written.contains("http://127.0.0.1:7800/mcp"),
                "{written}"
            );
            let again = run(&env, &[&[client], more].concat());
            assert!(again.stdout.contains("is connected already"), "{client}: {}", again.all());
            let removed = run(&env, &[&[client, "--remove"], more].concat());
            assert!(removed.code == 0 && !text(&path).contains("7800"), "{client}: {}", text(&path));
            let again = run(&env, &[&[client, "--remove"], more].concat());
            assert!(again.stdout.contains("is not connected"), "{client}: {}", again.all());
        }
    }
}

#[test]
fn only_the_entry_changes_and_the_file_as_it_was_is_kept() {
    let env = TestEnv::new();
    let before = "{\n  // mine\n  \"mcpServers\": {\n    \"a\": {\"url\": \"https://a.example\", \"env\": {\"K\": \"s3cret\"}}\n  },\n  \"z\": 1\n}\n";
    let path = put(&env, ".cursor/mcp.json", before);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();

    let dry = run(&env, &["cursor", "--dry-run"]);
    insta::assert_snapshot!(dry.stdout, @r#"
    Would change [HOME]/.cursor/mcp.json:

     {
       // mine
       "mcpServers": {
    -    "a": {"url": "https://a.example", "env": {"K": "s3cret"}}
    +    "a": {"url": "https://a.example", "env": {"K": "s3cret"}},
    +    "toolcrib": {
    +      "url": "http://127.0.0.1:[PORT]/mcp"
    +    }
       },
       "z": 1
     }
    "#);
    assert_eq!(text(&path), before);

    let said = run(&env, &["cursor", "--name", "tools", "--url", "https://t.example/mcp"]);
    insta::assert_snapshot!(said.all(), @"
    Wrote `tools` to [HOME]/.cursor/mcp.json
    The file as it was: [HOME]/.cursor/mcp.json.toolcrib-backup
    Next: it is read at once; the client's settings show it.
    --- exit 0
    ");
    let written = text(&path);
    assert!(written.starts_with("{\n  // mine\n") && written.ends_with("  },\n  \"z\": 1\n}\n"), "{written}");
    let backup = env.home().join(".cursor/mcp.json.toolcrib-backup");
    assert_eq!(text(&backup), before);
    for file in [&path, &backup] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing else is left: {left:?}");
    assert_eq!(run(&env, &["cursor", "--name", "tools", "--remove"]).code, 0);
    assert_eq!(text(&path), before);
}

#[test]
fn a_link_stays_a_link_and_a_new_file_is_private() {
    let env = TestEnv::new();
    let real = put(&env, "dotfiles/zed.json", "{}\n");
    std::fs::create_dir_all(env.home().join(".config/zed")).unwrap();
    let link = env.home().join(".config/zed/settings.json");
    symlink(&real, &link).unwrap();
    assert_eq!(run(&env, &["zed"]).code, 0);
    assert!(link.is_symlink() && text(&real).contains("toolcrib"));
    assert_eq!(run(&env, &["claude-code"]).code, 0);
    let mode = env.home().join(".claude.json").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_cannot_be_read_is_left_alone_and_told_where() {
    let env = TestEnv::new();
    for (client, file, before, told) in [
        ("cursor", ".cursor/mcp.json", "{\n  \"a\": 1\n  \"b\": 2\n}\n", "line 2"),
        ("cursor", ".cursor/mcp.json", "{\"mcpServers\": []}", "`mcpServers` is not an object"),
        ("codex", ".codex/config.toml", "model = \n", "line 1"),
    ] {
        let path = put(&env, file, before);
        for more in [&[][..], &["--remove"], &["--dry-run"]] {
            let said = run(&env, &[&[client], more].concat());
            assert!(said.code == 1 && said.stderr.contains(told), "{client}: {}", said.all());
            assert!(
                said.stderr.contains("was left alone\n") && said.stderr.contains("hint: correct the file")
            );
        }
        assert_eq!(text(&path), before);
        assert!(!path.with_file_name("mcp.json.toolcrib-backup").exists());
    }
    let listed = run(&env, &["--output", "json"]).json();
    let of = |client: &str| {
        let found = listed.as_array().unwrap().iter().find(|entry| entry["client"] == client).unwrap();
        found["connected"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (of("cursor"), of("codex"), of("zed")),
        ("unreadable".into(), "unreadable".into(), "no file".into())
    );
    assert_eq!(run(&env, &["notepad"]).code, 2);
}

#[test]
fn a_client_that_only_starts_commands_gets_one_that_works() {
    let env = TestEnv::new();
    assert_eq!(run(&env, &["claude-desktop"]).code, 0);
    let written = text(&env.home().join(".config/Claude/claude_desktop_config.json"));
    let value: serde_json::Value = serde_json::from_str(&written).unwrap();
    let entry = &value["mcpServers"]["toolcrib"];
    assert_eq!(entry["args"], serde_json::json!(["stdio", "--url", "http://127.0.0.1:7800/mcp"]));
    let program = entry["command"].as_str().unwrap();
    let said = std::process::Command::new(program).args(["stdio", "--help"]).output().unwrap();
    assert!(said.status.success(), "{program} is ours");
    assert_eq!(run(&env, &["gemini-cli", "--stdio"]).code, 0);
    assert!(text(&env.home().join(".gemini/settings.json")).contains("\"command\""));
}

#[test]
fn variables_of_the_clients_move_their_files() {
    let env = TestEnv::new();
    let other = env.home().join("elsewhere");
    for (client, variable, file) in [
        ("codex", "CODEX_HOME", "config.toml"),
        ("claude-code", "CLAUDE_CONFIG_DIR", ".claude.json"),
        ("zed", "XDG_CONFIG_HOME", "zed/settings.json"),
    ] {
        let said = env.command(&["connect", client]).env(variable, &other).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        assert!(text(&other.join(file)).contains("toolcrib"), "{client}");
    }
}

#[test]
fn a_token_is_named_and_never_written() {
    let env = TestEnv::new();
    let url = ["--url", "https://tools.example.com/mcp", "--token-env", "CRIB_TOKEN"];
    let secret = "tc_not-to-be-written";
    for (client, file, _) in FILES.into_iter().filter(|(_, file, _)| !file.is_empty()) {
        let args = [&["connect", client][..], &url].concat();
        let said = env.command(&args).env("CRIB_TOKEN", secret).output().unwrap();
        assert!(said.status.success(), "{client}: {said:?}");
        let written = text(&env.home().join(file));
        assert!(written.contains("CRIB_TOKEN") && !written.contains(secret), "{client}: {written}");
        assert_ne!(
            written.contains("Bearer") || written.contains("bearer"),
            written.contains("stdio"),
            "{written}"
        );
    }
    let zed = text(&env.home().join(".config/zed/settings.json"));
    assert!(zed.contains("\"--token-env\"") && zed.contains("\"stdio\""), "{zed}");
    let typed = run(&env, &["cursor", "--token-env", "tc_abc-123"]);
    assert!(typed.code == 2 && typed.stderr.contains("not the token"), "{}", typed.all());
}
