//! Where log lines go, by OpenSIPS's levels.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use anyhow::{Result, anyhow};
use syslog_tracing::{Facility, Options, Syslog};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::Settings;

/// Starts logging, once per process.
///
/// # Errors
/// When it was started before.
pub(crate) fn start(settings: &Settings) -> Result<()> {
    let filter = Targets::new().with_target("roost", level(settings.log_level));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_target(false);
    if settings.log_stderror {
        return Ok(registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr))
            .try_init()?);
    }
    let syslog = Syslog::new(Cow::Borrowed(c"roost"), Options::LOG_PID, facility(&settings.log_facility))
        .ok_or_else(|| anyhow!("syslog is in use already"))?;
    Ok(registry
        .with(lines.with_ansi(false).without_time().with_level(false).with_writer(syslog))
        .try_init()?)
}

/// OpenSIPS: -3 alert, -2 critical, -1 error, 1 warning, 2 notice, 3 information, 4 debug.
fn level(log_level: i64) -> LevelFilter {
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
