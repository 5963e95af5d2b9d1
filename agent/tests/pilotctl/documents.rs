//! Manual pages and completions come from the program itself.

use crate::world::World;

#[test]
fn the_manual_tells_what_scripts_rely_on() {
    let world = World::without_daemon();
    let manual = world.run(&["man"]).out();
    for expected in [".TH pilotctl 1", "Exit status", "PILOT_SOCKET", "daemon start", "not_running"] {
        assert!(manual.contains(expected), "{expected} is missing");
    }
    let folder = world.home().join("man1");
    assert_eq!(world.run(&["man", "--folder", folder.to_str().unwrap()]).status(), 0);
    let page = std::fs::read_to_string(folder.join("pilotctl-send-file.1")).unwrap();
    assert!(page.contains("interrupted transfer"), "{page}");
    assert!(folder.join("pilotctl-daemon-start.1").exists() && folder.join("pilotctl-network-join.1").exists());
}

#[test]
fn shells_complete_the_commands() {
    let world = World::without_daemon();
    for shell in ["bash", "zsh", "fish"] {
        let ran = world.run(&["completions", shell]);
        assert_eq!(ran.status(), 0);
        assert!(ran.out().contains("prefer-direct"), "{shell}");
    }
}

#[test]
fn every_command_has_a_help_that_says_something() {
    let world = World::without_daemon();
    let help = world.run(&["--help"]);
    assert!(help.out().contains("pilotctl daemon start --hostname coordinator"));
    for command in ["ping", "send-message", "subscribe", "explain", "inbox"] {
        let ran = world.run(&[command, "--help"]);
        assert_eq!(ran.status(), 0);
        assert!(ran.out().contains("Usage: pilotctl "), "{}", ran.out());
    }
}
