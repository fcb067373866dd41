//! A REGISTER that was refused: why, how often, what to do.

use std::net::IpAddr;

use roost_core::{Ban, Reason};

use crate::note::{Note, What};
use crate::telling::{source_of, why_of};
use crate::verdict::facts::{Facts, Make, Verdict, is_occupied, is_unknown, of_registration};
use crate::words::{ago, clock, phone};

/// Its last REGISTER was refused, and it is not registered.
pub(super) fn refused(facts: &Facts<'_>, last: &Note, reason: Reason, make: Make<'_>) -> Verdict {
    let (when, from) = (ago(last.last_ms, facts.now_ms), source_of(last));
    let ip = last.source.map(|source| source.ip());
    let ban = facts.bans.iter().find(|ban| is_about(ban, facts.aor, ip));
    let banned = ban.map_or(String::new(), |ban| {
        let whom = match (ban.source, ban.user.is_empty()) {
            (Some(_), true) => "the address is banned",
            (Some(_), false) => "the extension is banned at this address",
            (None, _) => "the extension is banned",
        };
        format!(", {whom} until {}", clock(facts.now_ms + ban.left_s * 1000, facts.now_ms))
    });
    // Refusals, challenges and bans follow one another.
    let is_try = |note: &&Note| matches!(note.what, What::Refused { is_register: true, .. });
    let in_a_row = of_registration(facts).take_while(|note| {
        is_try(note) || matches!(note.what, What::Banned { .. } | What::Challenged { .. })
    });
    let own = in_a_row.filter(|note| is_try(note) && note.source.map(|source| source.ip()) == ip);
    let (count, first_ms) = own.fold((0, last.first_ms), |(sum, _), note| (sum + note.count, note.first_ms));
    let tries = match count {
        0 | 1 => String::new(),
        count => format!("; {count} tries since {}", clock(first_ms, facts.now_ms)),
    };
    let why = why_of(reason);
    let sentence = format!(
        "Its last REGISTER, {when} from {from}{}, was refused: {why}{tries}{banned}.",
        phone(&last.text)
    );
    let (word, like) = match facts.similar {
        [_, ..] if is_unknown(facts, reason) => {
            ("similar-name".to_string(), format!(" There is {}.", facts.similar.join(", ")))
        }
        _ => (reason.word(), String::new()),
    };
    let none = match reason {
        Reason::UnknownUser | Reason::UnknownUserHidden => "",
        _ if is_unknown(facts, reason) => " There is no such extension.",
        _ => "",
    };
    make(&word, sentence + none + &like, remedy_of(facts, reason, ban))
}

/// A REGISTER that was not taken: its reason's word, why, what to do.
pub(super) fn cause(facts: &Facts<'_>, note: &Note) -> (String, &'static str, Vec<String>) {
    match note.what {
        What::Refused { reason, .. } => (reason.word(), why_of(reason), remedy_of(facts, reason, None)),
        _ => (
            "not-stored".to_string(),
            "the database did not take it",
            vec!["look at the database and the log: roost db check".to_string()],
        ),
    }
}

/// What to do about a refusal, and the ban that came of it.
pub(super) fn remedy_of(facts: &Facts<'_>, reason: Reason, ban: Option<&Ban>) -> Vec<String> {
    let aor = facts.aor;
    let password = || format!("roost user passwd {aor} …, or set the right password in the phone");
    let lift = ban.map(|ban| match ban.source {
        Some(source) if ban.user.is_empty() => format!("roost ban rm {source}"),
        Some(source) => format!("roost ban rm {aor} --at {source}"),
        None => format!("roost ban rm {aor}"),
    });
    let mut remedy = match reason {
        reason if is_unknown(facts, reason) => unknown(facts),
        Reason::WrongPassword | Reason::BannedPair | Reason::BannedUser => vec![password()],
        Reason::BannedSource => {
            vec![
                "roost why: which extensions of this address are refused, and correct their passwords"
                    .to_string(),
            ]
        }
        reason if is_occupied(reason) && facts.contacts.is_empty() => {
            vec![format!("let the phone register again: nobody occupies {aor} any more")]
        }
        Reason::Occupied | Reason::OccupiedInDatabase => {
            vec![
                format!("roost ul show {aor}: where it is registered"),
                format!("roost ul rm {aor} frees it"),
            ]
        }
        Reason::OtherUser => {
            vec!["user name and authentication name must be the same in the phone".to_string()]
        }
        Reason::NonceExpired | Reason::NonceUsed => vec![
            "the phone must answer with the new nonce: update its software, or raise `auth.nonce_expire`"
                .to_string(),
        ],
        Reason::CseqOrder => {
            let until = match facts.contacts {
                [] => String::new(),
                _ => format!(
                    ": it works again once the old registration has ended, or after roost ul rm {aor}"
                ),
            };
            vec![format!("the phone counts its CSeq anew under the same Call-ID{until}; update its software")]
        }
        Reason::CredentialsNotLoaded | Reason::InsertFailed | Reason::UpdateFailed | Reason::DeleteFailed => {
            vec!["look at the database and the log: roost db check".to_string()]
        }
        reason => vec![format!("roost explain {}", reason.word())],
    };
    remedy.extend(lift);
    remedy
}

/// What to do about a name that does not exist.
pub(super) fn unknown(facts: &Facts<'_>) -> Vec<String> {
    let like = facts.similar.iter().map(|name| format!("set {name} in the phone, if that is meant"));
    like.chain([format!("roost user add {} …", facts.aor)]).collect()
}

fn is_about(ban: &Ban, aor: &str, ip: Option<IpAddr>) -> bool {
    let is_user = ban.user.is_empty() || &*ban.user == aor.as_bytes();
    is_user && (ban.source.is_none() || ban.source == ip)
}
