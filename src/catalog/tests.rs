//! Laws of catalogs, on small worlds.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::desired::{Digests, Location};
use crate::manifest::{Place, RepoPath};
use crate::ports::Offer;
use crate::resource::server::Strategy;
use crate::resource::{Digest, Kind, Name};

pub(crate) fn revision(n: u32) -> Revision {
    Revision { reference: "main".to_owned(), commit: format!("{n:040x}"), dirty: false }
}

/// A server that runs elsewhere, published under `<name>_`.
pub(crate) fn server(name: &str) -> desired::Server {
    let name = Name::parse(name).expect("a name");
    let place = Place { file: RepoPath::parse("crib.yaml").expect("a path"), line: 1, column: 1 };
    let digest = Digest::of_bytes(name.as_str().as_bytes());
    desired::Server {
        prefix: format!("{name}_"),
        id: ResourceId::new(Kind::Server, name),
        place,
        labels: Arc::default(),
        digests: Digests { build: None, workload: digest, offer: digest },
        build: None,
        location: Location::Remote { url: "http://localhost:1/mcp".to_owned(), credentials: None },
        strategy: Strategy::Surge,
        synced: true,
        include: Vec::new(),
        exclude: Vec::new(),
        presented: crate::desired::Presented::default(),
        depends_on: Box::default(),
        sessions: crate::resource::server::Sessions::Shared,
        concurrency: None,
        scale: crate::desired::Scale::ONE,
        trust: None,
        files: None,
        health: None,
        startup_timeout: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(5),
        tests: Arc::default(),
        timeout: Duration::from_secs(5),
    }
}

pub(crate) fn offered(server: desired::Server, offer: Offer) -> Offered {
    let upstream =
        UpstreamKey { server: server.id.name.clone(), instance: crate::live::InstanceId("one".to_owned()) };
    Offered { server: Arc::new(server), upstream, offer: Arc::new(offer) }
}

pub(crate) fn tools(names: &[&str]) -> Offer {
    let tool = |name: &&str| json!({"name": name, "inputSchema": {"type": "object"}}).to_string().into();
    Offer { tools: names.iter().map(tool).collect(), ..Offer::default() }
}

fn next(revision: &Revision, servers: &[Offered], previous: Option<&Catalog>) -> (Catalog, Vec<Report>) {
    compose(&Input { revision, servers, tools: &[], previous })
}

fn first(servers: &[Offered]) -> (Catalog, Vec<Report>) {
    next(&revision(1), servers, None)
}

fn names(catalog: &Catalog) -> Vec<&str> {
    catalog.tools.keys().map(AsRef::as_ref).collect()
}

fn told(reports: &[Report]) -> Vec<String> {
    reports
        .iter()
        .map(|report| format!("{:?} {}: {}", report.kind, report.resource, report.message))
        .collect()
}

