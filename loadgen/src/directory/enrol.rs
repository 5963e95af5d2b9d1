//! Makes the population known: registered, public, in groups, each with its capability record. Closed-loop, with many
//! requests ahead on every connection: as fast as the directory takes them.
//!
//! The connections stay open. A node's requests all take the one where it registered, as a daemon's do, so that the
//! directory has one connection to remember for each node.

use std::net::SocketAddr;

use wire::NodeId;
use wire::registry::{Answer, Operation, Request};

use super::config::Config;
use super::connection::{Connection, Failure};
use super::population::{Population, signed};
use crate::progress::Counter;
use crate::view::View;

/// The nodes and their connections.
#[derive(Debug)]
pub struct Enrolled {
    /// By index.
    pub ids: Vec<NodeId>,
    /// Node `index` has its home on connection `index % connections`.
    pub connections: Vec<Connection>,
}

/// One request to each node's name, and what its answer has to be.
struct Errand<'a> {
    /// For the view.
    name: &'static str,
    /// The request's type on the wire.
    request: &'static str,
    /// The request for a node, if it needs one.
    ask: &'a (dyn Fn(u32) -> Option<Request> + Sync),
    /// Whether the answer is the one hoped for, and the number in it.
    take: &'a (dyn Fn(&Answer) -> Option<u32> + Sync),
}

