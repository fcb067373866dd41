//! One entry of the table, as small as it can be: its texts lie behind one another, and a usual flow takes twelve bytes.

use crate::base::flow::Flow;
use crate::contract::call::{CallNumber, CallRecord, CallSide, CallState, CallTexts};
use crate::contract::context::Ctx;

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) texts: CallTexts,
    pub(super) begun_s: u64,
    /// 0 before it is answered.
    pub(super) answered_s: u64,
    /// The same in monotonic milliseconds, which may be before the process's start.
    pub(super) answered_mono_ms: i64,
    /// When it ends by itself, in monotonic milliseconds; `u64::MAX` before it is answered.
    pub(super) until_ms: u64,
    pub(super) caller: CallSide,
    pub(super) callee: CallSide,
    /// How old it was when its sides were asked last, in seconds since the answer.
    pub(super) pinged_s: u32,
    /// Its number, where an earlier process gave it.
    pub(super) restored: Option<Box<CallNumber>>,
    pub(super) serial: u16,
    pub(super) state: CallState,
    /// How often in a row the caller, and the callee, did not know of the call any more.
    pub(super) lost: [u8; 2],
}

impl Call {
    /// A call of an earlier process.
    pub(super) fn restored(ctx: &Ctx<'_>, record: &CallRecord) -> Call {
        let left_s = record.until_s.map_or(0, |until_s| until_s.saturating_sub(ctx.now.unix_s));
        let age_s = record.answered_s.map_or(0, |answered_s| ctx.now.unix_s.saturating_sub(answered_s));
        // Its connection is gone.
        let side = |side: &CallSide| {
            CallSide::new(side.cseq, side.flow().map(|flow| Flow { connection: 0, ..flow }))
        };
        Call {
            texts: record.texts.clone(),
            begun_s: record.begun_s,
            answered_s: record.answered_s.unwrap_or(0),
            answered_mono_ms: ctx.now.mono_ms as i64 - age_s as i64 * 1000,
            until_ms: ctx.now.mono_ms + left_s * 1000,
            caller: side(&record.caller),
            callee: side(&record.callee),
            pinged_s: 0,
            restored: Some(Box::new(record.number)),
            serial: record.number.serial,
            state: CallState::Confirmed,
            lost: [0; 2],
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered_s != 0
    }

    /// The call as others see it.
    pub(super) fn record(&self, ctx: &Ctx<'_>, number: CallNumber) -> CallRecord {
        let left_s = self.until_ms.saturating_sub(ctx.now.mono_ms) / 1000;
        CallRecord {
            number,
            state: self.state,
            begun_s: self.begun_s,
            answered_s: self.is_answered().then_some(self.answered_s),
            lasted_ms: if self.is_answered() {
                (ctx.now.mono_ms as i64 - self.answered_mono_ms).max(0) as u64
            } else {
                0
            },
            until_s: self.is_answered().then_some(ctx.now.unix_s + left_s),
            caller: self.caller.clone(),
            callee: self.callee.clone(),
            texts: self.texts.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Call>() <= 144, "{}", size_of::<Call>());
    }
}
