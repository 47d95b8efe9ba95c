//! Parsers meet what nobody would write on purpose.
//!
//! Each target is a function of bytes that must neither panic nor take long, and that says in a few words
//! what it made of them. Inputs are made from seeds (every file of the cases, and words of each format) by
//! cutting, doubling, splicing and nesting; one that makes a target say something new becomes a seed
//! itself, which leads deeper without an instrumented build. A run of a fixed seed comes first, then one of
//! a fresh seed, which is printed.
//!
//! `TOOLCRIB_FUZZ_SECONDS=600 cargo test --test it fuzz` goes on for so long with each target;
//! `TOOLCRIB_FUZZ_SEED=…` repeats a run; `TOOLCRIB_FUZZ_FILE=… cargo test --test it fuzz::manifests` gives
//! one file to a target, which is what other fuzzers and minimisers need.

mod engine;
mod requests;
mod targets;

use engine::Target;

fn run(target: &Target) {
    if let Err(found) = engine::run(target) {
        panic!("{found}");
    }
}

macro_rules! targets {
    ($($module:ident::$name:ident: $iterations:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            run(&Target { name: stringify!($name), iterations: $iterations, ..$module::$name() });
        }
    )*};
}

// As many as take about a second of a debug build each.
targets! {
    targets::manifests: 1_500,
    targets::locks: 300,
    targets::imports: 2_000,
    targets::arguments: 8_000,
    targets::rego: 600,
    targets::git_names: 20_000,
    targets::wire: 10_000,
    requests::http_requests: 2_000,
    requests::bearers: 500,
    targets::ignore_files: 150,
    targets::configurations: 5_000,
    targets::small_words: 20_000,
    targets::schemas: 1_500,
}

/// The engine finds what there is to find: a word of its dictionary at the end of a seed it had to make
/// first.
#[test]
fn the_engine_finds_a_panic_and_makes_it_small() {
    let target = Target {
        name: "planted",
        iterations: 20_000,
        seeds: vec![b"abc".to_vec()],
        words: &["wrong"],
        body: Box::new(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("cwrong"), "planted");
            format!("{}", text.contains("wrong"))
        }),
    };
    let found = engine::run(&target).unwrap_err();
    assert!(found.contains("planted") && found.contains("b\"cwrong\""), "{found}");
}
