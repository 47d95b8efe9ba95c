//! YAML text to documents of nodes that know their places.
//!
//! Input: the text of a file. Output: one [`Document`] after the other. Invariants: a broken document
//! leaves the others of its file readable; nodes, depth and aliases are bounded. Not here: what the
//! nodes mean.
//!
//! The events come from `granit-parser`, which keeps places and the spelling of scalars and goes on
//! after a broken document. What a plain scalar means (`8080`, `014`, `1_000`, `no`) is decided by
//! `serde_yaml`, so that a JSON Schema written here reads as it does everywhere else.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

/// Nodes of one document. The largest inventories of tool schemas seen have some 20,000.
const MAX_NODES: usize = 200_000;
/// Lists and mappings inside each other. A JSON Schema of 40 nested objects needs 84; every level
/// costs stack when it is read.
const MAX_DEPTH: usize = 100;
/// Nodes that aliases of one document stand for. Shared environments and schemas have hundreds.
const MAX_ALIASED: usize = 10_000;

/// A place in the text; line and column count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark {
    pub(super) line: u32,
    pub(super) column: u32,
    /// Whose text it is: 0 for the document's own, n for the nth that is laid over it.
    pub(super) source: u8,
}

impl Mark {
    pub(super) const START: Self = Self { line: 1, column: 1, source: 0 };

    fn of(span: Span) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            line: count(span.start.line()).max(1),
            column: count(span.start.col()).saturating_add(1),
            source: 0,
        }
    }
}

/// One node and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) mark: Mark,
    pub(super) content: Content<'a>,
}

#[derive(Clone, Debug)]
pub(super) enum Content<'a> {
    Scalar {
        text: Cow<'a, str>,
        /// Without quotes and not a block: it may mean a number, true, false or nothing.
        plain: bool,
    },
    List(Vec<Node<'a>>),
    /// In the order of the text, keys unique.
    Map(Vec<(Node<'a>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The text of a scalar, as written.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The value under `key`, with the key.
    pub(super) fn get(&self, key: &str) -> Option<(&Node<'a>, &Node<'a>)> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(name, value)| (name, value))
    }

    /// The place of a field, or of the nearest one above that is there: of its value when that is a
    /// scalar, else of its key.
    pub(super) fn locate(&self, path: &[&str]) -> Mark {
        let (mut node, mut mark) = (self, self.mark);
        for step in path {
            let next = if let Content::List(items) = &node.content {
                step.parse().ok().and_then(|at: usize| items.get(at)).map(|item| (item.mark, item))
            } else {
                node.get(step).map(|(key, value)| {
                    let scalar = matches!(value.content, Content::Scalar { .. }) && !value.is_null();
                    (if scalar { value.mark } else { key.mark }, value)
                })
            };
            let Some(next) = next else { break };
            (mark, node) = next;
        }
        mark
    }

    /// The place of the key of a field; where there is none, as [`Self::locate`].
    pub(super) fn locate_key(&self, path: &[&str]) -> Mark {
        let parent = path.split_last().and_then(|(last, above)| {
            let node = above.iter().try_fold(self, |node, step| node.get(step).map(|(_, value)| value))?;
            node.get(last).map(|(key, _)| key.mark)
        });
        parent.unwrap_or_else(|| self.locate(path))
    }

    /// Whether it is written as nothing: `~`, `null`, or left out.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if is_null(text))
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// What a scalar means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar<'n> {
    Null,
    Bool(bool),
    Number(serde_yaml::Number),
    Text(&'n str),
}

/// What a scalar means where no type says so.
pub(super) fn meaning(text: &str, plain: bool) -> Scalar<'_> {
    if !plain {
        return Scalar::Text(text);
    }
    match text {
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        _ if is_null(text) => Scalar::Null,
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            serde_yaml::from_str(text).map_or(Scalar::Text(text), Scalar::Number)
        }
        _ => Scalar::Text(text),
    }
}

/// A mistake of spelling: it belongs to the document, whatever that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxFault {
    pub(super) mark: Mark,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// One document of a file. With faults, `root` is what could be read all the same.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) root: Option<Node<'a>>,
    pub(super) faults: Vec<SyntaxFault>,
}

/// The documents of a text, read as they are asked for.
pub(super) struct Documents<'a> {
    parser: Parser<'a, StrInput<'a>>,
    over: bool,
}

pub(super) fn documents(text: &str) -> Documents<'_> {
    let mut options = granit_parser::options! {
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    Documents { parser: Parser::new_from_str_with_options(text, options), over: false }
}