#[test]
fn a_definition_is_sent_as_it_came_under_its_published_name() {
    let source = r#" { "x-new" : 1.50e3, "name":"forecast","inputSchema": {"type":"object","é":"\u00e9"},"_meta":{"dev.toolcrib/revision":"forged","k" : [1, 2]},
      "annotations":{ "readOnlyHint":true } } "#;
    let offer = Offer { tools: vec![source.into()], ..Offer::default() };
    let (catalog, reports) = first(&[offered(server("weather"), offer)]);
    assert_eq!(reports, []);
    let entry = &catalog.tools["weather_forecast"];
    let digest = server("weather").digests.workload;
    let provenance = format!(
        r#""dev.toolcrib/revision":"main@sha1:{:040x}","dev.toolcrib/resource":"Server/weather","dev.toolcrib/digest":"{digest}""#,
        1
    );
    let expected = source.trim().replace("\"forecast\"", "\"weather_forecast\"").replace(
        r#"{"dev.toolcrib/revision":"forged","k" : [1, 2]}"#,
        &format!(r#"{{"k":[1, 2],{provenance}}}"#),
    );
    assert_eq!(&*entry.definition, expected);
    assert_eq!(entry.input_schema(), Some(r#"{"type":"object","é":"\u00e9"}"#));
    assert!(matches!(&entry.route, Route::Server { name, .. } if &**name == "forecast"));

    let bare = Offer { prompts: vec![r#"{"name":"p" }"#.into()], ..Offer::default() };
    let (catalog, _) = first(&[offered(server("weather"), bare)]);
    let definition: Value = serde_json::from_str(&catalog.prompts["weather_p"].definition).expect("JSON");
    assert_eq!(definition["_meta"]["dev.toolcrib/resource"], "Server/weather");
}

#[test]
fn what_cannot_be_published_is_hidden_and_told() {
    let long = "x".repeat(60);
    let mut offer = tools(&["good", "bad.name", &long, "good"]);
    offer.tools.push("[1]".into());
    offer.tools.push(r#"{"name":"noschema"}"#.into());
    offer.tools.push(r#"{"name":"a","name":"b","inputSchema":{}}"#.into());
    offer.tools.push(
        r#"{"name":"h","inputSchema":{"properties":{"p":{"type":"object","x-mcp-header":"P"}}}}"#.into(),
    );
    let (catalog, reports) = first(&[offered(server("s"), offer)]);
    assert_eq!(names(&catalog), ["s_good", &format!("s_{long}")]);
    let told = told(&reports);
    let expected = [
        "tool `s_bad.name` is not offered: a published name has 1 to 64",
        "tool `?` is not offered: its definition is not a JSON object",
        "tool `?` is not offered: its definition has no `inputSchema` object",
        "tool `?` is not offered: its definition has not exactly one `name`",
        "tool `s_good` was listed twice",
        "tool `s_h` is not offered: the `x-mcp-header` of `p` is not on a string",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for part in expected {
        assert!(
            told.iter().any(|report| report.starts_with("Hidden Server/s: ") && report.contains(part)),
            "{part}"
        );
    }
}

#[test]
fn include_and_exclude_choose_by_the_servers_own_names() {
    let offer = || tools(&["get_a", "get_b", "set_a"]);
    let mut chosen = server("s");
    chosen.include = vec!["get_*".to_owned()];
    chosen.exclude = vec!["*_b".to_owned()];
    assert_eq!(names(&first(&[offered(chosen, offer())]).0), ["s_get_a"]);
    let mut broken = server("s");
    broken.exclude = vec!["[".to_owned()];
    let (catalog, reports) = first(&[offered(broken, offer())]);
    assert_eq!((names(&catalog).len(), reports.len()), (0, 1), "fails closed, told once");
    let mut deployed = server("s");
    deployed.synced = false;
    assert!(names(&first(&[offered(deployed, offer())]).0).is_empty());
}

#[test]
fn an_incumbent_keeps_its_name() {
    let with = |name: &str| {
        let mut server = server(name);
        server.prefix = String::new();
        offered(server, tools(&["t"]))
    };
    let owner = |catalog: &Catalog| catalog.tools["t"].owner.to_string();
    let (b_alone, _) = first(&[with("b")]);
    let (both, reports) = next(&revision(2), &[with("a"), with("b")], Some(&b_alone));
    assert_eq!(owner(&both), "Server/b");
    assert_eq!(
        told(&reports),
        [
            "Quarantined Server/a: tool `t` is not offered: Server/b has that name; give one of them another prefix, or exclude it"
        ]
    );
    let (later, _) = next(&revision(3), &[with("a")], Some(&both));
    assert_eq!(owner(&later), "Server/a");

    let (fresh, reports) = first(&[with("b"), with("a")]);
    assert_eq!(owner(&fresh), "Server/a", "the order of ids decides between two newcomers");
    let kinds: Vec<_> = reports.iter().map(|report| (report.kind, report.resource.to_string())).collect();
    assert_eq!(
        kinds,
        [(ReportKind::Quarantined, "Server/b".to_owned()), (ReportKind::Contested, "Server/a".to_owned())]
    );
}

#[test]
fn only_what_a_client_can_see_counts_as_a_change() {
    let weather = offered(server("weather"), tools(&["a", "b"]));
    let time = offered(server("time"), tools(&["now"]));
    let (one, _) = first(&[weather.clone(), time.clone()]);
    let (two, _) = next(&revision(2), &[weather.clone(), time.clone()], Some(&one));
    assert!(!two.changed_since(&one).any(), "another commit alone changes nothing");
    assert!(Arc::ptr_eq(&one.tools["time_now"], &two.tools["time_now"]));
    assert!(two.generation > one.generation);

    let restarted = Offered {
        upstream: UpstreamKey {
            instance: crate::live::InstanceId("two".to_owned()),
            ..weather.upstream.clone()
        },
        ..weather.clone()
    };
    let (three, _) = next(&revision(3), &[restarted, time.clone()], Some(&two));
    assert!(!three.changed_since(&two).any(), "another instance is nothing a client can see");
    assert!(
        matches!(&three.tools["weather_a"].route, Route::Server { upstream, .. } if upstream.instance.0 == "two")
    );

    let mut redeployed = server("weather");
    redeployed.digests.workload = Digest::of_bytes(b"another");
    let redeployed = offered(redeployed, (*weather.offer).clone());
    let (four, _) = next(&revision(4), &[redeployed, time], Some(&three));
    assert_eq!(
        four.changed_since(&three),
        Changed { tools: true, prompts: false, resources: false },
        "its provenance is another"
    );
    assert_eq!(&*four.tools["weather_a"].revision, revision(4).to_string());
    assert_eq!(
        &*four.tools["time_now"].revision,
        revision(1).to_string(),
        "who did not change keeps its revision"
    );
}

#[test]
fn pages_hold_the_whole_list_once_and_in_order() {
    let all: Vec<String> = (0..2500).map(|n| format!("t{n:04}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (catalog, _) = first(&[offered(server("s"), tools(&all))]);
    let mut listed = Vec::new();
    let mut offset = 0;
    loop {
        let (items, cursor) = catalog.page(List::Tools, offset).expect("a page");
        let items: Vec<Value> = serde_json::from_slice(&items).expect("JSON");
        listed.extend(items.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()));
        let Some(cursor) = cursor else { break };
        assert_eq!(cursor.offset, listed.len());
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor.clone()));
        offset = cursor.offset;
    }
    assert_eq!(listed, names(&catalog));
    assert_eq!(catalog.page(List::Tools, 7), None);
    let (empty, cursor) = catalog.page(List::Prompts, 0).expect("a page");
    assert_eq!((&empty[..], cursor), (&b"[]"[..], None));
    for garbage in ["", "!", "YQ", "YS5iLmM", &"a".repeat(500)] {
        assert_eq!(Cursor::decode(garbage), None, "{garbage}");
    }
}

#[test]
fn pages_that_stay_the_same_are_shared() {
    let all: Vec<String> = (0..1500).map(|n| format!("t{n:04}")).collect();
    let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
    let offer = |names: &[&str]| offered(server("s"), tools(names));
    let (one, _) = first(&[offer(&all)]);
    all.push("zzz");
    let (two, _) = next(&revision(2), &[offer(&all)], Some(&one));
    let page = |catalog: &Catalog, offset| catalog.page(List::Tools, offset).expect("a page").0;
    assert_eq!(page(&one, 0).as_ptr(), page(&two, 0).as_ptr());
    assert_ne!(page(&one, 1000), page(&two, 1000));
}

#[test]
fn resources_keep_their_uris_and_find_their_servers() {
    let with = |name: &str, uri: &str, template: &str| {
        let offer = Offer {
            resources: vec![json!({"uri": uri, "name": "r"}).to_string().into()],
            templates: vec![json!({"uriTemplate": template, "name": "t"}).to_string().into()],
            capabilities: Some(r#"{"resources":{},"completions":{}}"#.into()),
            instructions: Some(format!("use {name}")),
            ..Offer::default()
        };
        offered(server(name), offer)
    };
    let (catalog, reports) = first(&[with("b", "x://1", "b://{id}"), with("a", "x://1", "a://{id}")]);
    let owner = |uri: &str| catalog.resource(uri, None).map(|entry| entry.owner.to_string());
    assert_eq!(owner("x://1").as_deref(), Some("Server/a"));
    assert_eq!(owner("b://7").as_deref(), Some("Server/b"));
    assert_eq!(owner("c://7"), None, "two servers could have it");
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert_eq!(catalog.instructions.as_deref(), Some("# a\n\nuse a\n\n# b\n\nuse b"));
    assert!(catalog.completions);
    let (alone, _) = first(&[with("b", "x://1", "b://{id}")]);
    assert!(alone.resource("c://7", None).is_some(), "the only server may have more than it lists");

    let mut prefixed = with("b", "x://1", "b://{id}");
    let mut own = server("b");
    own.presented.resources_prefix = Some("b+".into());
    prefixed.server = Arc::new(own);
    let (catalog, reports) = first(&[prefixed, with("a", "x://1", "a://{id}")]);
    assert_eq!(reports, []);
    let owner = |uri: &str| catalog.resource(uri, None).map(|entry| entry.owner.to_string());
    for (uri, expected) in [
        ("x://1", "Server/a"),
        ("b+x://1", "Server/b"),
        ("b+b://7", "Server/b"),
        ("b+c://7", "Server/b"),
        ("c://7", "Server/a"),
    ] {
        assert_eq!(owner(uri).as_deref(), Some(expected), "{uri}");
    }
}

proptest::proptest! {
    /// Whoever is declared beside it, a name stays with the same server.
    #[test]
    fn a_published_name_does_not_depend_on_others(others in proptest::collection::btree_set("[a-f]{1,2}", 0..5)) {
        let mine = offered(server("zz"), tools(&["one", "two"]));
        let mut servers: Vec<_> = others.iter().map(|name| offered(server(name), tools(&["one"]))).collect();
        servers.push(mine);
        let (catalog, _) = first(&servers);
        for name in ["zz_one", "zz_two"] {
            proptest::prop_assert_eq!(catalog.tools[name].owner.to_string(), "Server/zz");
        }
    }
}

#[test]
fn what_is_declared_of_a_tool_is_published_instead_of_what_its_server_says() {
    let mut weather = server("weather");
    weather.presented = serde_json::from_value::<Shown>(json!({
        "overrides": {
            "forecast": {"name": "tomorrow", "title": "Tomorrow", "description": "Tells it.\n",
                         "annotations": {"readOnlyHint": true, "openWorldHint": null}},
            "debug": {"hidden": true},
            "gone": {"title": "x"},
        },
        "icon": "https://example.org/i.png",
    }))
    .map(|Shown { overrides, icon }| desired::Presented {
        overrides,
        instructions: None,
        icon,
        when_down: desired::Presented::default().when_down,
        resources_prefix: None,
    })
    .expect("fields as they are declared");
    let forecast = r#"{"name":"forecast","inputSchema":{"type":"object"},"annotations":{"openWorldHint":true,"title":"F"},"x":1.50}"#;
    let mut offer = tools(&["debug", "now"]);
    offer.tools.push(forecast.into());
    offer.tools.push(r#"{"name":"own","icons":[],"inputSchema":{}}"#.into());
    let (catalog, reports) = first(&[offered(weather, offer)]);
    assert_eq!(names(&catalog), ["tomorrow", "weather_now", "weather_own"]);
    assert_eq!(
        told(&reports),
        [
            "Hidden Server/weather: the override of `gone` changes nothing: the server lists no such tool; correct its name, or remove it"
        ]
    );
    let text = &*catalog.tools["tomorrow"].definition;
    let (before, _) = text.split_once(",\"_meta\"").expect("provenance is the last");
    assert_eq!(
        before,
        r#"{"name":"tomorrow","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true,"title":"F"},"x":1.50,"title":"Tomorrow","description":"Tells it.","icons":[{"src":"https://example.org/i.png"}]"#
    );
    assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
    assert!(matches!(&catalog.tools["tomorrow"].route, Route::Server { name, .. } if &**name == "forecast"));
    let own: Value = serde_json::from_str(&catalog.tools["weather_own"].definition).expect("JSON");
    assert_eq!(own["icons"], json!([]), "its own icons stay");
}

#[derive(serde::Deserialize)]
struct Shown {
    overrides: BTreeMap<String, crate::resource::server::Override>,
    icon: Option<Box<str>>,
}

#[test]
fn declared_instructions_stand_instead_of_the_servers_or_after_them() {
    use crate::resource::server::Instructions::{Append, Replace};
    for (declared, own, expected) in [
        (None, Some("Own."), Some("# s\n\nOwn.")),
        (Some(Replace("Ours.".to_owned())), Some("Own."), Some("# s\n\nOurs.")),
        (Some(Append("Ours.".to_owned())), Some("Own."), Some("# s\n\nOwn.\n\nOurs.")),
        (Some(Append("Ours.".to_owned())), None, Some("# s\n\nOurs.")),
        (Some(Replace(" ".to_owned())), Some("Own."), None),
    ] {
        let mut server = server("s");
        server.presented.instructions = declared.clone().map(Box::new);
        let offer = Offer { instructions: own.map(Into::into), ..tools(&["a"]) };
        let (catalog, _) = first(&[offered(server, offer)]);
        assert_eq!(catalog.instructions.as_deref(), expected, "{declared:?} {own:?}");
    }
}
