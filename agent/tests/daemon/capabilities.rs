//! Capabilities through a daemon: published as they were offered, kept over restarts, believed only if their node has signed
//! them, watched over a restart of the directory.

use agent::config::settings::Settings;
use agent::daemon::clock::unix_seconds;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use wire::NodeId;
use wire::ipc::Request;
use wire::registry::Base64;
use wire::registry::answer::Happened;

use crate::stand_in::{Clock, StandIn, Tamper};
use crate::world::{Client, Daemon, LOOK, PATIENCE, World, run};

pub async fn op(client: &mut Client, request: &Value) -> Value {
    client.ask(Request::Extension(&request.to_string())).await.json()
}

async fn refused(client: &mut Client, request: &Value) -> String {
    client.refused(Request::Extension(&request.to_string())).await
}

struct Scene {
    world: World,
    directory: StandIn,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let directory = StandIn::new(world.registry()).await;
        Self { world, directory }
    }

    fn settings(&self, name: &str) -> Settings {
        Settings { registry: Some(self.directory.address.to_string()), ..self.world.settings(name) }
    }

    fn offering(&self, name: &str, title: &str) -> Settings {
        let tag = Some(vec!["papers".to_owned()]);
        Settings { capability: Some(title.to_owned()), tag, ..self.settings(name) }
    }

    async fn start(&self, settings: Settings) -> Daemon {
        self.world.start(settings).await
    }

    /// Returns when the record of `node` is there and `is_so`.
    async fn until(&self, is_so: impl Fn(&crate::stand_in::Shelf) -> bool) {
        let waiting = async {
            while !is_so(&self.directory.shelf) {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("it does not come about");
    }
}

#[test]
fn a_record_is_published_at_the_start_and_keeps_its_serial_over_a_restart() {
    run(|| async {
        let scene = Scene::new().await;
        let alpha = scene.start(scene.offering("alpha", "citations")).await;
        let node = alpha.client().await.node().await;
        scene.until(|shelf| shelf.records.borrow().contains_key(&node)).await;
        let first = scene.directory.shelf.record(node);
        assert_eq!((first.title.as_str(), &first.tags), ("citations", &vec!["papers".to_owned()]));
        let state = op(&mut alpha.client().await, &json!({"op": "capability"})).await;
        assert_eq!((&state["record"]["title"], &state["node_id"]), (&json!("citations"), &json!(node)));
        alpha.stop().await.unwrap();
        // The same flags: the same record, told again since the directory may have lost it.
        let alpha = scene.start(scene.offering("alpha", "citations")).await;
        scene.until(|shelf| shelf.published.borrow().len() >= 2).await;
        assert_eq!(scene.directory.shelf.record(node), first);
        // Other words are another record, which survives a start without any.
        let mut client = alpha.client().await;
        let offer = json!({"title": "学术引用", "input": {"citation": "text"}});
        let published = op(&mut client, &json!({"op": "publish", "offer": offer})).await;
        assert_eq!(published["state"], "published", "{published}");
        let second = scene.directory.shelf.record(node);
        assert!(second.serial > first.serial && second.title == "学术引用");
        drop(client);
        alpha.stop().await.unwrap();
        let alpha = scene.start(scene.settings("alpha")).await;
        let count = scene.directory.shelf.published.borrow().len();
        scene.until(|shelf| shelf.published.borrow().len() > count || shelf.record(node).serial == second.serial).await;
        let mut client = alpha.client().await;
        let withdrawn = op(&mut client, &json!({"op": "withdraw"})).await;
        assert_eq!(withdrawn["state"], "published", "{withdrawn}");
        assert!(scene.directory.shelf.record(node).withdrawn);
    });
}

#[test]
fn an_offer_that_cannot_be_is_refused_with_its_field_and_a_refusal_of_the_directory_is_told() {
    run(|| async {
        let scene = Scene::new().await;
        let alpha = scene.start(scene.settings("alpha")).await;
        let mut client = alpha.client().await;
        let publish = |offer: Value| json!({"op": "publish", "offer": offer});
        assert!(refused(&mut client, &publish(json!({"titel": "x"}))).await.contains("\"titel\" is unknown"));
        assert!(refused(&mut client, &publish(json!({"title": "x".repeat(4096)}))).await.contains("title too long"));
        assert!(refused(&mut client, &publish(Value::Null)).await.contains("an object expected"));
        let shelf = &scene.directory.shelf;
        shelf.refusal.replace(Some("invalid capability record: no".to_owned()));
        let state = op(&mut client, &publish(json!({"title": "x"}))).await;
        assert_eq!((&state["state"], &state["reason"]), (&json!("refused"), &json!("invalid capability record: no")));
        // An older serial is raised to what the directory has, and published.
        shelf.refusal.replace(Some("serial 3, already have 4000000000000000".to_owned()));
        let state = op(&mut client, &publish(json!({"title": "y"}))).await;
        assert_eq!((&state["state"], &state["serial"]), (&json!("published"), &json!(4_000_000_000_000_001_u64)));
    });
}

#[test]
fn tampering_of_the_directory_is_detected_and_named() {
    run(|| async {
        let scene = Scene::new().await;
        let alpha = scene.start(scene.offering("alpha", "citations")).await;
        let bravo = scene.start(scene.settings("bravo")).await;
        let node = alpha.client().await.node().await;
        scene.until(|shelf| shelf.records.borrow().contains_key(&node)).await;
        let mut client = bravo.client().await;
        let question = json!({"op": "query", "text": "cita"});
        let answer = op(&mut client, &question).await;
        let hit = &answer["hits"][0];
        assert_eq!(
            (&hit["node_id"], &hit["title"], &hit["tags"]),
            (&json!(node), &json!("citations"), &json!(["papers"]))
        );
        assert_eq!((&answer["rejected"], &hit["record"]["version"]), (&json!([]), &Value::Null));

        let shelf = &scene.directory.shelf;
        // What the directory adds is no word of the node's.
        shelf.tamper.replace(Some(Box::new(|hit| hit.tags = vec!["free-gold".to_owned()])));
        let hit = op(&mut client, &question).await["hits"][0].clone();
        assert_eq!((&hit["tags"], &hit["directory_tags"]), (&json!(["papers"]), &json!(["free-gold"])));
        shelf.tamper.replace(None);
        // More than was asked for is not even looked at.
        let genuine = shelf.records.borrow()[&node].clone();
        shelf.records.borrow_mut().extend((1000..1060).map(|other| (NodeId(other), genuine.clone())));
        for (limit, expected) in [(Value::Null, 10), (json!(3), 3)] {
            let answer = op(&mut client, &json!({"op": "query", "text": "cita", "limit": limit})).await;
            let list = |field: &str| answer[field].as_array().unwrap().len();
            assert_eq!((list("hits"), list("rejected")), (1, expected - 1), "{answer}");
        }
        shelf.records.borrow_mut().retain(|other, _| *other == node);
        let old = shelf.records.borrow()[&node].clone();
        let other = agent::identity::Identity::from_seed(&[9; 32]);
        let forge = move |hit: &mut wire::registry::answer::Hit| {
            let key = Base64(other.public_key());
            let record = hit.record.take().unwrap().replace(&hit.public_key.to_string(), &key.to_string());
            let signed = wire::registry::capability::signed_text(hit.node_id, &record);
            hit.signature = Some(Base64(other.sign(signed.as_bytes())));
            hit.record = Some(record);
        };
        let tampers: [(&str, Tamper); 5] = [
            ("forged", Box::new(forge)),
            (
                "altered",
                Box::new(|hit| hit.record = hit.record.take().map(|text| text.replace("citations", "cheating!"))),
            ),
            ("oversized", Box::new(|hit| hit.record = Some(" ".repeat(10_000)))),
            ("malformed", Box::new(|hit| hit.record = Some("{}".to_owned()))),
            ("wrong_node", Box::new(|hit| hit.node_id = NodeId(4711))),
        ];
        for (reason, tamper) in tampers {
            shelf.tamper.replace(Some(tamper));
            let answer = op(&mut client, &question).await;
            assert_eq!((&answer["hits"], &answer["rejected"][0]["reason"]), (&json!([]), &json!(reason)), "{answer}");
        }
        shelf.tamper.replace(None);
        // A newer record is seen, then the directory hands out the old one again.
        let mut publisher = alpha.client().await;
        op(&mut publisher, &json!({"op": "publish", "offer": {"title": "citations 2"}})).await;
        assert_eq!(op(&mut client, &question).await["hits"][0]["title"], "citations 2");
        shelf.records.borrow_mut().insert(node, old);
        let answer = op(&mut client, &question).await;
        assert_eq!((&answer["hits"], &answer["rejected"][0]["reason"]), (&json!([]), &json!("replayed")), "{answer}");
        // A node that is known by its tunnel cannot be given another key.
        let connection = client.dial(node, 7).await;
        let known = op(&mut client, &json!({"op": "tunnel_key", "node_id": node})).await;
        assert!(known["public_key"].is_string(), "{known}");
        let of_stream = |connection: u32| json!({"op": "tunnel_key", "node_id": node, "connection": connection});
        assert_eq!(op(&mut client, &of_stream(connection)).await, known);
        assert_eq!(op(&mut client, &of_stream(connection + 1000)).await["public_key"], Value::Null);
        let stranger = agent::identity::Identity::from_seed(&[9; 32]);
        shelf.tamper.replace(Some(Box::new(move |hit| {
            let key = Base64(stranger.public_key());
            let record = hit.record.take().unwrap().replace(&hit.public_key.to_string(), &key.to_string());
            let signed = wire::registry::capability::signed_text(hit.node_id, &record);
            hit.signature = Some(Base64(stranger.sign(signed.as_bytes())));
            (hit.record, hit.public_key) = (Some(record), key);
        })));
        let answer = op(&mut client, &question).await;
        assert_eq!(
            (&answer["hits"], &answer["rejected"][0]["reason"]),
            (&json!([]), &json!("foreign_key")),
            "{answer}"
        );
    });
}

#[test]
fn changes_are_followed_by_one_connection_for_all_and_over_a_restart_of_the_directory() {
    run(|| async {
        let mut scene = Scene::new().await;
        let alpha = scene.start(scene.settings("alpha")).await;
        let (mut one, mut other) = (alpha.client().await, alpha.client().await);
        let changes = |after: &Value| json!({"op": "changes", "after": after, "wait_seconds": 60});
        let first = op(&mut one, &changes(&json!(0))).await;
        assert_eq!((&first["reset"], &first["changes"]), (&json!(false), &json!([])));
        let cursor = first["cursor"].clone();
        let question = changes(&cursor).to_string();
        one.send(Request::Extension(&question)).await;
        other.send(Request::Extension(&question)).await;
        scene.until(|shelf| shelf.waiting.get() > 0).await;
        assert_eq!(scene.directory.shelf.waiting.get(), 1, "two who watch, one question");
        // The main connection is free meanwhile.
        op(&mut alpha.client().await, &json!({"op": "query"})).await;
        scene.directory.shelf.tell(Happened::Online, NodeId(77));
        for client in [&mut one, &mut other] {
            let news = client.await_frame(|reply| matches!(reply, wire::ipc::Reply::Answer { .. })).await.json();
            assert_eq!((&news["changes"][0]["what"], &news["changes"][0]["node_id"]), (&json!("online"), &json!(77)));
        }
        // Where it was, nothing is missed.
        scene.directory.shelf.tell(Happened::Offline, NodeId(78));
        let news = op(&mut other, &changes(&cursor)).await;
        assert!(!news["changes"].as_array().unwrap().is_empty());

        scene.directory.stop();
        let mut cursor = news["cursor"].clone();
        let away = loop {
            let news = op(&mut one, &changes(&cursor)).await;
            cursor = news["cursor"].clone();
            if news["away"].is_string() {
                break news;
            }
        };
        assert!(away["away"].as_str().unwrap().contains("directory"), "{away}");
        scene.directory.start_again().await;
        let back = loop {
            let news = op(&mut one, &changes(&cursor)).await;
            cursor = news["cursor"].clone();
            if news["away"].is_null() {
                break news;
            }
        };
        assert_eq!(back["reset"], true, "what happened meanwhile nobody has told: {back}");
        scene.directory.shelf.tell(Happened::Online, NodeId(79));
        let news = op(&mut one, &changes(&cursor)).await;
        assert_eq!(news["changes"][0]["node_id"], 79);
        // A cursor of another time begins anew.
        assert_eq!(op(&mut one, &changes(&json!(5))).await["reset"], true);
        let short = json!({"op": "changes", "after": news["cursor"], "wait_seconds": 0});
        assert_eq!(op(&mut one, &short).await["changes"], json!([]));
    });
}

#[test]
fn a_title_on_the_command_line_that_is_too_long_is_refused() {
    let settings =
        Settings { capability: Some("x".repeat(4096)), data_dir: Some("/tmp".into()), ..Settings::default() };
    let error = agent::config::Config::from_settings(settings, None).unwrap_err().to_string();
    assert!(error.starts_with("--capability xxx") && error.contains("at most 160 bytes"), "{error}");
    assert!(error.len() < 250);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capability.toml");
    std::fs::write(&file, "title = 5").unwrap();
    let settings = Settings { capability_file: Some(file), data_dir: Some("/tmp".into()), ..Settings::default() };
    let error = agent::config::Config::from_settings(settings, None).unwrap_err().to_string();
    assert!(error.contains("--capability-file") && error.contains("\"title\": a text expected"), "{error}");
}

#[test]
fn questions_say_when_they_were_signed_by_the_directorys_clock() {
    run(|| async {
        let scene = Scene::new().await;
        let alpha = scene.start(scene.offering("alpha", "citations")).await;
        let mut client = alpha.client().await;
        let shelf = &scene.directory.shelf;
        scene.until(|shelf| !shelf.records.borrow().is_empty()).await;
        // Clocks agree; this host's is wrong by a year, and then not any more; the directory is an older one.
        for (clock, words) in [
            (Clock::Ahead(0), "the same"),
            (Clock::Ahead(31_536_000), "another"),
            (Clock::Ahead(31_536_300), "about the one known"),
            (Clock::Ahead(0), "the same again"),
            (Clock::Suspicious(500), "about the same, of who remembers copies"),
            (Clock::Ahead(0), "the same as ever"),
            (Clock::Older, "none"),
        ] {
            shelf.clock.set(clock);
            let answer = op(&mut client, &json!({"op": "query", "text": "citations"})).await;
            assert_eq!(answer["hits"][0]["title"], "citations", "{words}: {answer}");
            let news = op(&mut client, &json!({"op": "changes"})).await;
            assert!(news["cursor"].is_u64() && news["away"].is_null(), "{words}: {news}");
            if let Clock::Ahead(ahead) = clock {
                // Nothing was learned from a clock that agrees well enough.
                let (signed_at, now) = (shelf.signed_at.get(), unix_seconds() + ahead);
                assert!(signed_at.abs_diff(now) <= 400, "{words}: {signed_at} at {now}");
            }
        }
    });
}
