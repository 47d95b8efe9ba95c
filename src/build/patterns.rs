//! Docker's pattern rules for `.dockerignore`.
//!
//! Source: the reference of `.dockerignore` (docs.docker.com/build/concepts/context) and the package
//! `patternmatcher` of Moby: patterns start at the context's root, a pattern that matches a folder
//! matches all below it, the last one that matches decides, `!` takes back, `**` crosses folders.

/// The lines of one `.dockerignore`.
pub(super) struct Patterns(Vec<Pattern>);

struct Pattern {
    takes_back: bool,
    glob: Vec<char>,
}

impl Patterns {
    pub(super) fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(pattern).collect())
    }

    pub(super) fn ignores(&self, path: &str) -> bool {
        let path: Vec<char> = path.chars().collect();
        self.0.iter().rev().find(|pattern| pattern.covers(&path)).is_some_and(|pattern| !pattern.takes_back)
    }
}

fn pattern(line: &str) -> Option<Pattern> {
    let line = line.trim();
    let (takes_back, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
    let mut parts: Vec<&str> = Vec::new();
    for part in line.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return None;
    }
    Some(Pattern { takes_back, glob: parts.join("/").chars().collect() })
}

impl Pattern {
    /// Whether it matches the path or a folder above it.
    fn covers(&self, path: &[char]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, c)| **c == '/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| matches(&self.glob, &path[..end]))
    }
}

/// Whether all of `path` matches all of `glob`, in time bounded by the product of their lengths.
fn matches(glob: &[char], path: &[char]) -> bool {
    // Whether the pattern so far matches the path up to each position.
    let mut row = vec![false; path.len() + 1];
    row[0] = true;
    let mut at = 0;
    while at < glob.len() {
        let mut next = vec![false; path.len() + 1];
        match glob[at] {
            '*' if glob.get(at + 1) == Some(&'*') => {
                at += 2;
                if glob.get(at) == Some(&'/') {
                    // Any number of whole folders, also none.
                    at += 1;
                    next.clone_from(&row);
                    let mut open = false;
                    for end in 0..path.len() {
                        open |= row[end];
                        next[end + 1] |= open && path[end] == '/';
                    }
                } else {
                    let mut open = false;
                    for (end, next) in next.iter_mut().enumerate() {
                        open |= row[end];
                        *next = open;
                    }
                }
                row = next;
                continue;
            }
            '*' => {
                let mut open = false;
                for (end, next) in next.iter_mut().enumerate() {
                    open = row[end] || (open && end > 0 && path[end - 1] != '/');
                    *next = open;
                }
            }
            symbol => {
                let (class, length) = one(symbol, &glob[at..]);
                for end in 0..path.len() {
                    next[end + 1] = row[end] && class(path[end]);
                }
                at += length - 1;
            }
        }
        at += 1;
        row = next;
    }
    row[path.len()]
}

/// What stands for one character, and how long it is written.
fn one(symbol: char, glob: &[char]) -> (Box<dyn Fn(char) -> bool + '_>, usize) {
    match symbol {
        '?' => (Box::new(|c| c != '/'), 1),
        '\\' if glob.len() > 1 => (Box::new(|c| c == glob[1]), 2),
        '[' => match glob.iter().skip(2).position(|c| *c == ']') {
            Some(at) => (Box::new(move |c| c != '/' && in_class(&glob[1..at + 2], c)), at + 3),
            None => (Box::new(|c| c == '['), 1),
        },
        symbol => (Box::new(move |c| c == symbol), 1),
    }
}

fn in_class(class: &[char], c: char) -> bool {
    let (not, class) = match class.split_first() {
        Some(('^', rest)) => (true, rest),
        _ => (false, class),
    };
    let mut at = 0;
    let mut found = false;
    while at < class.len() {
        if class.get(at + 1) == Some(&'-') && at + 2 < class.len() {
            found |= (class[at]..=class[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= class[at] == c;
            at += 1;
        }
    }
    found != not
}

#[cfg(test)]
mod tests {
    use super::Patterns;

    #[test]
    fn as_docker_reads_them() {
        for (patterns, ignored, kept) in [
            ("# note\n\n*.md\n!README.md", &["a.md"][..], &["README.md", "docs/a.md"][..]),
            ("**/*.md", &["a.md", "docs/a.md", "a/b/c.md"], &["a.mdx"]),
            ("node_modules", &["node_modules/a/b.js"], &["src/node_modules/x", "node_modules2"]),
            ("/dist/", &["dist/a"], &["src/dist/a"]),
            ("*/temp*", &["a/temporary.txt", "a/temp/b"], &["temp", "a/b/temp"]),
            ("temp?", &["tempa", "tempb/c"], &["temp", "tempab"]),
            (
                "*\n!src\n!src/**/*.py\nsrc/secret.py",
                &["a", "src/secret.py", "docs/x"],
                &["src/a.py", "src/b/c.py"],
            ),
            ("src/**/cache", &["src/cache/a", "src/a/b/cache"], &["cache", "src/cached"]),
            ("**/.git", &[".git/config", "a/.git/config"], &[".gitignore"]),
            ("a/**", &["a/b", "a/b/c"], &["b"]),
            ("[a-c]x\n[^z]y", &["ax", "cx", "ay"], &["dx", "zy"]),
            ("./a/../b", &["b"], &["a"]),
            ("\\*x", &["*x"], &["ax"]),
            ("**.go", &["a.go", "b/a.go"], &["a.goo"]),
        ] {
            let parsed = Patterns::parse(patterns);
            for path in ignored {
                assert!(parsed.ignores(path), "{patterns:?} {path}");
            }
            for path in kept {
                assert!(!parsed.ignores(path), "{patterns:?} {path}");
            }
        }
    }
}
