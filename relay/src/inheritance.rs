//! Which of the sockets a relay has left can be served on by the next, told by their names and by what the kernel says of
//! them. A plain value: nothing here opens or closes anything but what it drops.
//!
//! A group of `SO_REUSEPORT` sockets counts its members in joining order, and steering is written for a number of shards.
//! So a group is taken over whole, each member by its shard, or not at all.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::locals::Service;

/// An open file with the name it was kept under.
#[derive(Debug)]
pub struct Descriptor {
    /// What it is for.
    pub name: String,
    /// The file.
    pub file: OwnedFd,
}

/// What a UDP socket of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It receives and sends.
    Main,
    /// It sends what has to be fragmented.
    Fragmenting,
}

/// The name of a UDP socket: what it is for, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketName {
    /// What is spoken there.
    pub service: Service,
    /// What it does.
    pub role: Role,
    /// The shard that serves it.
    pub shard: usize,
    /// Where it is bound.
    pub bound: SocketAddr,
}

impl SocketName {
    /// The name without the address, which the socket itself tells.
    fn parse(name: &str) -> Option<(Service, Role, usize)> {
        let mut parts = name.splitn(4, '.');
        let service = match parts.next()? {
            "beacon" => Service::Beacon,
            "stun" => Service::Stun,
            _ => return None,
        };
        let role = match parts.next()? {
            "main" => Role::Main,
            "fragmenting" => Role::Fragmenting,
            _ => return None,
        };
        Some((service, role, parts.next()?.parse().ok()?))
    }
}

/// The form the service manager allows: no colon, at most 255 characters.
impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = match self.service {
            Service::Beacon => "beacon",
            Service::Stun => "stun",
        };
        let role = match self.role {
            Role::Main => "main",
            Role::Fragmenting => "fragmenting",
        };
        write!(f, "{service}.{role}.{}.{}", self.shard, self.bound.to_string().replace(':', "_"))
    }
}

/// What the kernel says of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// It is a UDP socket of a `SO_REUSEPORT` group.
    pub groups: bool,
    /// Where it is bound.
    pub bound: Option<SocketAddr>,
}

/// The sockets of one local address, one pair a shard.
#[derive(Debug)]
pub struct Group {
    /// What is spoken there.
    pub service: Service,
    /// Where.
    pub bound: SocketAddr,
    /// By shard: the main socket and its fragmenting sibling.
    pub members: Vec<(OwnedFd, OwnedFd)>,
}

/// A socket or group that cannot be served on. Its files are closed with it, so that the address can be bound anew.
#[derive(Debug)]
pub struct Refused {
    /// The names they were kept under.
    pub names: Vec<String>,
    /// Where they are bound, if anywhere.
    pub bound: Option<SocketAddr>,
    /// Why, for the operator.
    pub why: String,
    files: Vec<OwnedFd>,
}

impl Refused {
    /// How many files are given up.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }
}

/// UDP sockets a relay has left, sorted.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Those to serve on.
    pub groups: Vec<Group>,
    /// The others.
    pub refused: Vec<Refused>,
}

struct Candidate {
    role: Role,
    shard: usize,
    descriptor: Descriptor,
}

impl Inheritance {
    /// Sorts `descriptors` for a relay of `shards` shards, with `facts` to ask the kernel.
    #[must_use]
    pub fn sort(descriptors: Vec<Descriptor>, shards: usize, facts: impl Fn(&OwnedFd) -> Facts) -> Self {
        let mut inheritance = Self::default();
        let mut places: Vec<(Service, SocketAddr, Vec<Candidate>)> = Vec::new();
        for descriptor in descriptors {
            let facts = facts(&descriptor.file);
            let (Some((service, role, shard)), Some(bound), true) =
                (SocketName::parse(&descriptor.name), facts.bound, facts.groups)
            else {
                let why = "it is no UDP socket of a relay".to_owned();
                let (names, files) = (vec![descriptor.name], vec![descriptor.file]);
                inheritance.refused.push(Refused { names, bound: facts.bound, why, files });
                continue;
            };
            let candidate = Candidate { role, shard, descriptor };
            match places.iter_mut().find(|(of, at, _)| (*of, *at) == (service, bound)) {
                Some((.., members)) => members.push(candidate),
                None => places.push((service, bound, vec![candidate])),
            }
        }
        for (service, bound, mut members) in places {
            members.sort_by_key(|member| (member.role, member.shard));
            let expected = (0..shards).map(|shard| (Role::Main, shard));
            let expected = expected.chain((0..shards).map(|shard| (Role::Fragmenting, shard)));
            if expected.eq(members.iter().map(|member| (member.role, member.shard))) {
                let mut files: Vec<OwnedFd> = members.into_iter().map(|member| member.descriptor.file).collect();
                let siblings = files.split_off(shards);
                inheritance.groups.push(Group { service, bound, members: files.into_iter().zip(siblings).collect() });
            } else {
                let before = members.iter().filter(|member| member.role == Role::Main).count();
                let why = format!("its sockets were made for {before} shards, and there are {shards} now");
                let (names, files) =
                    members.into_iter().map(|member| (member.descriptor.name, member.descriptor.file)).unzip();
                inheritance.refused.push(Refused { names, bound: Some(bound), why, files });
            }
        }
        inheritance
    }

