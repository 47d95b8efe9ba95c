//! The table.

use std::time::Duration;

/// One figure.
struct Row {
    what: String,
    goal: String,
    figure: String,
    /// Against which baseline, and how it compares.
    ratio: String,
    met: Option<bool>,
}

/// All figures of a run.
pub(crate) struct Report {
    rows: Vec<Row>,
    /// Leave out what takes long to set up.
    small: bool,
    /// What the name of a figure begins with, of those that are wanted; empty for all.
    only: String,
}

/// Durations of the same thing, many times.
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort_unstable();
        Self(samples)
    }

    /// The value that `percent` of all do not pass.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    pub(crate) fn p50(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.percentile(99)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Report {
    pub(crate) fn new(small: bool, only: String) -> Self {
        Self { rows: Vec::new(), small, only }
    }

    /// Whether a figure of this name is wanted.
    pub(crate) fn wants(&self, what: &str) -> bool {
        what.starts_with(&self.only)
    }

    /// Whether a repository of so many resources is measured.
    pub(crate) fn takes(&self, resources: usize) -> bool {
        !self.small || resources <= 1_000
    }

    /// A time that has a goal. Printed at once too: a run takes minutes.
    pub(crate) fn time(&mut self, what: &str, goal: Option<Duration>, time: Duration, ratio: String) {
        println!("  {what}: {} {ratio}", show(time));
        self.rows.push(Row {
            what: what.to_owned(),
            goal: goal.map_or_else(String::new, |goal| format!("<= {}", show(goal))),
            figure: show(time),
            ratio,
            met: goal.map(|goal| time <= goal),
        });
    }

    /// Anything else.
    pub(crate) fn row(&mut self, what: &str, goal: &str, figure: String, ratio: String, met: Option<bool>) {
        self.rows.push(Row { what: what.to_owned(), goal: goal.to_owned(), figure, ratio, met });
    }

    pub(crate) fn print(&self) {
        println!();
        println!("machine: {}", machine());
        println!("| what | goal | measured | against a baseline of this run | met |");
        println!("|---|---|---|---|---|");
        for Row { what, goal, figure, ratio, met } in &self.rows {
            let met = met.map_or("", |met| if met { "yes" } else { "no" });
            println!("| {what} | {goal} | {figure} | {ratio} | {met} |");
        }
    }
}

/// In the unit that suits it.
pub(crate) fn show(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0} us"),
        ..1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// `2.5 x` the baseline.
pub(crate) fn times(figure: Duration, baseline: Duration, what: &str) -> String {
    format!("{:.2} x {what} ({})", figure.as_secs_f64() / baseline.as_secs_f64().max(1e-9), show(baseline))
}

/// Cores, processor and memory, from what Linux shows.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    format!(
        "{cores} cores, {}, {} of memory, load {load} when the table was printed",
        field(&cpu, "model name"),
        field(&memory, "MemTotal")
    )
}
