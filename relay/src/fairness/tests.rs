use super::*;

const HEAVY: &str = "198.18.1.1:4001";

fn endpoint(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

/// A shard that receives what the filter lets pass, and grants a budget.
struct World {
    fairness: Fairness,
    now: Time,
}

impl World {
    fn new() -> Self {
        Self { fairness: Fairness::new(vec!["198.18.9.0/24".parse().unwrap()]), now: Time(1_000_000_000_000) }
    }

    fn share(&self, from: &str) -> f64 {
        let found = self.fairness.penalties().iter().find(|penalty| penalty.source.holds(&endpoint(from)));
        found.map_or(1.0, |penalty| penalty.share)
    }

    /// One interval in which `offered` datagrams are sent and `budget` of them granted; what was let through.
    fn interval(&mut self, from: &str, offered: u64, budget: u64, whole_prefix: bool) -> u64 {
        let passed = (offered as f64 * self.share(from)) as u64;
        let from = endpoint(from);
        if self.fairness.is_active() {
            self.fairness.note_arrivals(&from, passed);
        }
        (budget..passed).for_each(|_| self.fairness.note_over_budget(from, whole_prefix));
        self.now = self.now + REVIEW_INTERVAL;
        if self.fairness.is_due(self.now) {
            self.fairness.review(self.now);
        }
        passed
    }
}

#[test]
fn who_is_far_over_its_budget_is_held_back_to_about_it_and_let_go_when_it_stops() {
    let mut world = World::new();
    assert_eq!(world.interval(HEAVY, 100_000, 25_000, false), 100_000, "before it is known");
    let passed: Vec<u64> = (0..8).map(|_| world.interval(HEAVY, 100_000, 25_000, false)).collect();
    assert!(passed[1..].iter().all(|passed| (25_000..=30_000).contains(passed)), "{passed:?}");
    let passed: Vec<u64> = (0..8).map(|_| world.interval(HEAVY, 1_000_000, 25_000, false)).collect();
    assert!(passed[1..].iter().all(|passed| (25_000..=30_000).contains(passed)), "ten times as much: {passed:?}");
    let intervals = (0..20).take_while(|_| {
        world.interval(HEAVY, 1_000, 25_000, false);
        world.fairness.is_active()
    });
    assert!(intervals.count() <= 6, "let go within a second and a half");
    assert_eq!(world.share(HEAVY), 1.0);
}

#[test]
fn a_sender_gets_its_budget_even_while_it_is_held_back() {
    let mut world = World::new();
    (0..40).for_each(|_| drop(world.interval(HEAVY, 400_000, 25_000, false)));
    let granted: u64 = (0..40).map(|_| world.interval(HEAVY, 400_000, 25_000, false).min(25_000)).sum();
    assert!(granted >= 40 * 24_000, "{granted}");
}

#[test]
fn a_little_over_is_left_to_the_budget() {
    let mut world = World::new();
    (0..20).for_each(|_| drop(world.interval(HEAVY, 25_000 + FAR_OVER - 1, 25_000, false)));
    assert!(!world.fairness.is_active());
}

#[test]
fn neighbours_of_a_heavy_sender_are_not_touched_but_a_prefix_answers_as_one() {
    let mut world = World::new();
    world.interval(HEAVY, 100_000, 25_000, false);
    assert!(world.share(HEAVY) < 1.0);
    assert_eq!(world.share("198.18.1.1:4002"), 1.0, "the same address, another port");
    world.interval("[2001:db8:0:100::7]:9", 100_000, 25_000, true);
    assert!(world.share("[2001:db8:0:1ff::9]:1") < 1.0, "the same /56");
    assert_eq!(world.share("[2001:db8:0:200::7]:9"), 1.0, "the next /56");
}

#[test]
fn a_heavy_sender_within_a_heavy_prefix_leads_to_a_penalty_for_the_prefix_too() {
    let mut world = World::new();
    world.interval(HEAVY, 100_000, 25_000, false);
    world.interval(HEAVY, 1_000_000, 25_000, true);
    let prefixes = world.fairness.penalties().iter().filter(|penalty| matches!(penalty.source, Source::Prefix(_)));
    assert_eq!(prefixes.count(), 1);
}

#[test]
fn the_exempt_are_never_held_back() {
    let mut world = World::new();
    (0..10).for_each(|_| drop(world.interval("198.18.9.1:4001", 1_000_000, 1, true)));
    assert!(!world.fairness.is_active());
}

#[test]
fn many_heavy_sources_find_no_more_than_the_room_there_is_and_noise_blames_nobody() {
    let mut world = World::new();
    for _ in 0..FAR_OVER {
        for host in 0..30 {
            world.fairness.note_over_budget(endpoint(&format!("198.18.1.{host}:4001")), false);
        }
    }
    world.fairness.review(world.now);
    assert_eq!(world.fairness.penalties().len(), PENALTIES_MAX);

    let mut world = World::new();
    for number in 0..200_000_u32 {
        let [.., a, b, c] = number.to_be_bytes();
        world.fairness.note_over_budget(endpoint(&format!("10.{a}.{b}.{c}:1")), true);
    }
    world.fairness.review(world.now);
    assert!(!world.fairness.is_active(), "two hundred thousand sources were over by one datagram each");
}

#[test]
fn the_kernel_is_told_of_changes_that_matter_and_at_most_four_times_a_second() {
    let mut world = World::new();
    (0..FAR_OVER).for_each(|_| world.fairness.note_over_budget(endpoint(HEAVY), false));
    assert!(world.fairness.is_due(world.now) && world.fairness.review(world.now));
    assert!(!world.fairness.is_due(world.now + Duration::from_millis(249)));
    let mut told = 0;
    for _ in 0..100 {
        let passed = (100_000.0 * world.share(HEAVY)) as u64;
        world.fairness.note_arrivals(&endpoint(HEAVY), passed);
        (25_000..passed).for_each(|_| world.fairness.note_over_budget(endpoint(HEAVY), false));
        world.now = world.now + REVIEW_INTERVAL;
        told += u32::from(world.fairness.is_due(world.now) && world.fairness.review(world.now));
    }
    assert!(told <= 3, "a steady source changes nothing, told {told} times");
}
