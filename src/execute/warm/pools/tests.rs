//! Pools without containers: what is handed out to whom, and what is started.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::desired::{Digests, Limits, Program, argv};
use crate::manifest::{Place, RepoPath};
use crate::ports::Material;
use crate::resource::{Cpu, Digest, Kind, Name};

/// A container: its number, and whether it is there.
#[derive(Clone, Debug)]
struct Crate(u32, Arc<AtomicBool>);

impl Lives for Crate {
    fn lives(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

fn tool(name: &str, version: u8, warm: u32, isolation: Isolation) -> Arc<Tool> {
    let digest = Digest::of_bytes(&[version]);
    Arc::new(Tool {
        id: ResourceId::new(Kind::Tool, Name::parse(name).unwrap()),
        place: Place { file: RepoPath::parse("t.yaml").unwrap(), line: 1, column: 1 },
        labels: Arc::default(),
        digests: Digests { build: None, workload: digest, offer: digest },
        build: None,
        runner: Name::parse("local").unwrap(),
        published: name.to_owned(),
        definition: "{}".into(),
        image: Some(("x".to_owned(), None)),
        command: argv::Command::default(),
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        dir: String::new(),
        limits: Limits::default(),
        security: Arc::default(),
        volumes: Arc::default(),
        egress: Arc::default(),
        timeout: Duration::from_secs(1),
        max_output: 1,
        success_exit_codes: vec![0],
        concurrency: None,
        warm,
        isolation,
        tests: Arc::default(),
    })
}

fn run(tool: &Tool) -> Run {
    Run {
        name: "run".to_owned(),
        resource: tool.id.clone(),
        revision: "main".to_owned(),
        digest: tool.digests.workload,
        program: Program::Command { argv: Vec::new(), dir: String::new() },
        stdin: None,
        material: Material::default(),
        limits: tool.limits.clone(),
        security: Arc::default(),
        volumes: Arc::default(),
        egress: Arc::default(),
        timeout: tool.timeout,
    }
}

fn who(name: &str) -> Principal {
    Principal { name: name.to_owned(), groups: Vec::new(), scopes: Vec::new() }
}

/// Pools, with a clock and numbers for containers.
struct Shop {
    pools: Pools<Crate>,
    now: Instant,
    made: u32,
}

impl Shop {
    fn new(most: usize, tools: &[Arc<Tool>]) -> Self {
        let mut pools = Pools::new(most);
        assert!(pools.set(tools, "main").is_empty());
        Self { pools, now: Instant::now(), made: 0 }
    }

    /// Starts whatever is wanted, until nothing is; names of tools in their order, and what was dropped.
    fn fill(&mut self) -> (Vec<String>, Vec<u32>) {
        let (mut names, mut dropped) = (Vec::new(), Vec::new());
        loop {
            let next = self.pools.next(self.now);
            assert!(self.pools.total() <= self.pools.most && next.begin.len() <= MAX_STARTING);
            dropped.extend(next.dropped.iter().map(|one| one.0));
            if next.begin.is_empty() {
                return (names, dropped);
            }
            for begin in next.begin {
                self.made += 1;
                names.push(begin.tool.id.name.to_string());
                let made = Crate(self.made, Arc::new(AtomicBool::new(true)));
                assert!(self.pools.started(&begin, made, self.now).1.is_none());
            }
        }
    }

    fn take(&mut self, tool: &Tool, name: Option<&str>, tag: &str) -> Option<Taken<Crate>> {
        let principal = name.map(who);
        self.pools.take(&run(tool), principal.as_ref(), &|| tag.to_owned(), self.now)?.0
    }

    /// A call from beginning to end; the container it had.
    fn call(&mut self, tool: &Tool, name: &str) -> Option<u32> {
        let taken = self.take(tool, Some(name), "tag")?;
        let number = taken.container.0;
        if taken.used == Used::Once {
            self.pools.release(&taken);
        } else {
            self.pools.give(taken, self.now);
        }
        Some(number)
    }

    fn later(&mut self, time: Duration) {
        self.now += time;
    }

    fn waiting(&self) -> u32 {
        self.pools.seen().values().map(|pool| pool.waiting).sum()
    }
}

#[test]
fn containers_of_one_call_are_replaced_when_it_has_ended_or_goes_on() {
    let tool = tool("a", 1, 2, Isolation::Call);
    let mut shop = Shop::new(16, &[Arc::clone(&tool)]);
    assert_eq!(shop.fill().0, ["a", "a"]);
    let taken = shop.take(&tool, Some("ada"), "tag").unwrap();
    assert_eq!((taken.container.0, &taken.used), (1, &Used::Once));
    // Not at once: the call has just begun.
    let next = shop.pools.next(shop.now);
    assert!(next.begin.is_empty());
    assert_eq!(next.wake, Some(shop.now + SETTLE));
    shop.later(SETTLE);
    assert_eq!(shop.fill().0, ["a"]);
    shop.pools.release(&taken);
    assert!(shop.fill().0.is_empty());
    assert_eq!(shop.call(&tool, "ada"), Some(2));
    assert_eq!(shop.fill().0, ["a"]);
    assert_eq!(
        (shop.call(&tool, "ada"), shop.call(&tool, "ada"), shop.call(&tool, "ada")),
        (Some(3), Some(4), None)
    );
}

#[test]
fn another_version_or_other_limits_serve_no_call() {
    let (old, new) = (tool("a", 1, 1, Isolation::Tool), tool("a", 2, 1, Isolation::Tool));
    let mut shop = Shop::new(16, &[Arc::clone(&old)]);
    let Next { begin, .. } = shop.pools.next(shop.now);
    // It is wanted no more before it waits.
    shop.pools.set(&[Arc::clone(&new)], "next");
    let late = Crate(9, Arc::new(AtomicBool::new(true)));
    assert!(shop.pools.started(&begin[0], late, shop.now).1.is_some());
    shop.fill();
    assert!(shop.take(&old, Some("ada"), "tag").is_none());
    let mut lowered = (*new).clone();
    lowered.limits.cpu = Cpu(1);
    assert!(shop.take(&lowered, Some("ada"), "tag").is_none());
    let taken = shop.take(&new, Some("ada"), "tag").unwrap();
    // The version before comes back while a call goes on: what the call had is not its.
    shop.pools.set(&[Arc::clone(&old)], "main");
    assert_eq!(shop.pools.give(taken, shop.now).len(), 1);
    assert_eq!(shop.waiting(), 0);
    shop.fill();
    assert_eq!(shop.pools.set(&[], "none").len(), 1);
    assert!(!shop.pools.tools.contains_key(&old.id) && shop.pools.seen().is_empty());
}

#[test]
fn no_principal_gets_what_another_one_used() {
    let tool = tool("a", 1, 1, Isolation::Principal);
    let mut shop = Shop::new(16, &[Arc::clone(&tool)]);
    shop.fill();
    assert_eq!(shop.call(&tool, "ada"), Some(1));
    assert_eq!(shop.call(&tool, "ada"), Some(1));
    assert_eq!(shop.call(&tool, "eve"), None, "the only one is Ada's");
    assert_eq!(shop.fill().0, ["a"]);
    assert_eq!((shop.call(&tool, "eve"), shop.call(&tool, "ada")), (Some(2), Some(1)));
    shop.fill();
    // The daemon itself leaves nothing, and gets nothing that was used.
    let own = shop.take(&tool, None, "tag").unwrap();
    assert_eq!((own.container.0, &own.used), (3, &Used::Once));
    assert!(shop.take(&tool, None, "tag").is_none());
    // Secrets were rotated.
    assert!(shop.take(&tool, Some("ada"), "other").is_none());
    assert!(shop.take(&tool, Some("ada"), "tag").is_none(), "it went with its secrets");
    // Nobody called for long.
    shop.later(IDLE);
    assert_eq!(shop.fill().1, [2]);
    // Rules are others.
    assert_eq!(shop.call(&tool, "eve"), Some(4));
    assert_eq!(shop.pools.forget_used().len(), 1);
    // Also while it is in use.
    shop.fill();
    let taken = shop.take(&tool, Some("eve"), "tag").unwrap();
    assert!(shop.pools.forget_used().is_empty());
    assert_eq!((shop.pools.give(taken, shop.now).len(), shop.waiting()), (1, 0));
    // What ended meanwhile is not kept either.
    shop.fill();
    let taken = shop.take(&tool, Some("eve"), "tag").unwrap();
    taken.container.1.store(false, Ordering::Relaxed);
    assert_eq!((shop.pools.give(taken, shop.now).len(), shop.waiting()), (1, 0));
}

#[test]
fn what_is_kept_for_principals_is_bounded() {
    let tool = tool("a", 1, 4, Isolation::Principal);
    let mut shop = Shop::new(8, &[Arc::clone(&tool)]);
    shop.fill();
    let taken: Vec<_> = (0..4).filter_map(|_| shop.take(&tool, Some("ada"), "tag")).collect();
    assert_eq!(taken.len(), 4);
    let dropped: usize = taken.into_iter().map(|one| shop.pools.give(one, shop.now).len()).sum();
    assert_eq!((dropped, shop.waiting()), (2, 2), "two of each principal");
    // With four more that wait for anybody there is room for two more, then the oldest go.
    for n in 0..10 {
        shop.later(Duration::from_secs(1));
        shop.fill();
        shop.call(&tool, &format!("p{n}"));
        shop.fill();
        assert!(shop.waiting() <= 8);
    }
    assert_eq!(shop.waiting(), 8);
    assert!(shop.call(&tool, "p9").is_some_and(|number| number > 10), "its own");
}

#[test]
fn of_a_tool_there_are_as_many_as_it_says() {
    let tool = tool("a", 1, 2, Isolation::Tool);
    let mut shop = Shop::new(16, &[Arc::clone(&tool)]);
    shop.fill();
    let (one, two) =
        (shop.take(&tool, Some("ada"), "tag").unwrap(), shop.take(&tool, Some("eve"), "tag").unwrap());
    assert!(shop.take(&tool, Some("ada"), "tag").is_none());
    shop.later(SETTLE);
    assert!(shop.fill().0.is_empty(), "both come back");
    assert!(shop.pools.give(one, shop.now).is_empty() && shop.pools.give(two, shop.now).is_empty());
    assert_eq!((shop.call(&tool, "x"), shop.waiting()), (Some(2), 2), "the one used last");
    let taken = shop.take(&tool, Some("x"), "tag").unwrap();
    shop.pools.release(&taken);
    assert_eq!(shop.fill().0, ["a"], "one that did not come back");
}

#[test]
fn the_bound_is_shared_evenly() {
    let tools: Vec<_> = ["a", "b", "c"].map(|name| tool(name, 1, 4, Isolation::Call)).into();
    let mut shop = Shop::new(5, &tools);
    assert_eq!(shop.fill().0, ["a", "b", "c", "a", "b"]);
    let problem = shop.pools.seen().into_values().next().unwrap().problem.unwrap();
    assert!(problem.contains("allows 5"), "{problem}");
    // Fewer are declared.
    shop.pools.set(&[tool("a", 1, 1, Isolation::Call)], "main");
    assert_eq!(shop.fill().1, [1]);
    assert_eq!(Shop::new(0, &tools).fill().0, Vec::<String>::new());
}

#[test]
fn failures_wait_longer_each_time_and_are_forgiven() {
    let tool = tool("a", 1, 1, Isolation::Call);
    let mut shop = Shop::new(16, &[Arc::clone(&tool)]);
    for seconds in [1, 2, 4] {
        let next = shop.pools.next(shop.now);
        shop.pools.failed(&next.begin[0], "no image".to_owned(), shop.now);
        let next = shop.pools.next(shop.now);
        assert!(next.begin.is_empty());
        assert_eq!(next.wake, Some(shop.now + Duration::from_secs(seconds)));
        shop.later(Duration::from_secs(seconds));
    }
    let seen = shop.pools.seen().remove(&tool.id).unwrap();
    assert_eq!((seen.wanted, seen.problem.as_deref()), (1, Some("no image")));
    shop.fill();
    assert_eq!(shop.pools.seen()[&tool.id].problem, None);

    // One that ends while it waits, soon and after long.
    let key = Key { tool: tool.id.clone(), digest: tool.digests.workload, isolation: Isolation::Call };
    assert!(shop.pools.died(&key, 1, shop.now) && !shop.pools.died(&key, 1, shop.now));
    assert_eq!(shop.pools.next(shop.now).wake, Some(shop.now + Duration::from_secs(8)));
    shop.later(Duration::from_secs(8));
    shop.fill();
    shop.later(FORGIVEN);
    assert!(shop.pools.died(&key, 2, shop.now));
    assert_eq!(shop.pools.next(shop.now).wake, Some(shop.now + Duration::from_secs(1)));
    shop.later(Duration::from_secs(1));
    shop.fill();
    // One that is gone and not yet told of is not handed out.
    let taken = shop.take(&tool, None, "tag").unwrap();
    taken.container.1.store(false, Ordering::Relaxed);
    shop.pools.release(&taken);
    shop.fill();
    shop.pools.tools.get_mut(&tool.id).unwrap().waiting[0].container.1.store(false, Ordering::Relaxed);
    assert!(shop.take(&tool, None, "tag").is_none());
}
