//! Requests of ours inside a call, in the name of one side: what ends it, and what asks whether it is still known.

use roost_sip::{Method, list};

use crate::base::flow::Flow;
use crate::contract::call::{CallEnd, CallNumber, CallRecord, CallText};
use crate::contract::policy::Policy;
use crate::message::branch_id::BranchId;
use crate::message::own_request::{push, write_beginning};

/// A request of one side for the other.
#[derive(Debug)]
pub(crate) struct InDialog {
    call: CallRecord,
    is_to_callee: bool,
    /// Why the call is over: a BYE says so. Else it is an OPTIONS.
    end: Option<CallEnd>,
    /// How far a BYE's number is beyond the last one that we know of its sender.
    bye_step: u64,
}

/// An OPTIONS that asks a side whether it still knows of its call.
#[derive(Debug)]
pub(crate) struct CallPing {
    pub(crate) request: InDialog,
    pub(crate) number: CallNumber,
    pub(crate) is_to_callee: bool,
}

impl InDialog {
    pub(super) fn new(
        call: CallRecord,
        is_restored: bool,
        is_to_callee: bool,
        end: Option<CallEnd>,
    ) -> InDialog {
        // What it has sent before a restart was not noted: a later number is right, an earlier one is not.
        let bye_step = if is_restored { 1_000 } else { 1 };
        InDialog { call, is_to_callee, end, bye_step }
    }

    pub(crate) fn method(&self) -> Method {
        if self.end.is_some() { Method::Bye } else { Method::Options }
    }

    /// Where it goes.
    pub(crate) fn flow(&self) -> Option<Flow> {
        self.call.side(!self.is_to_callee).0.flow()
    }

    /// Writes it (RFC 3261 12.2.1.1). A BYE has the sender's next number; an OPTIONS its last one, so that the sender's own
    /// next request is not out of order.
    pub(crate) fn write(&self, policy: &Policy, flow: &Flow, branch: BranchId, out: &mut Vec<u8>) {
        let ((from, from_texts), (_, to)) =
            (self.call.side(self.is_to_callee), self.call.side(!self.is_to_callee));
        let is_bye = self.end.is_some();
        let step = if is_bye { self.bye_step } else { 0 };
        let name = if is_bye { "BYE" } else { "OPTIONS" };
        write_beginning(policy, name, to.contact, flow, branch, out);
        let mut routes: Vec<&[u8]> = list(to.routes).collect();
        if self.is_to_callee {
            // The nearest to it stands first in the answer (RFC 3261 12.1.2).
            routes.reverse();
        }
        if !routes.is_empty() {
            push(out, &[b"Route: ", &routes.join(&b", "[..]), b"\r\n"]);
        }
        push(out, &[b"From: <", from_texts.uri, b">;tag=", from_texts.tag]);
        push(out, &[b"\r\nTo: <", to.uri, b">;tag=", to.tag]);
        let cseq = (u64::from(from.cseq.max(1)) + step).to_string();
        let call_id = self.call.text(CallText::CallId);
        push(
            out,
            &[b"\r\nCall-ID: ", call_id, b"\r\nCSeq: ", cseq.as_bytes(), b" ", name.as_bytes(), b"\r\n"],
        );
        let why: &[u8] = match self.end {
            Some(CallEnd::Operator) => b"ended by an operator",
            Some(_) => b"the other side is gone",
            None => b"",
        };
        if is_bye {
            push(out, &[b"Reason: SIP;cause=200;text=\"", why, b"\"\r\n"]);
        }
        push(out, &[b"Content-Length: 0\r\n\r\n"]);
    }
}
