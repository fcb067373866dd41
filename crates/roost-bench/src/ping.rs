//! OPTIONS to the server itself, and bare datagrams for an echo: one message out, one back.

use crate::desk::Desk;
use crate::tally::Outcome;
use crate::template::{Id, Template, Values};
use crate::timers::Side;

/// The letter of an OPTIONS' ids.
const OPTIONS: u8 = b'o';
/// The letter of a bare datagram's ids.
pub(crate) const RAW: u8 = b'e';
/// Length of a bare datagram, in bytes: that of a usual request.
const RAW_LEN: usize = 600;

const TEXT: &str = "\
OPTIONS sip:{server} SIP/2.0
Via: SIP/2.0/UDP {ip}:{port};branch=z9hG4bK{branch};rport
Max-Forwards: 70
From: <sip:ping@{ip}:{port}>;tag={dialog}
To: <sip:{server}>
Call-ID: {branch}@{ip}
CSeq: 1 OPTIONS
Accept: application/sdp
User-Agent: roost-bench/{version} (as long as a phone's)
Content-Length: 0

";

#[derive(Debug)]
pub(crate) struct Ping {
    kind: u8,
    template: Template,
}

impl Ping {
    /// OPTIONS to `server`, as `host:port`.
    pub(crate) fn options(ip: &str, server: &str) -> Ping {
        let constants = [("ip", ip), ("server", server), ("version", env!("CARGO_PKG_VERSION"))];
        Ping { kind: OPTIONS, template: Template::new(TEXT, &constants) }
    }

    /// Datagrams of 600 bytes.
    pub(crate) fn raw() -> Ping {
        let text = format!("{{branch}}{}", ".".repeat(RAW_LEN - Id::LEN));
        Ping { kind: RAW, template: Template::new(&text, &[]) }
    }

    pub(crate) fn start(&mut self, desk: &mut Desk, slot: u32) {
        let id = desk.transaction(self.kind, slot);
        self.send(desk, id);
        desk.start_timer(id, Side::Client);
    }

    /// Sends the request under way once more.
    pub(crate) fn retransmit(&mut self, desk: &mut Desk, slot: u32) {
        desk.tally.retransmissions += 1;
        let id = desk.current(self.kind, slot);
        self.send(desk, id);
    }

    fn send(&mut self, desk: &mut Desk, transaction: Id) {
        let socket = desk.socket(transaction.slot);
        let values = Values {
            user: &[],
            domain: &[],
            peer: &[],
            peer_domain: &[],
            port: desk.port(socket),
            transaction,
            dialog: transaction,
            cseq: 1,
            credentials: &[],
        };
        self.template.fill(&values, desk.sender.message(socket));
    }

    pub(crate) fn handle_answer(&mut self, desk: &mut Desk, id: Id, code: u16) {
        match code {
            100..=199 => {}
            200..=299 => desk.end(id.slot, Outcome::Ok),
            _ => desk.end(id.slot, Outcome::Failed),
        }
    }
}
