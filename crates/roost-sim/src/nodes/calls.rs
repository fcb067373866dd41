//! Calls in the world of nodes: a gateway calls extensions at any node, phones refuse, and ways between two nodes are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use roost_core::{Flow, ShardEvent, Transport};
use roost_sip::Head;

use crate::call_message::Message;
use crate::nodes::{Event, NODES, World};

/// Who calls; no node asks it for a password.
pub(super) const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1)), 5_060);
/// After how long a node gives up what it cannot bring to another one, in milliseconds.
const UNSENT_MS: u64 = 4_000;

#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: BTreeMap<String, Call>,
    /// Until when two nodes do not reach one another.
    apart: BTreeMap<(usize, usize), u64>,
}

#[derive(Debug)]
struct Call {
    extension: u32,
    /// Nodes that had it, and which life of theirs.
    visited: BTreeMap<usize, u32>,
    rang: BTreeSet<usize>,
    ended: Option<u16>,
    must_ring: bool,
}

impl World {
    /// The gateway calls an extension at a node.
    pub(super) fn call(&mut self, extension: u32, node: usize, must_ring: bool) {
        self.branch += 1;
        self.report.calls += 1;
        let call_id = format!("call-{}", self.branch);
        let bytes = format!(
            "INVITE sip:{extension}@roost.test SIP/2.0\r\n\
             Via: SIP/2.0/UDP {GATEWAY};branch=z9hG4bK{call_id}\r\n\
             From: <sip:gateway@{GATEWAY}>;tag=1\r\nTo: <sip:{extension}@roost.test>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sip:gateway@{GATEWAY}>\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        let call =
            Call { extension, visited: BTreeMap::new(), rang: BTreeSet::new(), ended: None, must_ring };
        self.calls.calls.insert(call_id, call);
        self.send_to(node, GATEWAY, bytes.into_bytes());
    }

    fn send_to(&mut self, node: usize, from: SocketAddr, bytes: Vec<u8>) {
        let at_ms = self.now_ms + self.dice.between((1, 30));
        let flow = Flow::udp(self.nodes[node].address, from);
        self.queue.push(at_ms, Event::Arrive { node, flow, bytes });
    }

    /// A message goes from node to node, unless the way is lost: then its sender hears so, and what was on its way is gone.
    pub(super) fn send_across(&mut self, from: usize, to: usize, (flow, bytes): (Flow, Vec<u8>)) {
        let pair = (from.min(to), from.max(to));
        if self.calls.apart.get(&pair).is_some_and(|until_ms| *until_ms > self.now_ms) {
            let event = ShardEvent::Unsent(flow, bytes.into());
            let life = self.nodes[from].life;
            self.queue.push(self.now_ms + UNSENT_MS, Event::Heard { node: from, life, event });
            return;
        }
        let at_ms = self.now_ms + self.dice.between((1, 5));
        // Each node connects from a port of its own, and answers over the connection that a request came over.
        let address = |node: usize, is_listener: bool| {
            SocketAddr::new(self.nodes[node].address.ip(), if is_listener { 5_070 } else { 40_000 })
        };
        let is_answer = flow.connection != 0;
        let connection = 1 + (NODES * from + to) as u64;
        let arrives =
            Flow::stream(Transport::Tcp, address(to, !is_answer), address(from, is_answer), connection);
        self.queue.push(at_ms, Event::Arrive { node: to, flow: arrives, bytes });
    }

    /// A node gets an INVITE of a call: it has not had it before.
    pub(super) fn visit(&mut self, node: usize, flow: &Flow, bytes: &[u8]) -> Result<(), String> {
        if !bytes.starts_with(b"INVITE ") {
            return Ok(());
        }
        let Some(message) = Message::parse(&mut Head::new(), bytes) else { return Ok(()) };
        let life = self.nodes[node].life;
        let Some(call) = self.calls.calls.get_mut(&message.call_id) else { return Ok(()) };
        match call.visited.insert(node, life) {
            Some(before) if before == life => {
                Err(format!("{} visits node {node} twice, the second time from {flow}", message.call_id))
            }
            _ => Ok(()),
        }
    }

    /// A phone has a request: it refuses calls.
    pub(super) fn rings(&mut self, phone: usize, node: usize, bytes: &[u8]) {
        let Some(message) = Message::parse(&mut Head::new(), bytes) else { return };
        let status = match message.method.as_str() {
            "INVITE" => "486 Busy Here",
            "ACK" => return,
            _ => "200 OK",
        };
        if let Some(call) = self.calls.calls.get_mut(&message.call_id)
            && call.rang.insert(phone)
        {
            self.report.rang += 1;
            self.report.across += u64::from(call.visited.len() > 1);
        }
        let mut answer = format!("SIP/2.0 {status}\r\n");
        message.vias.iter().for_each(|via| answer += &format!("Via: {via}\r\n"));
        answer += &format!(
            "From: {}\r\nTo: {};tag=p{phone}\r\nCall-ID: {}\r\nCSeq: {} {}\r\nContent-Length: 0\r\n\r\n",
            message.from, message.to, message.call_id, message.cseq, message.method
        );
        let from = self.phones[phone].address;
        self.send_to(node, from, answer.into_bytes());
    }

    /// The gateway has an answer: it acknowledges the last one.
    pub(super) fn gateway_hears(&mut self, node: usize, bytes: &[u8]) {
        let Some(message) = Message::parse(&mut Head::new(), bytes) else { return };
        let Some(call) = self.calls.calls.get_mut(&message.call_id).filter(|_| message.status >= 200) else {
            return;
        };
        call.ended = Some(message.status);
        let ack = format!(
            "ACK sip:{}@roost.test SIP/2.0\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
             CSeq: 1 ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
            call.extension, message.vias[0], message.from, message.to, message.call_id
        );
        self.send_to(node, GATEWAY, ack.into_bytes());
    }

    /// The way between a node and another one is lost for a while.
    pub(super) fn part(&mut self, node: usize) {
        self.report.partitions += 1;
        let other = (node + 1 + self.dice.below(NODES as u64 - 1) as usize) % NODES;
        let until_ms = self.now_ms + self.dice.between((500, 40_000));
        self.calls.apart.insert((node.min(other), node.max(other)), until_ms);
    }

    /// What must hold of all calls in the end.
    pub(super) fn check_calls(&self) -> Result<(), String> {
        for (call_id, call) in &self.calls.calls {
            let has_crashed = call.visited.iter().any(|(node, life)| self.nodes[*node].life != *life);
            let phone = call.extension as usize * super::PHONES;
            match call.ended {
                None if !has_crashed => return Err(format!("{call_id} has no end: {call:?}")),
                ended if call.must_ring && (ended != Some(486) || !call.rang.contains(&phone)) => {
                    return Err(format!("{call_id} does not ring though all is well: {call:?}"));
                }
                _ => {}
            }
        }
        let left = self.nodes.iter().map(|node| node.engine.calls()).find(|left| *left != (0, 0));
        left.map_or(Ok(()), |left| Err(format!("calls are left at a node: {left:?}")))
    }
}
