//! Finding tools by what they do: BM25 over name, title, description and parameters.
//!
//! Input: definitions, and a question in words. Output: entries with a score and the words that
//! matched. Invariants: nothing is asked elsewhere; equal questions have equal answers; a question and
//! what it costs are bounded. Source of the formula: Robertson and Zaragoza, "The Probabilistic
//! Relevance Framework: BM25 and Beyond" (2009), with weighted fields.

#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Entry;
use words::words;

/// How much a word counts by where it stands.
const NAME: f32 = 4.0;
const TITLE: f32 = 3.0;
const DESCRIPTION: f32 = 1.5;
const PARAMETER: f32 = 1.0;
const PARAMETER_DESCRIPTION: f32 = 0.5;
/// How fast the weight of a repeated word levels off, and how much long definitions count less.
const K1: f32 = 1.2;
const B: f32 = 0.5;
/// What a word counts that only begins like the one asked for, or means the same.
const BEGINS: f32 = 0.6;
const SAME: f32 = 0.5;
/// Words of one question: a sentence or two.
const MAX_WORDS: usize = 32;
/// Words of the index that one word may be the beginning of.
const MAX_BEGUN: usize = 16;
/// Words of one definition: some KiB of text.
const MAX_TEXT: usize = 2000;
/// Letters a word has at least to stand for those that begin with it.
const MIN_BEGIN: usize = 3;

/// Tools, to be found.
#[derive(Debug, Default)]
pub struct Index {
    entries: Vec<Arc<Entry>>,
    /// By word, in the form in which words are compared.
    postings: BTreeMap<Box<str>, Posting>,
    lengths: Vec<f32>,
    average: f32,
}

/// Where a word stands.
#[derive(Debug)]
struct Posting {
    /// As it is written where it was first met.
    shown: Box<str>,
    /// Which entries have it, and how much.
    entries: Vec<(u32, f32)>,
}

/// A tool that was found.
#[derive(Clone, Debug)]
pub struct Hit<'a> {
    pub entry: &'a Arc<Entry>,
    /// Higher is better; comparable within one answer.
    pub score: f32,
    /// Words of definitions that fit those of the question, in the question's order.
    pub matched: Vec<&'a str>,
}

/// What is read of a definition.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Told {
    title: Option<String>,
    description: Option<String>,
    input_schema: Schema,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Schema {
    properties: BTreeMap<String, Value>,
}

impl Index {
    pub fn of(entries: impl Iterator<Item = Arc<Entry>>) -> Self {
        let mut index = Self::default();
        for entry in entries {
            let Ok(at) = u32::try_from(index.entries.len()) else { break };
            let weights = weights(&entry);
            index.lengths.push(weights.values().map(|(_, weight)| weight).sum());
            for (root, (shown, weight)) in weights {
                let fresh = || Posting { shown: shown.into(), entries: Vec::new() };
                index.postings.entry(root.into()).or_insert_with(fresh).entries.push((at, weight));
            }
            index.entries.push(entry);
        }
        #[expect(clippy::cast_precision_loss, reason = "an average need not be exact")]
        let count = index.entries.len().max(1) as f32;
        index.average = (index.lengths.iter().sum::<f32>() / count).max(1.0);
        index
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All that fit, best first; equal ones by name. Nothing asked: nothing found.
    pub fn search(&self, question: &str) -> Vec<Hit<'_>> {
        let mut asked: Vec<String> = Vec::new();
        for word in words(question).take(MAX_WORDS) {
            if !asked.contains(&word.root) {
                asked.push(word.root);
            }
        }
        let mut found: BTreeMap<u32, (f32, Vec<&str>)> = BTreeMap::new();
        for word in &asked {
            // Of several forms of one word the best counts.
            let mut best: BTreeMap<u32, (f32, &str)> = BTreeMap::new();
            for (posting, share) in self.forms(word) {
                let Posting { shown: known, entries } = posting;
                let rarity = self.rarity(entries.len());
                for (at, weight) in entries {
                    let score = share * rarity * self.saturated(*at, *weight);
                    let slot = best.entry(*at).or_insert((score, known));
                    if score > slot.0 {
                        *slot = (score, known);
                    }
                }
            }
            for (at, (score, known)) in best {
                let (sum, matched) = found.entry(at).or_default();
                *sum += score;
                if !matched.contains(&known) {
                    matched.push(known);
                }
            }
        }
        let mut hits = Vec::with_capacity(found.len());
        for (at, (score, matched)) in found {
            if let Some(entry) = self.entries.get(at as usize) {
                // Entries that have more of what was asked come first among those about as good.
                hits.push(Hit { entry, score: score * share(matched.len(), asked.len()), matched });
            }
        }
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.entry.name.cmp(&b.entry.name)));
        hits
    }

    /// The words of the index that stand for one of the question, and what they count.
    fn forms(&self, word: &str) -> Vec<(&Posting, f32)> {
        let mut forms = Vec::new();
        if let Some(posting) = self.postings.get(word) {
            forms.push((posting, 1.0));
        } else if word.chars().count() >= MIN_BEGIN {
            let begun =
                self.postings.range::<str, _>((std::ops::Bound::Included(word), std::ops::Bound::Unbounded));
            let begun = begun.take_while(|(known, _)| known.starts_with(word)).take(MAX_BEGUN);
            forms.extend(begun.map(|(_, posting)| (posting, BEGINS)));
        }
        for same in words::meaning_the_same(word) {
            if let Some(posting) = self.postings.get(same) {
                forms.push((posting, SAME));
            }
        }
        forms
    }

    /// Words that few tools have say more.
    #[expect(clippy::cast_precision_loss, reason = "counts of tools are below 2^24")]
    fn rarity(&self, having: usize) -> f32 {
        let (all, having) = (self.entries.len() as f32, having as f32);
        (1.0 + (all - having + 0.5) / (having + 0.5)).ln()
    }

    fn saturated(&self, at: u32, weight: f32) -> f32 {
        let length = self.lengths.get(at as usize).copied().unwrap_or(self.average);
        weight * (K1 + 1.0) / (weight + K1 * (1.0 - B + B * length / self.average))
    }
}

