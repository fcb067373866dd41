//! The flight recorder: for every extension, and for names that do not exist, the last things that happened to it.
//!
//! It is fed by events only ([`Recorder::take`]), keeps no message and no secret, and is bounded: a note of the same kind adds to the
//! one before it, an extension has so many notes, and who was heard of longest ago is forgotten first. Names that nobody knows have
//! room of their own, so that guessers push no extension out.
#![forbid(unsafe_code)]

mod failures;
mod kept;
mod life;
mod note;
mod reasons;
mod shelf;
mod shell;
mod telling;
mod verdict;
mod words;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failures::{Asker, Failures};
use crate::shelf::Shelf;
use roost_core::{
    Asked, AskedMore, CallEnd, CallRecord, CallState, CallText, Event, EventKind, Reason, Topics,
};

pub use failures::{Branch, Failure, Message};
pub use life::Life;
pub use note::{CallOutcome, Note, What};
pub use reasons::{Explanation, Language, Names, REASONS, answer_of, page};
pub use shell::{argument, shell_word};
pub use telling::{call_word, call_words, note_words, refusal_words};
pub use verdict::{Facts, Namesake, Verdict, verdict};
pub use words::{clock, list};

/// Keeps what happened. Clones are one.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

struct Inner {
    use_domain: bool,
    extensions: Shelf<Life>,
    /// Names that do not exist, as far as is known.
    strangers: Shelf<Life>,
    failures: Failures,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// The events that it wants.
    pub const TOPICS: Topics = Topics::of(EventKind::Challenge)
        .and(Topics::of(EventKind::Refusal(Reason::UnknownUser)))
        .and(Topics::of(EventKind::Refresh))
        .and(Topics::of(EventKind::Loss))
        .and(Topics::of(EventKind::Ban))
        .and(Topics::CALLS);

    /// The same, and messages of what failed.
    pub const TOPICS_WITH_MESSAGES: Topics = Recorder::TOPICS.and(Topics::of(EventKind::Exchange));

    /// An empty one that holds so many bytes; `use_domain`: extensions are user@domain.
    pub fn new(bytes: usize, use_domain: bool) -> Recorder {
        let (extensions, strangers) = Shelf::pair(bytes);
        let failures = Failures::new(0);
        Recorder(Arc::new(Mutex::new(Inner { use_domain, extensions, strangers, failures })))
    }

    /// The same, with so many bytes of messages of what failed.
    #[must_use]
    pub fn with_messages(self, bytes: usize) -> Recorder {
        self.inner().failures = Failures::new(bytes);
        self
    }

