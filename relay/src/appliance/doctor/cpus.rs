//! The CPUs: whether the shards' are there, share cores, and run at full speed.

use super::check::{Check, counted, cpu_list, cpus_named};
use super::topics::{GOVERNOR, SHARDS, SIBLINGS};

/// What is known of them.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The shards' CPUs.
    pub shards: Vec<usize>,
    /// CPUs this process may use.
    pub allowed: Vec<usize>,
    /// What is known of each shard's CPU, in the same order.
    pub cpus: Vec<Cpu>,
}

/// One CPU.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// The CPUs on its core, itself included; empty where the kernel does not tell.
    pub siblings: Vec<usize>,
    /// Who sets its frequency; `None` where nobody on this host does.
    pub governor: Option<String>,
    /// Its memory's node.
    pub node: Option<usize>,
}

/// The verdicts.
pub fn checks(facts: &Facts) -> Vec<Check> {
    vec![placement(facts), siblings(facts), governor(facts)]
}

fn placement(facts: &Facts) -> Check {
    let Facts { shards, allowed, .. } = facts;
    let finding = format!("{} on {}", counted(shards.len(), "shard"), cpus_named(shards));
    let check = if shards.len() < allowed.len() {
        SHARDS.ok(format!("{finding}, of {}", cpu_list(allowed)))
    } else {
        let check = SHARDS.note(format!("{finding}, all there are; directory and interrupts run in between"));
        match &allowed[..] {
            [_, rest @ ..] if rest.len() > 1 => check.advise(format!("--cpus {} leaves one to them", cpu_list(rest))),
            _ => check,
        }
    };
    check.value("cpus", shards.as_slice()).value("allowed", allowed.as_slice())
}

fn siblings(facts: &Facts) -> Check {
    let Facts { shards, cpus, .. } = facts;
    // A core's first shard has it; the others share it.
    let first_of = |(index, cpu): (usize, &Cpu)| !cpu.siblings.iter().any(|one| shards[..index].contains(one));
    let firsts: Vec<usize> = cpus
        .iter()
        .enumerate()
        .filter(|(index, cpu)| first_of((*index, cpu)))
        .map(|(index, _)| shards[index])
        .collect();
    let check = match shards.len() - firsts.len() {
        0 => SIBLINGS.ok("each shard has a core of its own, as far as this host tells"),
        sharing => SIBLINGS
            .note(format!(
                "{} on a core that another shard has, too; two threads of a core are less than two cores",
                counted(sharing, "shard")
            ))
            .advise(format!("--cpus {} takes one of each core; measure both", cpu_list(&firsts))),
    };
    check.value("one_of_each_core", firsts)
}

fn governor(facts: &Facts) -> Check {
    let Facts { shards, cpus, .. } = facts;
    let mut others: Vec<(usize, &str)> = Vec::new();
    for (cpu, known) in shards.iter().zip(cpus) {
        if let Some(governor) = known.governor.as_deref().filter(|governor| *governor != "performance") {
            others.push((*cpu, governor));
        }
    }
    let check = match others.first() {
        None if cpus.iter().all(|cpu| cpu.governor.is_none()) => {
            GOVERNOR.ok("no frequency setting here: the hardware or the hypervisor decides")
        }
        None => GOVERNOR.ok("performance on every shard's CPU"),
        Some((_, governor)) => {
            let slow: Vec<usize> = others.iter().map(|(cpu, _)| *cpu).collect();
            let list = cpu_list(&slow);
            GOVERNOR.warn(
                format!("{governor} on {}: bursts meet a CPU that has yet to speed up", cpus_named(&slow)),
                format!("cpupower -c {list} frequency-set -g performance"),
            )
        }
    };
    check.value("governors", cpus.iter().map(|cpu| cpu.governor.clone()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    fn facts(shards: &[usize], allowed: &[usize]) -> Facts {
        let cpus = shards.iter().map(|_| Cpu::default()).collect();
        Facts { shards: shards.to_vec(), allowed: allowed.to_vec(), cpus }
    }

    #[test]
    fn shards_leave_room_or_say_that_they_do_not() {
        assert_eq!(placement(&facts(&[2, 3], &[0, 1, 2, 3])).status, Status::Ok);
        let all = placement(&facts(&[0, 1, 2], &[0, 1, 2]));
        assert_eq!((all.status, all.advice.as_deref()), (Status::Note, Some("--cpus 1-2 leaves one to them")));
        let two = placement(&facts(&[0, 1], &[0, 1]));
        assert_eq!((two.status, two.advice), (Status::Note, None), "one shard instead of two is no advice");
    }

    #[test]
    fn two_shards_on_a_core_are_told() {
        let mut found = facts(&[0, 1, 2, 3], &[0, 1, 2, 3]);
        assert_eq!(siblings(&found).status, Status::Ok, "unknown");
        for (cpu, pair) in found.cpus.iter_mut().zip([[0, 2], [1, 3], [0, 2], [1, 3]]) {
            cpu.siblings = pair.to_vec();
        }
        let check = siblings(&found);
        assert!(check.status == Status::Note && check.finding.starts_with("2 shards"), "{}", check.finding);
        assert!(check.advice.unwrap().starts_with("--cpus 0-1"));
    }

    #[test]
    fn only_performance_is_full_speed() {
        let mut found = facts(&[4, 5], &[4, 5, 6]);
        assert_eq!(governor(&found).status, Status::Ok);
        found.cpus.iter_mut().for_each(|cpu| cpu.governor = Some("performance".to_owned()));
        assert_eq!(governor(&found).status, Status::Ok);
        found.cpus[1].governor = Some("schedutil".to_owned());
        let check = governor(&found);
        assert!(check.status == Status::Warn && check.finding.starts_with("schedutil on CPU 5"), "{}", check.finding);
    }
}
