//! OPTIONS to the server itself, and bare datagrams for an echo: one message out, one back.

use crate::context::Context;
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

    pub(crate) fn start(&mut self, context: &mut Context, slot: u32) {
        let id = context.transaction(self.kind, slot);
        self.send(context, id);
        context.start_timer(id, Side::Client);
    }

    /// Sends the request under way once more.
    pub(crate) fn retransmit(&mut self, context: &mut Context, slot: u32) {
        context.tally.retransmissions += 1;
        let id = context.current(self.kind, slot);
        self.send(context, id);
    }

    fn send(&mut self, context: &mut Context, transaction: Id) {
        let socket = context.socket(transaction.slot);
        let values = Values {
            user: &[],
            domain: &[],
            peer: &[],
            peer_domain: &[],
            port: context.port(socket),
            transaction,
            dialog: transaction,
            cseq: 1,
            credentials: &[],
        };
        self.template.fill(&values, context.sender.message(socket));
    }

    pub(crate) fn handle_answer(&mut self, context: &mut Context, id: Id, code: u16) {
        match code {
            100..=199 => {}
            200..=299 => context.end(id.slot, Outcome::Ok),
            _ => context.end(id.slot, Outcome::Failed),
        }
    }
}