impl Enrolled {
    /// Opens the connections.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(config: &Config) -> Result<Self, Failure> {
        let count = config.connections.min(config.nodes);
        let connections = (0..count).map(|_| Connection::open(config.registry)).collect::<Result<_, _>>()?;
        Ok(Self { ids: vec![NodeId(0); config.nodes as usize], connections })
    }

    /// Registers every node.
    ///
    /// # Errors
    /// A request fails; so for all that follow.
    pub fn register(&mut self, registry: SocketAddr, population: &Population, view: &View) -> Result<u64, Failure> {
        let take = |answer: &Answer| match answer {
            Answer::Register(registered) => Some(registered.node_id.0),
            _ => None,
        };
        let ask = |index| Some(population.register(index));
        let numbers =
            self.run(registry, view, &Errand { name: "registering", request: "register", ask: &ask, take: &take })?;
        let count = numbers.len() as u64;
        for (index, number) in numbers {
            self.ids[index as usize] = NodeId(number);
        }
        Ok(count)
    }

    /// Makes those nodes public that are not yet, so that strangers find them. Asking first spares those that are: a
    /// signature may set a value only once.
    pub fn publish_visibility(
        &mut self,
        registry: SocketAddr,
        population: &Population,
        view: &View,
    ) -> Result<u64, Failure> {
        let ids = self.ids.clone();
        let ask = |index: u32| Some(Operation::Lookup { node_id: ids[index as usize] }.into());
        let take = |answer: &Answer| match answer {
            Answer::Lookup(found) => Some(u32::from(found.public)),
            _ => None,
        };
        let is_public =
            self.run(registry, view, &Errand { name: "looking up", request: "lookup", ask: &ask, take: &take })?;
        let mut is_private = vec![true; ids.len()];
        for (index, public) in is_public {
            is_private[index as usize] = public == 0;
        }
        let ask = |index: u32| {
            let operation = Operation::SetVisibility { node_id: ids[index as usize], public: true };
            is_private[index as usize].then(|| signed(&population.key(index), operation))
        };
        let take = |answer: &Answer| matches!(answer, Answer::SetVisibility { .. }).then_some(0);
        let errand = Errand { name: "making public", request: "set_visibility", ask: &ask, take: &take };
        self.run(registry, view, &errand).map(|done| done.len() as u64)
    }

    /// Publishes every node's record with `serial`.
    pub fn publish(
        &mut self,
        registry: SocketAddr,
        population: &Population,
        serial: u64,
        view: &View,
    ) -> Result<u64, Failure> {
        let ids = self.ids.clone();
        let ask = |index: u32| Some(population.publish(index, ids[index as usize], serial));
        let take = |answer: &Answer| matches!(answer, Answer::PublishCapability { .. }).then_some(0);
        let errand = Errand { name: "publishing", request: "publish_capability", ask: &ask, take: &take };
        self.run(registry, view, &errand).map(|done| done.len() as u64)
    }

    /// Puts node `index` into group `index % groups`, made by the first node of each if it is not there.
    pub fn join(
        &mut self,
        registry: SocketAddr,
        population: &Population,
        groups: u32,
        view: &View,
    ) -> Result<u64, Failure> {
        let networks = self.found_groups(registry, population, groups)?;
        let ids = self.ids.clone();
        let ask = |index: u32| {
            let network_id = networks[index as usize % networks.len()];
            let operation = Operation::JoinNetwork { node_id: ids[index as usize], network_id, token: String::new() };
            Some(signed(&population.key(index), operation))
        };
        let take = |answer: &Answer| match answer {
            Answer::JoinNetwork { .. } => Some(0),
            Answer::Error { error } if error.contains("already") => Some(0),
            _ => None,
        };
        let errand = Errand { name: "joining", request: "join_network", ask: &ask, take: &take };
        self.run(registry, view, &errand).map(|done| done.len() as u64)
    }

    /// A sign of life of every node, which else counts as gone after five minutes.
    pub fn keep_alive(&mut self, registry: SocketAddr, population: &Population, view: &View) -> Result<u64, Failure> {
        let ids = self.ids.clone();
        let ask = |index: u32| {
            let operation = Operation::Heartbeat { node_id: ids[index as usize], report: None, bans_since: None };
            Some(signed(&population.key(index), operation))
        };
        let take = |answer: &Answer| matches!(answer, Answer::Heartbeat { .. }).then_some(0);
        let errand = Errand { name: "keeping alive", request: "heartbeat", ask: &ask, take: &take };
        self.run(registry, view, &errand).map(|done| done.len() as u64)
    }

    /// The numbers of the groups, those that are missing made.
    fn found_groups(
        &mut self,
        registry: SocketAddr,
        population: &Population,
        groups: u32,
    ) -> Result<Vec<u16>, Failure> {
        let name = |group: u32| format!("load-{:x}-{group}", population.seed);
        let mut known = std::collections::HashMap::new();
        let list = std::iter::once(((), Operation::ListNetworks.into()));
        self.connections[0].ask_all(list, |(), answer| match answer {
            Answer::ListNetworks { networks } => {
                known.extend(networks.into_iter().map(|network| (network.name, network.id)));
                Ok(())
            }
            other => Err(wrong(registry, "list_networks", &other)),
        })?;
        let mut numbers = Vec::new();
        for group in 0..groups {
            if let Some(number) = known.get(&name(group)) {
                numbers.push(*number);
                continue;
            }
            let operation = Operation::CreateNetwork {
                node_id: self.ids[group as usize],
                name: name(group),
                join_rule: "open".to_owned(),
                token: String::new(),
            };
            // Some directories want this signed; others know the creator by the connection where it registered.
            let key = population.key(group);
            let request =
                if operation.signed_text().is_some() { signed(&key, operation) } else { Request::from(operation) };
            let home = group as usize % self.connections.len();
            self.connections[home].ask_all(std::iter::once(((), request)), |(), answer| match answer {
                Answer::CreateNetwork { network_id, .. } => {
                    numbers.push(network_id);
                    Ok(())
                }
                other => Err(wrong(registry, "create_network", &other)),
            })?;
        }
        Ok(numbers)
    }

    /// Runs an errand for all nodes, every connection on a thread of its own; returns what was taken, by index.
    fn run(&mut self, registry: SocketAddr, view: &View, errand: &Errand<'_>) -> Result<Vec<(u32, u32)>, Failure> {
        let (nodes, step) = (self.ids.len() as u32, self.connections.len());
        let done = Counter::default();
        let connections = &mut self.connections;
        view.phase(errand.name, nodes.into(), &done, || {
            std::thread::scope(|scope| {
                let done = &done;
                let threads: Vec<_> = connections
                    .iter_mut()
                    .zip(0..nodes)
                    .map(|(connection, first)| {
                        let at_home = (first..nodes).step_by(step);
                        scope.spawn(move || run_one(registry, connection, at_home, errand, done))
                    })
                    .collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                threads.into_iter().map(join).collect::<Result<Vec<_>, _>>().map(|parts| parts.concat())
            })
        })
    }
}

fn run_one(
    registry: SocketAddr,
    connection: &mut Connection,
    nodes: impl Iterator<Item = u32>,
    errand: &Errand<'_>,
    done: &Counter,
) -> Result<Vec<(u32, u32)>, Failure> {
    let mut taken = Vec::new();
    let requests = nodes.filter_map(|index| match (errand.ask)(index) {
        Some(request) => Some((index, request)),
        None => {
            done.add(1);
            None
        }
    });
    connection.ask_all(requests, |index, answer| {
        let number = (errand.take)(&answer).ok_or_else(|| wrong(registry, errand.request, &answer))?;
        taken.push((*index, number));
        done.add(1);
        Ok(())
    })?;
    Ok(taken)
}

fn wrong(registry: SocketAddr, request: &'static str, answer: &Answer) -> Failure {
    match answer {
        Answer::Error { error } => Failure::Refused { registry, request, reason: error.clone() },
        other => Failure::Unexpected { registry, answer: format!("{other:?}") },
    }
}
