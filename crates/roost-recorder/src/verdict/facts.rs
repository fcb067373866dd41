//! What is known of an extension, and the answer.

use std::net::IpAddr;

use roost_core::{Ban, ContactRecord, Reason};

use crate::life::Life;
use crate::note::{Note, What};
use crate::reasons::Language;

/// What is longer ago is not told of one that is registered, in milliseconds.
const LATELY_MS: u64 = 600_000;

/// What is known of an extension now.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the answer is written in.
    pub language: Language,
    pub aor: &'a str,
    /// Now, and the start of the process, in milliseconds of unix time.
    pub now_ms: u64,
    pub started_ms: u64,
    /// Whether there is such a subscriber; `None`: the database does not say.
    pub exists: Option<bool>,
    pub contacts: &'a [ContactRecord],
    /// Those that concern it, or an address that it was heard from.
    pub bans: &'a [Ban],
    pub life: Option<&'a Life>,
    /// Extensions whose names are like it.
    pub similar: &'a [String],
    /// Names like it that do not exist, and that a phone registers as.
    pub mistaken: &'a [String],
    /// The same user in other domains that do not have it, and that a phone registers as.
    pub elsewhere: &'a [Namesake],
    /// Where the other nodes are reached that are down.
    pub nodes_down: &'a [String],
    pub is_database_away: bool,
    pub is_loading: bool,
    /// `nathelper.natping_interval` and `registrar.max_expires`, in seconds.
    pub natping_interval_s: u32,
    pub max_expires_s: u32,
}

/// Another name, and what was heard of it last.
#[derive(Debug, Clone)]
pub struct Namesake {
    pub name: String,
    pub last: Note,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The word of its entry in the table of reasons.
    pub word: String,
    pub is_online: bool,
    pub sentence: String,
    /// Commands and hints, most useful first.
    pub remedy: Vec<String>,
}

/// How a verdict is made: its word, its sentence, what to do.
pub(super) type Make<'m> = &'m dyn Fn(&str, String, Vec<String>) -> Verdict;

/// Its notes, the newest first.
pub(super) fn notes<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a Note> {
    facts.life.into_iter().flat_map(|life| life.notes().rev())
}

/// Those about its registration, the newest first: what was asked of it in a call tells nothing about that.
pub(super) fn of_registration<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a Note> {
    notes(facts).filter(|note| !note.what.is_beside_registration())
}

/// When its phone registered last, or refreshed, in milliseconds of unix time.
pub(super) fn registered_ms(facts: &Facts<'_>) -> Option<u64> {
    let is_success = |note: &&Note| matches!(note.what, What::Registered | What::Refreshed { .. });
    notes(facts).find(is_success).map(|note| note.last_ms)
}

/// When a REGISTER came last from an address, or was taken, in milliseconds of unix time.
pub(super) fn heard_ms(facts: &Facts<'_>, ip: Option<IpAddr>) -> Option<u64> {
    let is_from = |note: &Note| note.source.map(|source| source.ip()) == ip;
    let is_register = |note: &&Note| match note.what {
        What::Registered | What::Refreshed { .. } => true,
        What::Refused { .. } | What::Challenged { .. } => is_from(note),
        _ => false,
    };
    of_registration(facts).find(is_register).map(|note| note.last_ms)
}

pub(super) fn is_lately(facts: &Facts<'_>, note: &Note) -> bool {
    note.last_ms + LATELY_MS >= facts.now_ms
}

/// Whether it is a REGISTER that was not taken.
pub(super) fn is_refused(note: &Note) -> bool {
    matches!(note.what, What::Refused { is_register: true, .. } | What::NotStored)
}

/// Whether there is no such extension, as far as is known.
pub(super) fn is_unknown(facts: &Facts<'_>, reason: Reason) -> bool {
    matches!(reason, Reason::UnknownUser | Reason::UnknownUserHidden) || facts.exists == Some(false)
}

/// The last REGISTER, if it was refused or not stored and no later one was taken.
pub(super) fn last_refused<'a>(facts: &Facts<'a>) -> Option<&'a Note> {
    let is_answered = |note: &&Note| {
        matches!(
            note.what,
            What::Registered | What::Refreshed { .. } | What::Refused { .. } | What::NotStored
        )
    };
    let last = of_registration(facts).find(is_answered)?;
    matches!(last.what, What::Refused { .. } | What::NotStored).then_some(last)
}

/// Where it is registered from.
pub(super) fn at_of(contact: &ContactRecord) -> String {
    match &contact.received {
        Some(received) => received.trim_start_matches("sip:").to_string(),
        None => String::from_utf8_lossy(&contact.contact).into_owned(),
    }
}

/// Whether the place refused it as occupied by another.
pub(super) fn is_occupied(reason: Reason) -> bool {
    matches!(reason, Reason::Occupied | Reason::OccupiedInDatabase)
}
