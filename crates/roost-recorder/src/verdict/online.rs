//! It is registered: whether that is all.

use roost_core::{CallEnd, ContactRecord, ShownExpires};
use roost_sip::Method;

use crate::note::{Note, What};
use crate::telling::{call_word, source_of};
use crate::verdict::facts::{
    Facts, Make, Verdict, at_of, is_lately, is_occupied, last_refused, notes, of_registration, registered_ms,
};
use crate::verdict::fight::{fight, is_same_phone};
use crate::verdict::gaps::{Told, late_remedy, told};
use crate::verdict::refusal::cause;
use crate::words::{ago, clock, phone, seconds};

/// So many refreshes that come all too soon are no chance.
const OFTEN: u32 = 4;

/// Judges an extension that has this contact.
pub(super) fn online(facts: &Facts<'_>, contact: &ContactRecord) -> Verdict {
    let aor = facts.aor;
    let agent = String::from_utf8_lossy(&contact.user_agent).into_owned();
    let since = notes(facts).find(|note| matches!(note.what, What::Registered)).map(|note| note.last_ms);
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

/// Another phone is refused again and again, or they replace one another.
fn two_phones(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let fight = fight(facts, Some(contact))?;
    Some(make("two-phones", format!("; {}", fight.sentence), fight.remedy))
}

/// It is registered still, but its last REGISTER was not taken, or another phone's.
fn refused_lately(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let last = last_refused(facts).filter(|note| is_lately(facts, note))?;
    let (when, from) = (ago(last.last_ms, facts.now_ms), source_of(last));
    let (word, why, remedy) = cause(facts, last);
    let is_own = last.what == What::NotStored || is_same_phone(last, contact);
    let is_moved = matches!(last.what, What::Refused { reason, .. } if is_occupied(reason)) && is_own;
    let sentence = match (is_moved, is_own, contact.expires) {
        (true, ..) => format!(
            ", but the same phone (it keeps its Call-ID) has moved to {from}, and its refresh from there was refused {when}: {why}."
        ),
        (_, true, ShownExpires::Seconds(left)) => {
            format!(
                ", but its last refresh, {when}, was refused: {why}; it will be offline in {}.",
                seconds(left)
            )
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
    let path = String::from_utf8_lossy(&contact.path);
    if let Some(node) = facts.nodes_down.iter().find(|node| path.contains(&format!("@{node};"))) {
        let sentence = format!(", but the node that has its phone ({node}) is down: calls do not reach it.");
        let remedy = vec![
            "roost nodes shows which are up; bring that one back".to_string(),
            "let the phone register with another node: restart it, or wait until it does".to_string(),
        ];
        return Some(make("node-down", sentence, remedy));
    }
    if let Some(pings) = contact.pings.filter(|pings| pings.lost > 0) {
        let sentence =
            format!(", but it has not answered the last {} pings: calls may not reach it.", pings.lost);
        return Some(make("pings-lost", sentence, vec![out_of_reach(facts)]));
    }
    unanswered(facts, make).or_else(|| {
        let registered_ms = registered_ms(facts).unwrap_or(0);
        let is_news = |note: &&Note| note.last_ms > registered_ms && is_lately(facts, note);
        let lost = of_registration(facts).filter(is_news).find(|note| note.what == What::FlowLost)?;
        let sentence = format!(
            ", but its connection ended {}: a call to it needs a new one.",
            ago(lost.last_ms, facts.now_ms)
        );
        Some(make("flow-lost", sentence, vec![out_of_reach(facts)]))
    })
}

/// The last call to it was answered by nothing at all.
fn unanswered(facts: &Facts<'_>, make: Make<'_>) -> Option<Verdict> {
    let (note, outcome) = notes(facts).find_map(|note| match note.what {
        What::WasCalled(outcome) => Some((note, outcome)),
        _ => None,
    })?;
    let word = call_word(&outcome).filter(|word| ["no-response", "not-sent"].contains(word))?;
    // What was heard of it since makes good what was before, unless each time it comes from elsewhere.
    let since = notes(facts).find(|note| matches!(note.what, What::Registered | What::Refreshed { .. }));
    let since = since.filter(|since| since.last_ms >= note.last_ms);
    let moved = match since.map(|note| note.what) {
        None => "",
        Some(What::Refreshed { moves: 1.., .. }) => {
            "; its refreshes come from one port after another: a router forgets the way to it in between"
        }
        Some(_) => return None,
    };
    let what = match outcome.end {
        CallEnd::Failed(408) => "the phone answered nothing at all",
        _ => "the phone could not be reached",
    };
    let at = clock(note.first_ms, facts.now_ms);
    let heard = registered_ms(facts).map(|heard_ms| ago(heard_ms, facts.now_ms));
    let heard = heard.map_or(String::new(), |heard| format!("; it has refreshed last {heard}"));
    let sentence = format!(", but {what} when {} called it at {at}{heard}{moved}.", note.text);
    is_lately(facts, note).then(|| make(word, sentence, vec![out_of_reach(facts)]))
}

fn out_of_reach(facts: &Facts<'_>) -> String {
    let look = "look whether the phone has power and network, and whether a firewall or NAT lets calls through to it";
    match facts.natping_interval_s {
        0 => format!("{look}; `nathelper.natping_interval = 30` keeps the way through NAT open"),
        every_s @ 1..=30 => format!("{look} (roost pings it each {every_s} s already)"),
        every_s => {
            format!(
                "{look}; `nathelper.natping_interval` is {every_s}: 30 keeps the way through most NATs open"
            )
        }
    }
}

/// It refreshes later than it is granted, or is refused until its registration has ended, and is offline in between; or it comes all
/// too often.
fn late(facts: &Facts<'_>, _: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let refreshed = notes(facts).find_map(|note| match note.what {
        What::Refreshed { least_left_ms, .. } => Some((note, least_left_ms)),
        _ => None,
    });
    if let Some((note, late_ms @ ..0)) = refreshed {
        let sentence = format!(
            ", but it refreshes late: once its registration had been over for {} already; in between it was offline.",
            seconds(late_ms.unsigned_abs() / 1000)
        );
        let is_cut = note.granted_s >= facts.max_expires_s;
        return Some(make("refreshes-late", sentence, late_remedy(facts, is_cut)));
    }
    // Where it is swept before it comes again, it is new each time.
    if let Some(Told { word, text, remedy }) = told(facts) {
        return Some(make(&word, format!(", but {text}."), remedy));
    }
    let (note, left_ms) = refreshed.filter(|(note, _)| is_lately(facts, note) && note.count >= OFTEN)?;
    let every_ms = note.last_ms.saturating_sub(note.first_ms) / u64::from(note.count - 1);
    let granted_ms = left_ms.unsigned_abs() + every_ms;
    let sentence = format!(
        ", but it refreshes each {}, though it is granted {}: it may not get roost's answers.",
        seconds(every_ms.div_ceil(1000)),
        seconds(granted_ms / 1000)
    );
    let remedy = vec![
        "look whether a firewall or NAT lets the 200 through to the phone".to_string(),
        format!("roost trace {} shows what is sent to it", facts.aor),
    ];
    // A client that waits for its answer in vain tries again within this time (RFC 3261 section 17.1.2.2).
    (every_ms <= 35_000 && every_ms * 10 < granted_ms).then(|| make("refreshes-often", sentence, remedy))
}
