//! Why an extension is offline, or that it is not: one sentence from what is known now and what happened before.

mod facts;
mod fight;
mod gaps;
mod offline;
mod online;
mod refusal;

use roost_core::{ContactRecord, ShownExpires};

pub use facts::{Facts, Namesake, Verdict};

/// Judges.
pub fn verdict(facts: &Facts<'_>) -> Verdict {
    let is_live = |contact: &&ContactRecord| {
        !contact.is_stranded && !matches!(contact.expires, ShownExpires::Expired | ShownExpires::Seconds(0))
    };
    match facts.contacts.iter().find(is_live) {
        Some(contact) => online::online(facts, contact),
        None => offline::offline(facts),
    }
}

#[cfg(test)]
mod tests;
