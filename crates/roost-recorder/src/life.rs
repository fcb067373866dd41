//! What happened to one extension.

use std::collections::VecDeque;

use crate::note::{Note, What};
use crate::shelf::Weigh;

/// Notes of one extension at most; with their texts they stay below 2 kB.
const MOST: usize = 14;
const MOST_BYTES: usize = 2_000;

/// The last things that happened to an extension, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Life(VecDeque<Note>);

impl Life {
    /// All of them, the oldest first.
    pub fn notes(&self) -> impl DoubleEndedIterator<Item = &Note> {
        self.0.iter()
    }

    /// The last one.
    pub fn last(&self) -> Option<&Note> {
        self.0.back()
    }

    pub(crate) fn add(&mut self, note: Note) {
        let is_from_same = |other: &Note| other.source.map(|own| own.ip()) == note.source.map(|own| own.ip());
        // A challenge that was answered is nothing to tell.
        let is_answer = matches!(note.what, What::Registered | What::Refreshed { .. } | What::Refused { .. });
        if is_answer
            && let Some(last) = self.0.back().filter(|last| is_from_same(last))
            && matches!(last.what, What::Challenged(_))
        {
            self.0.pop_back();
        }
        // A call that roost refused, and whose end is told too, is one; the reason says more than the code.
        let is_refused_call = |note: &Note| matches!(note.what, What::CallRefused { .. });
        if note.what.is_call()
            && !note.call_id.is_empty()
            && let Some(other) = self.0.iter_mut().rev().take(3).find(|other| other.call_id == note.call_id)
            && (is_refused_call(&note) || is_refused_call(other))
        {
            if is_refused_call(&note) {
                *other = note;
            }
            return;
        }
        if self.0.back_mut().is_some_and(|last| last.merge(&note)) {
            return;
        }
        // Refreshes between calls are one line all the same.
        if let What::Refreshed { .. } = note.what
            && let Some(other) = self.0.iter().rposition(|other| matches!(other.what, What::Refreshed { .. }))
            && self.0.iter().skip(other + 1).all(|later| later.what.is_call())
            && self.0.get_mut(other).is_some_and(|other| other.merge(&note))
        {
            return;
        }
        self.0.push_back(note);
        while self.0.len() > MOST || (self.0.len() > 1 && self.weight() > MOST_BYTES) {
            self.0.pop_front();
        }
        if self.0.capacity() > 2 * MOST {
            self.0.shrink_to(MOST);
        }
    }
}

impl Weigh for Life {
    fn weight(&self) -> usize {
        self.0.iter().map(Note::weight).sum::<usize>() + size_of::<Life>()
    }
}
