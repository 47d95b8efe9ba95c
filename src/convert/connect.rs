//! Where MCP clients keep their servers, and how an entry for this endpoint looks there.
//!
//! Input: a client, a scope, and the text of its file. Output: the text with our entry in it, or
//! without. Invariant: nothing else of the text changes, neither order nor comments nor white space.
//! Not here: files.

mod json;
mod toml;

use serde_json::{Map, Value, json};

use super::SyntaxError;

/// The clients that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    ClaudeCode,
    ClaudeDesktop,
    Cursor,
    VsCode,
    Windsurf,
    Zed,
    GeminiCli,
    Codex,
    CopilotCli,
    OpenCode,
    Kiro,
    RooCode,
    LmStudio,
}

/// For whom it is: everything the user does, or one project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    User,
    Project,
}

/// The folder a path is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Home,
    /// `~/.config`, or what `XDG_CONFIG_HOME` says.
    Config,
    /// Where macOS keeps what belongs to applications, `~/.config` elsewhere.
    Application,
    /// What a variable of the client says, else a folder of the home.
    Variable(&'static str, &'static str),
    Project,
}

/// A client's file, and where in it servers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub base: Base,
    pub path: &'static str,
    /// The key of the object that holds servers by name.
    pub key: &'static str,
}

/// How a client reaches the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By its address, and with the token that a variable of the client's environment holds.
    Http { url: String, token: Option<String> },
    /// By a command that it starts: our own program and its arguments.
    Command(String, Vec<String>),
}

/// Why a client's file is left alone.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("failed to read it as {format}")]
    Syntax {
        format: &'static str,
        #[source]
        source: SyntaxError,
    },
    #[error("`{0}` is not an object there")]
    NotObject(String),
}

