//! What happened, in words.

use roost_core::{CallEnd, Gone, Reason};

use crate::note::{CallOutcome, Note, What};
use crate::words::{phone, seconds};

/// Why, without what is for the log.
pub(crate) fn why_of(reason: Reason) -> &'static str {
    // What stands in brackets is for the log.
    reason.why().split(" (`").next().unwrap_or("")
}

/// How often, where it was more than once.
pub(crate) fn times(note: &Note) -> String {
    if note.count > 1 { format!(", {} times", note.count) } else { String::new() }
}

/// Where it came from.
pub(crate) fn source_of(note: &Note) -> String {
    match note.source {
        Some(source) if source.port() == 0 => source.ip().to_string(),
        Some(source) => source.to_string(),
        None => "an unknown address".to_string(),
    }
}

/// A call's end, in words; for the other side and for its own.
pub fn call_words(outcome: &CallOutcome) -> String {
    let CallOutcome { end, rang_s, has_rung, talked_s } = *outcome;
    let rang = match (has_rung, rang_s) {
        (true, rang_s) => format!("rang {}", seconds(u64::from(rang_s))),
        (false, 0) => "never rang".to_string(),
        (false, waited_s) => format!("never rang in {}", seconds(u64::from(waited_s))),
    };
    let talked = format!("talked {}", seconds(u64::from(talked_s)));
    match end {
        CallEnd::Failed(487) => format!("{rang}, then the caller gave up"),
        CallEnd::Failed(code @ (486 | 600)) => format!("busy ({code})"),
        CallEnd::Failed(408) => format!("{rang}, no answer (408)"),
        CallEnd::Failed(480) => {
            format!(
                "{rang}, then the callee's side answered 480: rejected, do not disturb, or logged out there"
            )
        }
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

/// The entry of the table of reasons that a call's end has; `None` for one that was answered and hung up.
pub fn call_word(outcome: &CallOutcome) -> Option<&'static str> {
    Some(match outcome.end {
        CallEnd::Failed(487) => "gave-up",
        CallEnd::Failed(486 | 600) => "callee-busy",
        CallEnd::Failed(403 | 603) => "callee-declined",
        CallEnd::Failed(408) if outcome.has_rung => "rang-out",
        CallEnd::Failed(408) => "no-response",
        CallEnd::Failed(480) => "callee-unavailable",
        CallEnd::Failed(404 | 410 | 604) => "no-such-extension",
        CallEnd::Failed(405) => "method-mask",
        CallEnd::Failed(503) => "hop-down",
        CallEnd::Failed(476 | 477) => "not-sent",
        CallEnd::Failed(_) => "call-failed",
        CallEnd::Operator => "ended-by-operator",
        CallEnd::CallerGone => "caller-gone",
        CallEnd::CalleeGone => "callee-gone",
        CallEnd::Timeout => "timeout",
        CallEnd::CallerHungUp | CallEnd::CalleeHungUp => return None,
    })
}

/// Why roost refused a call, in words.
pub fn refusal_words(code: u16, reason: Reason) -> String {
    format!("roost refused it: {} ({code})", why_of(reason))
}

/// A note, in words.
pub fn note_words(note: &Note) -> String {
    let times = times(note);
    let who = phone(&note.text);
    match note.what {
        What::Challenged { reason, is_register } => {
            let what = if is_register { "" } else { " for a call" };
            format!("asked for its password{what}{times}: {}", why_of(reason))
        }
        What::Refused { code, reason, is_register } => {
            let what = if is_register { "REGISTER" } else { "request" };
            format!("{what} refused{times}: {code} {}{who}", why_of(reason))
        }
        What::Registered => format!("registered{times}{who}"),
        What::Refreshed { least_left_ms, moves } => {
            let left = seconds(least_left_ms.unsigned_abs() / 1000);
            let left = match least_left_ms {
                ..0 => format!("once {left} late"),
                0.. => format!("{left} before its end at the latest"),
            };
            let moved = match moves {
                0 => String::new(),
                1 => ", once from another port".to_string(),
                moves => format!(", {moves} times from another port"),
            };
            format!("refreshed{times}, {left}{moved}")
        }
        What::Gone(Gone::Unregistered) => format!("unregistered by its phone{times}"),
        What::Gone(Gone::Replaced) => format!("replaced by another registration{times}"),
        What::Gone(Gone::PingsLost) => {
            format!("registration removed: its phone answers no pings{times}")
        }
        What::Gone(Gone::Removed) => format!("registration removed by an operator or a program{times}"),
        What::Gone(Gone::Expired) => format!("registration expired{times}"),
        What::FlowLost => format!("its connection is gone{times}"),
        What::PingsLost(count) => format!("did not answer {count} pings{times}"),
        What::NotStored => format!("the database did not take its registration{times}"),
        What::Banned { seconds: left } => format!("banned for {}{times}", seconds(left)),
        What::CallRefused { code, reason, is_caller: true } => {
            format!("called {}: {}", note.text, refusal_words(code, reason))
        }
        What::CallRefused { code, reason, .. } => {
            format!("called by {}: {}", note.text, refusal_words(code, reason))
        }
        What::WasCalled(outcome) => format!("called by {}: {}", note.text, call_words(&outcome)),
        What::CalledOthers(outcome) => format!("called {}: {}", note.text, call_words(&outcome)),
    }
}
