//! What one file names: modules of ours, outside crates, and async code.
//!
//! Understands grouped and renamed `use`, `super` and `self`, inline paths in types, expressions and
//! attributes, and the tokens inside macros. Items under `#[cfg(test)]` are left out.

use std::collections::BTreeSet;
use std::fmt;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Macro, UseTree};

/// Something that is named, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A module at the root of our library.
    Module(String),
    /// A path into another crate, as far as it is written.
    Crate(String),
    /// An async function, block or closure.
    Async,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Module(name) => write!(f, "{} module {name}", self.line),
            Kind::Crate(path) => write!(f, "{} crate {path}", self.line),
            Kind::Async => write!(f, "{} async", self.line),
        }
    }
}

/// Everything `source`, the file of `module`, names.
pub(super) fn scan(source: &str, module: &[String]) -> syn::Result<BTreeSet<Found>> {
    let file = syn::parse_file(source)?;
    let mut scanner = Scanner { module: module.to_vec(), found: BTreeSet::new() };
    scanner.visit_file(&file);
    Ok(scanner.found)
}

struct Scanner {
    module: Vec<String>,
    found: BTreeSet<Found>,
}

fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl Scanner {
    fn add(&mut self, span: Span, kind: Kind) {
        self.found.insert(Found { line: span.start().line, kind });
    }

    /// A path by its segments: `crate`, `self` and `super` lead to a module, anything else to a crate
    /// or to something local, which the tables do not know.
    fn path(&mut self, span: Span, segments: &[String]) {
        let mut absolute = self.module.clone();
        let mut rest = segments;
        match segments.first().map(String::as_str) {
            Some("crate") => {
                absolute.clear();
                rest = &segments[1..];
            }
            Some("self") if segments.len() > 1 => rest = &segments[1..],
            Some("super") => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    absolute.pop();
                    rest = &rest[1..];
                }
            }
            Some(_) => {
                if segments.len() > 1 {
                    self.add(span, Kind::Crate(segments.join("::")));
                }
                return;
            }
            None => return,
        }
        absolute.extend(rest.iter().cloned());
        if let Some(first) = absolute.first() {
            self.add(span, Kind::Module(first.clone()));
        }
    }

    fn use_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.use_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, before);
                }
            }
            UseTree::Name(name) => self.leaf(&name.ident, before),
            UseTree::Rename(name) => self.leaf(&name.ident, before),
            UseTree::Glob(glob) => self.path(glob.star_token.spans[0], before),
        }
    }

    fn leaf(&mut self, ident: &proc_macro2::Ident, before: &mut Vec<String>) {
        if ident == "self" {
            self.path(ident.span(), before);
        } else {
            before.push(ident.to_string());
            self.path(ident.span(), before);
            before.pop();
        }
    }

    /// Paths and `async` among tokens that nobody parses.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut start = Span::call_site();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.path(start, &std::mem::take(&mut path));
                        start = ident.span();
                    }
                    colons = 0;
                    if ident == "async" {
                        self.add(ident.span(), Kind::Async);
                    }
                    path.push(ident.to_string());
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.path(start, &std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.path(start, &path);
    }
}

impl<'ast> Visit<'ast> for Scanner {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_in_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.path(first.ident.span(), &segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_macro(&mut self, found: &'ast Macro) {
        self.tokens(found.tokens.clone());
        visit::visit_macro(self, found);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = &signature.asyncness {
            self.add(token.span, Kind::Async);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, expression: &'ast syn::ExprAsync) {
        self.add(expression.async_token.span, Kind::Async);
        visit::visit_expr_async(self, expression);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        if let Some(token) = &closure.asyncness {
            self.add(token.span, Kind::Async);
        }
        visit::visit_expr_closure(self, closure);
    }
}
