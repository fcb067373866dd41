//! Times in which an extension was offline between two registrations.

use roost_core::{Gone, Reason};

use crate::note::{Note, What};
use crate::say;
use crate::shell::argument;
use crate::verdict::facts::{Facts, is_lately, is_refused, of_registration};
use crate::verdict::refusal::cause;
use crate::words::{clock, seconds};

/// A phone that was away longer than this was off, and did not just refresh late, in milliseconds.
const GAP_MS: u64 = 120_000;

/// One of them.
struct Gap<'a> {
    lasted_ms: u64,
    /// When its registration had ended, in milliseconds of unix time.
    ended_ms: u64,
    /// How long it had been granted, and how long its phone took to come again; in milliseconds.
    granted_ms: Option<(u64, u64)>,
    /// The refusal that it came of, where its phone was refused before it or meanwhile.
    refusal: Option<&'a Note>,
}

/// The newest first; none where nothing has happened lately.
fn gaps<'a>(facts: &Facts<'a>) -> Vec<Gap<'a>> {
    let all: Vec<_> =
        of_registration(facts).filter(|note| !matches!(note.what, What::Challenged { .. })).collect();
    if !all.first().is_some_and(|note| is_lately(facts, note)) {
        return Vec::new();
    }
    let registered = all.iter().enumerate().filter(|(_, note)| note.what == What::Registered);
    let found = registered.filter_map(|(at, registered)| {
        let is_own = |note: &&Note| {
            let ip = |note: &Note| note.source.map(|source| source.ip());
            is_refused(note) && (note.source.is_none() || ip(note) == ip(registered))
        };
        let before = all.get(at + 1..)?;
        let gone_at = before.iter().position(|note| !is_refused(note))?;
        let gone = before.get(gone_at).filter(|note| note.what == What::Gone(Gone::Expired))?;
        let meanwhile = before.iter().take(gone_at);
        let ahead = before.iter().skip(gone_at + 1).take_while(|note| is_refused(note));
        let refusal = meanwhile.chain(ahead).copied().find(is_own);
        let lasted_ms = registered.first_ms.saturating_sub(gone.last_ms);
        let last =
            before.iter().skip(gone_at + 1).find(|note| !is_refused(note)).filter(|note| note.granted_s > 0);
        let granted_ms = last
            .map(|last| (u64::from(last.granted_s) * 1000, registered.first_ms.saturating_sub(last.last_ms)));
        (lasted_ms <= GAP_MS).then_some(Gap { lasted_ms, ended_ms: gone.last_ms, granted_ms, refusal })
    });
    found.collect()
}

/// What is told of them.
pub(super) struct Told {
    /// The word of a reason.
    pub(super) word: String,
    pub(super) text: String,
    pub(super) remedy: Vec<String>,
}

/// It comes late, or is refused until its registration has ended.
pub(super) fn told(facts: &Facts<'_>) -> Option<Told> {
    let (refused, late): (Vec<_>, Vec<_>) = gaps(facts).into_iter().partition(|gap| gap.refusal.is_some());
    // What was refused once is mended, but for a phone that counts wrongly.
    let is_recurring = |gap: &Gap<'_>| {
        gap.refusal.is_some_and(|note| matches!(note.what, What::Refused { reason: Reason::CseqOrder, .. }))
    };
    let is_told = refused.len() > 1 || refused.iter().any(is_recurring);
    let Some(refusal) = refused.first().and_then(|gap| gap.refusal).filter(|_| is_told) else {
        return told_late(facts, &late);
    };
    let (word, why, remedy) = cause(facts, refusal);
    let (at, offline) = (clock(refusal.last_ms, facts.now_ms), how_often(facts, &refused)?);
    let text = say!(
        facts.language,
        "its refreshes are refused, the last one at {at}: {why}; {offline} before it could register anew",
        "它的刷新被拒绝，最近一次在 {at}：{why}；{offline}之后才能重新注册"
    );
    Some(Told { word, text, remedy })
}

fn told_late(facts: &Facts<'_>, late: &[Gap<'_>]) -> Option<Told> {
    let offline = how_often(facts, late)?;
    let times = late.iter().filter_map(|gap| gap.granted_ms).max_by_key(|(_, came_ms)| *came_ms);
    let language = facts.language;
    let times = times.map_or(String::new(), |(granted_ms, came_ms)| {
        let granted = seconds(language, granted_ms / 1000);
        let came = seconds(language, came_ms.div_ceil(1000));
        say!(
            language,
            "granted {granted}, it comes again after {came}; ",
            "获准 {granted}，{came}后才重新注册；"
        )
    });
    let most_s = u64::from(facts.max_expires_s);
    let is_cut = late
        .first()
        .and_then(|gap| gap.granted_ms)
        .is_some_and(|(granted_ms, _)| granted_ms / 1000 >= most_s);
    let text = say!(
        language,
        "it refreshes late: {times}{offline} before it came again",
        "它刷新得太晚：{times}{offline}之后才重新注册"
    );
    Some(Told { word: "refreshes-late".to_string(), text, remedy: late_remedy(facts, is_cut) })
}

/// What to do about a phone that refreshes late; `is_cut`: it was granted as much as anybody.
pub(super) fn late_remedy(facts: &Facts<'_>, is_cut: bool) -> Vec<String> {
    let (most_s, own) = (facts.max_expires_s, argument(facts.aor));
    let mut remedy = vec![
        say!(
            facts.language,
            "set a shorter registration time in the phone, or raise `registrar.max_expires` (it is {most_s})",
            "在话机上把注册时间设短，或调大 `registrar.max_expires`（现为 {most_s}）"
        ),
        say!(
            facts.language,
            "look for a network that drops its packets: roost trace {own} shows what comes",
            "检查网络是否丢包：roost trace {own} 显示收到了什么"
        ),
    ];
    if !is_cut {
        remedy.reverse();
    }
    remedy
}

fn how_often(facts: &Facts<'_>, gaps: &[Gap<'_>]) -> Option<String> {
    let longest_ms = gaps.iter().map(|gap| gap.lasted_ms).max()?;
    let since = clock(gaps.iter().map(|gap| gap.ended_ms).min()?, facts.now_ms);
    let (language, count) = (facts.language, gaps.len());
    let times = match count {
        1 => say!(language, "once", "1 次"),
        _ => say!(language, "{count} times", "{count} 次"),
    };
    let longest = seconds(language, longest_ms.div_ceil(1000));
    Some(say!(
        language,
        "{times} since {since} its registration had ended, and it was offline for up to {longest},",
        "自 {since} 起注册 {times}过期，最长离线 {longest}，"
    ))
}
