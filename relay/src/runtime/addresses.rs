//! What is served where, and the sockets for it: bound, taken over from a relay before, and following the host's addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::{Arc, mpsc};

use super::{StartError, post};
use crate::config::Config;
use crate::inheritance::{Group, Inheritance};
use crate::interfaces::{self, HostAddress};
use crate::locals::{LOCALS_MAX, Local, Locals, Service};
use crate::mailbox::{Mail, Mailbox};
use crate::socket::{self, LocalSockets, bind_group};

/// What is served where, and the sockets for it.
#[derive(Debug)]
pub(super) struct Addresses {
    wanted: Vec<(Service, SocketAddr)>,
    advertise: Vec<SocketAddr>,
    pub(super) locals: Locals,
    mailboxes: Arc<[Mailbox]>,
    /// A copy of every socket, for the next relay.
    pub(super) groups: Vec<Group>,
    /// What of the relay before has not been taken over.
    pub(super) inheritance: Inheritance,
    /// Addresses whose inherited sockets did not fit, with their MTU.
    late: Vec<(Service, SocketAddr, usize)>,
    /// Told when sockets come or go.
    pub(super) changed: Option<mpsc::Sender<()>>,
}

/// New sockets, by shard.
pub(super) type Bound = Vec<Vec<LocalSockets>>;

const fn flag(service: Service) -> &'static str {
    match service {
        Service::Beacon => "--beacon",
        Service::Stun => "--stun",
    }
}

impl Addresses {
    pub(super) fn new(config: &Config, mailboxes: Arc<[Mailbox]>, inheritance: Inheritance) -> Self {
        let wanted = [(Service::Beacon, config.beacon), (Service::Stun, config.stun)];
        Self {
            wanted: wanted.into_iter().filter_map(|(service, address)| Some((service, address?))).collect(),
            advertise: config.advertise.clone(),
            locals: Locals::default(),
            mailboxes,
            groups: Vec::new(),
            inheritance,
            late: Vec::new(),
            changed: None,
        }
    }

    pub(super) fn has_wildcard(&self) -> bool {
        self.wanted.iter().any(|(_, address)| address.ip().is_unspecified())
    }

