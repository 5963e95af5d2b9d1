//! `/nodes` behind the pages: who is let in, and what is answered. What follows from it is told in the stories of the service.

use std::sync::Arc;

use directory::http::Server;
use directory::{AdminToken, Config, Enrolment, NoRelay};

use crate::client::{Answer, get, request};

const TOKEN: &str = "secret";
/// A key of RFC 8032's test vectors.
const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const KEY_IN_PATH: &str = "11qYAYKxCrfVS%2F7TyWQHOg7hcvPapiMlrwIaaPcHURo%3D";

fn ask(server: &Server, method: &str, path: &str, token: &str, body: &str) -> Answer {
    request(server.address(), method, path, &[("Authorization", &format!("Bearer {token}"))], body)
}

#[test]
fn the_administrator_alone_says_who_belongs() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path());
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    config.admin_token = AdminToken::new(TOKEN);
    config.enrolment = Enrolment::Approve;
    let running = directory::start(config, Arc::new(NoRelay::default())).unwrap();
    let site = running.site(None);
    let routes = running.node_routes(&site);
    let server = Server::start("127.0.0.1:0".parse().unwrap(), Some(site), |_| routes).unwrap();
    let path = format!("/nodes/{KEY_IN_PATH}");

    let refused = get(server.address(), "/nodes");
    assert_eq!((refused.status, refused.json()["error"].is_string()), (401, true));
    assert_eq!(ask(&server, "POST", &format!("{path}/approve"), "guess", "").status, 401);

    let approved = ask(&server, "POST", &format!("{path}/approve"), TOKEN, "");
    assert_eq!((approved.status, &approved.json()["changed"]), (200, &true.into()));
    assert_eq!(approved.json()["node"]["public_key"], KEY);
    let banned = ask(&server, "POST", &format!("{path}/ban"), TOKEN, r#"{"reason":"stolen"}"#);
    assert_eq!(
        (&banned.json()["node"]["standing"], &banned.json()["node"]["reason"]),
        (&"banned".into(), &"stolen".into())
    );
    let listed = ask(&server, "GET", "/nodes?state=banned", TOKEN, "").json();
    assert_eq!((listed["keys"].as_array().unwrap().len(), listed["nodes"].as_array().unwrap().len()), (1, 0));
    assert_eq!(listed["next_after"], serde_json::Value::Null);
    assert_eq!(ask(&server, "GET", "/nodes?state=approved", TOKEN, "").json()["keys"].as_array().unwrap().len(), 0);

    for (method, path, body, status) in [
        ("GET", "/nodes?state=friendly", "", 400),
        ("GET", "/nodes/77", "", 404),
        ("POST", "/nodes/77/approve", "", 404),
        ("POST", &format!("{path}/adopt"), "", 404),
        ("POST", &format!("{path}/ban"), "nonsense", 400),
        ("POST", &format!("{path}/ban"), r#"{"reson":"typo"}"#, 400),
        ("POST", &format!("{path}/quota"), r#"{"packets_per_second":5}"#, 409),
        ("POST", &format!("{path}/quota"), r#"{"packets_per_second":-5}"#, 400),
        ("POST", &format!("{path}/ban"), &"x".repeat(5000), 413),
    ] {
        let answer = ask(&server, method, path, TOKEN, body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
    }
    let text = running.metrics();
    for line in ["nodes_by_standing{standing=\"pending\"} 0", "signatures_replayed_total 0", "clock_jumps_total 0"] {
        assert!(text.contains(line), "{text}");
    }
}
