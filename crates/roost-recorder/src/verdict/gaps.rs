//! Times in which an extension was offline between two registrations.

use roost_core::{Gone, Reason};

use crate::note::{Note, What};
use crate::telling::why_of;
use crate::verdict::facts::{Facts, is_lately, is_refused, of_registration};
use crate::words::{clock, seconds};

/// A phone that was away longer than this was off, and did not just refresh late, in milliseconds.
const GAP_MS: u64 = 120_000;

/// One of them.
struct Gap<'a> {
    lasted_ms: u64,
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
        (lasted_ms <= GAP_MS).then_some(Gap { lasted_ms, refusal })
    });
    found.collect()
}

/// It comes late, or is refused until its registration has ended: a reason's word, what is to be said of it, and the refusal.
pub(super) fn told<'a>(facts: &Facts<'a>) -> Option<(String, String, Option<&'a Note>)> {
    let (refused, late): (Vec<_>, Vec<_>) = gaps(facts).into_iter().partition(|gap| gap.refusal.is_some());
    // What was refused once is mended, but for a phone that counts wrongly.
    let is_recurring = |gap: &Gap<'_>| {
        gap.refusal.is_some_and(|note| matches!(note.what, What::Refused { reason: Reason::CseqOrder, .. }))
    };
    let is_told = refused.len() > 1 || refused.iter().any(is_recurring);
    let Some(refusal) = refused.first().and_then(|gap| gap.refusal).filter(|_| is_told) else {
        let text = format!("it refreshes late: {}", how_often(&late, "before it came again")?);
        return Some(("refreshes-late".to_string(), text, None));
    };
    let (word, why) = match refusal.what {
        What::Refused { reason, .. } => (reason.word(), why_of(reason)),
        _ => ("not-stored".to_string(), "the database did not take it"),
    };
    let at = clock(refusal.last_ms, facts.now_ms);
    let text = format!(
        "its refreshes are refused, the last one at {at}: {why}; {}",
        how_often(&refused, "before it could register anew")?
    );
    Some((word, text, Some(refusal)))
}

fn how_often(gaps: &[Gap<'_>], before: &str) -> Option<String> {
    let longest_ms = gaps.iter().map(|gap| gap.lasted_ms).max()?;
    let times = if gaps.len() == 1 { "once".to_string() } else { format!("{} times", gaps.len()) };
    let longest = seconds(longest_ms.div_ceil(1000));
    Some(format!(
        "{times} of late its registration had ended {before}, and it was offline for {longest} at most"
    ))
}
