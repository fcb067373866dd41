//! Two phones that use one extension.

use std::net::IpAddr;

use roost_core::{ContactRecord, Gone};

use crate::note::{Note, What};
use crate::say;
use crate::shell::argument;
use crate::telling::source_of;
use crate::verdict::facts::{Facts, at_of, is_lately, is_occupied, notes};
use crate::words::phone;

/// So many refusals, or replacements, are a fight for the extension.
const FIGHT: u32 = 3;

/// What tells of it, and what to do.
pub(super) struct Fight {
    pub(super) sentence: String,
    pub(super) remedy: Vec<String>,
}

/// Whether two phones have fought for it lately; `holder`: who has it now.
pub(super) fn fight(facts: &Facts<'_>, holder: Option<&ContactRecord>) -> Option<Fight> {
    refused_in_turn(facts, holder).or_else(|| replaced_in_turn(facts))
}

/// One is refused again and again as the other has its place, or each in turn.
fn refused_in_turn(facts: &Facts<'_>, holder: Option<&ContactRecord>) -> Option<Fight> {
    let is_refusal = |note: &&Note| {
        let is_occupied = matches!(note.what, What::Refused { reason, .. } if is_occupied(reason));
        is_occupied && is_lately(facts, note) && !holder.is_some_and(|holder| is_call_id_of(note, holder))
    };
    let refusals = || notes(facts).filter(is_refusal);
    let is_holders = |note: &Note| holder.is_some_and(|holder| is_address_of(note, holder));
    // The holder's phone alone has come back to its place.
    let rival = refusals().find(|note| !is_holders(note))?;
    let has_other = |ip: Option<IpAddr>| {
        let others = notes(facts).filter(|note| is_lately(facts, note) && is_of_place(note.what));
        others.filter_map(|note| note.source).any(|source| Some(source.ip()) != ip)
    };
    let ip = rival.source.map(|source| source.ip());
    let count: u32 = refusals().map(|note| note.count).sum();
    if count < FIGHT || holder.is_none() && !has_other(ip) {
        return None;
    }
    let language = facts.language;
    let from = source_of(language, rival);
    let in_turn = refusals().find(|note| note.source.map(|source| source.ip()) != ip);
    // Where nobody has the extension it is over.
    let (is, are, use_it, chinese_use_it) = match holder {
        Some(_) => ("is", "are", "use it", "两部话机在用同一分机"),
        None => ("was", "were", "used it", "当时有两部话机用同一分机"),
    };
    let rival = phone(language, &rival.text);
    let who = match in_turn {
        Some(other) => {
            let (at, other) = (source_of(language, other), phone(language, &other.text));
            say!(
                language,
                "phones at {from}{rival} and {at}{other} {are} refused as Occupied in turn",
                "{from}{rival}和 {at}{other}的两部话机轮流因分机已被占用而遭拒绝"
            )
        }
        None => say!(
            language,
            "another phone at {from}{rival} {is} refused as Occupied",
            "另一部话机（{from}{rival}）因分机已被占用而遭拒绝"
        ),
    };
    let sentence = say!(
        language,
        "{who}, {count} times in the last ten minutes: two phones {use_it}.",
        "{who}，最近十分钟内 {count} 次：{chinese_use_it}。"
    );
    Some(Fight { sentence, remedy: apart(facts, &from, holder.is_some()) })
}

/// How the two get one extension each; `is_held`: one of them has it now.
fn apart(facts: &Facts<'_>, from: &str, is_held: bool) -> Vec<String> {
    let (language, own) = (facts.language, argument(facts.aor));
    let mut remedy = vec![say!(
        language,
        "give one of them another extension, or switch the phone at {from} off",
        "给其中一部换一个分机，或关掉 {from} 的话机"
    )];
    if is_held {
        remedy.push(say!(
            language,
            "if the one at {from} is right: roost ul rm {own}, and let it register first",
            "如果 {from} 的那部才是对的：roost ul rm {own}，并让它先注册"
        ));
    }
    remedy
}

/// They replace one another.
fn replaced_in_turn(facts: &Facts<'_>) -> Option<Fight> {
    let is_replaced = |note: &&Note| note.what == What::Gone(Gone::Replaced) && is_lately(facts, note);
    let replaced: u32 = notes(facts).filter(is_replaced).map(|note| note.count).sum();
    let other = notes(facts).find(is_replaced).filter(|_| replaced >= FIGHT)?;
    let (language, own) = (facts.language, argument(facts.aor));
    let from = source_of(language, other);
    let sentence = say!(
        language,
        "registrations of it have replaced one another {replaced} times in the last ten minutes, the one from {from} was the \
         last that had to go: two phones use it, or one that restarts again and again.",
        "最近十分钟内它的注册互相取代了 {replaced} 次，最后被取代的来自 {from}：两部话机在用同一分机，或一部话机反复重启。"
    );
    let remedy = vec![
        say!(
            language,
            "give one of the phones another extension, or raise `registrar.max_contacts`",
            "给其中一部话机换一个分机，或调大 `registrar.max_contacts`"
        ),
        say!(language, "roost trace {own} shows who registers", "roost trace {own} 显示是谁在注册"),
    ];
    Some(Fight { sentence, remedy })
}

/// Whether a note tells who has, had or wanted the extension.
fn is_of_place(what: What) -> bool {
    match what {
        What::Registered | What::Refreshed { .. } | What::Gone(_) => true,
        What::Refused { reason, .. } => is_occupied(reason),
        _ => false,
    }
}

/// Whether a REGISTER has the Call-ID of this binding.
fn is_call_id_of(note: &Note, contact: &ContactRecord) -> bool {
    !note.call_id.is_empty() && note.call_id.as_bytes() == contact.callid
}

fn is_address_of(note: &Note, contact: &ContactRecord) -> bool {
    note.source.is_some_and(|source| at_of(contact).contains(&source.ip().to_string()))
}

/// Whether a refused REGISTER was of the phone that is registered: the same address, or the same Call-ID.
pub(super) fn is_same_phone(note: &Note, contact: &ContactRecord) -> bool {
    is_call_id_of(note, contact) || is_address_of(note, contact)
}
