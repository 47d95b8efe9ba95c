//! The store across restarts, locks and damage.

#![expect(clippy::disallowed_methods, reason = "files are damaged here")]

use super::*;
use std::collections::BTreeSet;

use crate::desired::VolumeId;
use crate::live::{Applied, Proven, Trusted, Withdrawn};
use crate::resource::{Digest, Name, Period, ResourceId, Revision};

fn inventory(names: &[&str]) -> Inventory {
    let entry = |name: &str| Entry {
        runner: Name::parse("local").unwrap(),
        resource: ResourceId::parse("Server/weather").unwrap(),
        digest: Digest::of_bytes(name.as_bytes()),
        secrets: None,
    };
    let applied = |name: &str| Applied {
        digest: Digest::of_bytes(name.as_bytes()),
        transient: name == "two",
        instances: 2,
    };
    let revision = |digit: char| Revision {
        reference: "main".into(),
        commit: digit.to_string().repeat(40),
        dirty: false,
    };
    Inventory {
        entries: names.iter().map(|name| ((*name).to_owned(), entry(name))).collect(),
        applied: names.iter().map(|name| (Name::parse(name).unwrap(), applied(name))).collect(),
        volumes: BTreeSet::from([VolumeId::parse("local/data").unwrap()]),
        ahead: BTreeSet::from([crate::live::AheadId {
            runner: Name::parse("local").unwrap(),
            resource: ResourceId::parse("Tool/hello").unwrap(),
            digest: Digest::of_bytes(b"hello"),
        }]),
        guard: Some(crate::live::Guard { protect: vec![crate::resource::Kind::Server], budget: 10 }),
        trusted: Some(Trusted {
            revision: revision('a'),
            signers: crate::resource::signers::Signers::parse(
                "ada ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAZ9tS7fhDOq3nBDQkPMZbPS6gUVUKKz8KwKzaFbkQ8a",
            )
            .ok(),
        }),
        proven: Some(Proven {
            trusted: Trusted { revision: revision('b'), signers: None },
            gate: Some(Period(std::time::Duration::from_mins(5))),
        }),
        withdrawn: Some(Withdrawn { revision: revision('c'), why: "it is late".to_owned() }),
        rebuilt: false,
    }
}

#[test]
fn what_was_saved_is_there_at_the_next_start() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("a/b");
    let store = Redb::open(&folder).unwrap();
    store.save_inventory(&inventory(&["one", "two"])).unwrap();
    store.save_inventory(&inventory(&["two", "three"])).unwrap();
    store.put("era", b"modern").unwrap();
    assert_eq!(store.get("era").unwrap().as_deref(), Some(b"modern".as_slice()));
    store.flush().unwrap();
    drop(store);
    let store = Redb::open(&folder).unwrap();
    assert_eq!(store.inventory().unwrap(), inventory(&["two", "three"]));
    assert_eq!(store.get("era").unwrap().as_deref(), Some(b"modern".as_slice()));
    assert_eq!(store.get("nothing").unwrap(), None);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
}

#[test]
fn many_values_do_not_grow_the_file() {
    let state = tempfile::tempdir().unwrap();
    let store = Redb::open(state.path()).unwrap();
    let size = || std::fs::metadata(state.path().join(FILE)).unwrap().len();
    let put = |times: u32| {
        for count in 0..times {
            store.put("status", &vec![count.to_le_bytes()[0]; 4096]).unwrap();
        }
    };
    put(200);
    let before = size();
    put(1000);
    assert!(size() <= before * 2, "{before} bytes became {}", size());
}

#[test]
fn a_second_daemon_is_told_so() {
    let state = tempfile::tempdir().unwrap();
    let _first = Redb::open(state.path()).unwrap();
    let error = Redb::open(state.path()).err().unwrap();
    assert!(error.to_string().starts_with("another toolcrib uses this state directory"), "{error}");
}

#[test]
fn a_damaged_file_is_moved_aside_and_prunes_ask_from_then_on() {
    let cut = |file: &Path| std::fs::write(file, &std::fs::read(file).unwrap()[..100]).unwrap();
    let garbage = |file: &Path| std::fs::write(file, b"not a database").unwrap();
    let empty = |file: &Path| std::fs::write(file, b"").unwrap();
    for damage in [&cut as &dyn Fn(&Path), &garbage, &empty] {
        let state = tempfile::tempdir().unwrap();
        let store = Redb::open(state.path()).unwrap();
        store.save_inventory(&inventory(&["one"])).unwrap();
        drop(store);
        damage(&state.path().join(FILE));
        let store = Redb::open(state.path()).unwrap();
        assert_eq!(store.inventory().unwrap(), Inventory { rebuilt: true, ..Inventory::default() });
        assert!(state.path().join("state.redb.unreadable-1").exists());
    }
}

#[test]
fn no_flipped_byte_ends_the_program_or_invents_an_entry() {
    let state = tempfile::tempdir().unwrap();
    let store = Redb::open(state.path()).unwrap();
    store.save_inventory(&inventory(&["one", "two"])).unwrap();
    drop(store);
    let file = state.path().join(FILE);
    let sound = std::fs::read(&file).unwrap();
    // The header, and then every part of the pages that are in use.
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..320.min(used)).step_by(7).chain((320..used).step_by(used / 60 + 1)) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0xff;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), &damaged).unwrap();
        let found = Redb::open(folder.path()).unwrap().inventory().unwrap();
        assert!(found == inventory(&["one", "two"]) || found.rebuilt, "byte {at}: {found:?}");
    }
}

#[test]
fn a_file_of_another_schema_is_not_interpreted() {
    let state = tempfile::tempdir().unwrap();
    let store = Redb::open(state.path()).unwrap();
    store
        .write("later", Durability::Immediate, |write| {
            write.open_table(META)?.insert("schema", SCHEMA + 1)?;
            Ok(())
        })
        .unwrap();
    drop(store);
    assert!(Redb::open(state.path()).unwrap().inventory().unwrap().rebuilt);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = Redb::open(&file.join("below")).err().unwrap();
    assert!(error.to_string().contains("below") && error.hint.is_some(), "{error}");
}
