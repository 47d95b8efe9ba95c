//! Whether the library's parser can take a module: it is recursive, and tries brackets two ways.

/// Bytes of one module. Beyond it, data belongs in the input.
const MAX_BYTES: usize = 1 << 20;
/// Depth of `[` and `{`. The parser tries each of them two ways, so its work doubles with every
/// level.
const MAX_DEPTH: usize = 12;
/// Depth with `(`: the parser's own bound is 32.
const MAX_NESTED: usize = 48;
/// Work of the parser by that count: each bracket costs two to the power of its depth. About a
/// second.
const MAX_WORK: usize = 1 << 18;
/// Characters of operators in one expression: `1 + 1 + 1 …` is a tree as deep as it is long, and is
/// walked and dropped recursively.
const MAX_OPERATORS: usize = 300;

/// # Errors
/// What the module has too much of.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("the module has more than {MAX_BYTES} bytes"));
    }
    let mut scan = Scan { levels: vec![Level::default()], tries: 0, work: 0 };
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => {
                let _comment = chars.find(|c| *c == '\n');
                scan.newline();
            }
            '"' => {
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                scan.other();
            }
            '`' => {
                let _raw = chars.find(|c| *c == '`');
                scan.other();
            }
            '\n' => scan.newline(),
            '(' | '[' | '{' => scan.open(c)?,
            ')' | ']' | '}' => scan.close(c),
            '+' | '-' | '*' | '/' | '%' | '&' | '|' | '=' | '!' | '<' | '>' => scan.operator()?,
            c if c.is_whitespace() => {}
            _ => scan.other(),
        }
    }
    Ok(())
}

struct Scan {
    levels: Vec<Level>,
    /// How many of the open levels are tried two ways.
    tries: usize,
    work: usize,
}

/// What stands between a pair of brackets.
#[derive(Default)]
struct Level {
    operators: usize,
    /// A line ended, and nothing since.
    line_ended: bool,
    /// The last thing was an operator, so that an expression goes on over the end of a line.
    dangling: bool,
}

impl Scan {
    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn newline(&mut self) {
        self.level().line_ended = true;
    }

    /// Anything that is no operator: at the beginning of a line it begins a new expression.
    fn other(&mut self) {
        let level = self.level();
        if level.line_ended && !level.dangling {
            level.operators = 0;
        }
        level.line_ended = false;
        level.dangling = false;
    }

    fn operator(&mut self) -> Result<(), String> {
        let level = self.level();
        level.line_ended = false;
        level.dangling = true;
        level.operators += 1;
        if level.operators > MAX_OPERATORS {
            return Err(format!("an expression has more than {MAX_OPERATORS} operators"));
        }
        Ok(())
    }

    fn open(&mut self, bracket: char) -> Result<(), String> {
        self.other();
        self.levels.push(Level::default());
        if bracket != '(' {
            self.tries += 1;
            if self.tries > MAX_DEPTH {
                return Err(format!("brackets are nested more than {MAX_DEPTH} deep"));
            }
            self.work += 1 << self.tries;
        }
        if self.levels.len() > MAX_NESTED {
            return Err(format!("brackets are nested more than {MAX_NESTED} deep"));
        }
        if self.work > MAX_WORK { Err("the module has too many nested brackets".to_owned()) } else { Ok(()) }
    }

    fn close(&mut self, bracket: char) {
        self.levels.pop();
        if bracket != ')' {
            self.tries = self.tries.saturating_sub(1);
        }
        self.other();
    }
}
