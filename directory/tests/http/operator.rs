//! What operators see, and who is one.

use directory::http::connections::Patience;
use serde_json::Value;

use crate::client::{Answer, get, request};
use crate::world::{Served, TOKEN, fleet, serve_with};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn served() -> Served {
    serve_with(fleet(), |_| {}, Patience::default())
}

fn log_in(served: &Served, token: &str) -> Answer {
    let body = format!("token={}", token.replace(' ', "+"));
    request(served.address(), "POST", "/operator/login", &[FORM], &body)
}

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

fn search(served: &Served, text: &str, header: (&str, &str)) -> Answer {
    request(served.address(), "GET", &format!("/operator/nodes.json?q={text}"), &[header], "")
}

#[test]
fn nothing_is_told_without_the_token() {
    let served = served();
    for path in ["/operator/nodes.json?q=papers", "/operator/status.json"] {
        let answer = get(served.address(), path);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
        assert!(answer.json()["error"].as_str().unwrap().contains("/operator"));
    }
    let page = get(served.address(), "/operator");
    assert!(page.status == 200 && page.body.contains("Admin token") && !page.body.contains("operator.js"));
}

#[test]
fn a_login_gives_a_session_that_scripts_and_other_sites_cannot_use() {
    let served = served();
    let answer = log_in(&served, TOKEN);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/operator")));
    let flags: Vec<_> = answer.header("set-cookie").unwrap().split("; ").skip(1).collect();
    assert_eq!(flags, ["Path=/operator", "Max-Age=43200", "HttpOnly", "SameSite=Strict"]);
    let session = cookie(&answer);
    assert_ne!(session, cookie(&log_in(&served, TOKEN)), "each has its own");
    assert_eq!(search(&served, "papers", ("Cookie", &session)).status, 200);
    assert_eq!(search(&served, "papers", ("Cookie", "pilot_operator=00")).status, 401);
    let page = request(served.address(), "GET", "/operator", &[("Cookie", &session)], "");
    assert!(page.body.contains("operator.js"));

    let out = request(served.address(), "POST", "/operator/logout", &[("Cookie", &session)], "");
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(search(&served, "papers", ("Cookie", &session)).status, 401);

    let proxied = [FORM, ("X-Forwarded-Proto", "https")];
    let body = format!("token={}", TOKEN.replace(' ', "+"));
    let secure = request(served.address(), "POST", "/operator/login", &proxied, &body);
    assert!(secure.header("set-cookie").unwrap().ends_with("; Secure"));
}

#[test]
fn guessing_ends_soon() {
    let served = served();
    let statuses: Vec<_> = (0..6).map(|guess| log_in(&served, &format!("<b>guess {guess}")).status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
    assert_eq!(log_in(&served, &"x".repeat(5000)).status, 413);
    assert_eq!(log_in(&served, TOKEN).status, 429, "nor does a right one tell that it is");
    assert_eq!(search(&served, "papers", ("Authorization", &format!("Bearer {TOKEN}"))).status, 429);
    served.step(|state| state.seconds += 60);
    assert_eq!(log_in(&served, TOKEN).status, 303);
}

#[test]
fn other_sites_cannot_log_anybody_in_or_out() {
    let served = served();
    let body = format!("token={}", TOKEN.replace(' ', "+"));
    let host = served.address().to_string();
    let own = format!("http://{host}");
    for (header, expected) in [
        (("Origin", "https://evil.example"), 403),
        (("Origin", "null"), 403),
        (("Sec-Fetch-Site", "cross-site"), 403),
        (("Sec-Fetch-Site", "same-site"), 403),
        (("Origin", own.as_str()), 303),
        (("Sec-Fetch-Site", "same-origin"), 303),
    ] {
        let answer = request(served.address(), "POST", "/operator/login", &[FORM, header], &body);
        assert_eq!(answer.status, expected, "{header:?}");
        let out = request(served.address(), "POST", "/operator/logout", &[header], "");
        assert_eq!(out.status, expected, "{header:?}");
    }
}

#[test]
fn a_node_is_found_with_all_that_is_known_of_it() {
    let served = served();
    let bearer = format!("Bearer {TOKEN}");
    let answer = search(&served, "specialist-papers", ("Authorization", &bearer)).json();
    let [found] = answer["found"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!(found["node"]["hostname"], "specialist-papers");
    assert_eq!(found["relay"]["endpoint"], "203.0.113.9:61001");
    let kinds: Vec<_> = found["why"].as_array().unwrap().iter().map(|why| why["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["symmetric_mapping", "port_restricted_filtering", "port_differs"]);
    assert_eq!(search(&served, "nobody", ("Authorization", &bearer)).json()["found"], Value::Array(vec![]));
    for bad in ["", "%20", &"x".repeat(257)] {
        assert_eq!(search(&served, bad, ("Authorization", &bearer)).status, 400);
    }
}

#[test]
fn drops_and_all_groups_are_told() {
    let served = served();
    let before = served.world.state().relay.drops[2].count;
    served.step(|state| state.relay.drops[2].count += 14);
    let header = ("Authorization", format!("Bearer {TOKEN}"));
    let status = request(served.address(), "GET", "/operator/status.json", &[(header.0, &header.1)], "").json();
    assert_eq!(status["drops"][2]["reason"], "unknown_destination");
    assert_eq!((&status["drops"][2]["per_second"], &status["drops"][2]["total"]), (&7.0.into(), &(before + 14).into()));
    assert_eq!(status["overview"]["groups"][4]["name"], "merger-of-two-firms");
}

#[test]
fn without_a_token_the_view_says_how_to_set_one() {
    let served = serve_with(fleet(), |settings| settings.admin_token = None, Patience::default());
    let page = get(served.address(), "/operator");
    assert!(page.body.contains("--admin-token-file") && page.body.contains(r#"action="/operator/login" hidden>"#));
    assert_eq!(log_in(&served, "").status, 403);
    assert_eq!(get(served.address(), "/operator/status.json").status, 403);
}