    /// Takes what has happened; `now_ms` is unix time.
    pub fn take<'e>(&self, events: impl IntoIterator<Item = &'e Event>, now_ms: u64) {
        let mut inner = self.inner();
        for event in events {
            inner.take(event, now_ms);
        }
    }

    /// What is known of an extension, or of a name.
    pub fn life(&self, aor: &[u8]) -> Option<Life> {
        let inner = self.inner();
        inner.extensions.peek(aor).or_else(|| inner.strangers.peek(aor)).cloned()
    }

    /// The messages of what failed last of an extension, or under a Call-ID.
    pub fn failure(&self, aor: Option<&[u8]>, call_id: Option<&[u8]>) -> Option<Failure> {
        // Of a call that came from elsewhere its note says the Call-ID.
        let life = aor.and_then(|aor| self.life(aor)).unwrap_or_default();
        let is_its = |failure: &Failure| {
            Some(&*failure.aor) == aor
                || life.notes().any(|note| note.call_id.as_bytes() == &*failure.call_id)
        };
        self.inner().failures.find(|failure| match call_id {
            Some(call_id) => *failure.call_id == *call_id,
            None => is_its(failure),
        })
    }

    /// Those that `wants` their name and life, at most so many, who was heard of last first.
    pub fn find(&self, most: usize, mut wants: impl FnMut(&[u8], &Life) -> bool) -> Vec<(Box<[u8]>, Life)> {
        let inner = self.inner();
        let all = inner.extensions.iter().chain(inner.strangers.iter());
        let wanted = all.filter(|(aor, life)| wants(aor, life)).take(most);
        wanted.map(|(aor, life)| (aor.clone(), life.clone())).collect()
    }

    /// Names (`group:name`) and values.
    pub fn statistics(&self) -> [(&'static str, u64); 6] {
        let inner = self.inner();
        [
            ("recorder:extensions", inner.extensions.len() as u64),
            ("recorder:unknown_names", inner.strangers.len() as u64),
            ("recorder:bytes", (inner.extensions.bytes() + inner.strangers.bytes()) as u64),
            ("recorder:evicted", inner.extensions.evicted() + inner.strangers.evicted()),
            ("recorder:failures", inner.failures.count() as u64),
            ("recorder:failure_bytes", inner.failures.bytes() as u64),
        ]
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, event: &Event, now_ms: u64) {
        match event {
            Event::Challenged { user, host, source, reason, is_register } => {
                let aor = self.aor(user, host);
                let what = What::Challenged { reason: *reason, is_register: *is_register };
                self.note(&aor, now_ms, Note::new(what).from(*source));
            }
            Event::Refused { asked, code, reason } => {
                self.note_refused(asked, (*code, *reason), now_ms);
            }
            Event::Refreshed { aor, source, left_ms, granted_s, agent } => {
                let what = match left_ms {
                    Some(left_ms) => What::Refreshed { least_left_ms: *left_ms, moves: 0 },
                    None => What::Registered,
                };
                let (source, granted_s) = (*source, granted_s.unwrap_or(0));
                self.note(aor, now_ms, Note { source, granted_s, ..Note::new(what).with_text(agent) });
            }
            Event::Unregistered { aor, contact, why, .. } => {
                self.note(aor, now_ms, Note { source: contact.source, ..Note::new(What::Gone(*why)) });
            }
            Event::FlowLost { aor, .. } => self.note(aor, now_ms, Note::new(What::FlowLost)),
            Event::PingsLost { aor, lost, .. } => self.note(aor, now_ms, Note::new(What::PingsLost(*lost))),
            Event::CommitFailed { aor } => self.note(aor, now_ms, Note::new(What::NotStored)),
            Event::Banned(ban) if !ban.user.is_empty() => {
                let note = Note::new(What::Banned { seconds: ban.left_s });
                let source = ban.source.map(|ip| std::net::SocketAddr::new(ip, 0));
                self.note(&ban.user, now_ms, Note { source, ..note });
            }
            Event::Dialog { record, old, end: Some(end) } => {
                let has_rung = record.answered_s.is_some() || *old == CallState::Early;
                self.note_call(record, (*end, has_rung), now_ms);
            }
            Event::Exchange(passed) => {
                let Some(Asker { user, host, call_id }) = self.failures.asker(passed) else { return };
                let aor = self.aor(&user, &host);
                let is_known = self.extensions.contains(&aor);
                self.failures.take((&aor, &call_id), is_known, passed, now_ms);
            }
            _ => {}
        }
    }

    /// A request was refused: of a call that was to begin both sides remember it.
    fn note_refused(&mut self, asked: &Asked, (code, reason): (u16, Reason), now_ms: u64) {
        let Asked { user, host, flow, user_agent, method, more } = asked;
        let AskedMore { call_id, callee_user, callee_host } = &**more;
        let aor = self.aor(user, host);
        if callee_user.is_empty() {
            let is_register = method.as_ref() == b"REGISTER";
            let what = What::Refused { code, reason, is_register };
            let note = Note::new(what).from(flow.remote).with_text(user_agent).with_call_id(call_id);
            if !user.is_empty() {
                self.note(&aor, now_ms, note);
            }
            return;
        }
        let callee = self.aor(callee_user, callee_host);
        for (own, other, is_caller) in [(&aor, &callee, true), (&callee, &aor, false)] {
            let what = What::CallRefused { code, reason, is_caller };
            let note = Note::new(what).with_text(other).with_call_id(call_id);
            // The callee has sent nothing.
            let note = if is_caller { note.from(flow.remote) } else { note };
            if !own.is_empty() {
                self.note(own, now_ms, note);
            }
        }
    }

    /// A call has ended: both sides remember it.
    fn note_call(&mut self, record: &CallRecord, (end, has_rung): (CallEnd, bool), now_ms: u64) {
        let rang_s = record.answered_s.unwrap_or(now_ms / 1000).saturating_sub(record.begun_s);
        let outcome = CallOutcome {
            end,
            has_rung,
            rang_s: rang_s.min(u64::from(u32::MAX)) as u32,
            talked_s: (record.lasted_ms / 1000).min(u64::from(u32::MAX)) as u32,
        };
        let sides = [
            (CallText::CallerAor, CallText::CalleeAor, CallText::CalleeUri, true),
            (CallText::CalleeAor, CallText::CallerAor, CallText::CallerUri, false),
        ];
        for (own, other_aor, other_uri, is_caller) in sides {
            let other = match record.text(other_aor) {
                [] => record.text(other_uri),
                aor => aor,
            };
            let what = if is_caller { What::CalledOthers(outcome) } else { What::WasCalled(outcome) };
            if !record.text(own).is_empty() {
                let note = Note::new(what).with_text(other).with_call_id(record.text(CallText::CallId));
                let note = Note { first_ms: record.begun_s * 1000, ..note };
                self.note(record.text(own), now_ms, note);
            }
        }
    }

    fn note(&mut self, aor: &[u8], now_ms: u64, note: Note) {
        let first_ms = if note.first_ms == 0 { now_ms } else { note.first_ms.min(now_ms) };
        let is_unknown = note.what.may_be_a_strangers();
        let note = Note { first_ms, last_ms: now_ms, ..note };
        let Some(add) = self.extensions.change(aor, |life: &mut Life| life.add(note)) else { return };
        // Workers' events may come in another order than things happened: whatever an extension alone can do makes it one.
        match is_unknown {
            true => self.strangers.change_or_put(aor, Life::default, add),
            false => {
                let mut life = self.strangers.remove(aor).unwrap_or_default();
                add(&mut life);
                self.extensions.put(aor, life);
            }
        }
    }

    /// As tables have it.
    fn aor(&self, user: &[u8], host: &[u8]) -> Box<[u8]> {
        match self.use_domain {
            true => [user, b"@", host].concat().into(),
            false => user.into(),
        }
    }
}

#[cfg(test)]
mod tests;
