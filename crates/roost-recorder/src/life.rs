//! What happened to one extension.

use std::collections::VecDeque;

use roost_core::{Gone, Reason};

use crate::note::{Note, What};
use crate::shelf::Weigh;

/// Notes of one extension at most; with their texts they stay below 2 kB.
const MOST: usize = 14;
const MOST_BYTES: usize = 2_000;
/// So many of the last are looked through for what a new one answers or says better.
const LOOKED_BACK: usize = 3;
/// Ports of one address that are told apart.
const MOST_PORTS: usize = 3;

/// The last things that happened to an extension, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Life {
    notes: VecDeque<Note>,
    /// What they take.
    bytes: usize,
}

impl Life {
    /// All of them, the oldest first.
    pub fn notes(&self) -> impl DoubleEndedIterator<Item = &Note> {
        self.notes.iter()
    }

    /// The last one.
    pub fn last(&self) -> Option<&Note> {
        self.notes.back()
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
        // Nearly always it is the same again: then nothing else is looked at.
        if !self.notes.back_mut().is_some_and(|last| last.merge(&note, false)) {
            self.add_other(note);
            self.bytes = self.notes.iter().map(Note::weight).sum();
        }
    }

    /// Adds what is not the same as the last.
    fn add_other(&mut self, mut note: Note) {
        if note.what == What::Gone(Gone::Expired) && note.count == 1 {
            note.last_ms = self.ended_ms(&note);
            note.first_ms = note.last_ms;
        }
        // A challenge that was answered is nothing to tell.
        let from = self.notes.len().saturating_sub(LOOKED_BACK);
        if let Some(answered) = self.notes.iter().skip(from).rposition(|other| other.is_answered_by(&note)) {
            self.notes.remove(from + answered);
        }
        let mut latest = self.notes.iter_mut().rev().take(LOOKED_BACK);
        if let Some(other) = latest.find(|other| other.is_call_of(&note)) {
            if matches!(note.what, What::CallRefused { .. }) {
                *other = note;
            }
            return;
        }
        if self.fold(&note) {
            return;
        }
        // Most have one or two.
        if self.notes.len() < 4 {
            self.notes.reserve_exact(1);
        }
        self.notes.push_back(note);
        let mut bytes: usize = self.notes.iter().map(Note::weight).sum();
        while self.notes.len() > MOST || (self.notes.len() > 1 && bytes > MOST_BYTES) {
            bytes -= self.notes.pop_front().map_or(0, |note| note.weight());
        }
        if self.notes.capacity() > 2 * MOST {
            self.notes.shrink_to(MOST);
        }
    }

    /// Adds it to the newest note that takes it in, behind those that do not matter to it; that is the last one then.
    fn fold(&mut self, note: &Note) -> bool {
        // A phone that comes from another port each time does not push everything else out.
        let is_alike = |other: &&Note| other.what == note.what && other.is_from_same_ip(note);
        let any_port = note.what.has_turns() && self.notes.iter().filter(is_alike).count() >= MOST_PORTS;
        let found = [false, true].into_iter().filter(|any| !any || any_port).find_map(|any_port| {
            let behind = self.notes.iter_mut().enumerate().rev();
            let mut behind = behind.map_while(|(at, other)| match other.merge(note, any_port) {
                true => Some(Some(at)),
                false => note.what.passes_over(other.what).then_some(None),
            });
            behind.find_map(|at| at)
        });
        let Some(at) = found else { return false };
        if at + 1 < self.notes.len()
            && let Some(note) = self.notes.remove(at)
        {
            self.notes.push_back(note);
        }
        true
    }

    /// When the registration ended whose end the note tells: it is swept a moment later.
    fn ended_ms(&self, note: &Note) -> u64 {
        let is_its = |other: &&Note| {
            matches!(other.what, What::Registered | What::Refreshed { .. }) && other.is_from_same_ip(note)
        };
        let granted = self.notes.iter().rev().find(is_its).filter(|other| other.granted_s > 0);
        let ended_ms = granted.map(|other| other.last_ms + u64::from(other.granted_s) * 1000);
        ended_ms.map_or(note.last_ms, |ended_ms| ended_ms.min(note.last_ms))
    }
}

impl Weigh for Life {
    fn weight(&self) -> usize {
        self.bytes + size_of::<Life>()
    }
}