    /// Takes the group that serves `wanted`; a port of 0 stands for whichever it was.
    pub fn take(&mut self, service: Service, wanted: SocketAddr) -> Option<Group> {
        let fits = |group: &Group| {
            group.service == service
                && group.bound.ip() == wanted.ip()
                && (wanted.port() == 0 || group.bound.port() == wanted.port())
        };
        let index = self.groups.iter().position(fits)?;
        Some(self.groups.swap_remove(index))
    }

    /// Refuses what nobody has taken.
    pub fn refuse_rest(&mut self) {
        for Group { service, bound, members } in std::mem::take(&mut self.groups) {
            let name = |role, shard| SocketName { service, role, shard, bound }.to_string();
            let names = (0..members.len()).flat_map(|shard| [name(Role::Main, shard), name(Role::Fragmenting, shard)]);
            let files = members.into_iter().flat_map(|(main, sibling)| [main, sibling]).collect();
            let why = "the address is no longer served".to_owned();
            self.refused.push(Refused { names: names.collect(), bound: Some(bound), why, files });
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const V4: &str = "198.18.0.1:9001";
    const V6: &str = "[2001:db8::1]:9001";

    /// A descriptor; where it is "bound" is told by the test.
    fn descriptor(name: &str) -> Descriptor {
        Descriptor { name: name.to_owned(), file: memfd_create("socket", MFdFlags::empty()).unwrap() }
    }

    fn group(service: Service, bound: &str, shards: usize) -> Vec<Descriptor> {
        let bound = bound.parse().unwrap();
        let names = (0..shards).flat_map(|shard| {
            [Role::Fragmenting, Role::Main].map(|role| SocketName { service, role, shard, bound }.to_string())
        });
        // As they come: in any order.
        names.rev().map(|name| descriptor(&name)).collect()
    }

    fn sort_at(bound: &str, descriptors: Vec<Descriptor>, shards: usize) -> Inheritance {
        let bound = Some(bound.parse().unwrap());
        Inheritance::sort(descriptors, shards, |_| Facts { groups: true, bound })
    }

    #[test]
    fn names_are_such_as_a_service_manager_takes_and_are_read_back() {
        for bound in [V4, V6, "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"] {
            let name = SocketName {
                service: Service::Stun,
                role: Role::Fragmenting,
                shard: 127,
                bound: bound.parse().unwrap(),
            };
            let text = name.to_string();
            assert!(text.len() < 256 && text.chars().all(|c| c.is_ascii_graphic() && c != ':'), "{text}");
            assert_eq!(SocketName::parse(&text), Some((name.service, name.role, name.shard)));
        }
        for stranger in ["", "ledger", "directory", "beacon.main", "beacon.main.x.1", "beacon.other.1.2"] {
            assert_eq!(SocketName::parse(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_whole_group_is_taken_over_each_member_by_its_shard() {
        for bound in [V4, V6] {
            let mut inheritance = sort_at(bound, group(Service::Beacon, bound, 3), 3);
            assert!(inheritance.take(Service::Stun, bound.parse().unwrap()).is_none());
            let taken = inheritance.take(Service::Beacon, bound.parse().unwrap()).unwrap();
            assert_eq!((taken.members.len(), taken.bound), (3, bound.parse().unwrap()));
            inheritance.refuse_rest();
            assert!(inheritance.refused.is_empty());
        }
    }

    #[test]
    fn a_group_for_another_number_of_shards_is_refused_by_name() {
        for (before, now) in [(3, 2), (2, 3), (1, 2)] {
            let inheritance = sort_at(V4, group(Service::Beacon, V4, before), now);
            assert!(inheritance.groups.is_empty());
            let [refused] = &inheritance.refused[..] else { panic!("{inheritance:?}") };
            assert_eq!(refused.files(), before * 2);
            assert_eq!(refused.why, format!("its sockets were made for {before} shards, and there are {now} now"));
        }
    }

    #[test]
    fn an_incomplete_group_a_doubled_one_and_strangers_are_refused() {
        let mut incomplete = group(Service::Beacon, V4, 2);
        incomplete.pop();
        let mut doubled = group(Service::Beacon, V4, 2);
        doubled.extend(group(Service::Beacon, V4, 1));
        for descriptors in [incomplete, doubled, vec![descriptor("something")]] {
            let count = descriptors.len();
            let inheritance = sort_at(V4, descriptors, 2);
            assert!(inheritance.groups.is_empty());
            assert_eq!(inheritance.refused.iter().map(Refused::files).sum::<usize>(), count);
        }
        let no_socket = |_: &OwnedFd| Facts { groups: false, bound: None };
        let inheritance = Inheritance::sort(group(Service::Beacon, V4, 1), 1, no_socket);
        assert_eq!((inheritance.groups.len(), inheritance.refused.len()), (0, 2));
    }

    #[test]
    fn what_is_no_longer_wanted_is_given_up_under_its_names() {
        let mut inheritance = sort_at(V4, group(Service::Beacon, V4, 2), 2);
        assert!(inheritance.take(Service::Beacon, "198.18.0.1:9002".parse().unwrap()).is_none());
        inheritance.refuse_rest();
        let mut names = inheritance.refused[0].names.clone();
        names.sort();
        let mut before: Vec<String> = group(Service::Beacon, V4, 2).into_iter().map(|one| one.name).collect();
        before.sort();
        assert_eq!(names, before);
        let mut inheritance = sort_at(V4, group(Service::Beacon, V4, 2), 2);
        assert!(inheritance.take(Service::Beacon, "198.18.0.1:0".parse().unwrap()).is_some(), "whichever it was");
    }
}
