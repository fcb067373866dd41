//! What happened, in words.

use roost_core::{CallEnd, Gone, Reason};

use crate::note::{CallOutcome, Note, What};
use crate::reasons::{Explanation, Language};
use crate::say;
use crate::words::{phone, seconds};

/// Why, without what is for the log.
pub(crate) fn why_of(language: Language, reason: Reason) -> &'static str {
    let chinese = || Explanation::of(&reason.word()).map(|entry| entry.what[1].trim_end_matches('。'));
    // What stands in brackets is for the log.
    let english = reason.why().split(" (`").next().unwrap_or("");
    match language {
        Language::English => english,
        // A text that names somebody is for one's page; the word says it here.
        Language::Chinese => chinese().filter(|text| !text.contains('{')).unwrap_or(english),
    }
}

/// How often, where it was more than once.
pub(crate) fn times(language: Language, note: &Note) -> String {
    match note.count {
        0 | 1 => String::new(),
        count => say!(language, ", {count} times", "，{count} 次"),
    }
}

/// Where it came from.
pub(crate) fn source_of(language: Language, note: &Note) -> String {
    match note.source {
        Some(source) if source.port() == 0 => source.ip().to_string(),
        Some(source) => source.to_string(),
        None => say!(language, "an unknown address", "未知地址"),
    }
}

/// A call's end, in words; for the other side and for its own.
pub fn call_words(language: Language, outcome: &CallOutcome) -> String {
    let CallOutcome { end, rang_s, has_rung, talked_s } = *outcome;
    let waited = seconds(language, u64::from(rang_s));
    let rang = match (has_rung, rang_s) {
        (true, _) => say!(language, "rang {waited}", "振铃 {waited}"),
        (false, 0) => say!(language, "never rang", "未振铃"),
        (false, _) => say!(language, "never rang in {waited}", "{waited}内未振铃"),
    };
    let time = seconds(language, u64::from(talked_s));
    let talked = say!(language, "talked {time}", "通话 {time}");
    match end {
        CallEnd::Failed(487) => say!(language, "{rang}, then the caller gave up", "{rang}，随后主叫放弃"),
        CallEnd::Failed(code @ (486 | 600)) => say!(language, "busy ({code})", "忙（{code}）"),
        CallEnd::Failed(408) => say!(language, "{rang}, no answer (408)", "{rang}，无人应答（408）"),
        CallEnd::Failed(480) => say!(
            language,
            "{rang}, then the callee's side answered 480: rejected, do not disturb, or logged out there",
            "{rang}，随后被叫侧应答 480：被拒接、免打扰，或在那里已注销"
        ),
        CallEnd::Failed(code @ (403 | 603)) => say!(language, "declined ({code})", "被拒接（{code}）"),
        CallEnd::Failed(code @ (404 | 410 | 604)) => say!(
            language,
            "not registered, or there is no such extension ({code})",
            "未注册，或没有这个分机（{code}）"
        ),
        CallEnd::Failed(code) => say!(language, "failed ({code})", "失败（{code}）"),
        CallEnd::CallerHungUp => say!(language, "{talked}, the caller hung up", "{talked}，主叫挂断"),
        CallEnd::CalleeHungUp => say!(language, "{talked}, the callee hung up", "{talked}，被叫挂断"),
        CallEnd::Operator => say!(language, "{talked}, an operator ended it", "{talked}，被操作人员结束"),
        CallEnd::CallerGone => {
            say!(language, "{talked}, then the caller's phone was gone", "{talked}，随后主叫话机消失")
        }
        CallEnd::CalleeGone => {
            say!(language, "{talked}, then the callee's phone was gone", "{talked}，随后被叫话机消失")
        }
        CallEnd::Timeout => say!(language, "{talked}, then its time was over", "{talked}，随后到达最长时间"),
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
pub fn refusal_words(language: Language, code: u16, reason: Reason) -> String {
    let why = why_of(language, reason);
    say!(language, "roost refused it: {why} ({code})", "被 roost 拒绝：{why}（{code}）")
}

/// A note, in words.
pub fn note_words(language: Language, note: &Note) -> String {
    let times = times(language, note);
    let who = phone(language, &note.text);
    let other = &note.text;
    let called = |how: String| say!(language, "called {other}: {how}", "呼叫 {other}：{how}");
    let was_called = |how: String| say!(language, "called by {other}: {how}", "被 {other} 呼叫：{how}");
    match note.what {
        What::Challenged { reason, is_register } => {
            let why = why_of(language, reason);
            match is_register {
                true => {
                    say!(language, "asked for its password{times}: {why}", "被要求提供密码{times}：{why}")
                }
                false => say!(
                    language,
                    "asked for its password for a call{times}: {why}",
                    "呼叫时被要求提供密码{times}：{why}"
                ),
            }
        }
        What::Refused { code, reason, is_register } => {
            let why = why_of(language, reason);
            let what = match is_register {
                true => "REGISTER".to_string(),
                false => say!(language, "request", "请求"),
            };
            say!(
                language,
                "{what} refused{times}: {code} {why}{who}",
                "{what} 被拒绝{times}：{code} {why}{who}"
            )
        }
        What::Registered => say!(language, "registered{times}{who}", "已注册{times}{who}"),
        What::Refreshed { least_left_ms, moves } => refreshed(language, &times, least_left_ms, moves),
        What::Gone(why) => gone(language, &times, why),
        What::FlowLost => say!(language, "its connection is gone{times}", "连接中断{times}"),
        What::PingsLost(count) => {
            say!(language, "did not answer {count} pings{times}", "{count} 次 ping 未应答{times}")
        }
        What::NotStored => {
            say!(language, "the database did not take its registration{times}", "数据库未能保存其注册{times}")
        }
        What::Banned { seconds: left } => {
            let left = seconds(language, left);
            say!(language, "banned for {left}{times}", "被封禁 {left}{times}")
        }
        What::CallRefused { code, reason, is_caller: true } => called(refusal_words(language, code, reason)),
        What::CallRefused { code, reason, .. } => was_called(refusal_words(language, code, reason)),
        What::WasCalled(outcome) => was_called(call_words(language, &outcome)),
        What::CalledOthers(outcome) => called(call_words(language, &outcome)),
    }
}

fn refreshed(language: Language, times: &str, least_left_ms: i64, moves: u32) -> String {
    let left = seconds(language, least_left_ms.unsigned_abs() / 1000);
    let left = match least_left_ms {
        ..0 => say!(language, "once {left} late", "有一次迟到 {left}"),
        0.. => say!(language, "{left} before its end at the latest", "最晚一次在到期前 {left}"),
    };
    let moved = match moves {
        0 => String::new(),
        1 => say!(language, ", once from another port", "，有一次换了端口"),
        moves => say!(language, ", {moves} times from another port", "，{moves} 次换了端口"),
    };
    say!(language, "refreshed{times}, {left}{moved}", "已刷新{times}，{left}{moved}")
}

fn gone(language: Language, times: &str, why: Gone) -> String {
    match why {
        Gone::Unregistered => {
            say!(language, "unregistered by its phone{times}", "由话机注销{times}")
        }
        Gone::Replaced => {
            say!(language, "replaced by another registration{times}", "被另一注册取代{times}")
        }
        Gone::PingsLost => say!(
            language,
            "registration removed: its phone answers no pings{times}",
            "注册被移除：话机不应答 ping{times}"
        ),
        Gone::Removed => say!(
            language,
            "registration removed by an operator or a program{times}",
            "注册被操作人员或程序移除{times}"
        ),
        Gone::Expired => say!(language, "registration expired{times}", "注册过期{times}"),
    }
}
