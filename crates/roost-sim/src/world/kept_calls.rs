//! What a journal of calls keeps: answered calls that have not ended, by what the engines tell.

use std::collections::BTreeMap;

use roost_core::{CallRecord, CallState, CallText, Event, ShardId};

/// The journal, which never loses anything.
#[derive(Debug, Default)]
pub(crate) struct KeptCalls {
    answered: BTreeMap<String, CallRecord>,
    /// Calls whose end was told.
    pub(crate) ended: u64,
    /// Answered calls that nobody could name any more.
    pub(crate) forgotten: u64,
}

impl KeptCalls {
    /// Takes what an engine tells.
    pub(crate) fn take(&mut self, event: &Event) {
        let Event::Dialog { record, end, .. } = event else { return };
        if end.is_some() {
            self.ended += 1;
            self.answered.remove(&record.number.id());
        } else if record.state == CallState::ConfirmedNotAcknowledged {
            self.answered.insert(record.number.id(), record.clone());
        }
    }

    /// Calls that a shard takes up.
    pub(crate) fn of(&self, shard: ShardId, shards: u16) -> Vec<CallRecord> {
        self.answered.values().filter(|call| call.number.home(shards) == shard).cloned().collect()
    }

    /// The Call-ID of each, and the tag of its answer.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let text = |call: &CallRecord, text| String::from_utf8_lossy(call.text(text)).into_owned();
        self.answered
            .values()
            .map(|call| (text(call, CallText::CallId), text(call, CallText::CalleeTag)))
            .collect()
    }

    pub(crate) fn forget(&mut self) {
        self.forgotten += self.answered.len() as u64;
        self.answered.clear();
    }
}
