//! What is wrong now.

use std::collections::BTreeMap;

use roost_core::{Gone, HopState};
use roost_recorder::{Facts, Language, Life, Recorder, What, argument, call_word, list, say, verdict};
use serde_json::{Value, json};

use crate::Mi;
use crate::health::why_not_ready;
use crate::hops;
use crate::rpc::RpcError;
use crate::statistics;
use crate::why::extension::{Situation, contacts};

/// Extensions that may be in trouble and are looked at, who was heard of last first.
const LOOKED_AT: usize = 2_000;
/// Names of extensions that are told of each trouble.
const NAMED: usize = 3;

/// Something that is wrong.
struct Problem {
    /// How bad; 0 is worst.
    severity: u8,
    text: String,
    remedy: String,
    /// Where it is seen.
    of: Option<Of>,
}

/// What it is about.
enum Of {
    /// One of these extensions.
    Aor(String),
    Hop(String),
}

impl Problem {
    fn new(severity: u8, text: String, remedy: String) -> Problem {
        Problem { severity, text, remedy, of: None }
    }

    fn to_json(&self) -> Value {
        let mut shown = json!({ "Problem": self.text, "Do": self.remedy });
        match &self.of {
            Some(Of::Aor(aor)) => shown["AOR"] = json!(aor),
            Some(Of::Hop(uri)) => shown["Hop"] = json!(uri),
            None => {}
        }
        shown
    }
}

/// What is wrong now, the worst first.
pub(super) async fn system(
    mi: &Mi,
    recorder: &Recorder,
    (now_ms, language): (u64, Language),
    since_ms: u64,
) -> Result<Value, RpcError> {
    let mut problems: Vec<Problem> = Vec::new();
    if let Some(why) = why_not_ready(mi).await {
        let why = why.words(language);
        let text = say!(language, "roost is not ready: {why}.", "roost 未就绪：{why}。");
        problems.push(Problem::new(0, text, "roost db check".to_string()));
    }
    problems.extend(hops_down(mi, language).await?);
    let certificates = mi.certificates.as_ref().map(|certificates| (certificates.list)());
    for one in certificates.iter().filter_map(Value::as_array).flatten() {
        if let (Some(name), Some(days)) = (one["name"].as_str(), one["days_left"].as_i64())
            && days < 14
        {
            let text = say!(
                language,
                "The certificate {name} is good for {days} days.",
                "证书 {name} 还有 {days} 天到期。"
            );
            let remedy =
                say!(language, "renew its files; roost tls reload", "更新证书文件，然后 roost tls reload");
            problems.push(Problem::new(1, text, remedy));
        }
    }
    for (name, value, help) in statistics::losses(mi, language).await? {
        let text = say!(
            language,
            "{name} is {value} since the start: {help}.",
            "{name} 自启动以来为 {value}：{help}。"
        );
        problems.push(Problem::new(2, text, format!("roost stats {name}")));
    }
    problems.extend(troubled(mi, recorder, (now_ms, language), since_ms).await?);
    problems.sort_by_key(|problem| problem.severity);
    let verdict = headline(language, problems.len(), ["the worst first", "最严重的在前"]);
    let shown: Vec<_> = problems.iter().map(Problem::to_json).collect();
    Ok(json!({ "Verdict": verdict, "Problems": shown }))
}

/// How many things are wrong, and in which order they stand.
pub(crate) fn headline(language: Language, count: usize, order: [&str; 2]) -> String {
    let order = language.pick(order);
    match count {
        0 => say!(language, "Nothing is wrong.", "一切正常。"),
        1 => say!(language, "One thing is wrong.", "有一处问题。"),
        count => say!(language, "{count} things are wrong, {order}.", "有 {count} 处问题，{order}。"),
    }
}

/// Next hops that take no calls.
async fn hops_down(mi: &Mi, language: Language) -> Result<Vec<Problem>, RpcError> {
    let (hops, _) = hops::watched(mi).await?;
    let told = hops.hops().iter().filter(|hop| hop.state != HopState::Active).map(|hop| {
        let (uri, set, is_silent) = (&hop.uri.text, hop.set, hop.state == HopState::Probing);
        let text = match is_silent {
            true => say!(
                language,
                "The next hop {uri} of set {set} does not answer.",
                "组 {set} 的下一跳 {uri} 没有应答。"
            ),
            false => {
                say!(
                    language,
                    "The next hop {uri} of set {set} is taken out.",
                    "组 {set} 的下一跳 {uri} 已下线。"
                )
            }
        };
        let of = Some(Of::Hop(uri.to_string()));
        Problem { of, ..Problem::new(1, text, "roost ds list".to_string()) }
    });
    Ok(told.collect())
}

