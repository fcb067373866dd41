//! A REGISTER that was refused: why, how often, what to do.

use std::net::IpAddr;

use roost_core::{Ban, Reason};

use crate::note::{Note, What};
use crate::say;
use crate::shell::argument;
use crate::telling::{source_of, why_of};
use crate::verdict::facts::{Facts, Make, Verdict, is_occupied, is_unknown, of_registration};
use crate::words::{ago, clock, list, phone};

/// Its last REGISTER was refused, and it is not registered.
pub(super) fn refused(facts: &Facts<'_>, last: &Note, reason: Reason, make: Make<'_>) -> Verdict {
    let language = facts.language;
    let (when, from) = (ago(language, last.last_ms, facts.now_ms), source_of(language, last));
    let ip = last.source.map(|source| source.ip());
    let ban = facts.bans.iter().find(|ban| is_about(ban, facts.aor, ip));
    let banned = ban.map_or(String::new(), |ban| {
        let until = clock(facts.now_ms + ban.left_s * 1000, facts.now_ms);
        match (ban.source, ban.user.is_empty()) {
            (Some(_), true) => {
                say!(language, ", the address is banned until {until}", "，该地址被封禁至 {until}")
            }
            (Some(_), false) => say!(
                language,
                ", the extension is banned at this address until {until}",
                "，该分机在此地址被封禁至 {until}"
            ),
            (None, _) => {
                say!(language, ", the extension is banned until {until}", "，该分机被封禁至 {until}")
            }
        }
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
        count => {
            let since = clock(first_ms, facts.now_ms);
            say!(language, "; {count} tries since {since}", "；自 {since} 起试了 {count} 次")
        }
    };
    let (why, who) = (why_of(language, reason), phone(language, &last.text));
    let sentence = say!(
        language,
        "Its last REGISTER, {when} from {from}{who}, was refused: {why}{tries}{banned}.",
        "最近一次 REGISTER（{when}，来自 {from}{who}）被拒绝：{why}{tries}{banned}。"
    );
    let (word, like) = match facts.similar {
        [_, ..] if is_unknown(facts, reason) => {
            let names = list(language, facts.similar);
            ("similar-name".to_string(), say!(language, " There is {names}.", "存在分机 {names}。"))
        }
        _ => (reason.word(), String::new()),
    };
    let none = match reason {
        Reason::UnknownUser | Reason::UnknownUserHidden => String::new(),
        _ if is_unknown(facts, reason) => say!(language, " There is no such extension.", "没有这个分机。"),
        _ => String::new(),
    };
    make(&word, sentence + &none + &like, remedy_of(facts, reason, ban))
}

/// A REGISTER that was not taken: its reason's word, why, what to do.
pub(super) fn cause(facts: &Facts<'_>, note: &Note) -> (String, String, Vec<String>) {
    match note.what {
        What::Refused { reason, .. } => {
            (reason.word(), why_of(facts.language, reason).to_string(), remedy_of(facts, reason, None))
        }
        _ => (
            "not-stored".to_string(),
            say!(facts.language, "the database did not take it", "数据库未能保存"),
            vec![look_at_database(facts)],
        ),
    }
}

/// What to do about a refusal, and the ban that came of it.
pub(super) fn remedy_of(facts: &Facts<'_>, reason: Reason, ban: Option<&Ban>) -> Vec<String> {
    let own = argument(facts.aor);
    let lift = ban.map(|ban| match ban.source {
        Some(source) if ban.user.is_empty() => format!("roost ban rm {source}"),
        Some(source) => format!("roost ban rm --at {source} {own}"),
        None => format!("roost ban rm {own}"),
    });
    let mut remedy = match reason {
        reason if is_unknown(facts, reason) => unknown(facts),
        reason if is_occupied(reason) => occupied(facts),
        reason => vec![mended(facts, reason)],
    };
    remedy.extend(lift);
    remedy
}

/// What to do about an extension whose place another has.
fn occupied(facts: &Facts<'_>) -> Vec<String> {
    let (language, aor) = (facts.language, facts.aor);
    if facts.contacts.is_empty() {
        return vec![say!(
            language,
            "let the phone register again: nobody occupies {aor} any more",
            "让话机重新注册：{aor} 已无人占用"
        )];
    }
    let own = argument(aor);
    vec![
        say!(language, "roost ul show {own}: where it is registered", "roost ul show {own}：它在何处注册"),
        say!(language, "roost ul rm {own} frees it", "roost ul rm {own} 释放它"),
    ]
}

/// What to do about each of the other reasons.
fn mended(facts: &Facts<'_>, reason: Reason) -> String {
    let (language, own) = (facts.language, argument(facts.aor));
    match reason {
        Reason::WrongPassword | Reason::BannedPair | Reason::BannedUser => say!(
            language,
            "roost user passwd {own} …, or set the right password in the phone",
            "roost user passwd {own} …，或在话机上填写正确的密码"
        ),
        Reason::BannedSource => say!(
            language,
            "roost why: which extensions of this address are refused, and correct their passwords",
            "roost why：查看该地址的哪些分机被拒绝，并改正它们的密码"
        ),
        Reason::OtherUser => say!(
            language,
            "user name and authentication name must be the same in the phone",
            "话机上的用户名与认证名必须相同"
        ),
        Reason::NonceExpired | Reason::NonceUsed => say!(
            language,
            "the phone must answer with the new nonce: update its software, or raise `auth.nonce_expire`",
            "话机必须用新的 nonce 应答：升级其固件，或调大 `auth.nonce_expire`"
        ),
        Reason::CseqOrder => {
            let until = match facts.contacts {
                [] => String::new(),
                _ => say!(
                    language,
                    ": it works again once the old registration has ended, or after roost ul rm {own}",
                    "：旧注册过期后，或执行 roost ul rm {own} 后恢复"
                ),
            };
            say!(
                language,
                "the phone counts its CSeq anew under the same Call-ID{until}; update its software",
                "话机在同一 Call-ID 下重新开始计数 CSeq{until}；升级其固件"
            )
        }
        Reason::CredentialsNotLoaded | Reason::InsertFailed | Reason::UpdateFailed | Reason::DeleteFailed => {
            look_at_database(facts)
        }
        reason => format!("roost explain {}", reason.word()),
    }
}

fn look_at_database(facts: &Facts<'_>) -> String {
    say!(
        facts.language,
        "look at the database and the log: roost db check",
        "检查数据库和日志：roost db check"
    )
}

/// What to do about a name that does not exist.
pub(super) fn unknown(facts: &Facts<'_>) -> Vec<String> {
    let in_phone = |name: &String| {
        say!(
            facts.language,
            "set {name} in the phone, if that is meant",
            "如果本意是 {name}，请在话机上改为它"
        )
    };
    facts.similar.iter().map(in_phone).chain([format!("roost user add {} …", argument(facts.aor))]).collect()
}

fn is_about(ban: &Ban, aor: &str, ip: Option<IpAddr>) -> bool {
    let is_user = ban.user.is_empty() || &*ban.user == aor.as_bytes();
    is_user && (ban.source.is_none() || ban.source == ip)
}
