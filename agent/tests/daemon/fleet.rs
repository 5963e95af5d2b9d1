//! A fleet through `pilotctl`: groups by name, messages to all of one, and to whoever does best what is wanted.

use std::path::Path;
use std::process::{Output, Stdio};

use agent::config::settings::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};
use wire::NodeId;
use wire::registry::Base64;
use wire::registry::answer::Happened;

use crate::stand_in::StandIn;
use crate::world::{Daemon, LOOK, PATIENCE, World, run};

struct Fleet {
    world: World,
    directory: StandIn,
}

/// What the program printed and how it ended.
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn data(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{}{}", self.out, self.err);
        serde_json::from_str::<Value>(&self.out).unwrap()["data"].clone()
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}{}", self.out, self.err);
        self
    }
}

impl Fleet {
    async fn new() -> Self {
        let world = World::new();
        let directory = StandIn::new(world.registry()).await;
        Self { world, directory }
    }

    fn settings(&self, name: &str, title: Option<&str>) -> Settings {
        let capability = title.map(str::to_owned);
        Settings { capability, registry: Some(self.directory.address.to_string()), ..self.world.settings(name) }
    }

    /// A daemon that offers `title`, as the directory knows.
    async fn daemon(&self, name: &str, title: Option<&str>) -> (Daemon, NodeId) {
        let daemon = self.world.start(self.settings(name, title)).await;
        let node = daemon.client().await.node().await;
        let published = async {
            while title.is_some() && !self.directory.shelf.records.borrow().contains_key(&node) {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, published).await.expect("nothing is published");
        (daemon, node)
    }

    fn command(&self, daemon: &Daemon, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilotctl"));
        command.arg("--socket").arg(&daemon.socket).args(arguments).env_clear().env("HOME", self.world.folder());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn pilotctl(&self, daemon: &Daemon, arguments: &[&str]) -> Ran {
        let output = timeout(PATIENCE, self.command(daemon, arguments).output()).await.expect("it does not end");
        let Output { status, stdout, stderr } = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { status: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }

    /// Messages in the inbox of a daemon.
    fn inbox(&self, name: &str) -> Vec<Value> {
        messages(&self.world.folder().join(name).join("inbox"))
    }
}

fn messages(folder: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

#[test]
fn a_group_is_made_joined_listed_and_left_by_its_name_in_any_case() {
    run(|| async {
        let fleet = Fleet::new().await;
        let (alpha, _) = fleet.daemon("alpha", None).await;
        let (bravo, bravo_node) = fleet.daemon("bravo", None).await;
        let made =
            fleet.pilotctl(&alpha, &["--json", "group", "create", "RESEARCH", "--token", "s3cret"]).await.ok().data();
        let number = made["network_id"].to_string();
        assert_eq!((&made["name"], &made["joined"]), (&json!("RESEARCH"), &json!(true)));
        let refused = fleet.pilotctl(&bravo, &["group", "join", "research"]).await;
        assert!(refused.status == 1 && refused.err.contains("group join"), "{}", refused.err);
        let joined = fleet.pilotctl(&bravo, &["group", "join", "research", "--token", "s3cret"]).await.ok();
        assert_eq!(joined.out, "joined group research\n");
        assert_eq!(bravo.client().await.info().await["networks"].to_string(), format!("[{number}]"));
        let listed = fleet.pilotctl(&bravo, &["group", "list"]).await.ok().out;
        let row = listed.lines().find(|line| line.starts_with("RESEARCH")).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["RESEARCH", &number, "token", "2", "2", "yes"]);
        let members = fleet.pilotctl(&bravo, &["--json", "group", "members", "Research"]).await.ok().data();
        assert_eq!((&members["total"], &members["online"]), (&json!(2), &json!(2)));
        assert!(members["members"][0]["real_addr"].is_null());
        // The number does as well, and unknown names are said to be.
        fleet.pilotctl(&bravo, &["group", "leave", &number]).await.ok();
        let unknown = fleet.pilotctl(&bravo, &["--json", "group", "leave", "nobody"]).await;
        assert_eq!(serde_json::from_str::<Value>(&unknown.err).unwrap()["code"], "not_found", "{}", unknown.err);
        // Invited, and in.
        fleet.pilotctl(&alpha, &["group", "create", "club", "--rule", "invite"]).await.ok();
        fleet.pilotctl(&alpha, &["group", "invite", "club", &bravo_node.to_string()]).await.ok();
        let invites = fleet.pilotctl(&bravo, &["--json", "group", "invites"]).await.ok().data();
        assert_eq!(invites["invites"][0]["name"], "club");
        fleet.pilotctl(&bravo, &["group", "accept", "CLUB"]).await.ok();
        let members = fleet.pilotctl(&alpha, &["group", "members", "club"]).await.ok().out;
        assert!(members.contains("alpha") && members.contains("bravo"), "{members}");
        // The older commands say the same.
        let older = fleet.pilotctl(&alpha, &["--json", "network", "list"]).await.ok().data();
        assert_eq!(older["networks"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn a_broadcast_reaches_all_who_live_and_names_the_one_who_does_not() {
    run(|| async {
        let fleet = Fleet::new().await;
        let (alpha, _) = fleet.daemon("alpha", None).await;
        fleet.pilotctl(&alpha, &["group", "create", "research"]).await.ok();
        let mut members = Vec::new();
        for name in ["bravo", "charlie", "delta"] {
            let (daemon, _) = fleet.daemon(name, None).await;
            fleet.pilotctl(&daemon, &["group", "join", "research"]).await.ok();
            members.push(daemon);
        }
        // It dies, and the directory does not know it yet.
        members.pop().unwrap().stop().await.unwrap();
        let arguments = ["--json", "broadcast", "RESEARCH", "--data", "news", "--deadline", "4s"];
        let ran = fleet.pilotctl(&alpha, &arguments).await;
        assert_eq!(ran.status, 1, "{}{}", ran.out, ran.err);
        let data = ran.data();
        assert_eq!((&data["live"], &data["delivered"], &data["failed"]), (&json!(3), &json!(2), &json!(1)));
        let failed: Vec<_> =
            data["results"].as_array().unwrap().iter().filter(|result| result["delivered"] == false).collect();
        assert_eq!((failed.len(), &failed[0]["hostname"]), (1, &json!("delta")));
        assert!(failed[0]["reason"].is_string() && failed[0]["uncertain"].is_null(), "{}", failed[0]);
        for name in ["bravo", "charlie"] {
            let inbox = fleet.inbox(name);
            assert_eq!((inbox.len(), &inbox[0]["data"]), (1, &json!("news")));
            assert_eq!(inbox[0]["message_id"], data["message_id"]);
        }
        assert_eq!(fleet.inbox("alpha"), Vec::<Value>::new());
        // Without the dead one, all is well.
        let (delta, _) = fleet.daemon("delta", None).await;
        let ran = fleet.pilotctl(&alpha, &["broadcast", "research", "--data", "more"]).await.ok();
        assert!(ran.out.starts_with("3 of 3 live members have it · 0 failed"), "{}", ran.out);
        drop(delta);
        let unknown = fleet.pilotctl(&alpha, &["broadcast", "nobody", "--data", "more"]).await;
        assert!(unknown.status == 1 && unknown.err.contains("group list"), "{}", unknown.err);
    });
}

#[test]
fn the_best_gets_it_and_where_that_fails_the_next() {
    run(|| async {
        let fleet = Fleet::new().await;
        let (alpha, _) = fleet.daemon("alpha", None).await;
        let (bravo, best) = fleet.daemon("bravo", Some("citations")).await;
        let (_charlie, next) = fleet.daemon("charlie", Some("citations too")).await;
        let arguments = ["--json", "--timeout", "5s", "send-message", "--most-relevant", "citations", "--data", "who?"];
        let sent = fleet.pilotctl(&alpha, &arguments).await.ok().data();
        assert_eq!((&sent["node_id"], &sent["passed_over"]), (&json!(best), &json!([])));
        assert_eq!(fleet.inbox("bravo")[0]["data"], "who?");
        // Withheld: the directory has changed the best one's record.
        fleet.directory.shelf.tamper.replace(Some(Box::new(move |hit| {
            if hit.node_id == best {
                hit.record = hit.record.take().map(|text| text.replace("citations", "citatione"));
            }
        })));
        let sent = fleet.pilotctl(&alpha, &arguments).await.ok().data();
        assert_eq!((&sent["node_id"], &sent["rejected"][0]["reason"]), (&json!(next), &json!("altered")));
        fleet.directory.shelf.tamper.replace(None);
        // Dead.
        bravo.stop().await.unwrap();
        // Without --timeout, too, it does not hold up the next for all the time that one has.
        let unlimited: Vec<_> = [&arguments[..1], &arguments[3..]].concat();
        let sent = fleet.pilotctl(&alpha, &unlimited).await.ok().data();
        assert_eq!((&sent["node_id"], &sent["passed_over"][0]["node_id"]), (&json!(next), &json!(best)));
        assert_eq!(sent["passed_over"][0]["reason"], "no answer within 5s");
        assert_eq!(sent["passed_over"][0]["uncertain"], false);
        assert_eq!(fleet.inbox("charlie").len(), 2);
        // A file likewise, told to a person.
        let file = fleet.world.folder().join("references.bib");
        std::fs::write(&file, "@book{}").unwrap();
        let file = file.to_str().unwrap();
        let ran =
            fleet.pilotctl(&alpha, &["--timeout", "5s", "send-file", "--most-relevant", "citations", file]).await.ok();
        assert!(ran.out.contains("references.bib sent to host-"), "{}", ran.out);
        assert!(ran.err.contains("has not got it"), "{}", ran.err);
        // Nobody.
        let nobody = fleet.pilotctl(&alpha, &["send-message", "--most-relevant", "cooking", "--data", "x"]).await;
        assert!(nobody.status == 1 && nobody.err.contains("nobody who is online offers"), "{}", nobody.err);
    });
}

#[test]
fn a_node_with_another_key_than_its_record_gets_nothing() {
    run(|| async {
        let fleet = Fleet::new().await;
        let (alpha, _) = fleet.daemon("alpha", None).await;
        let (_bravo, node) = fleet.daemon("bravo", Some("citations")).await;
        let stranger = agent::identity::Identity::from_seed(&[9; 32]);
        fleet.directory.shelf.tamper.replace(Some(Box::new(move |hit| {
            let key = Base64(stranger.public_key());
            let record = hit.record.take().unwrap().replace(&hit.public_key.to_string(), &key.to_string());
            let signed = wire::registry::capability::signed_text(hit.node_id, &record);
            hit.signature = Some(Base64(stranger.sign(signed.as_bytes())));
            (hit.record, hit.public_key) = (Some(record), key);
        })));
        // Never met before, so the record itself cannot be told from a right one.
        let ran = fleet.pilotctl(&alpha, &["send-message", "--most-relevant", "citations", "--data", "secret"]).await;
        assert_eq!(ran.status, 1, "{}{}", ran.out, ran.err);
        assert!(ran.err.contains(&format!("node {node}")) && ran.err.contains("another key"), "{}", ran.err);
        assert_eq!(fleet.inbox("bravo"), Vec::<Value>::new());
    });
}

#[test]
fn what_may_have_arrived_is_said_and_goes_on_unless_at_most_once() {
    run(|| async {
        let fleet = Fleet::new().await;
        let (alpha, _) = fleet.daemon("alpha", None).await;
        let mut settings = fleet.settings("bravo", Some("citations"));
        settings.no_dataexchange = Some(true);
        let bravo = fleet.world.start(settings).await;
        // It takes streams, and never confirms what comes on them.
        let mut silent = bravo.client().await;
        silent.bind(1001).await;
        let (_charlie, next) = fleet.daemon("charlie", Some("citations too")).await;
        let words = ["--json", "--timeout", "3s", "send-message", "--most-relevant", "citations", "--data", "x"];
        let stopped = fleet.pilotctl(&alpha, &[&words[..], &["--at-most-once"]].concat()).await;
        assert!(stopped.status == 1 && stopped.err.contains("may have it"), "{}{}", stopped.out, stopped.err);
        assert_eq!(fleet.inbox("charlie"), Vec::<Value>::new());
        let sent = fleet.pilotctl(&alpha, &words).await.ok().data();
        assert_eq!((&sent["node_id"], &sent["passed_over"][0]["uncertain"]), (&json!(next), &json!(true)));
        assert_eq!(fleet.inbox("charlie").len(), 1);
    });
}

struct Watcher {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Watcher {
    async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("nothing is printed").unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

#[test]
fn a_watch_tells_what_comes_changes_and_goes_over_a_restart_of_the_directory() {
    run(|| async {
        let mut fleet = Fleet::new().await;
        let (alpha, _) = fleet.daemon("alpha", None).await;
        let (bravo, node) = fleet.daemon("bravo", Some("citations")).await;
        let mut child = fleet.command(&alpha, &["--json", "watch", "citations"]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut watcher = Watcher { lines, _child: child };
        let first = watcher.next().await;
        assert_eq!((&first["event"], &first["hit"]["node_id"]), (&json!("present"), &json!(node)));
        let (charlie, next) = fleet.daemon("charlie", Some("citations too")).await;
        let appeared = watcher.next().await;
        assert_eq!((&appeared["event"], &appeared["hit"]["node_id"]), (&json!("appeared"), &json!(next)));
        fleet.pilotctl(&bravo, &["capability", "set", "--title", "citations, better", "--tag", "papers"]).await.ok();
        let changed = watcher.next().await;
        assert_eq!((&changed["event"], &changed["hit"]["title"]), (&json!("changed"), &json!("citations, better")));
        fleet.directory.stop();
        assert_eq!(watcher.next().await["event"], "away");
        // What happens meanwhile is found out afterwards.
        fleet.directory.shelf.records.borrow_mut().remove(&next);
        fleet.directory.start_again().await;
        let gone = watcher.next().await;
        assert_eq!((&gone["event"], &gone["hit"]["node_id"]), (&json!("gone"), &json!(next)));
        assert_eq!(watcher.next().await["event"], "back");
        // What is not believed is still there.
        let alter = move |hit: &mut wire::registry::answer::Hit| {
            hit.record = hit.record.take().map(|text| text.replace("better", "bitter"));
        };
        fleet.directory.shelf.tamper.replace(Some(Box::new(alter)));
        fleet.directory.shelf.tell(Happened::Published, node);
        let withheld = watcher.next().await;
        assert_eq!((&withheld["event"], &withheld["hit"]["node_id"]), (&json!("withheld"), &json!(node)));
        fleet.directory.shelf.tamper.replace(None);
        fleet.directory.shelf.tell(Happened::Published, node);
        assert_eq!(watcher.next().await["event"], "changed");
        fleet.pilotctl(&bravo, &["capability", "withdraw"]).await.ok();
        let gone = watcher.next().await;
        assert_eq!((&gone["event"], &gone["hit"]["node_id"]), (&json!("gone"), &json!(node)));
        drop(charlie);
    });
}

/// What a broadcast costs its sender; run it with `--ignored --nocapture`. `MEMBERS` says how many there are.
#[test]
#[ignore = "a measurement: a hundred daemons in one process"]
#[expect(clippy::print_stdout, reason = "a measurement shows its figures")]
fn what_a_broadcast_costs() {
    let members: usize = std::env::var("MEMBERS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    run(|| async {
        let fleet = Fleet::new().await;
        let (alpha, _) = fleet.daemon("alpha", None).await;
        fleet.pilotctl(&alpha, &["group", "create", "research"]).await.ok();
        let mut daemons = Vec::new();
        for number in 0..members {
            let (daemon, _) = fleet.daemon(&format!("member-{number}"), None).await;
            let join = json!({"op": "group_join", "group": "research"});
            crate::capabilities::op(&mut daemon.client().await, &join).await;
            daemons.push(daemon);
        }
        let mut client = alpha.client().await;
        let figures =
            |info: Value| ["bytes_sent", "bytes_recv", "pkts_sent"].map(|field| info[field].as_u64().unwrap());
        for round in ["first, tunnels included", "second, tunnels open"] {
            let before = figures(client.info().await);
            let text = "x".repeat(1000);
            let data = fleet.pilotctl(&alpha, &["--json", "broadcast", "research", "--data", &text]).await.ok().data();
            let after = figures(client.info().await);
            let each: Vec<_> = (0..3).map(|index| (after[index] - before[index]) / members as u64).collect();
            println!(
                "{round}: {members} members, {} ms; each: {each:?} [sent B, received B, datagrams]",
                data["elapsed_ms"]
            );
            assert_eq!(data["delivered"], members);
        }
    });
}
