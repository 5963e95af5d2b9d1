//! Source addresses out of a prefix that is routed to the host, in a network namespace of its own.

use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use crate::command::{loadgen, undisturbed};
use crate::relay::{Behaviour, Relay};

/// Runs `test` on a thread in a new network namespace, prepared by `commands`; says so where that is not allowed.
fn in_namespace(commands: &'static [&'static str], test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => {}
            Err(Errno::EPERM) => return eprintln!("SKIPPED: network namespaces need root"),
            Err(error) => panic!("no network namespace: {error}"),
        }
        for command in commands {
            let status = Command::new("ip").args(command.split(' ')).status().expect("iproute2 is installed");
            assert!(status.success(), "ip {command}");
        }
        test();
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// A load from `prefix` through a relay at `address`, which must lose nothing and come from that prefix.
fn load(address: &str, prefix: &str) {
    let relay = Relay::start(address, Behaviour::default());
    let mut command = loadgen(&["--no-directory", "--peers", "400", "--rate", "2000", "--seconds", "0.5", "--json"]);
    let output = undisturbed(command.args(["--relay", &relay.address.to_string(), "--source-prefix", prefix]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["registered"], &report["delivered"]), (&400.into(), &1000.into()));
    assert_eq!(report["workload"]["placement"], format!("each at its own address of {prefix}"));
    let mut sources = relay.sources();
    sources.dedup_by_key(|source| source.ip());
    assert_eq!(sources.len(), 400);
}

#[test]
fn ipv4_peers_sit_in_a_routed_prefix() {
    in_namespace(
        &["link set lo up", "address add 192.0.2.1/32 dev lo", "route add local 198.18.0.0/16 dev lo"],
        || load("192.0.2.1:0", "198.18.0.0/16"),
    );
}

#[test]
fn ipv6_peers_sit_in_a_routed_prefix() {
    in_namespace(
        &["link set lo up", "address add 2001:db8::1/128 dev lo", "-6 route add local 2001:db8:1::/64 dev lo"],
        || load("[2001:db8::1]:0", "2001:db8:1::/64"),
    );
}
