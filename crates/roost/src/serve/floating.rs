//! Addresses that one node after the other has: which are here, and which node has the others.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use roost_cluster::{Background, NodeState};
use roost_core::{Floating, Holder, Listener, Transport};

/// How often it looks which addresses this machine has, whether or not the kernel has said that one has come or gone.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// What is known of them. Clones are one.
#[derive(Clone)]
pub(super) struct Addresses(Arc<Inner>);

struct Inner {
    /// Those that this node listens on.
    listeners: Vec<Listener>,
    known: Mutex<Known>,
    tell: Box<dyn Fn(Arc<[Floating]>) + Send + Sync>,
}

#[derive(Default)]
struct Known {
    here: Vec<Listener>,
    /// What other nodes have: `udp:10.0.0.100:5060`, and where each is reached. Who was heard of last stands first.
    elsewhere: Vec<(String, SocketAddr)>,
    told: Vec<Floating>,
}

impl Addresses {
    /// `tell` takes them to the workers whenever one has moved.
    pub(super) fn new(
        listeners: &[Listener],
        tell: impl Fn(Arc<[Floating]>) + Send + Sync + 'static,
    ) -> Addresses {
        let listeners: Vec<_> = listeners.iter().filter(|one| one.is_floating).copied().collect();
        let known = Known { here: local(&listeners), ..Known::default() };
        let addresses =
            Addresses(Arc::new(Inner { listeners, known: Mutex::new(known), tell: Box::new(tell) }));
        addresses.update(|_| {});
        addresses
    }

    /// Those that are here, as `location.socket` has them.
    pub(super) fn here(&self) -> Vec<String> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.here.iter().map(socket_text).collect()
    }

    /// Takes what all nodes say of themselves.
    pub(super) fn nodes(&self, nodes: &[NodeState], own: &str) {
        let mut others: Vec<_> =
            nodes.iter().filter(|node| node.is_alive && node.told()["address"] != *own).collect();
        others.sort_by_key(|node| node.heard_ms);
        let have = |node: &&NodeState| {
            let told = node.told();
            let at = told["address"].as_str().and_then(|at| at.parse().ok());
            let floating: Vec<String> = serde_json::from_value(told["floating"].clone()).unwrap_or_default();
            floating.into_iter().filter_map(move |socket| Some((socket, at?))).collect::<Vec<_>>()
        };
        let elsewhere = others.iter().flat_map(have).collect();
        self.update(|known| known.elsewhere = elsewhere);
    }

    /// Looks again and again which are here; `moved` hears when some have come or gone.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn watch(&self, moved: impl Fn() + Send + 'static) -> Result<Option<Background>> {
        if self.0.listeners.is_empty() {
            return Ok(None);
        }
        let addresses = self.clone();
        let changes = changes().context("asking the kernel which addresses come and go")?;
        let watched = Background::start("roost-floating", move |ends| {
            let mut bytes = [0; 4_096];
            while !ends.load(Ordering::Relaxed) {
                // Whatever it says, or that it says nothing for a while.
                let _ = recv(changes.as_raw_fd(), &mut bytes, MsgFlags::empty());
                let here = local(&addresses.0.listeners);
                let before = addresses.here();
                let now: Vec<_> = here.iter().map(socket_text).collect();
                if now != before {
                    tracing::warn!(here = ?now, before = ?before, "floating addresses have moved");
                    addresses.update(|known| known.here = here);
                    moved();
                }
            }
        });
        watched.map(Some).context("starting the thread that watches floating addresses")
    }

    /// Changes what is known, and tells it if anything is elsewhere than it was.
    fn update(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let now = known.all(&self.0.listeners);
        if now != known.told {
            known.told.clone_from(&now);
            (self.0.tell)(now.into());
        }
    }
}

impl Known {
    fn all(&self, listeners: &[Listener]) -> Vec<Floating> {
        let of = |transport, address, holder| Floating { transport, address, holder };
        let own = listeners.iter().map(|one| {
            let elsewhere = self.elsewhere.iter().find(|(other, _)| *other == socket_text(one));
            let holder = match elsewhere {
                _ if self.here.contains(one) => Holder::Here,
                Some((_, at)) => Holder::Node(*at),
                None => Holder::Nobody,
            };
            of(one.transport, one.address, holder)
        });
        let mut all: Vec<_> = own.collect();
        for (other, at) in &self.elsewhere {
            if let Some((transport, address)) = Transport::of_socket(other.as_bytes())
                && !all.iter().any(|one| one.transport == transport && one.address == address)
            {
                all.push(of(transport, address, Holder::Node(*at)));
            }
        }
        all
    }
}

/// A socket on which the kernel says that an address has come or gone.
fn changes() -> nix::Result<OwnedFd> {
    let kind = (SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
    let changes = socket::socket(AddressFamily::Netlink, SockType::Raw, kind.0, kind.1)?;
    let groups = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
    socket::bind(changes.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    let wait = TimeVal::milliseconds(LOOKS_EVERY.as_millis() as i64);
    socket::setsockopt(&changes, sockopt::ReceiveTimeout, &wait)?;
    Ok(changes)
}

fn socket_text(listener: &Listener) -> String {
    format!("{}:{}", listener.transport.as_str(), listener.address)
}

/// Those of them that this machine has now.
fn local(listeners: &[Listener]) -> Vec<Listener> {
    if listeners.is_empty() {
        return Vec::new();
    }
    let all: HashSet<IpAddr> = match getifaddrs() {
        Ok(all) => all
            .filter_map(|one| {
                let address = one.address?;
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            })
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "the addresses of this machine cannot be read");
            return Vec::new();
        }
    };
    listeners.iter().filter(|one| all.contains(&one.address.ip())).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_here_or_at_the_node_that_was_heard_of_last() {
        let floating = |text: &str| roost_net::parse_listen(text).unwrap();
        let listeners = [
            floating("udp:127.0.0.1:5060 floating"),
            floating("udp:192.0.2.1:5060 floating"),
            floating("udp:10.0.0.1:5060"),
        ];
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = Arc::clone(&told);
        let addresses = Addresses::new(&listeners, move |all| tells.lock().unwrap().push(all.to_vec()));
        assert_eq!(addresses.here(), ["udp:127.0.0.1:5060"]);
        let node = |name: &str, heard_ms, port: u16, is_alive| NodeState {
            name: name.to_string(),
            is_alive,
            heard_ms,
            figures: serde_json::json!({
                "address": format!("10.0.0.9:{port}"),
                "floating": ["udp:192.0.2.1:5060", "udp:192.0.2.7:5060"],
            })
            .to_string(),
        };
        let holders = || -> Vec<Holder> {
            told.lock().unwrap().last().unwrap().iter().map(|one: &Floating| one.holder).collect()
        };
        assert_eq!(holders(), [Holder::Here, Holder::Nobody]);
        let at = |port: u16| Holder::Node(SocketAddr::from(([10, 0, 0, 9], port)));
        addresses.nodes(&[node("b", 900, 5_071, true), node("c", 100, 5_072, true)], "10.0.0.9:5070");
        assert_eq!(holders(), [Holder::Here, at(5_072), at(5_072)], "one that we do not listen on, too");
        addresses.nodes(&[node("b", 100, 5_071, true), node("c", 50, 5_072, false)], "10.0.0.9:5070");
        assert_eq!(holders(), [Holder::Here, at(5_071), at(5_071)]);
        let count = told.lock().unwrap().len();
        addresses.nodes(&[node("b", 100, 5_071, true)], "10.0.0.9:5070");
        assert_eq!(told.lock().unwrap().len(), count, "nothing has moved");
    }
}
