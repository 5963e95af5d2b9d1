//! A research fleet: a coordinator and three specialists, each behind a NAT of another kind, find one another by what they
//! can do. The same tour on one machine, as a user would type it, is `examples/research-fleet.sh`.

use std::fs;
use std::time::Duration;

use lab::{Daemon, DaemonFlags, Nat, Program, Stopwatch, World, evidence, wait_until};
use serde_json::Value;

const GROUP: &str = "RESEARCH";
/// Membership gets round within this.
const SECONDS: Duration = Duration::from_secs(10);
const PATH_SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// Who is in the fleet: name, NAT, and what it says it can do.
const SPECIALISTS: [(&str, Nat, &str, &str); 3] = [
    (
        "specialist-papers",
        Nat::Symmetric,
        "Resolve academic citations",
        "Finds the DOI, the authors and a summary of any paper from a citation, however incomplete.",
    ),
    (
        "specialist-patents",
        Nat::PortRestricted,
        "Search patents",
        "Finds patents and the academic citations in them, in five languages. Erklärt auch Gebrauchsmuster; 专利检索.",
    ),
    ("specialist-weather", Nat::FullCone, "Weather reports", "Reports past and coming weather anywhere."),
];

#[test]
fn a_coordinator_finds_its_specialists_and_the_next_when_one_is_gone() {
    let Some(world) = World::open() else { return };
    if !Program::Ours.is_available() {
        return;
    }
    let mut appliance = world.appliance();
    let coordinator = world.site(Nat::Symmetric).host("coordinator");
    let mut coordinator = Daemon::start(&coordinator, DaemonFlags::named("coordinator").ours());
    let mut specialists: Vec<Daemon> = SPECIALISTS
        .into_iter()
        .map(|(name, nat, title, text)| {
            let flags = DaemonFlags::named(name).ours().flag("--capability").flag(title);
            let flags = flags.flag("--capability-text").flag(text).flag("--tag").flag("research");
            Daemon::start(&world.site(nat).host(name), flags)
        })
        .collect();
    coordinator.wait_ready();
    specialists.iter_mut().for_each(Daemon::wait_ready);

    // A group of their own: nobody is public, nobody trusts anybody.
    coordinator.pilotctl(&["group", "create", GROUP, "--rule", "invite"]).expect("anyone may make a group");
    let watch = Stopwatch::start();
    for specialist in &specialists {
        let name = specialist.hostname();
        coordinator.pilotctl(&["group", "invite", GROUP, name]).expect("a member may invite");
        wait_until("the invitation to arrive", SECONDS, || specialist.pilotctl(&["group", "accept", GROUP]).ok());
    }
    wait_until("all four to be members that are there", SECONDS, || {
        let members = coordinator.pilotctl(&["group", "members", GROUP]).ok()?;
        let online = list(&members, "members").iter().filter(|member| member["online"] == true).count();
        (online == 4).then_some(())
    });
    evidence(format!("four members of {GROUP} after {:.1?}", watch.elapsed()));

    // Found by what they can do, in other words than their own and in other scripts than Latin.
    for (words, name) in [
        ("resolving an academic citation", "specialist-papers"),
        ("Gebrauchsmuster", "specialist-patents"),
        ("专利", "specialist-patents"),
        ("weather", "specialist-weather"),
    ] {
        let hits = query(&coordinator, words);
        assert_eq!(hits.first().map(String::as_str), Some(name), "{words}: {hits:?}");
        evidence(format!("{words:?} finds {hits:?}"));
    }
    let stranger = Daemon::start_ready(&world.host("stranger"), DaemonFlags::named("stranger").ours());
    // Like grep: finding nobody is an exit code of its own, and nothing on standard error.
    let seen = stranger.pilotctl(&["query", "academic citations"]).expect_err("private: nobody else's business");
    assert!(seen.contains(r#""hits":[]"#), "{seen}");

    // Answered: directly where the NATs let, through the relay where not.
    for (specialist, is_direct) in specialists.iter().zip([false, false, true]) {
        let report = coordinator.ping(specialist.hostname(), 3);
        assert_eq!(report.answered(), 3, "{}", report.text);
        let path = wait_until("the path to settle", PATH_SETTLED_WITHIN, || {
            let _ = coordinator.ping(specialist.hostname(), 1);
            let relayed = coordinator.relays_to(specialist.node())?;
            (relayed != is_direct).then_some(if relayed { "through the relay" } else { "directly" })
        });
        evidence(format!("{} answers {path}, within {:.0?}", specialist.hostname(), report.slowest()));
    }

    let told = coordinator.pilotctl(&["broadcast", GROUP, "--data", "standup in five minutes"]);
    let told = told.expect("all three are there");
    assert_eq!(told["delivered"], 3, "{told}");
    for specialist in &specialists {
        assert!(inbox(specialist).contains("standup in five minutes"), "{}", specialist.hostname());
    }
    evidence("the broadcast is in three inboxes");

    let citation = ["send-message", "--group", GROUP, "--most-relevant", "academic citations", "--data"];
    let ask = |question: &str| {
        let arguments: Vec<&str> = citation.into_iter().chain([question]).collect();
        coordinator.pilotctl(&arguments).expect("somebody takes the question")
    };
    ask("which DOI?");
    assert!(inbox(&specialists[0]).contains("which DOI?"), "the most relevant one has it");
    assert!(!inbox(&specialists[1]).contains("which DOI?"), "and it alone");
    specialists[0].kill();
    let watch = Stopwatch::start();
    ask("whose patents cite it?");
    evidence(format!("the most relevant one killed: the next has the question after {:.1?}", watch.elapsed()));
    assert!(inbox(&specialists[1]).contains("whose patents cite it?"), "the next has it");
    assert!(!inbox(&specialists[2]).contains("whose patents cite it?"), "and it alone");
    assert!(appliance.is_running());
}

fn query(daemon: &Daemon, words: &str) -> Vec<String> {
    let found = daemon.pilotctl(&["query", words, "--group", GROUP]).expect("a member may ask");
    list(&found, "hits").iter().filter_map(|hit| hit["hostname"].as_str().map(str::to_owned)).collect()
}

/// All that is in a daemon's inbox.
fn inbox(daemon: &Daemon) -> String {
    let files = fs::read_dir(daemon.folder().join("data/inbox")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
}

fn list<'a>(json: &'a Value, name: &str) -> &'a [Value] {
    json[name].as_array().map(Vec::as_slice).unwrap_or_default()
}