/// More, the more of the words that were asked for are there.
#[expect(clippy::cast_precision_loss, reason = "both are small")]
fn share(matched: usize, asked: usize) -> f32 {
    0.5 + 0.5 * matched as f32 / asked.max(1) as f32
}

/// The words of a definition as they are compared, each as it is written and how much it counts.
fn weights(entry: &Entry) -> BTreeMap<String, (String, f32)> {
    let told: Told = serde_json::from_str(&entry.definition).unwrap_or_default();
    let mut weights: BTreeMap<String, (String, f32)> = BTreeMap::new();
    let mut add = |text: &str, weight: f32| {
        for word in words(text).take(MAX_TEXT) {
            weights.entry(word.root).or_insert((word.text, 0.0)).1 += weight;
        }
    };
    add(&entry.name, NAME);
    add(told.title.as_deref().unwrap_or_default(), TITLE);
    add(told.description.as_deref().unwrap_or_default(), DESCRIPTION);
    let mut seen = BTreeSet::new();
    for (name, schema) in told.input_schema.properties.iter().take(MAX_TEXT) {
        if seen.insert(name) {
            add(name, PARAMETER);
            add(schema["description"].as_str().unwrap_or_default(), PARAMETER_DESCRIPTION);
        }
    }
    weights
}

/// The tool that finds others.
pub const SEARCH: &str = "search_tools";
/// The tool that calls what was found.
pub const CALL: &str = "call_tool";
/// Tools that one search answers at most, whatever is asked for.
pub const MOST: u16 = 100;
/// Characters of one question.
pub const MAX_QUESTION: usize = 1000;

/// What a toolset lists that is served as a search: two tools.
pub(super) fn definitions(toolset: &crate::desired::Toolset) -> [Arc<str>; 2] {
    let id = &toolset.id;
    let about = toolset.instructions.as_deref().and_then(|text| text.trim().lines().next());
    let about = about.map_or_else(String::new, |line| format!(" About it: {line}"));
    let meta = json!({"dev.toolcrib/resource": id.to_string()});
    let find = json!({
        "name": SEARCH,
        "title": format!("Search the tools of {}", id.name),
        "description": format!(
            "Finds tools of `{}` by what they do, in plain words. The answer holds names, descriptions and input schemas; call one with `{CALL}`.{about}",
            id.name
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "What the tool should do, such as: list the files of a folder",
                    "minLength": 1,
                    "maxLength": MAX_QUESTION,
                },
                "limit": {"type": "integer", "description": "How many tools at most", "minimum": 1, "maximum": MOST},
            },
            "required": ["query"],
            "additionalProperties": false,
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "tools": {"type": "array", "items": {"type": "object"}},
                "found": {"type": "integer"},
            },
            "required": ["tools", "found"],
        },
        "annotations": {"readOnlyHint": true, "idempotentHint": true, "openWorldHint": false},
        "_meta": meta,
    });
    let call = json!({
        "name": CALL,
        "title": format!("Call a tool of {}", id.name),
        "description": format!("Calls a tool of `{}` that `{SEARCH}` found, with arguments that fit its input schema.", id.name),
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": format!("The name of the tool, as `{SEARCH}` told it")},
                "arguments": {"type": "object", "description": "Its arguments"},
            },
            "required": ["name"],
            "additionalProperties": false,
        },
        "_meta": meta,
    });
    [find.to_string().into(), call.to_string().into()]
}
