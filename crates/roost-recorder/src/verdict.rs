//! Why an extension is offline, or that it is not: one sentence from what is known now and what happened before.

use std::net::IpAddr;

use roost_core::{Ban, CallEnd, ContactRecord, Reason, ShownExpires};
use roost_sip::Method;

use crate::life::Life;
use crate::note::{CallOutcome, Note, What};
use crate::words::{ago, clock, phone, seconds};

/// Refusals of another place within this time are a fight for the extension, in milliseconds.
const FIGHT_MS: u64 = 600_000;
/// So many make one.
const FIGHT: u32 = 3;

/// What is known of an extension now.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
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
    /// Names that are like it: of subscribers, or of those that were asked for.
    pub similar: &'a [String],
    /// The same user in other domains, that was heard of.
    pub elsewhere: &'a [String],
    pub is_database_away: bool,
    pub is_loading: bool,
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

/// Judges.
pub fn verdict(facts: &Facts<'_>) -> Verdict {
    let is_live = |contact: &&ContactRecord| {
        !contact.is_stranded && !matches!(contact.expires, ShownExpires::Expired | ShownExpires::Seconds(0))
    };
    match facts.contacts.iter().find(is_live) {
        Some(contact) => online(facts, contact),
        None => offline(facts),
    }
}

fn online(facts: &Facts<'_>, contact: &ContactRecord) -> Verdict {
    let aor = facts.aor;
    let at = at_of(contact);
    let agent = String::from_utf8_lossy(&contact.user_agent).into_owned();
    let since = notes(facts).find(|note| matches!(note.what, What::Registered)).map(|note| note.first_ms);
    let since = since.map_or(String::new(), |since| format!(" since {}", clock(since, facts.now_ms)));
    let is = format!("{aor} is registered{since} from {at}{}", phone(&agent));
    let make = |word: &str, sentence: String, remedy: Vec<String>| Verdict {
        word: word.to_string(),
        is_online: true,
        sentence,
        remedy,
    };
    let is_fight = |note: &&Note| {
        let is_occupied =
            matches!(note.what, What::Refused { reason: Reason::Occupied | Reason::OccupiedInDatabase, .. });
        is_occupied && note.last_ms + FIGHT_MS >= facts.now_ms
    };
    let rival = notes(facts).find(is_fight);
    if let Some(rival) = rival.filter(|note| note.count >= FIGHT || fights(facts) >= FIGHT) {
        let (count, from) = (fights(facts), source_of(rival));
        let sentence = format!(
            "{is}; another phone at {from}{} is refused as Occupied, {count} times in the last ten minutes: two phones use it.",
            phone(&rival.text)
        );
        let remedy = vec![
            format!("give one of them another extension, or switch the phone at {from} off"),
            format!("if the one at {from} is right: roost ul rm {aor}, and let it register first"),
        ];
        return make("two-phones", sentence, remedy);
    }
    if contact.methods & Method::Invite.bit() == 0 {
        let sentence = format!("{is}, but its Allow header takes no INVITE: calls to it are answered 404.");
        return make("method-mask", sentence, vec!["allow INVITE in the phone's settings".to_string()]);
    }
    if let Some(pings) = contact.pings.filter(|pings| pings.lost > 0) {
        let sentence =
            format!("{is}, but it has not answered the last {} pings: calls may not reach it.", pings.lost);
        let remedy = "look at the phone's network and its router; a shorter registration keeps the way through NAT open";
        return make("pings-lost", sentence, vec![remedy.to_string()]);
    }
    let late = notes(facts).find_map(|note| match note.what {
        What::Refreshed { least_left_ms } if least_left_ms < 0 => Some(-least_left_ms),
        _ => None,
    });
    if let Some(late_ms) = late {
        let sentence = format!(
            "{is}, but it refreshes late: once its registration had been over for {} already; in between it was offline.",
            seconds(late_ms.unsigned_abs() / 1000)
        );
        let remedy = "set a longer registration time in the phone, or raise `registrar.min_expires`; look for a network that drops \
                      its packets";
        return make("refreshes-late", sentence, vec![remedy.to_string()]);
    }
    let left = match contact.expires {
        ShownExpires::Seconds(left) => format!("; its registration lasts {} more", seconds(left)),
        _ => String::new(),
    };
    make("fine", format!("{is}{left}. Everything is right."), Vec::new())
}

