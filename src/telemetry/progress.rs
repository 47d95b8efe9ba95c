//! Long work, as people at a terminal see it: one line for each piece of work under way, below the
//! log, gone when it is done.
//!
//! Input: spans of the target [`TARGET`], whose field `what` says what is done, and events of that
//! target inside them, which say how far it is. Output: lines that are drawn anew a few times a
//! second; on anything but a terminal one line when a piece begins, or nothing where the log says it.
//! Invariant: what others print to the terminal never lands inside these lines
//! ([`Board::interject`]). Not here: what is worth showing.
#![expect(clippy::disallowed_methods, reason = "asks how long something has taken, and draws from a thread")]

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The target of spans and events that are shown.
pub const TARGET: &str = "toolcrib::work";

/// Between two drawings: often enough to look alive.
const TICK: Duration = Duration::from_millis(150);
/// Work that takes less than this is not worth a line.
const BRIEF: Duration = Duration::from_millis(400);
/// Lines drawn at most; the rest is counted.
const MAX_LINES: usize = 8;
/// Characters of one line at most. The terminal cuts it where it is narrower.
const MAX_WIDTH: usize = 160;
const TURNS: [char; 4] = ['|', '/', '-', '\\'];

/// How work is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Lines that are drawn anew.
    Terminal,
    /// A line for each piece that begins.
    Lines,
    /// Not at all: the log says it.
    Nothing,
}

/// A piece of work for its duration: `work("building `Server/x`")`.
pub fn work(what: impl fmt::Display) -> tracing::Span {
    tracing::info_span!(target: TARGET, "work", %what)
}

/// Says how far the work is that this is called in.
pub fn step(line: &str) {
    tracing::trace!(target: TARGET, "{line}");
}

/// The board of this process, when there is one.
static BOARD: OnceLock<Arc<Board>> = OnceLock::new();

/// Prints something else to the terminal: lines of work make way and come back below it.
pub fn interject<T>(print: impl FnOnce() -> T) -> T {
    match BOARD.get() {
        Some(board) => board.interject(print),
        None => print(),
    }
}

/// What is under way, and what of it is drawn.
pub struct Board {
    show: Show,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    /// By the number of the span, hence in the order in which they began.
    work: BTreeMap<u64, Work>,
    drawn: usize,
    turn: usize,
}

struct Work {
    what: String,
    step: Option<String>,
    since: Instant,
}

impl Board {
    fn new(show: Show, out: Box<dyn Write + Send>) -> Arc<Self> {
        let state = State { out, work: BTreeMap::new(), drawn: 0, turn: 0 };
        Arc::new(Self { show, state: Mutex::new(state) })
    }

    /// The board of this process on standard error, drawn from a thread of its own.
    pub(super) fn install(show: Show) -> Arc<Self> {
        let board = Self::new(show, Box::new(std::io::stderr()));
        if show == Show::Terminal {
            let drawn = Arc::downgrade(&board);
            std::thread::spawn(move || tick(&drawn));
        }
        Arc::clone(BOARD.get_or_init(|| board))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interject<T>(&self, print: impl FnOnce() -> T) -> T {
        let mut state = self.lock();
        state.erase();
        let printed = print();
        if self.show == Show::Terminal {
            state.draw(Instant::now());
        }
        printed
    }

    fn begin(&self, id: u64, what: String) {
        let mut state = self.lock();
        if self.show == Show::Lines {
            let line = format!("{what}\n");
            // Nobody reads: the work goes on.
            let _ = state.out.write_all(line.as_bytes());
        }
        state.work.insert(id, Work { what, step: None, since: Instant::now() });
    }

    fn end(&self, id: u64) {
        let mut state = self.lock();
        let was_drawn = state.drawn > 0;
        if state.work.remove(&id).is_some() && was_drawn {
            state.erase();
            state.draw(Instant::now());
        }
    }
}

impl State {
    fn erase(&mut self) {
        if self.drawn > 0 {
            // To the beginning of the first of our lines, and everything from there on.
            let _ = write!(self.out, "\x1b[{}A\r\x1b[J", self.drawn);
            let _ = self.out.flush();
            self.drawn = 0;
        }
    }

