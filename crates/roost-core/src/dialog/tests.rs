//! The table of calls by itself: what begins, answers, refreshes and ends an entry.

use super::*;
use crate::contract::call::CallRecord;
use crate::contract::context::TestShard;
use crate::contract::event::Listening;
use crate::message::branch_id::BranchId;
use crate::message::dialog_token::Side;

const CALLER: &str = "From: <sip:9001@a.test>;tag=one\r\nTo: <sip:9002@a.test>";
const CALLEE: &str = "To: <sip:9001@a.test>;tag=one\r\nFrom: <sip:9002@a.test>";

struct Lab {
    shard: TestShard,
    dialogs: Dialogs,
}

fn flow() -> Flow {
    Flow::udp("10.0.0.1:5060".parse().unwrap(), "10.0.0.9:5062".parse().unwrap())
}

fn text(method: &str, parties: &str, cseq: u32, more: &str) -> String {
    format!(
        "{method} sip:9002@a.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5062;branch=z9hG4bKa\r\n{parties}\r\n\
         Call-ID: call\r\nCSeq: {cseq} {method}\r\nContact: <sip:{cseq}@10.0.0.9>\r\n{more}\r\n"
    )
}

impl Lab {
    fn new() -> Lab {
        let mut shard = TestShard::new();
        shard.policy.dialog.default_timeout_s = 1_000;
        shard.policy.dialog.max_calls = 2;
        shard.out.listening = Listening::to_all();
        Lab { dialogs: Dialogs::new(7), shard }
    }

    fn with<R>(&mut self, text: &str, use_: impl FnOnce(&mut Dialogs, &mut Ctx<'_>, &Request<'_>) -> R) -> R {
        let mut head = Head::new();
        head.parse(text.as_bytes()).unwrap();
        let policy = self.shard.policy.clone();
        let request = Request::new(&policy, flow(), text.as_bytes(), &head).unwrap();
        use_(&mut self.dialogs, &mut self.shard.ctx(), &request)
    }

    /// 9001 calls 9002.
    fn begin(&mut self) -> CallNumber {
        let invite = text("INVITE", CALLER, 1, "Record-Route: <sip:edge.test;lr>\r\n");
        self.with(&invite, |dialogs, ctx, request| {
            let callee = request.callee().unwrap();
            let parties = Parties { is_from_extension: true, callee, is_to_extension: true };
            dialogs.begin(ctx, request, parties).unwrap()
        })
    }