fn offline(facts: &Facts<'_>) -> Verdict {
    let aor = facts.aor;
    let make = |word: &str, sentence: String, remedy: Vec<String>| Verdict {
        word: word.to_string(),
        is_online: false,
        sentence: format!("{aor} is offline. {sentence}"),
        remedy,
    };
    if facts.is_loading && facts.life.is_none() {
        let sentence = "The table `location` is still being read; ask again in a moment.".to_string();
        return make("rows-not-read", sentence, Vec::new());
    }
    if let Some(contact) = facts.contacts.iter().find(|contact| contact.is_stranded) {
        let sentence = format!(
            "Its registration from {} stands, but the connection that it was made over is gone, and only the phone can make it again.",
            at_of(contact)
        );
        return make(
            "flow-lost",
            sentence,
            vec!["wait for the phone to register again, or restart it".to_string()],
        );
    }
    // What was asked of it in a call tells nothing about its registration.
    let last = notes(facts).find(|note| {
        let is_call = matches!(
            note.what,
            What::WasCalled(_) | What::CalledOthers(_) | What::Refused { is_register: false, .. }
        );
        !is_call
    });
    let Some(last) = last else { return unheard(facts, &make) };
    match last.what {
        What::Refused { reason, .. } => refused(facts, last, reason, &make),
        What::WasCalled(_) | What::CalledOthers(_) => unheard(facts, &make),
        _ => lost(facts, last, &make),
    }
}

/// It was registered, or banned, or asked for its password; nothing has followed.
fn lost(facts: &Facts<'_>, last: &Note, make: &dyn Fn(&str, String, Vec<String>) -> Verdict) -> Verdict {
    let aor = facts.aor;
    let (when, from) = (ago(last.last_ms, facts.now_ms), source_of(last));
    let who = phone(&last.text);
    match last.what {
        What::Banned { seconds: left } => make(
            "banned-user",
            format!("It was banned {when} for {}: too many wrong passwords.", seconds(left)),
            vec![format!("roost user passwd {aor} …"), format!("roost ban rm {aor}")],
        ),
        What::Challenged(_) => make(
            "no-credentials",
            format!(
                "It was asked for its password {when} at {from}, and has not come back with one{}.",
                times(last)
            ),
            vec![
                "set user name and password in the phone; its realm must be the server's domain".to_string(),
            ],
        ),
        What::Expired | What::Registered | What::Refreshed { .. } => make(
            "expired",
            format!(
                "Its registration has ended: the phone at {from}{who} did not refresh it; it was heard of {when}."
            ),
            vec![
                "look whether the phone has power and network, and whether its packets reach this server"
                    .to_string(),
            ],
        ),
        What::Unregistered => make(
            "unregistered",
            format!("Its registration was removed {when}: by the phone at {from}, or by an operator."),
            vec!["switch the account on in the phone".to_string()],
        ),
        What::FlowLost => make(
            "flow-lost",
            format!("The connection of its phone ended {when}."),
            vec!["look at the phone's network; it must connect again by itself".to_string()],
        ),
        What::PingsLost(count) => make(
            "pings-lost",
            format!("Its phone did not answer {count} pings and was taken for gone {when}."),
            vec!["look at the phone's network and its router".to_string()],
        ),
        What::NotStored => make(
            "not-stored",
            format!("The database did not take its registration {when}."),
            vec!["look at the database and the log: roost db check".to_string()],
        ),
        What::Refused { .. } | What::WasCalled(_) | What::CalledOthers(_) => unheard(facts, make),
    }
}

