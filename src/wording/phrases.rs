//! What speaks to the model: phrases that give it orders, and places no tool has to name.
//!
//! A pattern is a line of groups of words in a row; `*` lets up to three words between. Words are
//! compared without case, accents of punctuation, or anything invisible between their letters.

use super::hidden::invisible;
use super::{Kind, Part};

/// Words that `*` lets stand between two groups.
const GAP: usize = 3;

/// One pattern, and what it is called.
struct Pattern {
    what: &'static str,
    /// Groups of words, one of each in a row; `*` in between.
    words: &'static [&'static [&'static str]],
}

const ANY: &[&str] = &["*"];
const TOOLS: &[&str] = &["tool", "tools", "function", "functions"];
const ORDERS: &[&str] = &[
    "instruction",
    "instructions",
    "prompt",
    "prompts",
    "rule",
    "rules",
    "message",
    "messages",
    "directive",
    "directives",
    "guideline",
    "guidelines",
    "guardrails",
    "constraints",
    "restrictions",
];
const TELL: &[&str] =
    &["tell", "mention", "inform", "reveal", "show", "notify", "disclose", "alert", "warn", "ask", "report"];
const TELLING: &[&str] = &[
    "telling",
    "mentioning",
    "informing",
    "revealing",
    "showing",
    "notifying",
    "disclosing",
    "alerting",
    "warning",
    "asking",
];
const PEOPLE: &[&str] =
    &["user", "users", "human", "humans", "person", "people", "anyone", "customer", "operator", "developer"];
const MODEL: &[&str] = &[
    "model",
    "models",
    "assistant",
    "assistants",
    "agent",
    "llm",
    "llms",
    "ai",
    "claude",
    "chatgpt",
    "gpt",
    "gemini",
    "copilot",
];
const MUST: &[&str] = &["must", "should", "shall", "will", "has", "needs", "needs"];

const PATTERNS: &[Pattern] = &[
    Pattern {
        what: "it asks to put aside other instructions",
        words: &[
            &["ignore", "disregard", "forget", "override", "bypass"],
            ANY,
            &[
                "previous",
                "prior",
                "above",
                "earlier",
                "preceding",
                "other",
                "all",
                "any",
                "system",
                "your",
                "these",
                "those",
            ],
            ANY,
            ORDERS,
        ],
    },
    Pattern {
        what: "it asks to keep something from a person",
        words: &[&["not", "don't", "dont", "never", "cannot"], ANY, TELL, ANY, PEOPLE],
    },
    Pattern {
        what: "it asks to keep something from a person",
        words: &[&["without"], ANY, TELLING, ANY, PEOPLE],
    },
    Pattern {
        what: "it asks to keep something from a person",
        words: &[&["hide", "conceal", "keep"], ANY, &["from"], &["the", "a", "any", "your"], PEOPLE],
    },
    Pattern {
        what: "it says what to do before a tool is used",
        words: &[
            &["before", "prior"],
            ANY,
            &["calling", "using", "invoking", "running", "call", "use", "invoke", "run", "executing"],
            ANY,
            TOOLS,
        ],
    },
    Pattern {
        what: "it says which tools to use",
        words: &[
            &["always", "must", "never", "only", "don't"],
            ANY,
            &["call", "use", "invoke", "run", "prefer"],
            &["this", "other", "another", "any", "the", "these", "that"],
            ANY,
            TOOLS,
        ],
    },
    Pattern {
        what: "it says which tools to use",
        words: &[&["instead"], &["of"], &["any", "the", "all", "other", "using", "calling"], ANY, TOOLS],
    },
    Pattern {
        what: "it gives the model a role",
        words: &[&["you"], &["are"], &["now", "no"], &["a", "an", "in", "the", "longer", "acting"]],
    },
    Pattern {
        what: "it gives the model a role",
        words: &[&["from"], &["now"], &["on"], &["you", "always", "never", "act", "respond"]],
    },
    Pattern {
        what: "it speaks to the model",
        words: &[
            &["the", "this", "any", "every"],
            MODEL,
            MUST,
            &["always", "never", "not", "first", "also", "to", "call", "use", "read", "include", "send"],
        ],
    },
    Pattern { what: "it speaks to the model", words: &[&["as"], &["an"], &["ai", "llm", "assistant"]] },
    Pattern {
        what: "it speaks to the model",
        words: &[
            &["you"],
            &["must"],
            &["always", "first", "never", "call", "invoke", "read", "send", "include"],
        ],
    },
    Pattern {
        what: "it speaks of what only the model sees",
        words: &[
            &["system", "developer", "hidden", "initial"],
            &["prompt", "prompts", "instruction", "instructions"],
        ],
    },
    Pattern {
        what: "it asks for the conversation",
        words: &[&["conversation", "chat", "message"], &["history", "transcript", "log", "context"]],
    },
    Pattern {
        what: "it asks for the conversation",
        words: &[
            &["entire", "full", "whole", "complete", "previous", "current"],
            &["conversation", "dialogue", "context"],
        ],
    },
];

/// Written as they stand, in lower case.
const LITERALS: &[(&str, &str)] = &[
    ("<|", "a mark that separates the parts of a prompt"),
    ("[inst]", "a mark that separates the parts of a prompt"),
    ("<<sys>>", "a mark that separates the parts of a prompt"),
    ("~/.ssh", "it names a file with credentials"),
    ("/.ssh/", "it names a file with credentials"),
    ("id_rsa", "it names a file with credentials"),
    ("id_ed25519", "it names a file with credentials"),
    (".aws/credentials", "it names a file with credentials"),
    (".kube/config", "it names a file with credentials"),
    ("/etc/passwd", "it names a file with credentials"),
    ("/etc/shadow", "it names a file with credentials"),
    (".cursor/mcp.json", "it names a file with credentials"),
    ("claude_desktop_config", "it names a file with credentials"),
];

/// Tags that make text look like a part of the prompt.
const TAGS: &[&str] = &[
    "important",
    "system",
    "assistant",
    "user",
    "instruction",
    "instructions",
    "secret",
    "hidden",
    "prompt",
    "critical",
    "override",
    "admin",
    "developer",
    "sys",
    "note_to_model",
    "context",
];

/// A word in lower case, with its bytes in the text.
struct Word {
    text: String,
    start: usize,
    end: usize,
}

pub(super) fn find(text: &str) -> Vec<Part> {
    let words = words(text);
    let mut found = Vec::new();
    for at in 0..words.len() {
        let hit = PATTERNS.iter().find_map(|pattern| {
            let end = matches(&words, at, pattern.words)?;
            Some((pattern.what, end))
        });
        let (Some((what, last)), Some(first)) = (hit, words.get(at)) else { continue };
        let end = words.get(last).map_or(first.end, |word| word.end);
        found.push(part(what, first.start, end));
    }
    let lower = text.to_ascii_lowercase();
    for (literal, what) in LITERALS {
        found.extend(lower.match_indices(literal).map(|(at, _)| part(what, at, at + literal.len())));
    }
    found.extend(tags(&lower));
    found.sort_by_key(|part| (part.start, std::cmp::Reverse(part.end)));
    // Of parts that overlap the first is enough.
    let mut until = 0;
    found.retain(|part| {
        let apart = part.start >= until;
        until = until.max(part.end);
        apart
    });
    found
}

fn part(what: &str, start: usize, end: usize) -> Part {
    Part { kind: Kind::InstructsModel, what: what.to_owned(), start, end }
}

/// Words of letters, digits and apostrophes. What is invisible is passed over, so that it cannot break a
/// word; letters that look like Latin ones count as those.
fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open = false;
    for (at, c) in text.char_indices() {
        if invisible(c) {
            continue;
        }
        let letter = alike(c);
        if !(letter.is_alphanumeric() || letter == '\'') {
            open = false;
            continue;
        }
        let end = at + c.len_utf8();
        match words.last_mut().filter(|_| open) {
            Some(word) => {
                word.text.extend(letter.to_lowercase());
                word.end = end;
            }
            None => words.push(Word { text: letter.to_lowercase().collect(), start: at, end }),
        }
        open = true;
    }
    words
}

