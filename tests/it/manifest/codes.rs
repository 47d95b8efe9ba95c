//! Every code of a diagnostic is explained, made somewhere, and shown by a case.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use toolcrib::manifest::code::CODES;

/// Functions that are given the code of a diagnostic.
const MAKERS: &[&str] = &["error", "warning", "fault", "plain", "finding", "declaration", "refuse"];

#[derive(Default)]
struct Literals {
    /// Text that is a code for certain.
    codes: BTreeSet<String>,
    all: BTreeSet<String>,
}

fn kebab(expr: &syn::Expr) -> Option<String> {
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = expr else { return None };
    let text = text.value();
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    text.split('-').all(word).then_some(text)
}

impl<'ast> Visit<'ast> for Literals {
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(path) = &*call.func
            && path.path.segments.last().is_some_and(|last| MAKERS.contains(&last.ident.to_string().as_str()))
        {
            self.codes.extend(call.args.iter().find_map(kebab));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if MAKERS.contains(&call.method.to_string().as_str()) {
            self.codes.extend(call.args.iter().find_map(kebab));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if matches!(&field.member, syn::Member::Named(name) if name == "code") {
            self.codes.extend(kebab(&field.expr));
        }
        visit::visit_field_value(self, field);
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.all.insert(text.value());
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }
}

/// The modules that find mistakes of users.
fn literals() -> Literals {
    let mut found = Literals::default();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let inside = path.components().any(|part| {
                let module = Path::new(part.as_os_str()).file_stem();
                ["manifest", "desired", "policy", "lock", "contract"]
                    .iter()
                    .any(|one| module == Some((*one).as_ref()))
            });
            if path.is_dir() {
                open.push(path);
            } else if inside && path.extension().is_some_and(|end| end == "rs") && name != "code.rs" {
                found.visit_file(&syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_code_has_its_row_and_every_row_its_code() {
    let found = literals();
    assert!(found.codes.len() > 30, "the scanner sees: {:?}", found.codes);
    let rows: BTreeSet<&str> = CODES.iter().map(|code| code.id).collect();
    let without: Vec<&String> = found.codes.iter().filter(|code| !rows.contains(code.as_str())).collect();
    assert!(without.is_empty(), "add a row to src/manifest/code.rs for {without:?}");
    let dead: Vec<&&str> = rows.iter().filter(|code| !found.all.contains(**code)).collect();
    assert!(dead.is_empty(), "no diagnostic has the codes {dead:?}");
    assert!(CODES.is_sorted_by_key(|code| code.id) && rows.len() == CODES.len(), "in the order of names");
    for code in CODES {
        for text in [code.meaning, code.help] {
            assert!(text.ends_with('.') && text.starts_with(char::is_uppercase), "{}: {text}", code.id);
        }
    }
}

#[test]
fn every_code_is_shown_by_a_case() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for case in std::fs::read_dir(super::cases()).unwrap() {
        let expected = case.unwrap().path().join("expected.txt");
        let text = std::fs::read_to_string(&expected).unwrap_or_default();
        for line in text.lines() {
            let rest = line.strip_prefix("error[").or_else(|| line.strip_prefix("warning["));
            if let Some((code, _)) = rest.and_then(|rest| rest.split_once(']')) {
                seen.entry(code.to_owned()).or_insert_with(|| expected.display().to_string());
            }
        }
    }
    let rows: BTreeSet<&str> = CODES.iter().map(|code| code.id).collect();
    let unknown: Vec<_> = seen.iter().filter(|(code, _)| !rows.contains(code.as_str())).collect();
    assert!(unknown.is_empty(), "add a row to src/manifest/code.rs for {unknown:?}");
    let unseen: Vec<_> = rows.iter().filter(|code| !seen.contains_key(**code)).collect();
    assert!(unseen.is_empty(), "no case below tests/it/manifest shows {unseen:?}");
}