/// Nothing of its registration was heard.
fn unheard(facts: &Facts<'_>, make: &dyn Fn(&str, String, Vec<String>) -> Verdict) -> Verdict {
    let aor = facts.aor;
    let since = clock(facts.started_ms, facts.now_ms);
    let like = match facts.similar {
        [] => String::new(),
        names => format!(" There is one like it: {}.", names.join(", ")),
    };
    if let Some(other) = facts.elsewhere.first() {
        let sentence =
            format!("A phone registers as {other} instead: the domain in its settings is another.");
        return make("other-domain", sentence, vec![format!("set the phone's domain to that of {aor}")]);
    }
    match facts.exists {
        Some(false) => make(
            if facts.similar.is_empty() { "unknown-user" } else { "similar-name" },
            format!("There is no such extension.{like}"),
            vec![format!("roost user add {aor} …"), "roost user list".to_string()],
        ),
        None if facts.is_database_away => make(
            "database-away",
            format!("The database is away, and nothing was heard of it since {since}."),
            vec!["start the database".to_string()],
        ),
        _ => make(
            "never-seen",
            format!("No REGISTER of it has come since roost was started at {since}.{like}"),
            vec![
                "look at the server's address, port and transport in the phone's settings".to_string(),
                "look at firewalls between the phone and this server".to_string(),
            ],
        ),
    }
}

/// Its last REGISTER was refused.
fn refused(
    facts: &Facts<'_>,
    last: &Note,
    reason: Reason,
    make: &dyn Fn(&str, String, Vec<String>) -> Verdict,
) -> Verdict {
    let aor = facts.aor;
    let (when, from) = (ago(last.last_ms, facts.now_ms), source_of(last));
    let ip = last.source.map(|source| source.ip());
    let ban = facts.bans.iter().find(|ban| is_about(ban, aor, ip));
    let banned = ban.map_or(String::new(), |ban| {
        let whom = match (ban.source, ban.user.is_empty()) {
            (Some(_), true) => "the address is banned",
            (Some(_), false) => "the extension is banned at this address",
            (None, _) => "the extension is banned",
        };
        format!(", {whom} until {}", clock(facts.now_ms + ban.left_s * 1000, facts.now_ms))
    });
    // Refusals and bans follow one another.
    let is_try = |note: &&Note| matches!(note.what, What::Refused { is_register: true, .. });
    let in_a_row = notes(facts).take_while(|note| is_try(note) || matches!(note.what, What::Banned { .. }));
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
    let remedy = remedy_of(facts, reason, ban);
    let word = match (reason, facts.similar.is_empty()) {
        (Reason::UnknownUser | Reason::UnknownUserHidden, false) => "similar-name".to_string(),
        (reason, _) => reason.word(),
    };
    let like = match (reason, facts.similar) {
        (Reason::UnknownUser | Reason::UnknownUserHidden, [name, ..]) => format!(" There is {name}."),
        _ => String::new(),
    };
    make(&word, sentence + &like, remedy)
}

/// What to do about a refusal, and the ban that came of it.
fn remedy_of(facts: &Facts<'_>, reason: Reason, ban: Option<&Ban>) -> Vec<String> {
    let aor = facts.aor;
    let lift = ban.map(|ban| match ban.source {
        Some(source) if ban.user.is_empty() => format!("roost ban rm {source}"),
        Some(source) => format!("roost ban rm {aor} --at {source}"),
        None => format!("roost ban rm {aor}"),
    });
    let mut remedy = match reason {
        Reason::WrongPassword => vec![format!("roost user passwd {aor} …, or set the right password in the phone")],
        Reason::UnknownUser | Reason::UnknownUserHidden => {
            let like = facts.similar.iter().map(|name| format!("set {name} in the phone, if that is meant"));
            like.chain([format!("roost user add {aor} …")]).collect()
        }
        Reason::Occupied | Reason::OccupiedInDatabase => {
            vec![format!("roost ul show {aor}: where it is registered"), format!("roost ul rm {aor} frees it")]
        }
        Reason::OtherUser => vec!["user name and authentication name must be the same in the phone".to_string()],
        Reason::NonceExpired | Reason::NonceUsed => {
            vec!["the phone must answer with the new nonce: update its software, or raise `auth.nonce_expire`".to_string()]
        }
        Reason::CseqOrder => vec!["the phone was restarted with an older counter: it works again after the old registration has ended, or \
             roost ul rm it"
            .replace(" it", &format!(" {aor}"))],
        Reason::CredentialsNotLoaded | Reason::InsertFailed | Reason::UpdateFailed | Reason::DeleteFailed => {
            vec!["look at the database and the log: roost db check".to_string()]
        }
        reason => vec![format!("roost explain {}", reason.word())],
    };
    remedy.extend(lift);
    remedy
}

fn why_of(reason: Reason) -> &'static str {
    // What stands in brackets is for the log.
    reason.why().split(" (`").next().unwrap_or("")
}

