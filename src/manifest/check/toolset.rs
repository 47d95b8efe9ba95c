//! Checks of a `Toolset`.

use std::collections::BTreeSet;

use super::super::read::read;
use super::super::tree::Node;
use super::Check;
use crate::resource::toolset::{Access, Search, Selector, ToolsetSpec};

/// Tools that one search may answer: more is no search.
const MAX_RESULTS: u16 = 100;

pub(super) fn toolset(check: &mut Check<'_, '_>, spec: &ToolsetSpec) {
    if spec.select.is_empty() {
        let hint = "add a selector, such as `{servers: [weather]}`, or `{names: [\"*\"]}` for everything";
        check.invalid(&["select"], "the toolset selects nothing", hint);
    }
    for (at, selector) in spec.select.iter().enumerate() {
        let at = at.to_string();
        let Selector { match_labels, servers, names } = selector;
        if match_labels.is_empty() && servers.is_empty() && names.is_empty() {
            let hint = "say `matchLabels`, `servers` or `names`; `names: [\"*\"]` takes everything";
            check.invalid(&["select", &at], "the selector says nothing", hint);
        }
        check.patterns(&["select", &at, "names"], names);
    }
    if let Search::On(form) = spec.search
        && !(1..=MAX_RESULTS).contains(&form.results)
    {
        let message = format!("a search cannot answer {} tools", form.results);
        check.invalid(&["search", "results"], message, &format!("write a number from 1 to {MAX_RESULTS}"));
    }
    if let Some(given) = &spec.access {
        access(check, "access", given);
    }
}

/// Whether the document says who may use the toolset, and what it says has a fault.
pub(in crate::manifest) fn access_fails(root: &Node<'_>) -> bool {
    let Some((key, node)) = root.get("spec").and_then(|(_, spec)| spec.get("access")) else { return false };
    let mut faults = BTreeSet::new();
    match read::<Option<Access>>(node, key.mark) {
        Ok(Some(given)) => access(&mut Check { root, faults: &mut faults }, "access", &given),
        Ok(None) => {}
        Err(_) => return true,
    }
    !faults.is_empty()
}

/// Checks the field `at`, which says who may use something.
pub(super) fn access(check: &mut Check<'_, '_>, at: &str, access: &Access) {
    if access.users.is_empty() && access.groups.is_empty() && access.scopes.is_empty() {
        let (what, hint) = match at {
            "access" => {
                ("the toolset", "name `users`, `groups` or `scopes`, or remove `access` to let everybody in")
            }
            _ => ("it", "name `users`, `groups` or `scopes`, or remove it to let in who is local"),
        };
        check.invalid(&[at], format!("nobody may use {what}"), hint);
    }
    for (field, names) in [("users", &access.users), ("groups", &access.groups)] {
        for (nth, _) in names.iter().enumerate().filter(|(_, name)| name.trim().is_empty()) {
            check.invalid(&[at, field, &nth.to_string()], "the name is empty", "write a name, or remove it");
        }
    }
    // RFC 6749, section 3.3: visible ASCII without `"` and `\`.
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    for (nth, scope) in access.scopes.iter().enumerate() {
        if scope.is_empty() || !scope.bytes().all(fits) {
            let message = format!("`{scope}` is no scope");
            let hint = "write one word for each, such as `data:read`";
            check.invalid(&[at, "scopes", &nth.to_string()], message, hint);
        }
    }
}
