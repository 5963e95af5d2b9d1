//! What anyone sees.

use serde_json::json;

use crate::client::{Events, get, request};
use crate::world::{fleet, group, serve, serve_with, traffic};
use directory::http::connections::Patience;

#[test]
fn the_figures_are_json_without_anything_private() {
    let served = serve_with(fleet(), |_| {}, Patience::default());
    served.step(traffic);
    let answer = get(served.address(), "/status.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let status = answer.json();
    assert_eq!(status["nodes"]["registered"], 1730);
    assert_eq!(status["groups"][1], json!({ "name": "RESEARCH", "members": 520, "online": 412 }));
    assert_eq!(status["private_groups"], json!({ "groups": 2, "members": 20, "online": 16 }));
    assert_eq!(status["paths"]["reporting"], 1106);
    assert_eq!(status["relay"]["shards"][1]["cpu"], 3);
    assert!(status["relay"]["packets_per_second"].as_f64().unwrap() > 1000.0);
    for private in ["merger", "payroll", "specialist", "203.0.113", "sender_budget"] {
        let page = get(served.address(), "/").body;
        assert!(!answer.body.contains(private) && !page.contains(private), "{private}");
    }
}

#[test]
fn the_page_has_its_figures_without_scripts() {
    let served = serve_with(fleet(), |_| {}, Patience::default());
    served.step(|state| {
        state.relay.shards[0].forwarded += 84;
        state.overview.online = 1284;
    });
    let page = get(served.address(), "/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for figure in [
        r#"data-f="online">1,284<"#,
        "<bdi>RESEARCH</bdi>",
        r#"data-f="packets">42<"#,
        "86\u{2009}%",
        "2 private groups",
    ] {
        assert!(page.body.contains(figure), "{figure} in\n{}", page.body);
    }
}

#[test]
fn a_change_reaches_viewers_as_one_event() {
    let served = serve();
    let mut events = Events::open(served.address(), "/status/events");
    assert_eq!(events.status, 200);
    assert_eq!(events.next()["nodes"]["online"], 0);
    served.step(|state| state.overview.online = 7);
    assert_eq!(events.next()["nodes"]["online"], 7);
    served.step(|state| state.overview.groups.push(group(1, "TRAVEL", "open", 1, 1)));
    assert_eq!(events.next()["groups"][0]["name"], "TRAVEL");
}

#[test]
fn the_past_is_told_up_to_now() {
    let served = serve_with(fleet(), |_| {}, Patience::default());
    for _ in 0..100 {
        served.step(traffic);
    }
    let past = get(served.address(), "/status/history.json").json();
    let len = |name: &str| past[name].as_array().unwrap().len();
    assert_eq!((len("recent"), len("day"), len("growth")), (101, 3, 1));
    assert_eq!(past["recent"][100][0], past["at"]);
    assert_eq!(past["growth"][0][1], 1730);
}

#[test]
fn every_answer_forbids_what_is_from_elsewhere() {
    let served = serve();
    for path in [
        "/",
        "/status.json",
        "/status/history.json",
        "/assets/page.js",
        "/assets/none",
        "/operator",
        "/operator/nodes.json?q=a",
    ] {
        let answer = get(served.address(), path);
        let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("none at {path}"));
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let inline =
            answer.body.contains("<script>") || answer.body.contains(" style=") || answer.body.contains(" onclick=");
        assert!(!inline, "{path}");
    }
    let events = Events::open(served.address(), "/status/events");
    assert!(events.headers.iter().any(|(name, _)| name == "content-security-policy"));
}

#[test]
fn names_of_groups_are_text() {
    let hostile = "</bdi><script src=//evil></script>&\u{1b}[2J";
    let served = serve();
    served.step(|state| state.overview.groups.push(group(3, hostile, "open", 1, 2)));
    let page = get(served.address(), "/").body;
    assert!(!page.contains("<script src=//evil") && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;/bdi&gt;&lt;script src=//evil&gt;"));
}

#[test]
fn files_are_asked_for_again_only_when_they_have_changed() {
    let served = serve();
    let first = get(served.address(), "/assets/style.css");
    assert_eq!((first.status, first.header("content-type")), (200, Some("text/css; charset=utf-8")));
    let tag = first.header("etag").unwrap();
    let again = request(served.address(), "GET", "/assets/style.css", &[("If-None-Match", tag)], "");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(get(served.address(), "/assets/../main.rs").status, 404);
}

#[test]
fn without_a_relay_its_part_is_hidden() {
    let served = serve_with(fleet(), |settings| settings.relay = None, Patience::default());
    served.step(|_| {});
    assert_eq!(get(served.address(), "/status.json").json()["relay"], json!(null));
    assert!(get(served.address(), "/").body.contains(r#"aria-labelledby="shards-title" hidden>"#));
}
