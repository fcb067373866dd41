//! It is registered: whether that is all.

use roost_core::{CallEnd, ContactRecord, ShownExpires};
use roost_sip::Method;

use crate::note::{Note, What};
use crate::say;
use crate::shell::argument;
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
    let (language, aor) = (facts.language, facts.aor);
    let agent = String::from_utf8_lossy(&contact.user_agent).into_owned();
    let since = notes(facts).find(|note| matches!(note.what, What::Registered)).map(|note| note.last_ms);
    let since = since.map_or(String::new(), |since| {
        let since = clock(since, facts.now_ms);
        say!(language, " since {since}", "自 {since} 起")
    });
    let (from, agent) = (at_of(contact), phone(language, &agent));
    let is = say!(
        language,
        "{aor} is registered{since} from {from}{agent}",
        "{aor} {since}已注册，来自 {from}{agent}"
    );
    let make = |word: &str, sentence: String, remedy: Vec<String>| Verdict {
        word: word.to_string(),
        is_online: true,
        sentence: format!("{is}{sentence}"),
        remedy,
    };
    let checks = [two_phones, refused_lately, cannot_be_called, late];
    checks.into_iter().find_map(|check| check(facts, contact, &make)).unwrap_or_else(|| {
        let left = match contact.expires {
            ShownExpires::Seconds(left) => {
                let left = seconds(language, left);
                say!(language, "; its registration lasts {left} more", "；注册还有 {left}到期")
            }
            _ => String::new(),
        };
        make("fine", say!(language, "{left}. Everything is right.", "{left}。一切正常。"), Vec::new())
    })
}

/// Another phone is refused again and again, or they replace one another.
fn two_phones(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let fight = fight(facts, Some(contact))?;
    let sentence = say!(facts.language, "; {fight}", "；{fight}", fight = fight.sentence);
    Some(make("two-phones", sentence, fight.remedy))
}

/// It is registered still, but its last REGISTER was not taken, or another phone's.
fn refused_lately(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let last = last_refused(facts).filter(|note| is_lately(facts, note))?;
    let language = facts.language;
    let (when, from) = (ago(language, last.last_ms, facts.now_ms), source_of(language, last));
    let (word, why, remedy) = cause(facts, last);
    let is_own = last.what == What::NotStored || is_same_phone(last, contact);
    let is_moved = matches!(last.what, What::Refused { reason, .. } if is_occupied(reason)) && is_own;
    let sentence = match (is_moved, is_own, contact.expires) {
        (true, ..) => say!(
            language,
            ", but the same phone (it keeps its Call-ID) has moved to {from}, and its refresh from there was refused {when}: {why}.",
            "，但同一部话机（Call-ID 未变）已移到 {from}，它 {when}从那里的刷新被拒绝：{why}。"
        ),
        (_, true, ShownExpires::Seconds(left)) => say!(
            language,
            ", but its last refresh, {when}, was refused: {why}; it will be offline in {left}.",
            "，但它最近一次刷新（{when}）被拒绝：{why}；{left}后将离线。",
            left = seconds(language, left)
        ),
        (_, true, _) => say!(
            language,
            ", but its last refresh, {when}, was refused: {why}.",
            "，但它最近一次刷新（{when}）被拒绝：{why}。"
        ),
        (_, false, _) => say!(
            language,
            "; another REGISTER of it, {when} from {from}{who}, was refused: {why}.",
            "；另一个 REGISTER（{when}，来自 {from}{who}）被拒绝：{why}。",
            who = phone(language, &last.text)
        ),
    };
    Some(make(&word, sentence, remedy))
}

