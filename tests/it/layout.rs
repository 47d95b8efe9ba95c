//! The functions that a daemon uses lie side by side in a program that is optimised.

use std::collections::BTreeSet;

const PROGRAM: &str = env!("CARGO_BIN_EXE_toolcrib");
const LIST: &str = include_str!("../../src/layout.txt");

/// What stands between zeros in the program: among others the names of its functions and sections.
fn texts() -> BTreeSet<Vec<u8>> {
    let program = std::fs::read(PROGRAM).unwrap();
    program.split(|byte| *byte == 0).filter(|text| !text.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The name of a function without its hash.
fn name(symbol: &[u8]) -> Option<&[u8]> {
    let (name, hash) = symbol.split_at_checked(symbol.len().checked_sub(20)?)?;
    (name.starts_with(b"_ZN") && hash.starts_with(b"17h")).then_some(name)
}

/// Names change with the code and its libraries; when many are gone the list is to be made again. What is of C
/// and of the standard library in it is written otherwise.
#[test]
fn the_names_of_the_list_are_those_of_functions() {
    let texts = texts();
    let known: BTreeSet<&[u8]> = texts.iter().filter_map(|text| name(text)).collect();
    let ours = LIST.lines().filter(|line| line.starts_with("_ZN")).map(str::as_bytes);
    let listed: BTreeSet<&[u8]> = ours.map(|line| name(line).unwrap_or(line)).collect();
    let there = listed.iter().filter(|name| known.contains(*name)).count();
    assert!(there * 4 > listed.len() * 3, "{there} of {}: run tests/bench/layout/run", listed.len());
}

#[test]
fn they_have_a_section_of_their_own_where_the_program_is_optimised() {
    let there = texts().contains(b".text.daemon".as_slice());
    assert_eq!(there, !cfg!(debug_assertions), "of {PROGRAM}");
}
