//! The real directory's rules and a registration, joined.

use std::net::IpAddr;
use std::time::Duration;

use agent::Time;
use agent::identity::Identity;
use agent::registration::{Announcement, Event, Registration};
use directory::config::Limits;
use directory::service::{Caller, ConnectionId, Decision, Now, Service};
use directory::store::Store;
use wire::NodeId;
use wire::registry::{Answer, Base64, Operation, Request};

use super::{START, address, announcement};

/// The real directory, and nodes that ask it over connections of their own.
struct Directory {
    service: Service,
    now: Now,
}

impl Directory {
    fn empty() -> Self {
        let now = Now { monotonic: Duration::from_secs(1000), unix_seconds: 1_795_000_000 };
        let facts = Store::in_memory(now.unix_seconds).unwrap().load().unwrap();
        Self { service: Service::new(facts, &Limits::default(), None), now }
    }

    fn answer(&mut self, ip: &str, request: &Request) -> Answer {
        let ip: IpAddr = ip.parse().unwrap();
        let caller = Caller {
            connection: ConnectionId(1),
            ip,
            exempt: false,
            advertised: &[],
            extensions: &[],
            relay_key: None,
        };
        let mut checked = None;
        loop {
            match self.service.handle(self.now, &caller, request, checked.as_ref()) {
                Decision::Check(check) => checked = Some(check.run()),
                Decision::Search(_) | Decision::Pick(_) => panic!("registrations search for nothing"),
                Decision::Done(outcome) => return outcome.answer,
            }
        }
    }

    /// Answers all that `registration` asks within `duration`; gives the types of the requests.
    fn serve(
        &mut self,
        ip: &str,
        identity: &Identity,
        registration: &mut Registration,
        now: &mut Time,
        duration: Duration,
    ) -> Vec<&'static str> {
        let (end, mut asked) = (*now + duration, Vec::new());
        while let Some(due) = registration.poll_timeout().filter(|due| *due <= end) {
            *now = due.max(*now);
            let operation = registration.poll_operation(*now).expect("it is due");
            asked.push(operation.name());
            let text = operation.signed_text().expect("all of these are signed");
            let signature = Some(Base64(identity.sign(text.as_bytes())));
            let answer = self.answer(ip, &Request { signature, ..operation.into() });
            registration.handle_answer(*now, Ok(&answer));
        }
        *now = end;
        asked
    }
}

#[test]
fn the_real_directory_takes_it_all_and_is_told_again_after_it_has_lost_it() {
    let identity = Identity::from_seed(&[1; 32]);
    let announcement = Announcement { public: true, ..announcement() };
    let mut registration = Registration::new(announcement, Base64(identity.public_key()), 1);
    let mut directory = Directory::empty();
    let mut now = START;
    registration.set_endpoint(now, address("10.1.2.3:4000"), &[address("10.1.2.3:4000")]);
    let look_up = Request::from(Operation::Lookup { node_id: NodeId(1) });
    for _ in 0..2 {
        let asked = directory.serve("198.18.0.5", &identity, &mut registration, &mut now, Duration::from_secs(130));
        let from = asked.iter().position(|name| *name == "register").expect("it registers");
        assert!(asked[from..].starts_with(&["register", "set_visibility", "heartbeat"]), "{asked:?}");
        let Answer::Lookup(found) = directory.answer("203.0.113.1", &look_up) else { panic!("not found") };
        assert_eq!((found.public, found.hostname.as_deref()), (true, Some("alpha")));
        // A private endpoint means nothing elsewhere, so the directory has put the connection's address in its place.
        assert_eq!(found.real_addr.as_deref(), Some("198.18.0.5:4000"));
        directory = Directory::empty();
    }

    // Another has taken the name meanwhile.
    let other = Identity::from_seed(&[2; 32]);
    let mut rival = Registration::new(super::announcement(), Base64(other.public_key()), 2);
    rival.set_endpoint(START, address("198.18.0.6:4000"), &[]);
    directory.serve("198.18.0.6", &other, &mut rival, &mut START.clone(), Duration::ZERO);
    directory.serve("198.18.0.5", &identity, &mut registration, &mut now, Duration::from_secs(60));
    let events: Vec<_> = std::iter::from_fn(|| registration.poll_event()).collect();
    assert!(matches!(events[0], Event::Registered { node: NodeId(1), anew: true, .. }));
    assert!(matches!(events[1], Event::Registered { node: NodeId(1), anew: false, .. }));
    assert!(matches!(events[2], Event::Registered { node: NodeId(2), anew: true, .. }));
    assert_eq!(events[3..], [Event::Complaint("hostname \"alpha\" already in use".into())]);
}
