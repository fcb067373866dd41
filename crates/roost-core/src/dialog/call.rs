//! One entry of the table, as small as it can be: its texts lie behind one another, and a usual flow takes twelve bytes.

use crate::base::flow::{Flow, StoredFlow};
use crate::contract::call::{CallNumber, CallRecord, CallSide, CallState};
use crate::contract::context::Ctx;

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) texts: Texts,
    pub(super) begun_s: u64,
    /// 0 before it is answered.
    pub(super) answered_s: u64,
    /// When it ends by itself, in monotonic milliseconds; `u64::MAX` before it is answered.
    pub(super) until_ms: u64,
    pub(super) caller: Side,
    pub(super) callee: Side,
    pub(super) serial: u16,
    pub(super) state: CallState,
}

/// What one side has besides its texts.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// The number of its last request; 0 before its first.
    pub(super) cseq: u32,
    flow: Option<StoredFlow>,
}

impl Side {
    pub(super) fn new(cseq: u32, flow: Flow) -> Side {
        Side { cseq, flow: Some(flow.into()) }
    }

    pub(super) fn set_flow(&mut self, flow: Flow) {
        self.flow = Some(flow.into());
    }
}

/// Which text of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    CallId,
    CallerAor,
    CalleeAor,
    CallerUri,
    CallerTag,
    CallerContact,
    CallerRoutes,
    CalleeUri,
    CalleeTag,
    CalleeContact,
    CalleeRoutes,
}

const PARTS: usize = Part::CalleeRoutes as usize + 1;

/// All texts of a call.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Box<[u8]>,
    /// Where each ends.
    ends: [u16; PARTS],
}

impl Texts {
    /// A text; empty when it is not known.
    pub(super) fn get(&self, part: Part) -> &[u8] {
        let at = part as usize;
        let end = |at: usize| self.ends.get(at).map_or(0, |end| usize::from(*end));
        let start = at.checked_sub(1).map_or(0, end);
        self.bytes.get(start..end(at)).unwrap_or(&[])
    }

    /// Other texts for some parts, in their order. One that finds no room is left out: all together have as much as a
    /// message.
    pub(super) fn set(&mut self, new: &[(Part, &[u8])]) {
        let more: usize = new.iter().map(|(_, text)| text.len()).sum();
        let mut bytes = Vec::with_capacity(self.bytes.len() + more);
        let (mut ends, mut new, mut start) = ([0; PARTS], new.iter().peekable(), 0);
        for ((at, end), old_end) in ends.iter_mut().enumerate().zip(self.ends) {
            let old = start..usize::from(old_end);
            start = old.end;
            let text = match new.next_if(|(part, _)| *part as usize == at) {
                Some((_, text)) => text,
                None => self.bytes.get(old).unwrap_or(&[]),
            };
            if bytes.len() + text.len() <= usize::from(u16::MAX) {
                bytes.extend_from_slice(text);
            }
            *end = bytes.len() as u16;
        }
        *self = Texts { bytes: bytes.into(), ends };
    }
}

impl Call {
    pub(super) fn is_answered(&self) -> bool {
        self.answered_s != 0
    }

    /// One side as others see it.
    pub(super) fn side(&self, is_caller: bool) -> CallSide {
        let ([uri, tag, contact, routes], side) = match is_caller {
            true => {
                ([Part::CallerUri, Part::CallerTag, Part::CallerContact, Part::CallerRoutes], &self.caller)
            }
            false => {
                ([Part::CalleeUri, Part::CalleeTag, Part::CalleeContact, Part::CalleeRoutes], &self.callee)
            }
        };
        let text = |part: Part| self.texts.get(part).into();
        CallSide {
            uri: text(uri),
            tag: text(tag),
            contact: text(contact),
            routes: text(routes),
            cseq: side.cseq,
            flow: side.flow.as_ref().map(StoredFlow::get),
        }
    }

    /// The call as others see it.
    pub(super) fn record(&self, ctx: &Ctx<'_>, number: CallNumber) -> CallRecord {
        let left_s = self.until_ms.saturating_sub(ctx.now.mono_ms) / 1000;
        CallRecord {
            number,
            call_id: self.texts.get(Part::CallId).into(),
            state: self.state,
            begun_s: self.begun_s,
            answered_s: self.is_answered().then_some(self.answered_s),
            until_s: self.is_answered().then_some(ctx.now.unix_s + left_s),
            caller: self.side(true),
            callee: self.side(false),
            caller_aor: self.texts.get(Part::CallerAor).into(),
            callee_aor: self.texts.get(Part::CalleeAor).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_set_and_left() {
        assert!(size_of::<Call>() <= 128, "{}", size_of::<Call>());
        let mut texts = Texts::default();
        texts.set(&[(Part::CallId, b"id"), (Part::CalleeUri, b"sip:b"), (Part::CalleeRoutes, b"r")]);
        texts.set(&[(Part::CallerTag, b"tag"), (Part::CalleeUri, b"sip:bb")]);
        let got = [Part::CallId, Part::CallerTag, Part::CallerUri, Part::CalleeUri, Part::CalleeRoutes]
            .map(|part| texts.get(part).to_vec());
        assert_eq!(got, [&b"id"[..], b"tag", b"", b"sip:bb", b"r"]);
        // Too much: the rest stays.
        let long = vec![b'x'; 65_535];
        texts.set(&[(Part::CalleeContact, &long)]);
        assert_eq!((texts.get(Part::CalleeContact), texts.get(Part::CalleeRoutes)), (&b""[..], &b"r"[..]));
    }
}