/// The Latin letter that one of another script is taken for.
fn alike(c: char) -> char {
    match c {
        '\u{2019}' | '\u{2bc}' => '\'',
        'а' | 'А' | 'α' => 'a',
        'е' | 'Е' | 'ё' => 'e',
        'о' | 'О' | 'ο' | 'Ο' => 'o',
        'р' | 'Р' | 'ρ' => 'p',
        'с' | 'С' => 'c',
        'у' | 'У' => 'y',
        'х' | 'Х' => 'x',
        'і' | 'І' | 'ι' => 'i',
        'ѕ' => 's',
        'ν' => 'v',
        // Full width forms.
        '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' => {
            char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c)
        }
        _ => c,
    }
}

/// The index of the last word when the groups stand at `at` in a row.
fn matches(words: &[Word], at: usize, groups: &[&[&str]]) -> Option<usize> {
    let Some((group, rest)) = groups.split_first() else { return at.checked_sub(1) };
    if *group == ANY {
        return (at..=at + GAP).find_map(|at| matches(words, at, rest));
    }
    let word = words.get(at)?;
    if group.contains(&word.text.as_str()) { matches(words, at + 1, rest) } else { None }
}

/// `<IMPORTANT>` and the like, opening or closing.
fn tags(lower: &str) -> Vec<Part> {
    let mut found = Vec::new();
    for (start, _) in lower.match_indices('<') {
        let rest = lower.get(start + 1..).unwrap_or_default();
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let name: &str =
            rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
        let closed = rest.get(name.len()..).and_then(|rest| rest.find('>'));
        if TAGS.contains(&name)
            && let Some(closed) = closed.filter(|at| *at < 40)
        {
            let end = lower.len() - rest.len() + name.len() + closed + 1;
            found.push(part("a tag that looks like a part of the prompt", start, end));
        }
    }
    found
}
