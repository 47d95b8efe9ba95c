//! Text with placeholders: `${name}`, `${name...}`, and `$${` for the characters `${`.

/// Text in pieces. Neighbouring literals are one; an empty text has no piece.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(in crate::desired) struct Template {
    pub(in crate::desired) pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::desired) enum Piece {
    Literal(String),
    /// `${name}`
    Value(String),
    /// `${name...}`
    Spread(String),
}

impl Template {
    /// The parameters it speaks of.
    pub(in crate::desired) fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Value(name) | Piece::Spread(name) => Some(name.as_str()),
        })
    }

    /// The text with each placeholder replaced; none when `value` does not know one.
    pub(in crate::desired) fn fill(&self, value: impl Fn(&str) -> Option<String>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Value(name) | Piece::Spread(name) => text.push_str(&value(name)?),
            }
        }
        Some(text)
    }
}

pub(in crate::desired) struct ParseError {
    pub(in crate::desired) placeholder: Option<String>,
    pub(in crate::desired) message: String,
}

pub(in crate::desired) fn parse(text: &str) -> Result<Template, ParseError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            literal.push_str(escaped);
            literal.push_str("${");
            rest = &from[2..];
            continue;
        }
        literal.push_str(before);
        let Some((name, after)) = from[2..].split_once('}') else {
            return Err(ParseError {
                placeholder: None,
                message: "a placeholder is not closed by `}`".to_owned(),
            });
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(placeholder(name)?);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(Template { pieces: pieces.into() })
}

fn placeholder(inner: &str) -> Result<Piece, ParseError> {
    let name = inner.strip_suffix("...").unwrap_or(inner);
    let fits = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "${}:".contains(c));
    if !fits {
        return Err(ParseError {
            placeholder: Some(inner.to_owned()),
            message: format!("`${{{inner}}}` is not a placeholder"),
        });
    }
    let name = name.to_owned();
    Ok(if inner.ends_with("...") { Piece::Spread(name) } else { Piece::Value(name) })
}