/// Its notes, the newest first.
fn notes<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a Note> {
    facts.life.into_iter().flat_map(|life| life.notes().rev())
}

/// How often another place was refused as Occupied lately.
fn fights(facts: &Facts<'_>) -> u32 {
    let lately = notes(facts).filter(|note| {
        matches!(note.what, What::Refused { reason: Reason::Occupied | Reason::OccupiedInDatabase, .. })
            && note.last_ms + FIGHT_MS >= facts.now_ms
    });
    lately.map(|note| note.count).sum()
}

fn is_about(ban: &Ban, aor: &str, ip: Option<IpAddr>) -> bool {
    let is_user = ban.user.is_empty() || &*ban.user == aor.as_bytes();
    is_user && (ban.source.is_none() || ban.source == ip)
}

fn times(note: &Note) -> String {
    if note.count > 1 { format!(", {} times", note.count) } else { String::new() }
}

fn source_of(note: &Note) -> String {
    match note.source {
        Some(source) if source.port() == 0 => source.ip().to_string(),
        Some(source) => source.to_string(),
        None => "an unknown address".to_string(),
    }
}

fn at_of(contact: &ContactRecord) -> String {
    match &contact.received {
        Some(received) => received.trim_start_matches("sip:").to_string(),
        None => String::from_utf8_lossy(&contact.contact).into_owned(),
    }
}

/// A call's end, in words; for the other side and for its own.
pub fn call_words(outcome: &CallOutcome) -> String {
    let CallOutcome { end, rang_s, talked_s } = *outcome;
    let rang = format!("rang {}", seconds(u64::from(rang_s)));
    let talked = format!("talked {}", seconds(u64::from(talked_s)));
    match end {
        CallEnd::Failed(487) => format!("{rang}, then the caller gave up"),
        CallEnd::Failed(code @ (486 | 600)) => format!("busy ({code})"),
        CallEnd::Failed(code @ (408 | 480)) => format!("{rang}, no answer ({code})"),
        CallEnd::Failed(code @ (403 | 603)) => format!("declined ({code})"),
        CallEnd::Failed(code @ (404 | 410 | 604)) => {
            format!("not registered, or there is no such extension ({code})")
        }
        CallEnd::Failed(code) => format!("failed ({code})"),
        CallEnd::CallerHungUp => format!("{talked}, the caller hung up"),
        CallEnd::CalleeHungUp => format!("{talked}, the callee hung up"),
        CallEnd::Operator => format!("{talked}, an operator ended it"),
        CallEnd::CallerGone => format!("{talked}, then the caller's phone was gone"),
        CallEnd::CalleeGone => format!("{talked}, then the callee's phone was gone"),
        CallEnd::Timeout => format!("{talked}, then its time was over"),
    }
}

/// A note, in words.
pub fn note_words(note: &Note) -> String {
    let times = times(note);
    let who = phone(&note.text);
    match note.what {
        What::Challenged(reason) => format!("asked for its password{times}: {}", why_of(reason)),
        What::Refused { code, reason, is_register } => {
            let what = if is_register { "REGISTER" } else { "request" };
            format!("{what} refused{times}: {code} {}{who}", why_of(reason))
        }
        What::Registered => format!("registered{times}{who}"),
        What::Refreshed { least_left_ms } if least_left_ms < 0 => {
            format!("refreshed{times}, once {} late", seconds(least_left_ms.unsigned_abs() / 1000))
        }
        What::Refreshed { least_left_ms } => {
            format!(
                "refreshed{times}, {} before its end at the latest",
                seconds(least_left_ms.unsigned_abs() / 1000)
            )
        }
        What::Unregistered => format!("registration removed{times}"),
        What::Expired => format!("registration expired{times}"),
        What::FlowLost => format!("its connection is gone{times}"),
        What::PingsLost(count) => format!("did not answer {count} pings{times}"),
        What::NotStored => format!("the database did not take its registration{times}"),
        What::Banned { seconds: left } => format!("banned for {}{times}", seconds(left)),
        What::WasCalled(outcome) => format!("called by {}: {}", note.text, call_words(&outcome)),
        What::CalledOthers(outcome) => format!("called {}: {}", note.text, call_words(&outcome)),
    }
}

#[cfg(test)]
mod tests;