/// Extensions that something is wrong with, as their verdicts say, by what it is.
async fn troubled(
    mi: &Mi,
    recorder: &Recorder,
    (now_ms, language): (u64, Language),
    since_ms: u64,
) -> Result<Vec<Problem>, RpcError> {
    let situation = Situation::now(mi, (now_ms, language)).await?;
    let mut by_word: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let suspects = recorder.find(LOOKED_AT, |_, life| is_suspect(life, since_ms));
    let is_capped = suspects.len() == LOOKED_AT;
    for (name, life) in suspects {
        let Ok(aor) = String::from_utf8(name.into_vec()) else { continue };
        let contacts = contacts(mi, &aor).await?;
        let facts = Facts { contacts: &contacts, life: Some(&life), ..situation.facts(mi, &aor) };
        by_word.entry(verdict(&facts).word).or_default().push(aor);
    }
    let told = by_word.into_iter().filter_map(|(word, names)| {
        let (severity, one, many, chinese) = trouble(&word)?;
        let (count, more) = (names.len(), names.len().saturating_sub(NAMED));
        let shown = list(language, names.get(..NAMED).unwrap_or(&names));
        let text = match language {
            Language::English => {
                let is_are = if count == 1 { one } else { many };
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                let least = if is_capped { "at least " } else { "" };
                format!("{least}{count} {is_are} ({word}): {shown}{more}.")
            }
            Language::Chinese => {
                let more = if more == 0 { String::new() } else { format!("，以及另外 {more} 个") };
                let least = if is_capped { "至少 " } else { "" };
                format!("{least}{count} {chinese}（{word}）：{shown}{more}。")
            }
        };
        let first = names.into_iter().next()?;
        let remedy = format!("roost why {}", argument(&first));
        Some(Problem { of: Some(Of::Aor(first)), ..Problem::new(severity, text, remedy) })
    });
    Ok(told.collect())
}

/// Whether something has happened since then that may be a trouble.
fn is_suspect(life: &Life, since_ms: u64) -> bool {
    let is_bad = |what: What| match what {
        What::Refused { is_register, .. } | What::Challenged { is_register, .. } => is_register,
        What::NotStored | What::Banned { .. } | What::FlowLost | What::PingsLost(_) => true,
        What::Refreshed { least_left_ms, .. } => least_left_ms < 0,
        What::Gone(why) => why != Gone::Unregistered,
        What::WasCalled(outcome) => call_word(&outcome).is_some_and(|word| NO_ANSWER.contains(&word)),
        What::Registered | What::CalledOthers(_) | What::CallRefused { .. } => false,
    };
    life.notes().any(|note| note.last_ms >= since_ms && is_bad(note.what))
}

/// Words of calls that a phone did not answer at all.
const NO_ANSWER: [&str; 2] = ["no-response", "not-sent"];

/// How bad a verdict is, and what is said of one extension, of several, and in Chinese; `None`: nothing is wrong.
fn trouble(word: &str) -> Option<(u8, &'static str, &'static str, &'static str)> {
    Some(match word {
        "fine" | "unregistered" | "removed" | "replaced" => return None,
        "no-response" | "not-sent" => {
            (3, "extension does not answer calls", "extensions do not answer calls", "个分机不应答呼叫")
        }
        "two-phones" => (
            3,
            "extension is used by two phones",
            "extensions are used by two phones each",
            "个分机各有两部话机在用",
        ),
        "node-down" => (
            1,
            "extension has its phone at a node that is down",
            "extensions have their phones at a node that is down",
            "个分机的话机连着已停的节点",
        ),
        "method-mask" => (4, "extension takes no calls", "extensions take no calls", "个分机不接受呼叫"),
        "refreshes-late" => (4, "extension refreshes late", "extensions refresh late", "个分机刷新得太晚"),
        "refreshes-often" => {
            (4, "extension refreshes all too often", "extensions refresh all too often", "个分机刷新得太频繁")
        }
        "no-credentials" => (
            4,
            "extension has not come back with its password",
            "extensions have not come back with their passwords",
            "个分机未再带密码注册",
        ),
        "pings-lost" => {
            (4, "extension does not answer pings", "extensions do not answer pings", "个分机不应答 ping")
        }
        "flow-lost" | "connection-gone" | "expired" => {
            (5, "extension is gone", "extensions are gone", "个分机已失联")
        }
        "unknown-user"
        | "unknown-user-hidden"
        | "similar-name"
        | "banned-source"
        | "too-many-unknown-names" => (3, "name is refused", "names are refused", "个名称被拒绝"),
        _ => (3, "extension is refused", "extensions are refused", "个分机被拒绝"),
    })
}