    fn draw(&mut self, now: Instant) {
        let lines = self.lines(now);
        if lines.is_empty() {
            return;
        }
        // Without wrapping, a long line is cut by the terminal and stays one line.
        let _ = write!(self.out, "\x1b[?7l{}\n\x1b[?7h", lines.join("\n"));
        let _ = self.out.flush();
        self.drawn = lines.len();
    }

    fn lines(&self, now: Instant) -> Vec<String> {
        let long = |work: &&Work| now.saturating_duration_since(work.since) >= BRIEF;
        let long: Vec<&Work> = self.work.values().filter(long).collect();
        let turn = TURNS[self.turn % TURNS.len()];
        let line = |work: &&Work| {
            let seconds = now.saturating_duration_since(work.since).as_secs();
            let mut line = format!("{turn} {} ({seconds} s)", work.what);
            if let Some(step) = &work.step {
                let _ = write!(line, " {step}");
            }
            let plain = |char: char| if char.is_control() { ' ' } else { char };
            line.chars().map(plain).take(MAX_WIDTH).collect::<String>()
        };
        let mut lines: Vec<String> = long.iter().take(MAX_LINES).map(line).collect();
        if let Some(more) = long.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
            lines.push(format!("{turn} and {more} more"));
        }
        lines
    }
}

/// Draws while there is a board.
fn tick(board: &Weak<Board>) {
    while let Some(board) = board.upgrade() {
        let mut state = board.lock();
        if state.drawn > 0 || !state.work.is_empty() {
            state.turn += 1;
            state.erase();
            state.draw(Instant::now());
        }
        drop(state);
        drop(board);
        std::thread::sleep(TICK);
    }
}

/// Brings spans and events to the board.
pub(super) struct Shown(pub(super) Arc<Board>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Shown {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut what = Text { field: "what", text: String::new() };
        attributes.record(&mut what);
        self.0.begin(id.into_u64(), what.text);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let mut step = Text { field: "message", text: String::new() };
        event.record(&mut step);
        if let Some(work) = self.0.lock().work.get_mut(&span.id().into_u64()) {
            work.step = Some(step.text);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.0.end(id.into_u64());
    }
}

/// One field, as text.
struct Text {
    field: &'static str,
    text: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == self.field {
            self.text = format!("{value:?}");
        }
    }
}

/// Standard error, for the log: each line makes way for itself.
#[derive(Clone, Copy)]
pub(super) struct Beside;

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        interject(|| std::io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// What was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    #[test]
    fn work_is_a_line_until_it_is_done() {
        let page = Page::default();
        let board = Board::new(Show::Terminal, Box::new(page.clone()));
        let subscriber = tracing_subscriber::registry().with(Shown(Arc::clone(&board)));
        tracing::subscriber::with_default(subscriber, || {
            let building = work("building `Server/x`");
            building.in_scope(|| step("Step 1/2 : FROM\u{1b}x"));
            let starting = work("starting `Server/y`");
            let later = Instant::now() + Duration::from_secs(3);
            board.lock().draw(Instant::now());
            assert_eq!(page.take(), "", "too brief");
            board.lock().draw(later);
            assert_eq!(
                page.take(),
                "\x1b[?7l| building `Server/x` (3 s) Step 1/2 : FROM x\n| starting `Server/y` (3 s)\n\x1b[?7h"
            );
            board.interject(|| page.clone().write_all(b"a line of the log\n").unwrap());
            assert_eq!(page.take(), "\x1b[2A\r\x1b[Ja line of the log\n");
            board.lock().draw(later);
            page.take();
            drop(starting);
            assert!(page.take().starts_with("\x1b[2A\r\x1b[J"));
            drop(building);
            let state = board.lock();
            assert_eq!((state.work.len(), state.drawn), (0, 0));
        });
    }

    #[test]
    fn elsewhere_each_piece_is_a_line_when_it_begins_and_much_work_is_counted() {
        let page = Page::default();
        let board = Board::new(Show::Lines, Box::new(page.clone()));
        board.begin(1, "looking for image `x`".to_owned());
        board.interject(|| ());
        board.end(1);
        assert_eq!(page.take(), "looking for image `x`\n");
        for id in 0..20 {
            board.begin(id, "x".to_owned());
        }
        let lines = board.lock().lines(Instant::now() + BRIEF);
        assert_eq!((lines.len(), lines[MAX_LINES].as_str()), (MAX_LINES + 1, "| and 12 more"));
    }
}
