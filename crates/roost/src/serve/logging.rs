//! Where log lines go, by OpenSIPS's levels, which may be changed while the server runs: for all, or for one extension or address.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use roost_admin::{LogChange, LogControl};
use serde_json::json;
use syslog_tracing::{Facility, Options, Syslog};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::Settings;

/// Which lines are written. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Levels(Arc<RwLock<State>>);

#[derive(Debug)]
struct State {
    /// OpenSIPS's number.
    level: i64,
    only: Option<Only>,
}

/// A level of its own for lines about somebody.
#[derive(Debug, Clone)]
struct Only {
    level: i64,
    who: String,
    until: Option<Instant>,
}

/// Starts logging, once per process.
///
/// # Errors
/// When it was started before, or journald is not there.
pub(crate) fn start(settings: &Settings) -> Result<Levels> {
    let levels = Levels(Arc::new(RwLock::new(State { level: settings.log_level, only: None })));
    let registry = tracing_subscriber::registry();
    let is_json = settings.log_format == "json";
    let target = match settings.log_target.as_str() {
        "stderr" if !settings.log_stderror => "syslog",
        target => target,
    };
    match target {
        "journald" => {
            let journald = tracing_journald::layer()
                .context("journald is not there: set `log_target` to \"stderr\" or \"syslog\"")?
                .with_field_prefix(None)
                .with_syslog_identifier("roost".to_string());
            registry.with(journald.with_filter(levels.clone())).try_init()?;
        }
        "syslog" => {
            let syslog =
                Syslog::new(Cow::Borrowed(c"roost"), Options::LOG_PID, facility(&settings.log_facility))
                    .ok_or_else(|| anyhow!("syslog is in use already"))?;
            match is_json {
                true => registry.with(json_lines(syslog).with_filter(levels.clone())).try_init()?,
                false => {
                    let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(false);
                    let lines = lines.without_time().with_level(false).with_writer(syslog);
                    registry.with(lines.with_filter(levels.clone())).try_init()?;
                }
            }
        }
        _ if is_json => registry.with(json_lines(std::io::stderr).with_filter(levels.clone())).try_init()?,
        _ => {
            let lines = tracing_subscriber::fmt::layer().with_target(false);
            let lines = lines.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
            registry.with(lines.with_filter(levels.clone())).try_init()?;
        }
    }
    Ok(levels)
}

/// An object on each line: timestamp, level, message, and the fields beside them.
fn json_lines<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(writer)
}

impl Levels {
    /// What operators may do with them.
    pub(crate) fn control(&self) -> LogControl {
        let (shown, set) = (self.clone(), self.clone());
        LogControl { show: Arc::new(move || shown.show()), set: Arc::new(move |change| set.change(change)) }
    }

    fn show(&self) -> serde_json::Value {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut shown = json!({ "Log level": state.level });
        if let Some(only) = state.only.as_ref().filter(|only| !only.is_over()) {
            shown["Only"] = json!(only.who);
            shown["Only log level"] = json!(only.level);
            let left = only.until.map(|until| until.saturating_duration_since(Instant::now()).as_secs());
            shown["Seconds left"] = json!(left);
        }
        shown
    }

    pub(super) fn change(&self, change: LogChange) {
        {
            let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
            match change.only {
                None => *state = State { level: change.level, only: None },
                Some(who) => {
                    let lasts = change.seconds.map(Duration::from_secs);
                    let until = lasts.map(|lasts| Instant::now() + lasts);
                    state.only = Some(Only { level: change.level, who, until });
                    if let Some(lasts) = lasts {
                        let levels = self.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(lasts).await;
                            levels.forget_what_is_over();
                        });
                    }
                }
            }
        }
        // What was decided of each place in the code is decided anew.
        tracing::callsite::rebuild_interest_cache();
    }

    fn forget_what_is_over(&self) {
        {
            let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if state.only.as_ref().is_some_and(Only::is_over) {
                state.only = None;
            }
        }
        tracing::callsite::rebuild_interest_cache();
    }

    fn most(&self) -> LevelFilter {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let only = state.only.as_ref().map_or(i64::MIN, |only| only.level);
        filter_of(state.level.max(only))
    }
}

impl Only {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

impl<S> Filter<S> for Levels {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        metadata.target().starts_with("roost") && *metadata.level() <= self.most()
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let level = event.metadata().level();
        if *level <= filter_of(state.level) {
            return true;
        }
        let Some(only) = state.only.as_ref().filter(|only| *level <= filter_of(only.level)) else {
            return false;
        };
        let mut about = About { who: &only.who, text: String::new(), is_about: false };
        event.record(&mut about);
        about.is_about
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most())
    }
}

/// Looks whether a line is about somebody: one of its fields is their name or address, alone or with what belongs to it.
struct About<'a> {
    who: &'a str,
    text: String,
    is_about: bool,
}

impl About<'_> {
    fn look(&mut self, text: &str) {
        let text = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:")).unwrap_or(text);
        let address =
            text.split_once(':').filter(|(word, _)| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
        // An address may stand behind its transport.
        let all = [Some(text), address.map(|(_, rest)| rest)];
        self.is_about |= all.into_iter().flatten().any(|text| {
            let rest = text.trim_matches(['[', '"']).strip_prefix(self.who);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['@', ':', ';', ']', '"']))
        });
    }
}

impl Visit for About<'_> {
    fn record_str(&mut self, _: &Field, value: &str) {
        self.look(value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            return;
        }
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let _ = write!(text, "{value:?}");
        self.look(&text);
        self.text = text;
    }
}

/// OpenSIPS: -3 alert, -2 critical, -1 error, 1 warning, 2 notice, 3 information, 4 debug.
fn filter_of(log_level: i64) -> LevelFilter {
    match log_level {
        ..=0 => LevelFilter::ERROR,
        1..=2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    }
}

fn facility(name: &str) -> Facility {
    match name {
        "LOG_LOCAL1" => Facility::Local1,
        "LOG_LOCAL2" => Facility::Local2,
        "LOG_LOCAL3" => Facility::Local3,
        "LOG_LOCAL4" => Facility::Local4,
        "LOG_LOCAL5" => Facility::Local5,
        "LOG_LOCAL6" => Facility::Local6,
        "LOG_LOCAL7" => Facility::Local7,
        "LOG_DAEMON" => Facility::Daemon,
        "LOG_USER" => Facility::User,
        _ => Facility::Local0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_about_who_stands_in_its_fields() {
        for (who, text, expected) in [
            ("9001", "9001", true),
            ("9001", "9001@pbx.test", true),
            ("9001", "sip:9001@pbx.test", true),
            ("9001", "\"9001\"", true),
            ("9001", "90012", false),
            ("9001", "19001", false),
            ("10.0.0.7", "10.0.0.7:5060", true),
            ("10.0.0.7", "udp:10.0.0.7:5060", true),
            ("10.0.0.7", "10.0.0.77:5060", false),
            ("2001:db8::1", "[2001:db8::1]:5060", true),
        ] {
            let mut about = About { who, text: String::new(), is_about: false };
            about.look(text);
            assert_eq!(about.is_about, expected, "{who} in {text}");
        }
    }
}
