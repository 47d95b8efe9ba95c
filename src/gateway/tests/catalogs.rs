//! Catalogs that replace one another: what a listing, a commit and a subscriber see of it.

use super::*;

#[tokio::test]
async fn a_listing_ends_in_the_catalog_in_which_it_began() {
    let world = World::new();
    let names: Vec<String> = (0..1500).map(|n| format!("t{n:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let of = |names: &[&str]| [offered(server("s"), tools(names))];
    world.publish(1, &of(&names), &[]);
    let (mut listed, cursor) = world.list(None).await.expect("a page");
    let cursor = cursor.expect("more");
    for n in 2..=9 {
        world.publish(n, &of(names.get(n as usize..).expect("many")), &[]);
    }
    let (rest, end) = world.list(Some(&cursor)).await.expect("a page");
    listed.extend(rest);
    let whole: Vec<_> = names.iter().map(|name| format!("s_{name}")).collect();
    assert_eq!((listed, end), (whole, None), "no mixture of two catalogs");
    // As many as are kept of these in a burst, and more.
    for n in 10..160 {
        world.publish(n, &of(names.get(n as usize..).expect("many")), &[]);
    }
    for cursor in [cursor.as_str(), "nonsense", ""] {
        assert_eq!(world.list(Some(cursor)).await.expect_err("gone").code, -32602, "{cursor}");
    }
}

#[tokio::test]
async fn a_revision_is_served_under_its_commit_while_its_catalog_is_kept() {
    let world = World::new();
    let of = |n: u32| [offered(server("s"), tools(&[&format!("t{n}")]))];
    let sight = |n: u32| world.gateway.catalogs.sight(&Scope::Revision(revision(n).commit.into()));
    for n in 1..=3 {
        world.publish(n, &of(n), &[]);
    }
    for n in 1..=3 {
        let sight = sight(n).expect("kept");
        assert!(sight.get(List::Tools, &format!("s_t{n}")).is_some(), "{n}");
    }
    world.publish(1, &of(11), &[]);
    assert!(sight(1).expect("served").get(List::Tools, "s_t11").is_some(), "the newest of a commit");
    for n in 4..=1100 {
        world.publish(n, &of(n), &[]);
    }
    assert!(sight(1099).is_ok(), "replaced just now");
    let why = sight(2).err().expect("gone");
    assert!(why.contains("is kept: of those that were replaced the last 8 are, for 60 s"), "{why}");
}

#[tokio::test]
async fn only_changes_that_can_be_seen_are_told() {
    let world = World::new();
    let mut changes = world.gateway.changes(&Scope::All);
    let of = |names: &[&str]| [offered(server("s"), tools(names))];
    let one = of(&["a"]);
    assert!(world.publish(1, &one, &[]).tools);
    assert!(changes.has_changed().expect("open"));
    assert_eq!(*changes.borrow_and_update(), Changes { tools: 1, prompts: 0, resources: 0 });
    assert!(!world.publish(2, &one, &[]).any());
    assert!(!changes.has_changed().expect("open"));
    world.publish(3, &of(&["b"]), &[]);
    world.publish(4, &of(&["c"]), &[]);
    assert_eq!(changes.borrow_and_update().tools, 3, "both, heard of once");
}
