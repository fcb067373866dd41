//! What happened to one extension.

use std::collections::VecDeque;

use roost_core::Reason;

use crate::note::{Note, What};
use crate::shelf::Weigh;

/// Notes of one extension at most; with their texts they stay below 2 kB.
const MOST: usize = 14;
const MOST_BYTES: usize = 2_000;
/// So many of the last are looked through for what a new one answers or says better.
const LOOKED_BACK: usize = 3;

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

    /// Whether it was registered, as far as is remembered.
    pub fn has_registered(&self) -> bool {
        self.notes().any(|note| matches!(note.what, What::Registered | What::Refreshed { .. }))
    }

    /// Whether its phone was refused as there is no such name, and has not registered since.
    pub fn is_of_unknown_name(&self) -> bool {
        let told = self.notes().rev().find_map(|note| match note.what {
            What::Registered | What::Refreshed { .. } => Some(false),
            What::Refused { reason: Reason::UnknownUser | Reason::UnknownUserHidden, .. } => Some(true),
            _ => None,
        });
        told.unwrap_or(false)
    }

    pub(crate) fn add(&mut self, note: Note) {
        // A challenge that was answered is nothing to tell.
        let from = self.0.len().saturating_sub(LOOKED_BACK);
        if let Some(answered) = self.0.iter().skip(from).rposition(|other| other.is_answered_by(&note)) {
            self.0.remove(from + answered);
        }
        if let Some(other) = self.0.iter_mut().rev().take(LOOKED_BACK).find(|other| other.is_call_of(&note)) {
            if matches!(note.what, What::CallRefused { .. }) {
                *other = note;
            }
            return;
        }
        if self.fold(&note) {
            return;
        }
        if self.0.is_empty() {
            // Many have one only.
            self.0.reserve_exact(1);
        }
        self.0.push_back(note);
        while self.0.len() > MOST || (self.0.len() > 1 && self.weight() > MOST_BYTES) {
            self.0.pop_front();
        }
        if self.0.capacity() > 2 * MOST {
            self.0.shrink_to(MOST);
        }
    }

    /// Adds it to the newest note that takes it in, behind those that do not matter to it; that is the last one then.
    fn fold(&mut self, note: &Note) -> bool {
        for (at, other) in self.0.iter_mut().enumerate().rev() {
            if other.merge(note) {
                if at + 1 < self.0.len()
                    && let Some(note) = self.0.remove(at)
                {
                    self.0.push_back(note);
                }
                return true;
            }
            if !note.what.passes_over(other.what) {
                return false;
            }
        }
        false
    }
}

impl Weigh for Life {
    fn weight(&self) -> usize {
        self.0.iter().map(Note::weight).sum::<usize>() + size_of::<Life>()
    }
}