/// Calls to it fail, or may.
fn cannot_be_called(facts: &Facts<'_>, contact: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let language = facts.language;
    if contact.methods & Method::Invite.bit() == 0 {
        let sentence = say!(
            language,
            ", but its Allow header takes no INVITE: calls to it are answered 404.",
            "，但它的 Allow 头不接受 INVITE：呼叫它会得到 404。"
        );
        let remedy = say!(language, "allow INVITE in the phone's settings", "在话机设置里允许 INVITE");
        return Some(make("method-mask", sentence, vec![remedy]));
    }
    let path = String::from_utf8_lossy(&contact.path);
    if let Some(node) = facts.nodes_down.iter().find(|node| path.contains(&format!("@{node};"))) {
        let sentence = say!(
            language,
            ", but the node that has its phone ({node}) is down: calls do not reach it.",
            "，但连着其话机的节点（{node}）已停：呼叫到不了它。"
        );
        let remedy = vec![
            say!(
                language,
                "roost nodes shows which are up; bring that one back",
                "roost nodes 显示哪些节点在运行；恢复那一个"
            ),
            say!(
                language,
                "let the phone register with another node: restart it, or wait until it does",
                "让话机向另一节点注册：重启话机，或等它自己去注册"
            ),
        ];
        return Some(make("node-down", sentence, remedy));
    }
    if let Some(pings) = contact.pings.filter(|pings| pings.lost > 0) {
        let sentence = say!(
            language,
            ", but it has not answered the last {lost} pings: calls may not reach it.",
            "，但它没有应答最近 {lost} 次 ping：呼叫可能到不了它。",
            lost = pings.lost
        );
        return Some(make("pings-lost", sentence, vec![out_of_reach(facts)]));
    }
    unanswered(facts, make).or_else(|| {
        let registered_ms = registered_ms(facts).unwrap_or(0);
        let is_news = |note: &&Note| note.last_ms > registered_ms && is_lately(facts, note);
        let lost = of_registration(facts).filter(is_news).find(|note| note.what == What::FlowLost)?;
        let sentence = say!(
            language,
            ", but its connection ended {when}: a call to it needs a new one.",
            "，但它的连接 {when}中断：呼叫它需要新的连接。",
            when = ago(language, lost.last_ms, facts.now_ms)
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
    let language = facts.language;
    let moved = match since.map(|note| note.what) {
        None => String::new(),
        Some(What::Refreshed { moves: 1.., .. }) => say!(
            language,
            "; its refreshes come from one port after another: a router forgets the way to it in between",
            "；它的刷新来自不断变化的端口：路由器在此期间忘记了通往它的路"
        ),
        Some(_) => return None,
    };
    let what = match outcome.end {
        CallEnd::Failed(408) => say!(language, "the phone answered nothing at all", "话机毫无应答"),
        _ => say!(language, "the phone could not be reached", "无法到达话机"),
    };
    let (at, who) = (clock(note.first_ms, facts.now_ms), &note.text);
    let heard = registered_ms(facts).map_or(String::new(), |heard_ms| {
        let heard = ago(language, heard_ms, facts.now_ms);
        say!(language, "; it has refreshed last {heard}", "；它最近一次刷新在 {heard}")
    });
    let sentence = say!(
        language,
        ", but {what} when {who} called it at {at}{heard}{moved}.",
        "，但 {who} 于 {at} 呼叫它时{what}{heard}{moved}。"
    );
    is_lately(facts, note).then(|| make(word, sentence, vec![out_of_reach(facts)]))
}

fn out_of_reach(facts: &Facts<'_>) -> String {
    let language = facts.language;
    let look = say!(
        language,
        "look whether the phone has power and network, and whether a firewall or NAT lets calls through to it",
        "检查话机是否有电、网络是否正常，以及防火墙或 NAT 是否放行到它的呼叫"
    );
    match facts.natping_interval_s {
        0 => say!(
            language,
            "{look}; `nathelper.natping_interval = 30` keeps the way through NAT open",
            "{look}；`nathelper.natping_interval = 30` 可保持穿过 NAT 的通路"
        ),
        every_s @ 1..=30 => {
            say!(
                language,
                "{look} (roost pings it each {every_s} s already)",
                "{look}（roost 已每 {every_s} 秒 ping 它）"
            )
        }
        every_s => say!(
            language,
            "{look}; `nathelper.natping_interval` is {every_s}: 30 keeps the way through most NATs open",
            "{look}；`nathelper.natping_interval` 为 {every_s}：30 可保持穿过多数 NAT 的通路"
        ),
    }
}

/// It refreshes later than it is granted, or is refused until its registration has ended, and is offline in between; or it comes all
/// too often.
fn late(facts: &Facts<'_>, _: &ContactRecord, make: Make<'_>) -> Option<Verdict> {
    let language = facts.language;
    let refreshed = notes(facts).find_map(|note| match note.what {
        What::Refreshed { least_left_ms, .. } => Some((note, least_left_ms)),
        _ => None,
    });
    if let Some((note, late_ms @ ..0)) = refreshed {
        let sentence = say!(
            language,
            ", but it refreshes late: once its registration had been over for {over} already; in between it was offline.",
            "，但它刷新得太晚：有一次注册已过期 {over}；其间它离线。",
            over = seconds(language, late_ms.unsigned_abs() / 1000)
        );
        let is_cut = note.granted_s >= facts.max_expires_s;
        return Some(make("refreshes-late", sentence, late_remedy(facts, is_cut)));
    }
    // Where it is swept before it comes again, it is new each time.
    if let Some(Told { word, text, remedy }) = told(facts) {
        return Some(make(&word, say!(language, ", but {text}.", "，但{text}。"), remedy));
    }
    let (note, left_ms) = refreshed.filter(|(note, _)| is_lately(facts, note) && note.count >= OFTEN)?;
    let every_ms = note.last_ms.saturating_sub(note.first_ms) / u64::from(note.count - 1);
    let granted_ms = left_ms.unsigned_abs() + every_ms;
    let sentence = say!(
        language,
        ", but it refreshes each {every}, though it is granted {granted}: it may not get roost's answers.",
        "，但它每 {every}就刷新一次，尽管获准 {granted}：它可能收不到 roost 的应答。",
        every = seconds(language, every_ms.div_ceil(1000)),
        granted = seconds(language, granted_ms / 1000)
    );
    let own = argument(facts.aor);
    let remedy = vec![
        say!(
            language,
            "look whether a firewall or NAT lets the 200 through to the phone",
            "检查防火墙或 NAT 是否放行到话机的 200"
        ),
        say!(language, "roost trace {own} shows what is sent to it", "roost trace {own} 显示发给它的内容"),
    ];
    // A client that waits for its answer in vain tries again within this time (RFC 3261 section 17.1.2.2).
    (every_ms <= 35_000 && every_ms * 10 < granted_ms).then(|| make("refreshes-often", sentence, remedy))
}