impl Client {
    pub const ALL: [Self; 13] = [
        Self::ClaudeCode,
        Self::ClaudeDesktop,
        Self::Cursor,
        Self::VsCode,
        Self::Windsurf,
        Self::Zed,
        Self::GeminiCli,
        Self::Codex,
        Self::CopilotCli,
        Self::OpenCode,
        Self::Kiro,
        Self::RooCode,
        Self::LmStudio,
    ];

    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::ClaudeDesktop => "claude-desktop",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
            Self::Windsurf => "windsurf",
            Self::Zed => "zed",
            Self::GeminiCli => "gemini-cli",
            Self::Codex => "codex",
            Self::CopilotCli => "copilot-cli",
            Self::OpenCode => "opencode",
            Self::Kiro => "kiro",
            Self::RooCode => "roo-code",
            Self::LmStudio => "lm-studio",
        }
    }

    /// Its file; none where it has none for that scope.
    pub fn place(self, scope: Scope) -> Option<Place> {
        let user = |base, path, key| Some(Place { base, path, key });
        let project = |path, key| Some(Place { base: Base::Project, path, key });
        match (self, scope) {
            (Self::ClaudeCode, Scope::User) => {
                user(Base::Variable("CLAUDE_CONFIG_DIR", ""), ".claude.json", "mcpServers")
            }
            (Self::ClaudeCode, Scope::Project) => project(".mcp.json", "mcpServers"),
            (Self::ClaudeDesktop, Scope::User) => {
                user(Base::Application, "Claude/claude_desktop_config.json", "mcpServers")
            }
            (Self::Cursor, Scope::User) => user(Base::Home, ".cursor/mcp.json", "mcpServers"),
            (Self::Cursor, Scope::Project) => project(".cursor/mcp.json", "mcpServers"),
            (Self::VsCode, Scope::User) => user(Base::Application, "Code/User/mcp.json", "servers"),
            (Self::VsCode, Scope::Project) => project(".vscode/mcp.json", "servers"),
            (Self::Windsurf, Scope::User) => {
                user(Base::Home, ".codeium/windsurf/mcp_config.json", "mcpServers")
            }
            (Self::Zed, Scope::User) => user(Base::Config, "zed/settings.json", "context_servers"),
            (Self::Zed, Scope::Project) => project(".zed/settings.json", "context_servers"),
            (Self::GeminiCli, Scope::User) => user(Base::Home, ".gemini/settings.json", "mcpServers"),
            (Self::GeminiCli, Scope::Project) => project(".gemini/settings.json", "mcpServers"),
            (Self::Codex, Scope::User) => {
                user(Base::Variable("CODEX_HOME", ".codex"), "config.toml", "mcp_servers")
            }
            (Self::Codex, Scope::Project) => project(".codex/config.toml", "mcp_servers"),
            (Self::CopilotCli, Scope::User) => user(Base::Home, ".copilot/mcp-config.json", "mcpServers"),
            (Self::OpenCode, Scope::User) => user(Base::Config, "opencode/opencode.json", "mcp"),
            (Self::OpenCode, Scope::Project) => project("opencode.json", "mcp"),
            (Self::Kiro, Scope::User) => user(Base::Home, ".kiro/settings/mcp.json", "mcpServers"),
            (Self::Kiro, Scope::Project) => project(".kiro/settings/mcp.json", "mcpServers"),
            (Self::RooCode, Scope::Project) => project(".roo/mcp.json", "mcpServers"),
            (Self::LmStudio, Scope::User) => user(Base::Home, ".lmstudio/mcp.json", "mcpServers"),
            (Self::ClaudeDesktop | Self::Windsurf | Self::CopilotCli | Self::LmStudio, Scope::Project)
            | (Self::RooCode, Scope::User) => None,
        }
    }

    /// Whether its file can hold the address of a server, not only a command.
    pub fn takes_address(self) -> bool {
        self != Self::ClaudeDesktop
    }

    /// The entry, in the client's own words.
    pub fn entry(self, reach: &Reach) -> Value {
        match reach {
            Reach::Http { url, token } => {
                let mut entry = self.address(url);
                if let (Some(name), Some(fields)) = (token, entry.as_object_mut()) {
                    fields.extend(self.token(name));
                }
                entry
            }
            Reach::Command(program, args) => match self {
                Self::OpenCode => {
                    let words: Vec<&String> = std::iter::once(program).chain(args).collect();
                    json!({"type": "local", "command": words, "enabled": true})
                }
                Self::VsCode => json!({"type": "stdio", "command": program, "args": args}),
                Self::CopilotCli => {
                    json!({"type": "local", "command": program, "args": args, "tools": ["*"]})
                }
                _ => json!({"command": program, "args": args}),
            },
        }
    }

    fn address(self, url: &str) -> Value {
        match self {
            Self::Windsurf => json!({"serverUrl": url}),
            Self::GeminiCli => json!({"httpUrl": url}),
            Self::ClaudeCode | Self::VsCode => json!({"type": "http", "url": url}),
            Self::CopilotCli => json!({"type": "http", "url": url, "tools": ["*"]}),
            Self::RooCode => json!({"type": "streamable-http", "url": url}),
            Self::OpenCode => json!({"type": "remote", "url": url, "enabled": true}),
            Self::ClaudeDesktop | Self::Cursor | Self::Zed | Self::Codex | Self::Kiro | Self::LmStudio => {
                json!({"url": url})
            }
        }
    }

    /// Whether its file can name a variable of the environment that holds a token.
    pub fn takes_reference(self) -> bool {
        self.takes_address() && self.token("").is_some()
    }

    /// The field that sends the token of a variable, in the client's own syntax. None: the client would send
    /// the name of the variable instead, or has no place for it.
    fn token(self, name: &str) -> Option<(String, Value)> {
        let value = match self {
            Self::ClaudeCode | Self::GeminiCli | Self::CopilotCli | Self::Kiro => format!("${{{name}}}"),
            Self::Cursor | Self::VsCode | Self::Windsurf | Self::RooCode => format!("${{env:{name}}}"),
            Self::OpenCode => format!("{{env:{name}}}"),
            Self::Codex => return Some(("bearer_token_env_var".to_owned(), json!(name))),
            Self::ClaudeDesktop | Self::Zed | Self::LmStudio => return None,
        };
        Some(("headers".to_owned(), json!({"Authorization": format!("Bearer {value}")})))
    }

    /// What has to be done before it is seen.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::ClaudeCode => "start a new session; `/mcp` shows it",
            Self::ClaudeDesktop => "quit Claude Desktop and start it again",
            Self::VsCode => "`MCP: List Servers` shows it; VS Code asks whether you trust it",
            Self::Cursor | Self::Windsurf | Self::Zed | Self::Kiro | Self::RooCode | Self::LmStudio => {
                "it is read at once; the client's settings show it"
            }
            Self::GeminiCli | Self::Codex | Self::CopilotCli | Self::OpenCode => "start a new session",
        }
    }

    /// A whole file with nothing but the entry.
    pub fn alone(self, name: &str, reach: &Reach) -> String {
        let key =
            self.place(Scope::User).or(self.place(Scope::Project)).map_or("mcpServers", |place| place.key);
        let changed = if self == Self::Codex {
            toml::set("", key, name, &self.entry(reach))
        } else {
            json::set("", key, name, &self.entry(reach))
        };
        changed.unwrap_or_default()
    }
}

impl Place {
    fn is_toml(&self) -> bool {
        self.path.rsplit('.').next() == Some("toml")
    }

    /// The text of the file with an entry of that name, in place of the one there was.
    ///
    /// # Errors
    /// When the text cannot be read, or something else stands where servers should.
    pub fn set(&self, text: &str, name: &str, entry: &Value) -> Result<String, EditError> {
        if self.is_toml() {
            toml::set(text, self.key, name, entry)
        } else {
            json::set(text, self.key, name, entry)
        }
    }

    /// The text of the file without the entry of that name.
    ///
    /// # Errors
    /// As [`Place::set`].
    pub fn remove(&self, text: &str, name: &str) -> Result<String, EditError> {
        if self.is_toml() { toml::remove(text, self.key, name) } else { json::remove(text, self.key, name) }
    }

    /// The entry of that name.
    ///
    /// # Errors
    /// As [`Place::set`].
    pub fn get(&self, text: &str, name: &str) -> Result<Option<Value>, EditError> {
        if self.is_toml() { toml::get(text, self.key, name) } else { json::get(text, self.key, name) }
    }
}

/// Entries of several clients as JSON, by name of the client.
pub fn all(name: &str, reach: impl Fn(Client) -> Reach) -> Map<String, Value> {
    let entry = |client: Client| {
        let key = client
            .place(Scope::User)
            .or(client.place(Scope::Project))
            .map_or("mcpServers", |place| place.key);
        (client.as_str().to_owned(), json!({key: {name: client.entry(&reach(client))}}))
    };
    Client::ALL.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
