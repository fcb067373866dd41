//! Times and phones as people say them.

use chrono::{DateTime, Local};

use crate::reasons::Language;

/// A text in the language that is asked for: as `format!`, once for each.
#[macro_export]
macro_rules! say {
    ($language:expr, $english:literal, $chinese:literal $(, $name:ident = $value:expr)* $(,)?) => {
        match $language {
            $crate::Language::English => format!($english $(, $name = $value)*),
            $crate::Language::Chinese => format!($chinese $(, $name = $value)*),
        }
    };
}

/// A time of the day, with the date where it is another day's.
pub fn clock(at_ms: u64, now_ms: u64) -> String {
    let local = |ms: u64| DateTime::from_timestamp_millis(ms as i64).map(|at| at.with_timezone(&Local));
    let Some((at, now)) = local(at_ms).zip(local(now_ms)) else { return String::new() };
    let format = if at.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.format(format).to_string()
}

/// Names, one after another.
pub fn list<Name: AsRef<str>>(language: Language, names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(language.pick([", ", "、"]))
}

/// How long ago.
pub(crate) fn ago(language: Language, at_ms: u64, now_ms: u64) -> String {
    let past = seconds(language, now_ms.saturating_sub(at_ms) / 1000);
    say!(language, "{past} ago", "{past}前")
}

/// A time that lasts.
pub(crate) fn seconds(language: Language, seconds: u64) -> String {
    match seconds {
        0..120 => say!(language, "{seconds} s", "{seconds} 秒"),
        120..7_200 => say!(language, "{count} min", "{count} 分钟", count = seconds / 60),
        7_200..172_800 => say!(language, "{count} h", "{count} 小时", count = seconds / 3_600),
        _ => say!(language, "{count} days", "{count} 天", count = seconds / 86_400),
    }
}

/// A phone's User-Agent in brackets; nothing where it has none.
pub(crate) fn phone(language: Language, agent: &str) -> String {
    if agent.is_empty() { String::new() } else { say!(language, " ({agent})", "「{agent}」") }
}
