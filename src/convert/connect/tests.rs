//! Nothing changes but the entry.

use super::*;

fn place(client: Client) -> Place {
    client.place(Scope::User).or(client.place(Scope::Project)).unwrap()
}

fn http() -> Reach {
    Reach::Http { url: "http://127.0.0.1:7800/mcp".to_owned(), token: None }
}

fn edit(client: Client, text: &str) -> String {
    place(client).set(text, "toolcrib", &client.entry(&http())).unwrap()
}

#[test]
fn a_new_file_is_what_a_person_would_write() {
    insta::assert_snapshot!(edit(Client::VsCode, ""), @r#"
    {
      "servers": {
        "toolcrib": {
          "type": "http",
          "url": "http://127.0.0.1:7800/mcp"
        }
      }
    }
    "#);
    insta::assert_snapshot!(edit(Client::Codex, ""), @r#"
    [mcp_servers.toolcrib]
    url = "http://127.0.0.1:7800/mcp"
    "#);
}

const ZED: &str = r#"// My settings.
{
    "theme": "One Dark", // as at night
    "context_servers": {
        /* of the team */
        "wiki": { "url": "https://wiki.example.com/mcp" }
    },

    "tab_size": 4,
}
"#;

#[test]
fn comments_order_and_indentation_stay() {
    let with = edit(Client::Zed, ZED);
    insta::assert_snapshot!(with, @r#"
    // My settings.
    {
        "theme": "One Dark", // as at night
        "context_servers": {
            /* of the team */
            "wiki": { "url": "https://wiki.example.com/mcp" },
            "toolcrib": {
                "url": "http://127.0.0.1:7800/mcp"
            }
        },

        "tab_size": 4,
    }
    "#);
    assert_eq!(edit(Client::Zed, &with), with, "once is enough");
    let without = place(Client::Zed).remove(&with, "toolcrib").unwrap();
    assert_eq!(without, ZED);
    assert_eq!(place(Client::Zed).remove(ZED, "toolcrib").unwrap(), ZED);
}

const CODEX: &str = r#"# My settings.
model = "large"   # the best

[mcp_servers.notes]
command = "npx"

[profiles.fast]
model = "small"
"#;

#[test]
fn toml_stays_as_it_is_written() {
    let with = edit(Client::Codex, CODEX);
    insta::assert_snapshot!(with, @r#"
    # My settings.
    model = "large"   # the best

    [mcp_servers.notes]
    command = "npx"

    [mcp_servers.toolcrib]
    url = "http://127.0.0.1:7800/mcp"

    [profiles.fast]
    model = "small"
    "#);
    assert_eq!(edit(Client::Codex, &with), with, "once is enough");
    assert_eq!(place(Client::Codex).remove(&with, "toolcrib").unwrap(), CODEX);
}

#[test]
fn what_is_there_is_found_and_replaced() {
    for client in Client::ALL {
        let (place, name) = (place(client), "my server");
        let start = if place.is_toml() { "a = 1\n" } else { "{\"a\": [1, {}]}\n" };
        let first = client.entry(&Reach::Command("toolcrib".to_owned(), vec!["stdio".to_owned()]));
        let text = place.set(start, name, &first).unwrap();
        assert_eq!(place.get(&text, name).unwrap().as_ref(), Some(&first), "{}: {text}", client.as_str());
        let second = client.entry(&http());
        let text = place.set(&text, name, &second).unwrap();
        assert_eq!(place.get(&text, name).unwrap().as_ref(), Some(&second), "{}: {text}", client.as_str());
        assert_eq!(place.get(&text, "other").unwrap(), None);
        let text = place.remove(&text, name).unwrap();
        assert_eq!(place.get(&text, name).unwrap(), None, "{}: {text}", client.as_str());
        assert!(!client.alone(name, &http()).is_empty());
    }
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let told = |client: Client, text: &str| {
        let error = place(client).set(text, "x", &json!({})).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    };
    assert!(
        told(Client::Cursor, "{\n  \"a\": 1\n  \"b\": 2\n}").contains("line 2"),
        "{}",
        told(Client::Cursor, "{\n  \"a\": 1\n  \"b\": 2\n}")
    );
    assert!(told(Client::Cursor, "[]").contains("`the file` is not an object"));
    assert!(told(Client::Cursor, "{\"mcpServers\": []}").contains("`mcpServers` is not an object"));
    assert!(told(Client::Codex, "a = \n").contains("line 1"));
    assert!(told(Client::Codex, "mcp_servers = 1\n").contains("`mcp_servers` is not an object"));
}

#[test]
fn tokens_are_named_as_each_client_names_them() {
    let reach =
        Reach::Http { url: "https://tools.example.com/mcp".to_owned(), token: Some("CRIB".to_owned()) };
    for client in Client::ALL {
        let entry = client.entry(&reach);
        let said = entry["headers"]["Authorization"].as_str().or(entry["bearer_token_env_var"].as_str());
        let expected = match client {
            Client::ClaudeCode | Client::GeminiCli | Client::CopilotCli | Client::Kiro => {
                Some("Bearer ${CRIB}")
            }
            Client::Cursor | Client::VsCode | Client::Windsurf | Client::RooCode => {
                Some("Bearer ${env:CRIB}")
            }
            Client::OpenCode => Some("Bearer {env:CRIB}"),
            Client::Codex => Some("CRIB"),
            Client::ClaudeDesktop | Client::Zed | Client::LmStudio => None,
        };
        assert_eq!(said, expected, "{}", client.as_str());
        assert_eq!(client.takes_reference(), expected.is_some(), "{}", client.as_str());
    }
}
