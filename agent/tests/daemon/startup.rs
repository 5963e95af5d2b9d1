//! Starting and ending: sockets of others, identities that cannot be used, what is left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use agent::daemon::ipc::PlaceError;
use agent::daemon::state::InUse;
use wire::ipc::Request;

use crate::world::{Daemon, World, run};

async fn refusal(world: &World, change: impl FnOnce(&mut agent::config::settings::Settings)) -> anyhow::Error {
    let mut settings = world.settings("alpha");
    change(&mut settings);
    Daemon::start(settings).ended().await.expect_err("the daemon starts")
}

#[test]
fn a_daemon_leaves_nothing_behind_but_its_state() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let (socket, folder) = (daemon.socket.clone(), world.folder().join("alpha"));
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(folder.join("pilot.pid")).unwrap().trim(), std::process::id().to_string());
        daemon.stop().await.unwrap();
        assert!(!socket.exists());
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["events.jsonl", "identity.json", "inbox", "lock", "received"]);
    });
}

#[test]
fn a_node_keeps_its_id_over_a_restart() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let node = daemon.client().await.node().await;
        daemon.stop().await.unwrap();
        let again = world.daemon("alpha").await;
        assert_eq!(again.client().await.node().await, node);
    });
}

#[test]
fn a_client_can_end_the_daemon() {
    run(|| async {
        let world = World::new();
        let daemon = world.daemon("alpha").await;
        let mut client = daemon.client().await;
        assert_eq!(client.ask(Request::Extension(r#"{"op":"stop"}"#)).await.json()["stopping"], true);
        daemon.ended().await.unwrap();
    });
}

#[test]
fn two_daemons_do_not_share_a_socket() {
    run(|| async {
        let world = World::new();
        let first = world.daemon("alpha").await;
        let error = refusal(&world, |settings| settings.data_dir = Some(world.folder().join("other"))).await;
        assert!(matches!(error.downcast_ref(), Some(PlaceError::Taken(_))), "{error}");
        assert!(error.to_string().contains("daemon stop"), "{error}");
        first.client().await.info().await;
        first.stop().await.unwrap();
    });
}

#[test]
fn two_daemons_do_not_share_an_identity() {
    run(|| async {
        let world = World::new();
        let first = world.daemon("alpha").await;
        let error = refusal(&world, |settings| {
            settings.socket = Some(world.folder().join("other.sock"));
            settings.data_dir = Some(world.folder().join("other"));
            settings.identity = Some(world.folder().join("alpha/identity.json"));
        })
        .await;
        assert!(error.to_string().contains("--identity"), "{error}");
        assert!(matches!(error.downcast_ref(), Some(InUse::Identity(_))), "{error}");
        first.stop().await.unwrap();
    });
}

#[test]
fn two_daemons_do_not_share_a_folder() {
    run(|| async {
        let world = World::new();
        let first = world.daemon("alpha").await;
        let error = refusal(&world, |settings| {
            settings.socket = Some(world.folder().join("other.sock"));
            settings.identity = Some(world.folder().join("other.json"));
        })
        .await;
        assert!(matches!(error.downcast_ref(), Some(InUse::Folder(_))), "{error}");
        assert!(error.to_string().contains("--data-dir"), "{error}");
        assert!(!world.folder().join("other.sock").exists());
        first.stop().await.unwrap();
        world.daemon("alpha").await.stop().await.unwrap();
    });
}

#[test]
fn a_socket_that_a_dead_daemon_left_is_replaced() {
    run(|| async {
        let world = World::new();
        drop(UnixListener::bind(world.folder().join("alpha.sock")).unwrap());
        world.daemon("alpha").await.stop().await.unwrap();
    });
}

#[test]
fn a_file_in_the_place_of_the_socket_stays() {
    run(|| async {
        let world = World::new();
        let path = world.folder().join("alpha.sock");
        fs::write(&path, "a letter").unwrap();
        let error = refusal(&world, |_| {}).await;
        assert!(error.to_string().contains("is no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a letter");
    });
}

#[test]
fn a_folder_that_is_missing_is_named() {
    run(|| async {
        let world = World::new();
        let error = refusal(&world, |settings| settings.socket = Some(world.folder().join("no/alpha.sock"))).await;
        assert!(error.to_string().contains("does not exist"), "{error}");
    });
}

#[test]
fn an_identity_that_cannot_be_used_stops_the_start() {
    run(|| async {
        let world = World::new();
        let path = world.folder().join("identity");
        let try_with = |text: &'static str, mode| {
            let (world, path) = (&world, path.clone());
            async move {
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                refusal(world, |settings| settings.identity = Some(path)).await.to_string()
            }
        };
        let corrupt = try_with("{}", 0o600).await;
        assert!(corrupt.contains("is no identity file"), "{corrupt}");
        let open = try_with("{}", 0o644).await;
        assert!(open.contains("chmod 600"), "{open}");
        let absent = refusal(&world, |settings| settings.identity = Some(world.folder().join("no/identity"))).await;
        assert!(absent.to_string().contains("cannot create"), "{absent}");
        assert!(!world.folder().join("alpha.sock").exists(), "no socket is left of a daemon that did not start");
    });
}

#[test]
fn a_damaged_trust_file_is_not_forgotten() {
    run(|| async {
        let world = World::new();
        fs::create_dir_all(world.folder().join("alpha")).unwrap();
        let path = world.folder().join("alpha/trust.json");
        fs::write(&path, "half of it").unwrap();
        let error = format!("{:#}", refusal(&world, |_| {}).await);
        assert!(error.contains("trust file"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "half of it");
    });
}