    /// Binds everything asked for; an address that is not usable yet is left to a later change.
    pub(super) fn bind_at_start(&mut self) -> Result<Bound, StartError> {
        let host =
            interfaces::host_addresses().map_err(|error| StartError::Io("cannot list the host's addresses", error))?;
        let mut bound = self.no_sockets();
        for (service, wanted) in self.wanted.clone() {
            let mut port = wanted.port();
            for address in expand(wanted.ip(), &host) {
                let place = SocketAddr::new(address.ip, port);
                // Sockets that do not fit hold the port until they are given up.
                if self.inheritance.refused.iter().any(|refused| refused.bound == Some(place)) {
                    self.late.push((service, place, address.mtu));
                    continue;
                }
                match self.bind(service, SocketAddr::new(address.ip, port), address.mtu, &host, &mut bound) {
                    Ok(picked) => port = picked,
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        return Err(StartError::Busy(SocketAddr::new(address.ip, port), flag(service)));
                    }
                    Err(error) if is_tentative(&error) && wanted.ip().is_unspecified() => {}
                    Err(error) => {
                        return Err(StartError::Bind(SocketAddr::new(address.ip, port), error, flag(service)));
                    }
                }
            }
            if let Some((_, wanted)) = self.wanted.iter_mut().find(|(other, _)| *other == service) {
                wanted.set_port(port);
            }
        }
        self.inheritance.refuse_rest();
        Ok(bound)
    }

    pub(super) fn bind_late(&mut self, bound: &mut Bound) -> Result<(), StartError> {
        let host = interfaces::host_addresses().unwrap_or_default();
        for (service, place, mtu) in std::mem::take(&mut self.late) {
            match self.bind(service, place, mtu, &host, bound) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(StartError::Busy(place, flag(service)));
                }
                Err(error) => return Err(StartError::Bind(place, error, flag(service))),
            }
        }
        Ok(())
    }

    /// What was lost before is not this relay's loss. To be called when the relay before has stopped receiving.
    pub(super) fn note_lost_before(&self, bound: &mut Bound) {
        for sockets in bound.iter_mut().flatten() {
            sockets.lost_before = socket::receive_queue(sockets.main.as_fd()).unwrap_or_default().drops;
        }
    }

    /// Binds what is new on the host and takes down what is gone. `false` where an address cannot be served yet, of which
    /// nobody tells when it can: for instance while the service manager keeps copies of the sockets it had before.
    pub(super) fn refresh(&mut self) -> bool {
        let host = match interfaces::host_addresses() {
            Ok(host) => host,
            Err(error) => {
                tracing::error!(%error, "cannot list the host's addresses");
                return false;
            }
        };
        let before = self.locals.clone();
        let mut bound = self.no_sockets();
        let mut is_complete = true;
        for (service, wanted) in self.wanted.clone() {
            let addresses = expand(wanted.ip(), &host);
            self.take_down(service, wanted, &addresses);
            for address in addresses {
                let place = SocketAddr::new(address.ip, wanted.port());
                if self.serves(service, place) {
                    continue;
                }
                if let Err(error) = self.bind(service, place, address.mtu, &host, &mut bound) {
                    tracing::warn!(%place, %error, "a new address cannot be served yet");
                    is_complete = false;
                }
            }
        }
        if self.locals != before {
            self.deliver(bound);
            if let Some(changed) = &self.changed {
                let _ = changed.send(());
            }
        }
        is_complete
    }

    fn take_down(&mut self, service: Service, wanted: SocketAddr, present: &[HostAddress]) {
        let gone: Vec<_> = self
            .locals
            .iter()
            .filter(|(_, local)| local.present && local.service == service && wanted.ip().is_unspecified())
            .filter(|(_, local)| !present.iter().any(|address| address.ip == local.bound.ip()))
            .map(|(id, local)| (id, local.bound))
            .collect();
        for (id, bound) in gone {
            tracing::info!(%bound, "the address has left the host");
            self.locals.remove(id);
            self.groups.retain(|group| (group.service, group.bound) != (service, bound));
        }
    }

    fn serves(&self, service: Service, place: SocketAddr) -> bool {
        self.locals.iter().any(|(_, local)| local.present && local.service == service && local.bound == place)
    }

    fn bind(
        &mut self,
        service: Service,
        place: SocketAddr,
        mtu: usize,
        host: &[HostAddress],
        bound: &mut Bound,
    ) -> io::Result<u16> {
        let group = match self.inheritance.take(service, place) {
            Some(group) => {
                socket::adopt(&group)?;
                group
            }
            None => {
                let (bound, members) = bind_group(place, self.mailboxes.len())?;
                Group { service, bound, members }
            }
        };
        let place = group.bound;
        let mut copies = Vec::with_capacity(group.members.len());
        for (main, sibling) in &group.members {
            copies.push((main.try_clone()?, sibling.try_clone()?));
        }
        let payload_max = interfaces::payload_max(place.ip(), mtu);
        let seen_as = self.seen_as(service, place, host);
        let local = Local { bound: place, seen_as, service, payload_max, present: true };
        let Some(id) = self.locals.put(local) else {
            tracing::warn!(%place, "more than {LOCALS_MAX} local addresses; this one is not served");
            return Ok(place.port());
        };
        for (shard, (main, fragmenting)) in bound.iter_mut().zip(copies) {
            shard.push(LocalSockets { id, main, fragmenting, lost_before: 0 });
        }
        self.groups.push(group);
        Ok(place.port())
    }

    /// Behind a one-to-one NAT clients know another address than the one bound: the advertised one, unless that is an
    /// address of this host, which then is reached as it is. The advertised port is the beacon's.
    fn seen_as(&self, service: Service, bound: SocketAddr, host: &[HostAddress]) -> SocketAddr {
        let of_family: Vec<_> = self.advertise.iter().filter(|one| one.is_ipv4() == bound.is_ipv4()).collect();
        let is_own = |advertised: &&SocketAddr| host.iter().any(|address| address.ip == advertised.ip());
        match of_family.first() {
            Some(advertised) if !bound.ip().is_loopback() && !of_family.iter().any(is_own) => match service {
                Service::Beacon => **advertised,
                Service::Stun => SocketAddr::new(advertised.ip(), bound.port()),
            },
            _ => bound,
        }
    }

    pub(super) fn deliver(&self, bound: Bound) {
        let locals = Arc::new(self.locals.clone());
        for (mailbox, sockets) in self.mailboxes.iter().zip(bound) {
            post(mailbox, Mail::Locals(Arc::clone(&locals), sockets));
        }
    }

    fn no_sockets(&self) -> Bound {
        self.mailboxes.iter().map(|_| Vec::new()).collect()
    }
}

/// The addresses an address stands for: a wildcard for every one of its families.
fn expand(ip: IpAddr, host: &[HostAddress]) -> Vec<HostAddress> {
    if !ip.is_unspecified() {
        return vec![HostAddress { ip, mtu: interfaces::mtu_towards(ip) }];
    }
    let v4_only = ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    host.iter().filter(|address| !v4_only || address.ip.is_ipv4()).copied().collect()
}

/// An IPv6 address whose uniqueness is still being checked cannot be bound yet.
fn is_tentative(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::server::Rules;

    #[test]
    fn an_address_another_holds_is_told_of_until_it_is_served() {
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let place = other.local_addr().unwrap();
        let config = Config {
            beacon: Some(place),
            stun: None,
            advertise: Vec::new(),
            cpus: vec![0],
            sessions_max: 64,
            spin: Duration::ZERO,
            rules: Rules::default(),
        };
        let mailboxes: Arc<[Mailbox]> = [Mailbox::new().unwrap()].into();
        let mut addresses = Addresses::new(&config, Arc::clone(&mailboxes), Inheritance::default());
        assert!(!addresses.refresh(), "to be tried again");
        assert!(mailboxes[0].take().is_none());
        drop(other);
        assert!(addresses.refresh());
        let Some(Mail::Locals(locals, sockets)) = mailboxes[0].take() else { panic!("no sockets") };
        assert_eq!((locals.get(sockets[0].id).unwrap().bound, sockets.len()), (place, 1));
        assert!(addresses.refresh(), "and is no more to do");
    }
}
