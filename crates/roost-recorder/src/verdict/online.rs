//! It is registered: whether that is all.

use roost_core::{CallEnd, ContactRecord, Gone, ShownExpires};
use roost_sip::Method;

use crate::note::{Note, What};
use crate::telling::{call_word, source_of, why_of};
use crate::verdict::facts::{
    Facts, Make, Verdict, at_of, heard_ms, is_occupied, last_refused, notes, of_registration,
};
use crate::verdict::refusal::remedy_of;
use crate::words::{ago, clock, phone, seconds};

/// What is longer ago is not told of one that is registered, in milliseconds.
const LATELY_MS: u64 = 600_000;
/// So many refusals, or replacements, are a fight for the extension.
const FIGHT: u32 = 3;
/// A phone that was away longer than this was off, and did not just refresh late, in milliseconds.
const GAP_MS: u64 = 120_000;

/// Judges an extension that has this contact.
pub(super) fn online(facts: &Facts<'_>, contact: &ContactRecord) -> Verdict {
    let aor = facts.aor;
    let agent = String::from_utf8_lossy(&contact.user_agent).into_owned();
    let since = notes(facts).find(|note| matches!(note.what, What::Registered)).map(|note| note.first_ms);
    let since = since.map_or(String::new(), |since| format!(" since {}", clock(since, facts.now_ms)));
    let is = format!("{aor} is registered{since} from {}{}", at_of(contact), phone(&agent));
    let make = |word: &str, sentence: String, remedy: Vec<String>| Verdict {
        word: word.to_string(),
        is_online: true,
        sentence: format!("{is}{sentence}"),
        remedy,
    };
    let checks = [two_phones, refused_lately, cannot_be_called, late];
    checks.into_iter().find_map(|check| check(facts, contact, &make)).unwrap_or_else(|| {
        let left = match contact.expires {
            ShownExpires::Seconds(left) => format!("; its registration lasts {} more", seconds(left)),
            _ => String::new(),
        };
        make("fine", format!("{left}. Everything is right."), Vec::new())
    })
}

fn is_lately(facts: &Facts<'_>, note: &Note) -> bool {
    note.last_ms + LATELY_MS >= facts.now_ms
}

/// Another phone is refused again and again, or they replace one another.
fn two_phones(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let aor = facts.aor;
    let is_rival = |note: &&Note| {
        let is_occupied = matches!(note.what, What::Refused { reason, .. } if is_occupied(reason));
        is_occupied && is_lately(facts, note) && !is_same_phone(note, contact)
    };
    let refusals: u32 = notes(facts).filter(is_rival).map(|note| note.count).sum();
    if let Some(rival) = notes(facts).find(is_rival).filter(|_| refusals >= FIGHT) {
        let from = source_of(rival);
        let sentence = format!(
            "; another phone at {from}{} is refused as Occupied, {refusals} times in the last ten minutes: two phones use it.",
            phone(&rival.text)
        );
        let remedy = vec![
            format!("give one of them another extension, or switch the phone at {from} off"),
            format!("if the one at {from} is right: roost ul rm {aor}, and let it register first"),
        ];
        return Some(make("two-phones", sentence, remedy));
    }
    let is_replaced = |note: &&Note| note.what == What::Gone(Gone::Replaced) && is_lately(facts, note);
    let replaced: u32 = notes(facts).filter(is_replaced).map(|note| note.count).sum();
    let other = notes(facts).find(is_replaced).filter(|_| replaced >= FIGHT)?;
    let sentence = format!(
        "; registrations of it have replaced one another {replaced} times in the last ten minutes, the one from {} was the last that \
         had to go: two phones use it, or one that restarts again and again.",
        source_of(other)
    );
    let remedy = vec![
        "give one of the phones another extension, or raise `registrar.max_contacts`".to_string(),
        format!("roost trace {aor} shows who registers"),
    ];
    Some(make("two-phones", sentence, remedy))
}

/// Whether a refused REGISTER was of the phone that is registered: the same address, or the same Call-ID.
fn is_same_phone(note: &Note, contact: &ContactRecord) -> bool {
    let ip = note.source.map(|source| source.ip().to_string()).unwrap_or_default();
    let is_its_call_id = !note.call_id.is_empty() && note.call_id.as_bytes() == contact.callid;
    is_its_call_id || at_of(contact).contains(&ip) && !ip.is_empty()
}