    /// 9002 answers with this tag.
    fn answer(&mut self, number: CallNumber, tag: &str, more: &str) {
        let ok = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1\r\nRecord-Route: <sip:far.test;lr>, <sip:near.test;lr>\r\n\
             Record-Route: <sip:10.0.0.1;lr;did=x>\r\nRecord-Route: <sip:edge.test;lr>\r\n{CALLER};tag={tag}\r\nCall-ID: call\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:9002@10.0.0.8>\r\n{more}\r\n"
        );
        let mut head = Head::new();
        head.parse(ok.as_bytes()).unwrap();
        self.dialogs.answered(&mut self.shard.ctx(), number, flow(), (ok.as_bytes(), &head));
    }

    /// A request inside the dialog, from one side.
    fn hear(&mut self, number: CallNumber, method: &str, is_from_caller: bool, tag: &str, more: &str) {
        let parties = if is_from_caller { CALLER } else { CALLEE };
        let mut token = None;
        self.with(&text("INVITE", CALLER, 1, ""), |_, _, request| {
            token = Some(DialogToken::new(request, Some(number), Side::Unknown, Side::Unknown));
        });
        let message = text(method, &format!("{parties};tag={tag}"), 7, more);
        self.with(&message, |dialogs, ctx, request| dialogs.hear(ctx, &token.unwrap(), request));
    }

    fn record(&mut self) -> CallRecord {
        match self.dialogs.dump(&self.shard.ctx(), 0) {
            AdminReply::Calls { mut calls, next: None, .. } if calls.len() == 1 => calls.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn ends(&mut self) -> Vec<CallEnd> {
        let ended = |event: Event| match event {
            Event::Dialog { end, .. } => end,
            _ => None,
        };
        self.shard.out.events.drain(..).filter_map(ended).collect()
    }

    fn written(&mut self, request: &InDialog) -> String {
        let (policy, shard, mut out) = (self.shard.policy.clone(), self.shard.ctx().shard, Vec::new());
        request.write(&policy, &flow(), BranchId::of_ping(shard, 1, 1, 1), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn busy(&self, aor: &[u8]) -> (u32, u32) {
        let calls = self.dialogs.agents.of(aor);
        (calls.ringing, calls.in_use)
    }

    fn wait_and_sweep(&mut self, s: u64) -> Vec<CallPing> {
        self.shard.wait(s * 1_000);
        (0..SWEEP_S).flat_map(|_| self.dialogs.sweep(&mut self.shard.ctx())).collect()
    }
}

#[test]
fn a_call_begins_rings_is_answered_and_ends() {
    let mut lab = Lab::new();
    let number = lab.begin();
    assert_eq!((lab.dialogs.counts(), lab.busy(b"9001"), lab.busy(b"9002")), ((1, 0), (0, 1), (1, 0)));
    lab.dialogs.ringing(&mut lab.shard.ctx(), number);
    assert_eq!(lab.record().state, CallState::Early);
    lab.answer(number, "two", "");
    let call = lab.record();
    assert_eq!((call.state, lab.dialogs.counts()), (CallState::ConfirmedNotAcknowledged, (0, 1)));
    assert_eq!((lab.busy(b"9001"), lab.busy(b"9002")), ((0, 1), (0, 1)));
    // The route set ends where we are, on either side.
    assert_eq!(call.text(CallText::CalleeRoutes), b"<sip:far.test;lr>,<sip:near.test;lr>");
    assert_eq!(
        (call.text(CallText::CallerRoutes), call.text(CallText::CallerUri)),
        (&b"<sip:edge.test;lr>"[..], &b"sip:9001@a.test"[..])
    );
    lab.hear(number, "ACK", true, "two", "");
    assert_eq!(lab.record().state, CallState::Confirmed);
    lab.hear(number, "BYE", false, "two", "");
    assert_eq!((lab.ends(), lab.dialogs.counts()), (vec![CallEnd::CalleeHungUp], (0, 0)));
    assert!(lab.dialogs.agents().is_empty());
    // A BYE that comes again, and what else is late, is about nothing.
    lab.hear(number, "BYE", true, "two", "");
    lab.answer(number, "three", "");
    lab.dialogs.failed(&mut lab.shard.ctx(), number, 486);
    assert_eq!((lab.ends(), lab.dialogs.counts()), (vec![], (0, 0)));
}

#[test]
fn what_is_late_does_not_touch_the_next_call_of_its_slot() {
    let mut lab = Lab::new();
    let first = lab.begin();
    lab.dialogs.failed(&mut lab.shard.ctx(), first, 486);
    assert_eq!(lab.ends(), [CallEnd::Failed(486)]);
    let second = lab.begin();
    assert_eq!((first.slot, first == second), (second.slot, false));
    lab.answer(first, "two", "");
    lab.dialogs.failed(&mut lab.shard.ctx(), first, 408);
    assert_eq!(lab.dialogs.counts(), (1, 0));
}

#[test]
fn the_other_answer_of_a_fork_is_no_call() {
    let mut lab = Lab::new();
    let number = lab.begin();
    lab.answer(number, "two", "");
    lab.answer(number, "three", "");
    lab.hear(number, "BYE", true, "three", "");
    assert_eq!(lab.dialogs.counts(), (0, 1), "the caller ends the second answer");
    lab.hear(number, "BYE", true, "two", "");
    assert_eq!(lab.ends(), [CallEnd::CallerHungUp]);
}

#[test]
fn a_session_that_is_not_refreshed_ends_and_others_after_their_time() {
    for (session, refresh, lasts_s) in [
        ("Session-Expires: 90;refresher=uac\r\n", "", 90 + GRACE_S),
        ("x: 90\r\n", "", 90 + GRACE_S),
        ("", "", 1_000),
        ("Session-Expires: 90\r\n", "Session-Expires: 200\r\n", 60 + 200 + GRACE_S),
    ] {
        let mut lab = Lab::new();
        let number = lab.begin();
        lab.answer(number, "two", session);
        lab.wait_and_sweep(60);
        if !refresh.is_empty() {
            lab.hear(number, "UPDATE", true, "two", refresh);
            assert_eq!(
                (lab.record().text(CallText::CallerContact), lab.record().caller.cseq),
                (&b"sip:7@10.0.0.9"[..], 7)
            );
        }
        lab.wait_and_sweep(lasts_s - 61);
        assert_eq!(lab.dialogs.counts(), (0, 1), "{session:?} {refresh:?}");
        lab.wait_and_sweep(1);
        assert_eq!(lab.ends(), [CallEnd::Timeout], "{session:?} {refresh:?}");
    }
}

#[test]
fn an_operator_ends_a_call_by_the_bye_of_each_side_for_the_other() {
    let mut lab = Lab::new();
    let number = lab.begin();
    assert!(lab.dialogs.end_by_operator(&mut lab.shard.ctx(), number).is_none(), "it is not answered");
    lab.hear(number, "PRACK", true, "two", "");
    lab.hear(number, "BYE", true, "two", "");
    assert_eq!(
        (lab.record().caller.cseq, lab.dialogs.counts()),
        (7, (1, 0)),
        "its INVITE is still to be answered"
    );
    lab.answer(number, "two", "");
    lab.hear(number, "INFO", false, "two", "");
    let byes = lab.dialogs.end_by_operator(&mut lab.shard.ctx(), number).unwrap();
    let texts = byes.map(|bye| lab.written(&bye));
    for (text, parts) in texts.iter().zip([
        [
            "BYE sip:9002@10.0.0.8 SIP/2.0\r\n",
            "Route: <sip:near.test;lr>, <sip:far.test;lr>\r\n",
            "From: <sip:9001@a.test>;tag=one\r\nTo: <sip:9002@a.test>;tag=two\r\nCall-ID: call\r\nCSeq: 8 BYE\r\n",
        ],
        [
            "BYE sip:1@10.0.0.9 SIP/2.0\r\n",
            "Route: <sip:edge.test;lr>\r\n",
            "From: <sip:9002@a.test>;tag=two\r\nTo: <sip:9001@a.test>;tag=one\r\nCall-ID: call\r\nCSeq: 8 BYE\r\n",
        ],
    ]) {
        parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} in {text}"));
    }
    assert_eq!(lab.ends(), [CallEnd::Operator]);
    assert!(lab.dialogs.end_by_operator(&mut lab.shard.ctx(), number).is_none());
}

#[test]
fn an_extension_has_no_more_calls_than_it_may() {
    let mut lab = Lab::new();
    let is_full = |lab: &mut Lab| {
        let invite = text("INVITE", CALLER, 1, "");
        lab.with(&invite, |dialogs, ctx, request| dialogs.is_full(ctx, request.caller()))
    };
    assert!(!is_full(&mut lab));
    let first = lab.begin();
    assert!(!is_full(&mut lab));
    lab.begin();
    assert!(is_full(&mut lab));
    lab.dialogs.failed(&mut lab.shard.ctx(), first, 486);
    assert!(!is_full(&mut lab));
}

#[test]
fn a_call_goes_on_after_a_restart_under_its_number() {
    let mut lab = Lab::new();
    let number = lab.begin();
    lab.answer(number, "two", "Session-Expires: 300\r\n");
    let record = lab.record();
    let mut next = Lab::new();
    next.shard.identity.epoch = 9;
    assert_ne!(next.shard.identity.epoch, lab.shard.identity.epoch);
    let other = next.begin();
    assert_eq!(other.slot, number.slot, "a call of its own stands where that one stood");
    for _ in 0..2 {
        next.dialogs.restore(&mut next.shard.ctx(), &record);
    }
    assert_eq!((next.dialogs.counts(), next.busy(b"9002")), ((1, 1), (1, 1)));
    next.answer(other, "three", "");
    next.hear(number, "UPDATE", true, "two", "Session-Expires: 90\r\n");
    let byes = next.dialogs.end_by_operator(&mut next.shard.ctx(), number).unwrap();
    // What the callee has sent since the answer is not known.
    let [to_callee, to_caller] = byes.map(|bye| next.written(&bye));
    assert!(
        to_callee.contains("CSeq: 1007 BYE") && to_caller.contains("CSeq: 1001 BYE"),
        "{to_callee}{to_caller}"
    );
    assert_eq!((next.ends(), next.dialogs.counts()), (vec![CallEnd::Operator], (0, 1)));
    next.dialogs.restore(&mut next.shard.ctx(), &record);
    next.hear(number, "BYE", false, "two", "");
    assert_eq!((next.ends(), next.dialogs.counts()), (vec![CallEnd::CalleeHungUp], (0, 1)));
    // One whose time was over meanwhile.
    next.dialogs.restore(&mut next.shard.ctx(), &CallRecord { until_s: Some(1), ..record });
    next.wait_and_sweep(1);
    assert_eq!((next.ends(), next.dialogs.counts()), (vec![CallEnd::Timeout], (0, 1)));
    assert_eq!(next.shard.identity.calls.now(), 1);
}

#[test]
fn a_side_that_twice_does_not_know_of_its_call_ends_it() {
    let mut lab = Lab::new();
    lab.shard.policy.dialog.options_ping_interval_s = 30;
    let number = lab.begin();
    assert!(lab.wait_and_sweep(31).is_empty(), "nobody has answered");
    lab.answer(number, "two", "");
    lab.hear(number, "INFO", false, "two", "");
    assert!(lab.wait_and_sweep(29).is_empty());
    let pings = lab.wait_and_sweep(1);
    let [to_callee, to_caller] = &pings[..] else { panic!("{pings:?}") };
    let texts = [lab.written(&to_callee.request), lab.written(&to_caller.request)];
    assert!(
        texts[0].starts_with("OPTIONS sip:9002@10.0.0.8 SIP/2.0") && texts[0].contains("CSeq: 1 OPTIONS")
    );
    assert!(texts[1].starts_with("OPTIONS sip:1@10.0.0.9 SIP/2.0") && texts[1].contains("CSeq: 7 OPTIONS"));
    assert!(lab.wait_and_sweep(29).is_empty());
    let mut ended = |is_to_callee, is_lost| {
        let ended = lab.dialogs.ping_ended(&mut lab.shard.ctx(), number, is_to_callee, is_lost);
        ended.is_some()
    };
    let steps = [(true, true), (false, true), (true, false), (true, true), (false, false), (false, true)];
    assert_eq!(steps.map(|(to_callee, lost)| ended(to_callee, lost)), [false; 6]);
    assert!(ended(true, true));
    assert_eq!((lab.ends(), lab.dialogs.counts()), (vec![CallEnd::CalleeGone], (0, 0)));
}
