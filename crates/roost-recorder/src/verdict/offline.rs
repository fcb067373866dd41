//! It is not registered, or cannot be reached: why.

use roost_core::{ContactRecord, Gone, Reason};

use crate::note::{Note, What};
use crate::telling::{source_of, times, why_of};
use crate::verdict::facts::{
    Facts, Make, Verdict, at_of, heard_ms, is_occupied, last_refused, notes, of_registration,
};
use crate::verdict::fight::fight;
use crate::verdict::gaps::{Told, told};
use crate::verdict::refusal::{cause, refused, remedy_of, unknown};
use crate::words::{ago, clock, phone, seconds};

/// Judges an extension that has no contact that can be called.
pub(super) fn offline(facts: &Facts<'_>) -> Verdict {
    let make = |word: &str, sentence: String, remedy: Vec<String>| Verdict {
        word: word.to_string(),
        is_online: false,
        sentence: format!("{} is offline. {sentence}", facts.aor),
        remedy,
    };
    if facts.is_loading && facts.life.is_none() {
        let sentence = "The table `location` is still being read; ask again in a moment.".to_string();
        return make("rows-not-read", sentence, Vec::new());
    }
    if let Some(contact) = facts.contacts.iter().find(|contact| contact.is_stranded) {
        return stranded(facts, contact, &make);
    }
    let Some(last) = of_registration(facts).next() else { return unheard(facts, &make) };
    match last.what {
        What::Refused { reason, .. } if is_occupied(reason) => {
            after_fight(facts, refused(facts, last, reason, &make))
        }
        What::Refused { reason, .. } => refused(facts, last, reason, &make),
        // Its phone was here, and registers elsewhere now.
        What::Gone(_) if !facts.elsewhere.is_empty() => other_domain(facts, &make),
        What::Gone(why) => after_fight(facts, gone(facts, (last, why), &make)),
        _ => lost(facts, last, &make),
    }
}

/// The same, and that two phones used it, if they did.
fn after_fight(facts: &Facts<'_>, told: Verdict) -> Verdict {
    let Some(fight) = fight(facts, None) else { return told };
    Verdict {
        word: "two-phones".to_string(),
        sentence: format!("{} Before, {}", told.sentence, fight.sentence),
        remedy: fight.remedy.into_iter().chain(told.remedy).collect(),
        ..told
    }
}

