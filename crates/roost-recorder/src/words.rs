//! Times and phones as people say them.

use chrono::{DateTime, Local};

/// A time of the day, with the date where it is another day's.
pub fn clock(at_ms: u64, now_ms: u64) -> String {
    let local = |ms: u64| DateTime::from_timestamp_millis(ms as i64).map(|at| at.with_timezone(&Local));
    let Some((at, now)) = local(at_ms).zip(local(now_ms)) else { return String::new() };
    let format = if at.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.format(format).to_string()
}

/// How long ago.
pub(crate) fn ago(at_ms: u64, now_ms: u64) -> String {
    format!("{} ago", seconds(now_ms.saturating_sub(at_ms) / 1000))
}

/// A time that lasts.
pub(crate) fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A phone's User-Agent in brackets; nothing where it has none.
pub(crate) fn phone(agent: &str) -> String {
    if agent.is_empty() { String::new() } else { format!(" ({agent})") }
}
