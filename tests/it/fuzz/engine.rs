//! Makes inputs, watches what becomes of them, and makes a failure small.

#![expect(clippy::print_stdout, reason = "how to repeat a run is shown when it fails, and with --nocapture")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Bytes of one input. Bounds of sizes have tests of their own; here many small inputs say more.
const MAX_INPUT: usize = 16 << 10;
/// The longest one input may take, on a busy machine and without optimisation.
const MAX_TIME: Duration = Duration::from_secs(20);
/// Inputs that said something new and are kept.
const MAX_CORPUS: usize = 2_000;
/// The run that is the same everywhere.
const FIXED_SEED: u64 = 20_261_120;

pub(super) struct Target {
    pub(super) name: &'static str,
    /// Of one run, where no time is given.
    pub(super) iterations: usize,
    pub(super) seeds: Vec<Vec<u8>>,
    /// Words of the format.
    pub(super) words: &'static [&'static str],
    /// What it makes of the input, in a few words.
    pub(super) body: Body,
}

type Body = Box<dyn Fn(&[u8]) -> String>;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// # Errors
/// The first input that panics or takes too long, made small, and how to repeat the run.
pub(super) fn run(target: &Target) -> Result<(), String> {
    if let Some(file) = variable("TOOLCRIB_FUZZ_FILE") {
        return attempt(target, &std::fs::read(file).unwrap()).map(|_| ());
    }
    let seconds = variable("TOOLCRIB_FUZZ_SECONDS").map(|text| text.parse().unwrap());
    if let Some(seed) = variable("TOOLCRIB_FUZZ_SEED") {
        return Run::new(target, seed.parse().unwrap()).go(seconds);
    }
    if seconds.is_none() {
        Run::new(target, FIXED_SEED).go(None)?;
    }
    let seed = std::hash::RandomState::new().build_hasher().finish();
    println!("{}: TOOLCRIB_FUZZ_SEED={seed}", target.name);
    Run::new(target, seed).go(seconds)
}

/// Gives one input to the target.
fn attempt(target: &Target, input: &[u8]) -> Result<String, String> {
    let begun = Instant::now();
    let said = catch_unwind(AssertUnwindSafe(|| (target.body)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })?;
    let took = begun.elapsed();
    if took > MAX_TIME { Err(format!("it took {took:?}")) } else { Ok(said) }
}

struct Run<'t> {
    target: &'t Target,
    seed: u64,
    random: StdRng,
    corpus: Vec<Vec<u8>>,
    said: BTreeSet<String>,
    slowest: Duration,
}

impl<'t> Run<'t> {
    fn new(target: &'t Target, seed: u64) -> Self {
        assert!(!target.seeds.is_empty(), "{} has seeds", target.name);
        let random = StdRng::seed_from_u64(seed);
        Self {
            target,
            seed,
            random,
            corpus: target.seeds.clone(),
            said: BTreeSet::new(),
            slowest: Duration::ZERO,
        }
    }

    fn go(mut self, seconds: Option<u64>) -> Result<(), String> {
        for seed in self.target.seeds.clone() {
            self.give(seed)?;
        }
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut count = 0;
        while until.map_or(count < self.target.iterations, |until| Instant::now() < until) {
            let input = self.make();
            self.give(input)?;
            count += 1;
        }
        let (name, outcomes, slowest) = (self.target.name, self.said.len(), self.slowest);
        println!("{name}: {count} inputs, {outcomes} outcomes, the slowest took {slowest:?}");
        Ok(())
    }

    fn give(&mut self, input: Vec<u8>) -> Result<(), String> {
        let begun = Instant::now();
        let outcome = attempt(self.target, &input);
        self.slowest = self.slowest.max(begun.elapsed());
        match outcome {
            Ok(said) => {
                if self.corpus.len() < MAX_CORPUS && self.said.insert(said) {
                    self.corpus.push(input);
                }
                Ok(())
            }
            Err(why) => {
                let small = self.shrink(input);
                let mut text = format!("{}: {why}\n", self.target.name);
                // Writing to a string cannot fail.
                let _ = writeln!(text, "input: b\"{}\"", small.escape_ascii());
                let _ = writeln!(text, "repeat with TOOLCRIB_FUZZ_SEED={}", self.seed);
                Err(text)
            }
        }
    }

    /// Leaves out what is not needed to fail.
    fn shrink(&self, mut input: Vec<u8>) -> Vec<u8> {
        let mut size = input.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at < input.len() {
                let mut less = input.clone();
                less.drain(at..(at + size).min(input.len()));
                if attempt(self.target, &less).is_err() {
                    input = less;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        input
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound.max(1))
    }

    fn pick(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        self.corpus[at].clone()
    }

    /// A place between two bytes, most often where a word or line begins.
    fn place(&mut self, input: &[u8]) -> usize {
        let at = self.below(input.len() + 1);
        if self.below(2) == 0 {
            return at;
        }
        let edge = |byte: &u8| !byte.is_ascii_alphanumeric();
        input[at..].iter().position(edge).map_or(at, |step| at + step)
    }

    fn range(&mut self, input: &[u8], most: usize) -> std::ops::Range<usize> {
        let from = self.place(input);
        let to = (from + self.below(most) + 1).min(input.len());
        from.min(to)..to
    }

    fn word(&mut self) -> Vec<u8> {
        const ODD: &[&str] = &[
            "",
            "\0",
            "\n",
            "\r\n",
            "\t",
            " ",
            "\u{feff}",
            "\u{202e}",
            "é",
            "🦔",
            "-",
            "--",
            "..",
            "/",
            "\\",
            "\"",
            "'",
            "{",
            "}",
            "[",
            "]",
            ":",
            ": ",
            ",",
            "#",
            "%",
            "&",
            "*",
            "!",
            "|",
            ">",
            "?",
            "@",
            "`",
            "$",
            "${",
            "0",
            "-1",
            "18446744073709551616",
            "1e999",
            "014",
            "null",
            "true",
        ];
        let words = self.target.words;
        let at = self.below(ODD.len() + 2 * words.len());
        let word = if at < ODD.len() { ODD[at] } else { words[(at - ODD.len()) / 2] };
        word.as_bytes().to_vec()
    }

    fn make(&mut self) -> Vec<u8> {
        let mut input = self.pick();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input.truncate(MAX_INPUT);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.place(input);
        match self.below(9) {
            0 => {
                let range = self.range(input, 40);
                input.drain(range);
            }
            1 => {
                let word = self.word();
                input.splice(at..at, word);
            }
            2 => {
                let (range, word) = (self.range(input, 12), self.word());
                input.splice(range, word);
            }
            3 => {
                let range = self.range(input, 200);
                let piece = input[range].to_vec();
                input.splice(at..at, piece);
            }
            4 => {
                let other = self.pick();
                let range = self.range(&other, 400);
                input.splice(at..at, other[range].to_vec());
            }
            5 => input.truncate(at),
            6 => {
                let (word, count) = (self.word(), 1 << self.below(12));
                input.splice(at..at, word.repeat(count));
            }
            7 if at < input.len() => input[at] ^= 1 << self.below(8),
            _ => self.lines(input),
        }
    }

    /// Swaps, doubles or shifts whole lines.
    fn lines(&mut self, input: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> =
            input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (from, to) = (self.below(lines.len()), self.below(lines.len()));
        if lines.is_empty() {
            return;
        }
        match self.below(4) {
            0 => lines.swap(from, to),
            1 => lines.insert(to, lines[from].clone()),
            2 => lines[from].splice(0..0, *b"  ").for_each(drop),
            _ => drop(lines.remove(from)),
        }
        *input = lines.concat();
    }
}
