//! The relays clients are told of: the one this directory feeds, and those that an administrator lets announce
//! themselves. An announcement has to be renewed (section 4.4).

use std::collections::BTreeMap;
use std::time::Duration;

use wire::NodeId;
use wire::registry::answer::Beacon;
use wire::registry::{Answer, Request};

use super::{Caller, Now, Refusal, Service};
use crate::endpoint::Listen;

/// An announcement that is not renewed for so long is forgotten.
const ANNOUNCEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Relays that announce themselves.
const ANNOUNCED_MAX: usize = 256;

/// Relays that have announced themselves.
#[derive(Debug, Default)]
pub(super) struct Beacons {
    announced: BTreeMap<NodeId, Announcement>,
}

#[derive(Debug)]
struct Announcement {
    addr: String,
    expires: Duration,
}

impl Service {
    pub(super) fn beacon_register(
        &mut self,
        now: Now,
        request: &Request,
        beacon: NodeId,
        addr: &str,
    ) -> Result<Answer, Refusal> {
        if !self.is_admin(request)? {
            return Err(Refusal::AdminRequired("beacon_register"));
        }
        let listen = Listen::parse(addr).filter(|listen| listen.port() != 0);
        if listen.is_none() {
            return Err(Refusal::EndpointInvalid("addr"));
        }
        let announced = &mut self.beacons.announced;
        announced.retain(|_, announcement| announcement.expires > now.monotonic);
        if announced.len() >= ANNOUNCED_MAX && !announced.contains_key(&beacon) {
            return Err(Refusal::TooMany("beacons"));
        }
        let expires = now.monotonic + ANNOUNCEMENT_TIMEOUT;
        announced.insert(beacon, Announcement { addr: addr.to_owned(), expires });
        Ok(Answer::BeaconRegister { beacon_id: beacon })
    }

    pub(super) fn beacon_list(&self, now: Now, caller: &Caller<'_>) -> Answer {
        let own = (1..).map(NodeId).zip(caller.advertised).map(|(id, addr)| Beacon {
            id,
            addr: addr.clone(),
            extensions: caller.extensions.to_vec(),
            relay_key: caller.relay_key,
        });
        let mut beacons: Vec<Beacon> = own.collect();
        for (id, announcement) in &self.beacons.announced {
            let known = beacons.iter().any(|beacon| beacon.addr == announcement.addr);
            if announcement.expires > now.monotonic && !known {
                let addr = announcement.addr.clone();
                beacons.push(Beacon { id: *id, addr, extensions: Vec::new(), relay_key: None });
            }
        }
        Answer::BeaconList { beacons }
    }
}
