//! The environment of a server: literals as they are, and references for what looks like a secret.

use std::collections::BTreeMap;

use super::document::Draft;
use super::yaml::Map;
use super::{name, secrets};

/// What a file says a variable is, once it is not simply text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    Literal,
    /// A variable of whoever starts the server, and what holds where that is not set.
    Variable {
        name: String,
        default: Option<String>,
    },
    /// A value the client asks for.
    Input(String),
    /// Text with something in it that the client fills in.
    Mixed,
}

/// `${NAME}`, `${env:NAME}`, `${NAME:-default}`, `${input:id}` and `{{name}}`.
fn meaning(text: &str) -> Meaning {
    if let Some(inner) = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"))
        && !inner.contains(['{', '}'])
    {
        return Meaning::Input(inner.to_owned());
    }
    let Some(inner) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        let filled = text.contains("${") || (text.contains("{{") && text.contains("}}"));
        return if filled { Meaning::Mixed } else { Meaning::Literal };
    };
    if inner.contains("${") {
        return Meaning::Mixed;
    }
    if let Some(id) = inner.strip_prefix("input:") {
        return Meaning::Input(id.to_owned());
    }
    let inner = inner.strip_prefix("env:").unwrap_or(inner);
    let (variable, default) = match inner.split_once(":-") {
        Some((variable, default)) => (variable, Some(default.to_owned())),
        None => (inner, None),
    };
    if name::is_variable(variable) {
        return Meaning::Variable { name: variable.to_owned(), default };
    }
    Meaning::Mixed
}

/// Variables that have to be given to the daemon, with the values the file had, so that two servers
/// with different keys do not get one variable. The values go nowhere.
#[derive(Default)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The variable that holds a server's secret of that name.
    pub(super) fn given(&mut self, server: &str, own: &str, value: &str) -> String {
        let own = name::variable(own);
        let long = format!("{}_{own}", name::variable(server));
        let variable = match self.0.get(&own) {
            Some(other) if other != value => long,
            _ => own,
        };
        self.0.insert(variable.clone(), value.to_owned());
        variable
    }
}

/// One variable of a server as a file has it.
pub(super) struct Setting<'s> {
    pub(super) name: &'s str,
    /// None: the value is that of whoever starts the server.
    pub(super) value: Option<&'s str>,
    /// The file itself says that it is a secret.
    pub(super) secret: bool,
    /// What it is for.
    pub(super) about: Option<String>,
}

/// `{secret: {env: NAME}}`.
pub(super) fn reference(variable: &str) -> Map {
    let (mut secret, mut outer) = (Map::inline(), Map::inline());
    secret.put("env", variable);
    outer.put("secret", secret);
    outer
}

/// Writes one variable to `env`.
pub(super) fn put(env: &mut Map, server: &str, setting: &Setting<'_>, draft: &mut Draft<'_>) {
    let Setting { name: own, value, secret, about } = setting;
    if env.has(own) {
        return;
    }
    if !name::is_variable(own) {
        env.remark(format!("`{own}` cannot name a variable here."));
        draft.note(
            server,
            format!(
                "the variable `{own}` is left out: its name has other characters than letters, digits and `_`"
            ),
        );
        return;
    }
    if let Some(about) = about {
        env.remark(about.clone());
    }
    let Some(value) = value else {
        env.put(own, reference(own));
        needs(server, own, draft);
        return;
    };
    let variable = match meaning(value) {
        Meaning::Literal if *secret || secrets::is_secret(own, value) => {
            draft.variables.given(server, own, value)
        }
        Meaning::Literal => {
            env.put(own, *value);
            return;
        }
        Meaning::Variable { name, default } => {
            if let Some(default) = default.filter(|default| !secrets::is_secret(own, default)) {
                env.remark(format!("It was `{default}` where the variable was not set."));
            }
            name
        }
        Meaning::Input(id) => {
            if let Some(about) = draft.inputs.get(&id) {
                env.remark(about.clone());
            }
            draft.variables.given(server, own, &format!("${{input:{id}}}"))
        }
        Meaning::Mixed => {
            env.remark("The client put parts of it together: the variable has to hold the whole.");
            draft.variables.given(server, own, value)
        }
    };
    env.put(own, reference(&variable));
    needs(server, &variable, draft);
}

fn needs(server: &str, variable: &str, draft: &mut Draft<'_>) {
    draft.note(server, format!("give the value to the daemon as the variable {variable}"));
}

/// Arguments without secrets: a reference cannot stand there, so what looks like one is told.
pub(super) fn arguments(
    server: &str,
    args: Vec<String>,
    spec: &mut Map,
    draft: &mut Draft<'_>,
) -> Vec<String> {
    let mut kept = Vec::new();
    let mut before: Option<String> = None;
    for argument in args {
        if secrets::in_argument(before.as_deref(), &argument) {
            spec.remark("An argument held a secret. Use the variable of the environment that the server reads instead.");
            draft.note(server, "an argument that looks like a secret was replaced by CHANGE-ME");
            let shown = argument.split_once('=').filter(|(name, _)| name.len() < 40);
            kept.push(shown.map_or_else(|| "CHANGE-ME".to_owned(), |(name, _)| format!("{name}=CHANGE-ME")));
        } else {
            if meaning(&argument) != Meaning::Literal {
                spec.remark(format!("The client filled in `{argument}`: write what it should be."));
                draft.note(server, format!("the argument `{argument}` was filled in by the client"));
            }
            kept.push(argument.clone());
        }
        before = Some(argument);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        let variable = |name: &str, default: Option<&str>| Meaning::Variable {
            name: name.to_owned(),
            default: default.map(str::to_owned),
        };
        for (text, expected) in [
            ("plain", Meaning::Literal),
            ("$HOME", Meaning::Literal),
            ("${TOKEN}", variable("TOKEN", None)),
            ("${env:TOKEN}", variable("TOKEN", None)),
            ("${HOST:-localhost}", variable("HOST", Some("localhost"))),
            ("${input:api-key}", Meaning::Input("api-key".to_owned())),
            ("Bearer ${TOKEN}", Meaning::Mixed),
            ("${workspaceFolder}/x", Meaning::Mixed),
            ("{{notes.mode}}", Meaning::Input("notes.mode".to_owned())),
            ("a{{notes.mode}}", Meaning::Mixed),
        ] {
            assert_eq!(meaning(text), expected, "{text}");
        }
    }

    #[test]
    fn two_servers_with_different_keys_get_two_variables() {
        let mut variables = Variables::default();
        assert_eq!(variables.given("a", "API_KEY", "1"), "API_KEY");
        assert_eq!(variables.given("b", "API_KEY", "1"), "API_KEY");
        assert_eq!(variables.given("my-c", "API_KEY", "2"), "MY_C_API_KEY");
    }
}