impl<'a> Iterator for Documents<'a> {
    type Item = Document<'a>;

    fn next(&mut self) -> Option<Document<'a>> {
        let mut builder = Builder::default();
        while !self.over {
            match self.parser.next_event() {
                None | Some(Ok((Event::StreamEnd, _))) => self.over = true,
                Some(Ok((Event::StreamStart | Event::DocumentStart(..), _))) => {}
                Some(Ok((Event::DocumentEnd, _))) => {
                    return Some(builder.finish());
                }
                Some(Ok((event, span))) => builder.take(event, span),
                Some(Err(error)) => {
                    self.over = !matches!(self.parser.proceed_next_document(), Ok(true));
                    builder.faults.push(syntax(&error));
                    return Some(builder.finish());
                }
            }
        }
        None
    }
}

fn syntax(error: &granit_parser::ScanError) -> SyntaxFault {
    let mark = Mark::of(Span::empty(*error.marker()));
    let message = error.info();
    if message.contains("recursion limit") {
        return too_deep(mark);
    }
    let hint = match message.as_str() {
        text if text.contains("tab") => "indent with spaces",
        text if text.contains("mapping values are not allowed") => {
            "indent the line like its neighbours, or put text that holds `: ` in quotes"
        }
        text if text.contains("simple key") || text.contains("block mapping") => {
            "check the indentation here and in the line above; a key ends with `: `"
        }
        text if text.contains("quoted scalar") => {
            "close the quote: one that was opened here or above has no other end"
        }
        text if text.contains("EOF") || text.contains("eof") => "close what is open: a quote, a `[` or a `{`",
        text if text.contains("did not find expected") => {
            "close the `[` or `{` that was opened before, or put a `,` between two"
        }
        _ => "correct the YAML here",
    };
    SyntaxFault { mark, code: "syntax", message, hint: Some(hint.to_owned()) }
}

fn too_deep(mark: Mark) -> SyntaxFault {
    let message = format!("lists and mappings are nested more than {MAX_DEPTH} deep");
    SyntaxFault { mark, code: "too-deep", message, hint: Some("nest them less deeply".to_owned()) }
}

/// A list or mapping that is still open.
struct Open<'a> {
    mark: Mark,
    anchor: usize,
    /// A mapping holds its keys and values in turn.
    map: bool,
    nodes: Vec<Node<'a>>,
}

#[derive(Default)]
struct Builder<'a> {
    root: Option<Node<'a>>,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, (Node<'a>, usize)>,
    faults: Vec<SyntaxFault>,
    count: usize,
    aliased: usize,
    /// A bound was passed: nothing more is kept of this document.
    spent: bool,
}

impl<'a> Builder<'a> {
    fn fault(&mut self, mark: Mark, code: &'static str, message: impl Into<String>, hint: &str) {
        self.faults.push(SyntaxFault { mark, code, message: message.into(), hint: Some(hint.to_owned()) });
    }

