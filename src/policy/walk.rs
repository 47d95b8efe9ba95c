//! Getting about in the library's syntax trees.

use regorus::unstable::{Expr, Literal, LiteralStmt, Query};

/// The parts of an expression, without those inside comprehensions.
pub(super) fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. }
        | Expr::ArrayCompr { .. }
        | Expr::SetCompr { .. }
        | Expr::ObjectCompr { .. } => Vec::new(),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().map(|item| &**item).collect(),
        Expr::Object { fields, .. } => fields.iter().flat_map(|(_, key, value)| [&**key, &**value]).collect(),
        Expr::Call { fcn, params, .. } => {
            std::iter::once(&**fcn).chain(params.iter().map(|param| &**param)).collect()
        }
        Expr::UnaryExpr { expr, .. } => vec![expr],
        Expr::RefDot { refr, .. } => vec![refr],
        Expr::RefBrack { refr, index, .. } => vec![refr, index],
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership { key, value, collection, .. } => {
            key.iter().map(|key| &**key).chain([&**value, &**collection]).collect()
        }
    }
}

/// A comprehension's own expressions and query.
pub(super) fn comprehension(expr: &Expr) -> Option<(Vec<&Expr>, &Query)> {
    match expr {
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            Some((vec![term], query))
        }
        Expr::ObjectCompr { key, value, query, .. } => Some((vec![key, value], query)),
        _ => None,
    }
}

/// The expressions of a statement, without those inside `every`.
pub(super) fn expressions(statement: &LiteralStmt) -> Vec<&Expr> {
    let mut found: Vec<&Expr> = match &statement.literal {
        Literal::SomeVars { .. } => Vec::new(),
        Literal::SomeIn { key, value, collection, .. } => {
            key.iter().map(|key| &**key).chain([&**value, &**collection]).collect()
        }
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => vec![expr],
        Literal::Every { domain, .. } => vec![domain],
    };
    found.extend(statement.with_mods.iter().map(|modifier| &*modifier.r#as));
    found
}

/// Every expression in `expr`, itself first, without those inside comprehensions.
pub(super) fn flat(expr: &Expr) -> Vec<&Expr> {
    let mut found = Vec::new();
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        found.push(expr);
        // What is called is a name, not a value.
        let skip = usize::from(matches!(expr, Expr::Call { .. }));
        open.extend(children(expr).into_iter().skip(skip));
    }
    found
}

/// Every expression in a query, comprehensions and `every` included.
pub(super) fn deep(query: &Query) -> Vec<&Expr> {
    let mut found = Vec::new();
    let mut queries = vec![query];
    while let Some(query) = queries.pop() {
        for statement in &query.stmts {
            if let Literal::Every { query, .. } = &statement.literal {
                queries.push(query);
            }
            for expr in expressions(statement) {
                into(expr, &mut found, &mut queries);
            }
        }
    }
    found
}

/// Every expression in `expr`, comprehensions included.
pub(super) fn deep_in(expr: &Expr) -> Vec<&Expr> {
    let mut found = Vec::new();
    let mut queries = Vec::new();
    into(expr, &mut found, &mut queries);
    for query in queries {
        found.extend(deep(query));
    }
    found
}

fn into<'a>(expr: &'a Expr, found: &mut Vec<&'a Expr>, queries: &mut Vec<&'a Query>) {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        for expr in flat(expr) {
            found.push(expr);
            if let Some((terms, query)) = comprehension(expr) {
                open.extend(terms);
                queries.push(query);
            }
        }
    }
}

/// The name, of a variable.
pub(super) fn name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Var { span, .. } => Some(span.text()),
        _ => None,
    }
}

/// What a reference begins with: the variable `data` of `data.a.b`.
pub(super) fn root(expr: &Expr) -> &Expr {
    let mut at = expr;
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at {
        at = refr;
    }
    at
}

/// The reference that a longer one goes on from: `data.a` of `data.a.b`.
pub(super) fn inner(expr: &Expr) -> Option<*const Expr> {
    match expr {
        Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => Some(std::ptr::from_ref(&**refr)),
        _ => None,
    }
}

/// The names of `data.a.b`, as far as they are written out: of `data.a[x].b`, `data` and `a`.
pub(super) fn path(expr: &Expr) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::RefDot { refr, field, .. } => {
                names.push(Some(field.0.text().to_owned()));
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                names.push(match &**index {
                    Expr::String { value, .. } => value.as_string().ok().map(ToString::to_string),
                    _ => None,
                });
                at = refr;
            }
            Expr::Var { span, .. } => {
                names.push(Some(span.text().to_owned()));
                names.reverse();
                return names.into_iter().map_while(|name| name).collect();
            }
            _ => return Vec::new(),
        }
    }
}
