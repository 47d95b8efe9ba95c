//! Precedence, meaning and mistakes of settings.

use super::*;

fn settings(text: &str) -> Settings {
    Settings::parse(text).unwrap()
}

fn config(text: &str) -> Result<Config, ConfigError> {
    Config::new(&settings(text), Environment::from_pairs([("HOME", "/home/ada")]))
}

#[test]
fn defaults_are_loopback_and_hardened() {
    let config = config("repo: ssh://git@host/team/tools.git").unwrap();
    assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
    assert_eq!(config.admin.to_string(), DEFAULT_ADMIN);
    assert_eq!(config.interval, DEFAULT_INTERVAL);
    assert_eq!(config.floor, Floor { process: false, privileges: false, local_git: false, signers: None });
    assert!(config.owner.as_str().starts_with("tools-"), "{}", config.owner);
    assert_eq!(config.state, Path::new("/home/ada/.local/state/toolcrib").join(config.owner.as_str()));
    assert_eq!(config.socket(), config.state.join("admin.sock"));
}

#[test]
fn a_local_repository_may_run_processes_unless_forbidden() {
    let local = config("repo: .").unwrap();
    assert!(matches!(&local.repository, Repository::Local(path) if path.is_absolute()));
    assert!(local.floor.process);
    assert!(!config("{repo: ., allow-process: false}").unwrap().floor.process);
}

#[test]
fn owner_is_derived_from_repository_and_path_and_nothing_else() {
    let owner = |text: &str| config(text).unwrap().owner;
    assert_eq!(owner("repo: ."), owner("{repo: ./, listen: '127.0.0.1:0', ref: other}"));
    assert_ne!(owner("repo: ."), owner("{repo: ., path: examples}"));
    assert_eq!(owner("{repo: ., path: examples}"), owner("{repo: ., path: ./examples/}"));
    assert_eq!(owner("{repo: ., name: mine}").as_str(), "mine");
}

#[test]
fn repositories_are_paths_or_addresses() {
    for remote in ["https://host/a/b@c", "ssh://git@host/a", "git@host:team/tools.git"] {
        assert_eq!(repository(remote).unwrap(), Repository::Remote(remote.to_owned()));
    }
    assert!(matches!(repository("file:///").unwrap(), Repository::Local(_)));
    for (bad, message) in [
        ("", "`repo` is empty"),
        ("ftp://host/x", "addresses of scheme `ftp`"),
        ("https://user:secret@host/x", "the address contains a user name or password"),
        ("https://secret@host/x", "the address contains a user name or password"),
        ("ssh://git:secret@host/x", "the address contains a user name or password"),
        ("/nowhere/at/all", "there is no folder `/nowhere/at/all`"),
    ] {
        let error = repository(bad).unwrap_err();
        assert!(error.to_string().contains(message), "{bad}: {error}");
        assert!(error.next_step().is_some() && !error.to_string().contains("secret"));
    }
}

#[test]
fn mistakes_name_the_setting_and_the_next_step() {
    for (text, message, hint) in [
        ("{}", "no repository is named", "--repo"),
        ("{repo: ., listen: here}", "`listen`", "ADDRESS:PORT"),
        ("{repo: ., interval: 10ms}", "`interval`", "a second"),
        ("{repo: ., path: ../x}", "`path`: `../x`", "relative"),
        ("{repo: 'https://h/x', worktree: true}", "`worktree`", "clone"),
        ("{repo: ., public-url: 'ftp://x'}", "`public-url`", "https://"),
    ] {
        let error = config(text).unwrap_err();
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert!(error.next_step().is_some_and(|step| step.contains(hint)), "{text}: {:?}", error.next_step());
    }
}

#[test]
fn unknown_keys_of_the_file_are_refused_with_the_right_spelling() {
    let error = Settings::parse("repo: .\nallowProcess: true\n").unwrap_err();
    assert_eq!(error.to_string(), "unknown setting `allowProcess`");
    assert_eq!(error.next_step(), Some("write `allow-process`"));
    assert!(Settings::parse("port: 1").unwrap_err().next_step().unwrap().contains("listen"));
    assert!(Settings::parse("repo: [").is_err() && Settings::parse("worktree: perhaps").is_err());
    assert_eq!(settings("# nothing\n"), Settings::default());
}

#[test]
fn flags_win_over_the_file() {
    let merged = settings("{repo: flag, log: debug}").over(settings("{repo: file, path: p}"));
    assert_eq!(merged, settings("{repo: flag, log: debug, path: p}"));
}

#[test]
fn clients_that_are_told_no_endpoint_use_the_one_of_this_configuration() {
    let said = |file: &str, environment: &[(&str, &str)]| {
        let file = settings(file);
        usual_endpoint(&file, &Environment::from_pairs(environment.iter().copied()))
    };
    let encrypted = "{tls-cert: c.pem, tls-key: k.pem, listen: '0.0.0.0:7443'";
    for (file, environment, expected) in [
        ("{}".to_owned(), &[][..], "http://127.0.0.1:7800/mcp"),
        ("{listen: '127.0.0.1:0'}".to_owned(), &[], "http://127.0.0.1:7800/mcp"),
        (format!("{encrypted}}}"), &[], "https://127.0.0.1:7443/mcp"),
        (
            format!("{encrypted}, public-url: 'https://tools.example.org'}}"),
            &[],
            "https://tools.example.org/mcp",
        ),
        // A proxy stands before a listener that does not encrypt: from this machine the listener is reached.
        ("{public-url: 'https://tools.example.org'}".to_owned(), &[], "http://127.0.0.1:7800/mcp"),
        ("{}".to_owned(), &[("TOOLCRIB_TLS_CERT", "c.pem")], "https://127.0.0.1:7800/mcp"),
        ("{}".to_owned(), &[("TOOLCRIB_LISTEN", "[::1]:7900")], "http://[::1]:7900/mcp"),
    ] {
        assert_eq!(said(&file, environment), expected, "{file} {environment:?}");
    }
}
