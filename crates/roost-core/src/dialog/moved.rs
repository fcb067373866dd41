//! Calls that nobody has answered yet and that go on in the process after this one; the others are kept by the journal.

use serde::{Deserialize, Serialize};

use crate::base::flow::Flow;
use crate::contract::call::{CallNumber, CallRecord, CallSide, CallState, CallText, CallTexts};
use crate::contract::context::Ctx;
use crate::dialog::Dialogs;
use crate::dialog::call::Call;

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MovedCall {
    number: CallNumber,
    state: CallState,
    begun_s: u64,
    caller: (u32, Option<Flow>),
    texts: Vec<Vec<u8>>,
}

/// What is known of a call before it is answered.
const TEXTS: [CallText; 8] = [
    CallText::CallId,
    CallText::CallerAor,
    CallText::CalleeAor,
    CallText::CallerUri,
    CallText::CallerTag,
    CallText::CallerContact,
    CallText::CallerRoutes,
    CallText::CalleeUri,
];

impl Dialogs {
    /// Those that nobody has answered.
    pub(crate) fn moved(&self, ctx: &Ctx<'_>) -> Vec<MovedCall> {
        let early = self.calls.iter_from(0).filter(|(_, call)| !call.is_answered());
        let moved = |(slot, call): (usize, &Call)| MovedCall {
            number: self.number(ctx, slot as u32),
            state: call.state,
            begun_s: call.begun_s,
            caller: (call.caller.cseq, call.caller.flow()),
            texts: TEXTS.map(|text| call.texts.get(text).to_vec()).to_vec(),
        };
        early.map(moved).collect()
    }

    /// Takes one up; it keeps its number.
    pub(crate) fn take_moved(&mut self, ctx: &mut Ctx<'_>, moved: MovedCall) {
        let MovedCall { number, state, begun_s, caller: (cseq, flow), texts } = moved;
        if self.restored.contains_key(&number) {
            return;
        }
        let mut own = CallTexts::default();
        let named: Vec<(CallText, &[u8])> = TEXTS.into_iter().zip(texts.iter().map(Vec::as_slice)).collect();
        own.set(&mut Vec::new(), &named);
        let (caller, callee) = (CallSide::new(cseq, flow), CallSide::default());
        let (answered_s, lasted_ms, until_s) = (None, 0, None);
        let record =
            CallRecord { number, state, begun_s, answered_s, lasted_ms, until_s, caller, callee, texts: own };
        let call = Call { state, until_ms: u64::MAX, ..Call::restored(ctx, &record) };
        self.early += 1;
        self.take_up(ctx, call, &record);
    }
}
