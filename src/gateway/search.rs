//! A toolset as a search: `search_tools` finds, `call_tool` calls as if the tool itself were called.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::audit::{Outcome, Timed};
use super::sight::Sight;
use super::{Gateway, Reply, call, tool_error};
use crate::catalog::List;
use crate::catalog::search::{CALL, Hit, MAX_QUESTION, MOST, SEARCH};
use crate::mcp::server::Request;
use crate::mcp::wire::{ErrorObject, raw};
use crate::ports::CallContext;
use crate::resource::toolset::{Search, SearchForm};

/// One of the two tools that stand for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Find(SearchForm),
    Call,
}

/// Which of them a name means at an endpoint.
pub(super) fn form(sight: &Sight, name: &str) -> Option<Form> {
    let Search::On(form) = sight.toolset.as_ref()?.search else { return None };
    match name {
        SEARCH => Some(Form::Find(form)),
        CALL => Some(Form::Call),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question<'a> {
    #[serde(borrow)]
    query: Cow<'a, str>,
    limit: Option<u16>,
}

/// Answers `search_tools`.
pub(super) async fn find(
    gateway: &Gateway,
    sight: &Sight,
    request: &Request,
    form: SearchForm,
) -> Result<Reply, ErrorObject> {
    let timed = Timed::own(request, SEARCH, &gateway.observer);
    let given = request.params.as_deref().and_then(|params| raw::get(params, "arguments"));
    let question = given.and_then(|given| serde_json::from_str::<Question<'_>>(given.get()).ok());
    let fits = |question: &Question<'_>| {
        !question.query.trim().is_empty()
            && question.query.chars().count() <= MAX_QUESTION
            && question.limit.is_none_or(|limit| (1..=MOST).contains(&limit))
    };
    let Some(question) = question.filter(fits) else {
        timed.end(Outcome::Invalid, 0);
        return Ok(tool_error(&format!(
            "`{SEARCH}` takes `query`, a text of 1 to {MAX_QUESTION} characters, and `limit`, a number from 1 to {MOST}"
        )));
    };
    index(sight).await;
    let answer = answer(gateway, sight, request, &question, form);
    timed.end(Outcome::Success, answer.len());
    Ok(Reply::Whole(answer.into()))
}

/// Reads all definitions once for each catalog: of thousands of tools that takes a while, which no other
/// request waits for.
async fn index(sight: &Sight) {
    let Some(toolset) = &sight.toolset else { return };
    if sight.catalog.part(toolset.id.name.as_str()).is_some_and(|part| !part.is_indexed()) {
        let sight = sight.clone();
        let made = tokio::task::spawn_blocking(move || {
            let name = sight.toolset.as_ref().map_or("", |toolset| toolset.id.name.as_str());
            sight.catalog.part(name).map(|part| sight.catalog.index_of(name, part).len())
        });
        // It cannot fail but by a panic, and then the search itself makes it.
        let _ = made.await;
    }
}

fn answer(
    gateway: &Gateway,
    sight: &Sight,
    request: &Request,
    question: &Question<'_>,
    form: SearchForm,
) -> String {
    let name = sight.toolset.as_ref().map_or("", |toolset| toolset.id.name.as_str());
    let limit = usize::from(question.limit.unwrap_or(form.results).min(MOST));
    let rules = gateway.rules.load();
    let index = sight.catalog.part(name).map(|part| sight.catalog.index_of(name, part));
    let hits = index.map(|index| index.search(&question.query)).unwrap_or_default();
    let count = hits.len();
    // Rules are asked only about what would be told.
    let seen = hits.into_iter().filter(|hit| !rules.hides(List::Tools, hit.entry, request.user()));
    let tools: Vec<Value> = seen.take(limit).map(|hit| told(&hit)).collect();
    let found = if rules.asks_of_lists() { tools.len() } else { count };
    let answer = json!({"tools": tools, "found": found});
    let text = answer.to_string();
    json!({"content": [{"type": "text", "text": text}], "structuredContent": answer, "isError": false})
        .to_string()
}

/// A tool that was found: what is needed to call it, and why it was found.
fn told(hit: &Hit<'_>) -> Value {
    let definition: Value = serde_json::from_str(&hit.entry.definition).unwrap_or_default();
    let mut tool = json!({
        "name": &*hit.entry.name,
        "score": (f64::from(hit.score) * 100.0).round() / 100.0,
        "matched": hit.matched,
    });
    for key in ["title", "description", "annotations", "inputSchema", "outputSchema"] {
        if let Some(value) = definition.get(key) {
            tool[key] = value.clone();
        }
    }
    tool
}

/// Answers `call_tool`: the same request under the name of the tool it names.
pub(super) async fn call(
    gateway: &Gateway,
    request: &Request,
    context: &CallContext,
) -> Result<Reply, ErrorObject> {
    let inner = match inner(request) {
        Ok(inner) => inner,
        Err(why) => {
            Timed::own(request, CALL, &gateway.observer).end(Outcome::Invalid, 0);
            return Ok(tool_error(&why));
        }
    };
    call::direct(gateway, &inner, context).await
}

/// # Errors
/// Why it is no call, for a model.
fn inner(request: &Request) -> Result<Request, String> {
    let params = request.params.as_deref().unwrap_or(RawValue::NULL);
    let wrong = || format!("`{CALL}` takes `name`, the name of a tool, and `arguments`, an object");
    let given = raw::get(params, "arguments").ok_or_else(wrong)?;
    let name = raw::get_str(given, "name").ok_or_else(wrong)?;
    let arguments = raw::get(given, "arguments").map_or("{}", RawValue::get);
    let arguments = if arguments == "null" { "{}" } else { arguments };
    if !arguments.starts_with('{') {
        return Err(wrong());
    }
    let quoted = crate::mcp::wire::quote(&name);
    let text = raw::set(params, &[("name", &quoted), ("arguments", arguments)])
        .map_err(|error| error.to_string())?;
    let params = raw::into_raw(text).map_err(|error| error.to_string())?;
    Ok(Request { name: Some(name.into_owned()), params: Some(params), ..request.clone() })
}
