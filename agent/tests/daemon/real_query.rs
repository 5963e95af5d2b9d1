//! The same with the real directory, from one end to the other.

use agent::config::settings::Settings;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::capabilities::op;
use crate::world::{Client, Daemon, LOOK, PATIENCE, World, run};

async fn offering(world: &World, name: &str, title: &str) -> (Daemon, Client) {
    let tag = Some(vec!["lab".to_owned()]);
    let settings = Settings { capability: Some(title.to_owned()), tag, ..world.settings(name) };
    let daemon = world.start(settings).await;
    let mut client = daemon.client().await;
    let published = async {
        while op(&mut client, &json!({"op": "capability"})).await["state"] != "published" {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, published).await.expect("nothing is published");
    (daemon, client)
}

fn found(answer: &Value) -> Vec<&str> {
    assert_eq!(answer["rejected"], json!([]), "an honest directory");
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["hostname"].as_str().unwrap()).collect()
}

#[test]
fn what_is_published_is_found_followed_and_withdrawn() {
    run(|| async {
        let world = World::new();
        let (papers, mut client) = offering(&world, "papers", "resolve academic citations").await;
        let (_kitchen, _) = offering(&world, "kitchen", "烹饪食谱 recipes").await;
        let asker = world.daemon("asker").await;
        let mut asking = asker.client().await;
        let query = |text: &str| json!({"op": "query", "text": text});
        let answer = op(&mut asking, &query("academic citation")).await;
        assert_eq!(found(&answer), ["papers"]);
        let hit = &answer["hits"][0];
        assert_eq!((&hit["score"], &hit["online"], &hit["tags"]), (&json!(1000), &json!(true), &json!(["lab"])));
        assert_eq!(found(&op(&mut asking, &query("食谱")).await), ["kitchen"]);
        assert_eq!(found(&op(&mut asking, &json!({"op": "query", "tags": ["lab"]})).await).len(), 2);
        let node = hit["node_id"].clone();
        let one = op(&mut asking, &json!({"op": "capability", "node_id": node})).await;
        assert_eq!(one["hits"][0]["record"]["title"], "resolve academic citations");

        let cursor = op(&mut asking, &json!({"op": "changes"})).await["cursor"].clone();
        let serial = hit["record"]["serial"].as_u64().unwrap();
        let offer = json!({"title": "resolve legal citations"});
        let state = op(&mut client, &json!({"op": "publish", "offer": offer})).await;
        assert!(state["state"] == "published" && state["serial"].as_u64().unwrap() > serial, "{state}");
        let mut news = op(&mut asking, &json!({"op": "changes", "after": cursor, "wait_seconds": 60})).await;
        let is_published = |news: &Value| {
            news["changes"].as_array().unwrap().iter().any(|c| c["what"] == "published" && c["node_id"] == node)
        };
        while !is_published(&news) {
            news = op(&mut asking, &json!({"op": "changes", "after": news["cursor"], "wait_seconds": 60})).await;
        }
        assert_eq!(found(&op(&mut asking, &query("legal citations")).await), ["papers"]);
        // A group of their own.
        op(&mut asking, &json!({"op": "group_create", "name": "Research"})).await;
        let in_group = json!({"op": "query", "text": "citations", "group": "RESEARCH"});
        assert_eq!(found(&op(&mut asking, &in_group).await), Vec::<&str>::new());
        op(&mut client, &json!({"op": "group_join", "group": "research"})).await;
        assert_eq!(found(&op(&mut asking, &in_group).await), ["papers"]);

        // A daemon that has lost its folder but for its key is told which serial is needed.
        drop(client);
        papers.stop().await.unwrap();
        std::fs::remove_file(world.folder().join("papers/capability.json")).unwrap();
        let (_papers, mut client) = offering(&world, "papers", "resolve academic citations").await;
        let state = op(&mut client, &json!({"op": "withdraw"})).await;
        assert_eq!(state["state"], "published", "{state}");
        assert_eq!(found(&op(&mut asking, &query("citations")).await), Vec::<&str>::new());
    });
}
