//! Bytes from standard input to standard output, and files, through a peer.

use std::fs::{self, File};

use crate::world::{Ran, World};

#[test]
fn a_pipe_carries_more_than_any_queue_holds() {
    let world = World::with_daemon(&[]);
    let sent: Vec<u8> = (0..8_u32 << 20).map(|index| (index % 251) as u8).collect();
    fs::write(world.home().join("input"), &sent).unwrap();
    let input = File::open(world.home().join("input")).unwrap();
    let ran = Ran(world.command(&["connect", "bravo", "7"]).stdin(input).output().unwrap());
    assert_eq!(ran.status(), 0, "{}", ran.err());
    assert!(ran.0.stdout == sent, "{} bytes of {} came back", ran.0.stdout.len(), sent.len());
}

#[test]
fn standard_input_is_sent_whole() {
    let world = World::with_daemon(&[]);
    fs::write(world.home().join("input"), "a question\n").unwrap();
    for arguments in [&["send", "bravo", "7", "--stdin"][..], &["send-message", "bravo", "--data", "-", "--json"]] {
        let input = File::open(world.home().join("input")).unwrap();
        let ran = Ran(world.command(arguments).stdin(input).output().unwrap());
        assert_eq!(ran.status(), 0, "{}", ran.err());
        assert!(ran.out() == "a question\n" || ran.json()["data"]["ack"] == "ACK TEXT 11 bytes", "{}", ran.out());
    }
}

#[test]
fn pings_are_counted() {
    let world = World::with_daemon(&[]);
    let ran = world.run(&["ping", "bravo", "--count", "3", "--interval", "10ms"]);
    let out = ran.out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((ran.status(), lines.len()), (0, 4), "{out}");
    assert!(lines[..3].iter().all(|line| line.starts_with("✓ reply from 0:0000.0000.0001 · ")), "{out}");
    assert!(lines[3].starts_with("3 of 3 pings answered · fastest "), "{out}");
}