fn stranded(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Verdict {
    let lost = notes(facts).find(|note| note.what == What::FlowLost);
    let when = lost.map_or(String::new(), |note| format!(" {}", ago(note.last_ms, facts.now_ms)));
    let sentence = format!(
        "Its registration from {} stands, but the connection that it was made over ended{when}, and only the phone can make it again.",
        at_of(contact)
    );
    make("flow-lost", sentence, vec!["wait for the phone to register again, or restart it".to_string()])
}

/// Its registration has ended.
fn gone(facts: &Facts<'_>, (last, why): (&Note, Gone), make: Make<'_>) -> Verdict {
    let (when, from) = (ago(last.last_ms, facts.now_ms), source_of(last));
    match why {
        Gone::Expired => expired(facts, last, make),
        Gone::Unregistered => make(
            "unregistered",
            format!("Its phone at {from} has unregistered {when}."),
            vec!["switch the account on in the phone".to_string()],
        ),
        Gone::Replaced => make(
            "replaced",
            format!("Its registration from {from} gave way to another one {when}, which is gone too."),
            vec!["look whether the phone has power and network".to_string()],
        ),
        Gone::PingsLost => {
            let lost = notes(facts).find_map(|note| match note.what {
                What::PingsLost(count) => Some(count.to_string()),
                _ => None,
            });
            make(
                "pings-lost",
                format!(
                    "Its phone at {from} did not answer {} pings, and its registration was removed {when} \
                     (`nathelper.remove_on_timeout`).",
                    lost.unwrap_or_default()
                ),
                vec!["look at the phone's network and its router".to_string()],
            )
        }
        Gone::Removed => make(
            "removed",
            format!("Its registration from {from} was removed {when} by an operator or a program."),
            vec!["restart the phone, or wait until it registers again".to_string()],
        ),
    }
}

/// Its time was over: because nothing came, or because what came was refused.
fn expired(facts: &Facts<'_>, last: &Note, make: Make<'_>) -> Verdict {
    let when = ago(last.last_ms, facts.now_ms);
    let heard = heard_ms(facts, last.source.map(|source| source.ip()))
        .map_or(String::new(), |heard_ms| format!("; it was heard of last {}", ago(heard_ms, facts.now_ms)));
    if let Some(refusal) = last_refused(facts) {
        let (at, from) = (clock(refusal.last_ms, facts.now_ms), source_of(refusal));
        let is_own = refusal.source.is_none_or(|own| last.source.is_none_or(|other| own.ip() == other.ip()));
        let (word, why, remedy) = cause(facts, refusal);
        let sentence = match is_own {
            true => format!(
                "Its registration ended {when}, because its refresh at {at} was refused: {why}{heard}."
            ),
            false => format!(
                "Its registration from {} ended {when}{heard}; a REGISTER from {from}{} at {at} was refused: {why}.",
                source_of(last),
                phone(&refusal.text)
            ),
        };
        return make(&word, sentence, remedy);
    }
    if let Some(Told { word, text, remedy }) = told(facts) {
        return make(&word, format!("Its registration ended {when}{heard}; {text}."), remedy);
    }
    let who = notes(facts).find(|note| matches!(note.what, What::Registered)).map(|note| phone(&note.text));
    make(
        "expired",
        format!(
            "Its registration ended {when}: the phone at {}{} did not refresh it{heard}.",
            source_of(last),
            who.unwrap_or_default()
        ),
        vec![
            "look whether the phone has power and network, and whether its packets reach this server"
                .to_string(),
        ],
    )
}

/// It was registered, or banned, or asked for its password; nothing has followed.
fn lost(facts: &Facts<'_>, last: &Note, make: Make<'_>) -> Verdict {
    let aor = facts.aor;
    let (when, from) = (ago(last.last_ms, facts.now_ms), source_of(last));
    match last.what {
        What::Banned { seconds: left } => make(
            "banned-user",
            format!("It was banned {when} for {}: too many wrong passwords.", seconds(left)),
            match facts.exists {
                Some(false) => unknown(facts),
                _ => vec![format!("roost user passwd {aor} …"), format!("roost ban rm {aor}")],
            },
        ),
        What::Challenged { reason: Reason::NoCredentials, .. } => make(
            "no-credentials",
            format!(
                "It was asked for its password {when} at {from}, and has not come back with one{}.",
                times(last)
            ),
            vec![
                "set user name and password in the phone; its realm must be the server's domain".to_string(),
                "where the phone has them: look whether roost's answers reach it (NAT, firewall)".to_string(),
            ],
        ),
        What::Challenged { reason, .. } => make(
            &reason.word(),
            format!(
                "Its last REGISTER, {when} from {from}, was answered 401 again{}: {}.",
                times(last),
                why_of(reason)
            ),
            remedy_of(facts, reason, None),
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
        What::NotStored if facts.is_database_away => make(
            "not-stored",
            format!("The database is away, and did not take its registration {when}."),
            vec!["start the database; roost db check says why it cannot be reached".to_string()],
        ),
        What::NotStored => make(
            "not-stored",
            format!(
                "The database did not take its registration {when}; it answers now, so that the next REGISTER may pass."
            ),
            vec!["wait for the phone's next REGISTER, or restart it; the log says what failed".to_string()],
        ),
        _ => expired(facts, last, make),
    }
}

fn other_domain(facts: &Facts<'_>, make: Make<'_>) -> Verdict {
    let names: Vec<_> = facts.elsewhere.iter().map(|other| other.name.as_str()).collect();
    let last = facts.elsewhere.first().map(|other| &other.last);
    let (at, when) = last.map_or((String::new(), String::new()), |last| {
        let at = format!(" at {}{}", source_of(last), phone(&last.text));
        (at, format!(", {} the last time", ago(last.last_ms, facts.now_ms)))
    });
    let domain = facts.aor.split_once('@').map_or(facts.aor, |(_, domain)| domain);
    let sentence = format!(
        "A phone{at} registers as {} instead{when}, which does not exist: the domain in its settings is not {domain}.",
        names.join(", ")
    );
    let look = names.first().map(|name| format!("roost why {name} shows what it sends"));
    let remedy = [format!("set the phone's domain to {domain}")].into_iter().chain(look);
    make("other-domain", sentence, remedy.collect())
}

/// Nothing of its registration was heard.
fn unheard(facts: &Facts<'_>, make: Make<'_>) -> Verdict {
    let aor = facts.aor;
    let since = clock(facts.started_ms, facts.now_ms);
    if !facts.elsewhere.is_empty() {
        return other_domain(facts, make);
    }
    match facts.exists {
        Some(false) => {
            let (word, like) = match facts.similar {
                [] => ("unknown-user", String::new()),
                names => ("similar-name", format!(" There is one like it: {}.", names.join(", "))),
            };
            make(
                word,
                format!("There is no such extension.{like}"),
                vec![format!("roost user add {aor} …"), "roost user list".to_string()],
            )
        }
        None if facts.is_database_away => make(
            "database-away",
            format!("The database is away, and nothing was heard of it since {since}."),
            vec!["start the database".to_string()],
        ),
        _ => {
            let mistaken = match facts.mistaken {
                [] => String::new(),
                names => format!(
                    " But a phone registers as {}, which does not exist: is that this one?",
                    names.join(", ")
                ),
            };
            let look =
                facts.mistaken.first().map(|name| format!("roost why {name} shows where that phone is"));
            let hints = [
                "look at the server's address, port and transport in the phone's settings".to_string(),
                "look at firewalls between the phone and this server".to_string(),
            ];
            make(
                "never-seen",
                format!("No REGISTER of it has come since roost was started at {since}.{mistaken}"),
                look.into_iter().chain(hints).collect(),
            )
        }
    }
}