    fn take(&mut self, event: Event<'a>, span: Span) {
        if self.spent {
            return;
        }
        let mark = Mark::of(span);
        let tagged = span.tag_start.map_or(mark, |start| Mark::of(Span::empty(start)));
        self.count += 1;
        if self.count > MAX_NODES {
            self.spent = true;
            self.fault(
                mark,
                "too-large",
                format!("a document may have {MAX_NODES} nodes"),
                "split it in several documents",
            );
            return;
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = self.tag(tagged, tag.as_deref(), style == ScalarStyle::Plain);
                self.add(Node { mark, content: Content::Scalar { text, plain } }, anchor);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tagged, tag.as_deref(), false);
                self.enter(mark, anchor, false);
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tagged, tag.as_deref(), false);
                self.enter(mark, anchor, true);
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
            Event::Alias(id) => self.alias(mark, id),
            Event::UnresolvedAlias(name) => {
                self.fault(
                    mark,
                    "unknown-anchor",
                    format!("there is no anchor `&{name}` before this alias"),
                    "put the anchor before it and in the same document, or text that begins with `*` in quotes",
                );
                self.add(Node { mark, content: Content::Scalar { text: Cow::Borrowed(""), plain: true } }, 0);
            }
            _ => {}
        }
    }

    /// Whether a scalar is still plain under this tag.
    fn tag(&mut self, mark: Mark, tag: Option<&Tag>, plain: bool) -> bool {
        match tag.map(|tag| (tag, tag.core_suffix())) {
            None | Some((_, Some("int" | "float" | "bool" | "null" | "seq" | "map"))) => plain,
            Some((_, Some("str"))) => false,
            Some((tag, _)) => {
                let message = format!("the tag `{}` means nothing here", tag.original());
                self.fault(
                    mark,
                    "unsupported-tag",
                    message,
                    "remove it, or put text that begins with `!` in quotes",
                );
                plain
            }
        }
    }

    fn enter(&mut self, mark: Mark, anchor: usize, map: bool) {
        self.open.push(Open { mark, anchor, map, nodes: Vec::new() });
        if self.open.len() > MAX_DEPTH {
            self.spent = true;
            self.faults.push(too_deep(mark));
        }
    }

    fn leave(&mut self) {
        let Some(Open { mark, anchor, map, nodes }) = self.open.pop() else { return };
        let content = if map { Content::Map(self.pairs(nodes)) } else { Content::List(nodes) };
        self.add(Node { mark, content }, anchor);
    }

    /// Keys with their values; of equal keys the first is kept.
    fn pairs(&mut self, nodes: Vec<Node<'a>>) -> Vec<(Node<'a>, Node<'a>)> {
        let mut pairs: Vec<(Node<'a>, Node<'a>)> = Vec::with_capacity(nodes.len() / 2);
        let mut seen: HashSet<String> = HashSet::new();
        let mut nodes = nodes.into_iter();
        while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
            let Some(name) = key.text() else {
                self.fault(
                    key.mark,
                    "wrong-type",
                    "a key is a list or a mapping",
                    "write a name before the `:`",
                );
                continue;
            };
            if name == "<<" && matches!(key.content, Content::Scalar { plain: true, .. }) {
                self.fault(key.mark, "merge-key", "merge keys are not supported", "write the fields out");
                continue;
            }
            let known = if pairs.len() < 16 {
                pairs.iter().any(|(other, _)| other.text() == Some(name))
            } else {
                if seen.is_empty() {
                    seen.extend(pairs.iter().filter_map(|(other, _)| other.text().map(str::to_owned)));
                }
                !seen.insert(name.to_owned())
            };
            if known {
                let message = format!("the key `{name}` is there twice");
                self.fault(key.mark, "duplicate-key", message, "keep one of them");
            } else {
                pairs.push((key, value));
            }
        }
        pairs
    }

    fn alias(&mut self, mark: Mark, id: usize) {
        let Some((node, size)) = self.anchors.get(&id) else {
            // Inside its own anchor.
            self.fault(
                mark,
                "unknown-anchor",
                "an alias stands inside its own anchor",
                "write the value out",
            );
            self.add(Node { mark, content: Content::Scalar { text: Cow::Borrowed(""), plain: true } }, 0);
            return;
        };
        self.aliased += size;
        if self.aliased > MAX_ALIASED {
            self.spent = true;
            let message = format!("the aliases of this document stand for more than {MAX_ALIASED} nodes");
            self.fault(mark, "too-large", message, "write the values out, or split the document");
            return;
        }
        let node = Node { mark, content: node.content.clone() };
        self.add(node, 0);
    }

    fn add(&mut self, node: Node<'a>, anchor: usize) {
        if anchor != 0 {
            let size = size(&node, MAX_ALIASED + 1);
            self.aliased += size;
            // A copy beyond the bound is not kept; an alias to it then has none.
            if size <= MAX_ALIASED && self.aliased <= 2 * MAX_ALIASED {
                self.anchors.insert(anchor, (node.clone(), size));
            }
        }
        match self.open.last_mut() {
            Some(open) => open.nodes.push(node),
            None => self.root = Some(node),
        }
    }

    /// The document, or what there is of one whose end cannot be read: enough to see whose it is.
    fn finish(mut self) -> Document<'a> {
        while !self.open.is_empty() {
            self.leave();
        }
        Document { root: self.root, faults: self.faults }
    }
}

/// Nodes of a tree, counted up to `most`.
fn size(node: &Node<'_>, most: usize) -> usize {
    let mut count = 1;
    let mut rest = vec![node];
    while let Some(node) = rest.pop() {
        if count >= most {
            return most;
        }
        match &node.content {
            Content::Scalar { .. } => {}
            Content::List(items) => {
                count += items.len();
                rest.extend(items);
            }
            Content::Map(entries) => {
                count += 2 * entries.len();
                rest.extend(entries.iter().flat_map(|(key, value)| [key, value]));
            }
        }
    }
    count
}
