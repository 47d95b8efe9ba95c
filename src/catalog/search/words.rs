//! Text to words that can be compared: lower case, without endings, without words that say nothing.

use std::sync::LazyLock;

/// Words that are in every text.
const EMPTY: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "has", "have",
    "how", "i", "if", "in", "into", "is", "it", "its", "me", "my", "of", "on", "or", "our", "please", "so",
    "some", "that", "the", "their", "them", "there", "these", "this", "to", "tool", "us", "use", "using",
    "want", "was", "we", "what", "when", "where", "which", "who", "will", "with", "you", "your",
];

/// Words that tools use for one thing.
const SAME: &[&[&str]] = &[
    &["delete", "remove", "drop", "erase", "destroy"],
    &["create", "add", "new", "make", "insert"],
    &["get", "show", "read", "fetch", "retrieve", "view", "print", "tell"],
    &["list", "enumerate", "show"],
    &["find", "search", "lookup", "query", "grep"],
    &["update", "change", "edit", "modify", "set", "patch"],
    &["send", "post", "notify", "message"],
    &["run", "execute", "start", "launch"],
    &["stop", "end", "kill", "terminate"],
    &["weather", "forecast", "temperature", "rain"],
    &["directory", "folder"],
    &["picture", "image", "photo"],
    &["mail", "email"],
    &["issue", "ticket", "bug"],
    &["log", "output"],
    &["repository", "repo", "git"],
    &["time", "clock", "hour"],
    &["translate", "translation", "language"],
    &["cluster", "kubernetes", "k8s"],
    &["database", "db", "sql"],
    &["pull", "pr", "merge"],
    &["convert", "transform"],
    &["website", "page", "url", "web"],
    &["user", "person", "people", "member"],
    &["calendar", "appointment", "meeting", "event", "schedule"],
];

/// [`SAME`] in the form in which words are compared.
static COMPARED: LazyLock<Vec<Vec<String>>> =
    LazyLock::new(|| SAME.iter().map(|group| group.iter().map(|word| stem(word)).collect()).collect());

/// A word of a text, and the form in which it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) root: String,
}

/// The other words for one thing, in the form in which they are compared.
pub(super) fn meaning_the_same(root: &str) -> impl Iterator<Item = &'static str> {
    let groups = COMPARED.iter().filter(move |group| group.iter().any(|word| word == root));
    groups.flat_map(|group| group.iter().map(String::as_str)).filter(move |other| *other != root)
}

/// The words of a text, in their order. `camelCase` and `snake_case` are several.
pub(super) fn words(text: &str) -> impl Iterator<Item = Word> + '_ {
    let says = Split { rest: text }.filter(|word| !EMPTY.contains(&word.as_str()));
    says.map(|text| Word { root: stem(&text), text })
}

struct Split<'a> {
    rest: &'a str,
}

impl Iterator for Split<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let start = self.rest.find(char::is_alphanumeric)?;
        let text = self.rest.get(start..)?;
        let mut before: Option<char> = None;
        let mut end = text.len();
        for (at, c) in text.char_indices() {
            let hump = c.is_uppercase() && before.is_some_and(char::is_lowercase);
            if !c.is_alphanumeric() || hump {
                end = at;
                break;
            }
            before = Some(c);
        }
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        Some(word.to_lowercase())
    }
}

/// Without the endings of English that make other forms of one word. Only what stays a word of three
/// letters is cut; names and numbers stay as they are.
fn stem(word: &str) -> String {
    if !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return word.to_owned();
    }
    let cut = |ending: &str, instead: &str| {
        let root = word.strip_suffix(ending).filter(|root| root.len() >= 3)?;
        Some(format!("{root}{instead}"))
    };
    let doubled = |root: String| {
        let bytes = root.as_bytes();
        let twice = bytes.len() > 3 && bytes.last() == bytes.get(bytes.len() - 2);
        if twice && !root.ends_with(['l', 's', 'z']) {
            root.get(..root.len() - 1).unwrap_or_default().to_owned()
        } else {
            root
        }
    };
    if word.ends_with("ss") || word.ends_with("us") || word.ends_with("is") {
        return word.to_owned();
    }
    let plural = || cut("ies", "y").or_else(|| cut("sses", "ss")).or_else(|| cut("s", ""));
    let verb = || cut("ing", "").or_else(|| cut("ed", "")).map(doubled);
    let root = verb().or_else(plural).unwrap_or_else(|| word.to_owned());
    // `delete`, `deletes`, `deleting` and `deleted` are one word.
    match root.strip_suffix('e').filter(|short| short.len() >= 3) {
        Some(short) => short.to_owned(),
        None => root,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_word_are_one() {
        let all = |text: &str| words(text).map(|word| word.root).collect::<Vec<_>>();
        assert_eq!(all("listFiles list_files List-files"), ["list", "fil", "list", "fil", "list", "fil"]);
        assert_eq!(all("delete deletes deleting deleted"), ["delet"; 4]);
        assert_eq!(all("queries query"), ["query", "query"]);
        assert_eq!(all("stopping stopped stop"), ["stop"; 3]);
        assert_eq!(all("status process"), ["status", "process"]);
        assert_eq!(all("What is the weather in Zürich?"), ["weather", "zürich"]);
        assert_eq!(all("k8s HTTP 2026-07-28"), ["k8s", "http", "2026", "07", "28"]);
        assert!(all("").is_empty() && all("… --").is_empty());
    }

    #[test]
    fn words_that_mean_the_same_are_written_as_words_are_compared() {
        for group in SAME {
            for word in *group {
                let compared: Vec<_> = words(word).map(|word| word.root).collect();
                assert_eq!(compared.len(), 1, "{word}");
            }
        }
        assert!(meaning_the_same("remov").any(|other| other == "delet"));
    }
}