/// It is registered still, but its last REGISTER was not taken, or another phone's.
fn refused_lately(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let last = last_refused(facts).filter(|note| is_lately(facts, note))?;
    let (when, from) = (ago(last.last_ms, facts.now_ms), source_of(last));
    let (why, word, remedy) = match last.what {
        What::Refused { reason, .. } => (why_of(reason), reason.word(), remedy_of(facts, reason, None)),
        _ => (
            "the database did not take it",
            "not-stored".to_string(),
            vec!["look at the database and the log: roost db check".to_string()],
        ),
    };
    let is_own = last.what == What::NotStored || is_same_phone(last, contact);
    let is_moved = matches!(last.what, What::Refused { reason, .. } if is_occupied(reason)) && is_own;
    let sentence = match (is_moved, is_own, contact.expires) {
        (true, ..) => format!(
            ", but the same phone (it keeps its Call-ID) has moved to {from}, and its refresh from there was refused {when}: {why}."
        ),
        (_, true, ShownExpires::Seconds(left)) => {
            format!(", but its last refresh, {when}, was refused: {why}; it is offline in {}.", seconds(left))
        }
        (_, true, _) => format!(", but its last refresh, {when}, was refused: {why}."),
        (_, false, _) => {
            format!("; another REGISTER of it, {when} from {from}{}, was refused: {why}.", phone(&last.text))
        }
    };
    Some(make(&word, sentence, remedy))
}

/// Calls to it fail, or may.
fn cannot_be_called(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    if contact.methods & Method::Invite.bit() == 0 {
        let sentence = ", but its Allow header takes no INVITE: calls to it are answered 404.".to_string();
        return Some(make("method-mask", sentence, vec!["allow INVITE in the phone's settings".to_string()]));
    }
    if let Some(pings) = contact.pings.filter(|pings| pings.lost > 0) {
        let sentence =
            format!(", but it has not answered the last {} pings: calls may not reach it.", pings.lost);
        let remedy = "look at the phone's network and its router; lower `nathelper.natping_interval`, or give shorter registrations \
                      (`registrar.max_expires`): that keeps the way through NAT open";
        return Some(make("pings-lost", sentence, vec![remedy.to_string()]));
    }
    // What was heard of it since makes good what was before.
    let heard_ms = heard_ms(facts).unwrap_or(0);
    let is_news = |note: &&Note| note.last_ms > heard_ms && is_lately(facts, note);
    let unanswered = notes(facts).filter(is_news).find_map(|note| match note.what {
        What::WasCalled(outcome) => Some((note, outcome)),
        _ => None,
    });
    if let Some((note, outcome)) = unanswered
        && let Some(word @ ("no-response" | "not-sent")) = call_word(&outcome)
    {
        let what = match outcome.end {
            CallEnd::Failed(408) => "the phone answered nothing at all",
            _ => "the phone could not be reached",
        };
        let sentence =
            format!(", but {what} when {} called it at {}.", note.text, clock(note.first_ms, facts.now_ms));
        return Some(make(word, sentence, vec![out_of_reach()]));
    }
    let lost = of_registration(facts).filter(is_news).find(|note| note.what == What::FlowLost)?;
    let sentence = format!(
        ", but its connection ended {}: a call to it needs a new one.",
        ago(lost.last_ms, facts.now_ms)
    );
    Some(make("flow-lost", sentence, vec![out_of_reach()]))
}

fn out_of_reach() -> String {
    "look whether the phone has power and network, and whether a firewall or NAT lets calls through to it \
     (`nathelper.natping_interval`)"
        .to_string()
}

/// It refreshes later than it is granted, and is offline in between.
fn late(facts: &Facts<'_>, _: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let remedy = "set a shorter registration time in the phone, or raise `registrar.max_expires` above the phone's; look for a network \
                  that drops its packets";
    let remedy = vec![remedy.to_string()];
    let over = notes(facts).find_map(|note| match note.what {
        What::Refreshed { least_left_ms } if least_left_ms < 0 => Some(-least_left_ms),
        _ => None,
    });
    if let Some(late_ms) = over {
        let sentence = format!(
            ", but it refreshes late: once its registration had been over for {} already; in between it was offline.",
            seconds(late_ms.unsigned_abs() / 1000)
        );
        return Some(make("refreshes-late", sentence, remedy));
    }
    // Where it is swept before it comes again, it is new each time.
    let all: Vec<_> =
        of_registration(facts).filter(|note| !matches!(note.what, What::Challenged(_))).collect();
    let gaps = all.windows(2).filter_map(|pair| match pair {
        [next, gone] if next.what == What::Registered && gone.what == What::Gone(Gone::Expired) => {
            Some(next.first_ms.saturating_sub(gone.last_ms))
        }
        _ => None,
    });
    let gaps: Vec<u64> = gaps.filter(|gap_ms| *gap_ms <= GAP_MS).collect();
    let is_recent = all.first().is_some_and(|note| is_lately(facts, note));
    let longest_ms = gaps.iter().max().filter(|_| is_recent)?;
    let times = if gaps.len() == 1 { "once".to_string() } else { format!("{} times", gaps.len()) };
    let sentence = format!(
        ", but it refreshes late: {times} of late its registration had ended before it came again, and it was offline for {} at most.",
        seconds(longest_ms.div_ceil(1000))
    );
    Some(make("refreshes-late", sentence, remedy))
}
