//! `roost drain`: the running server is taken out of service, and ends.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::mi_client::{MiError, call};
use crate::output::{say, say_done};
use crate::settings::Settings;

/// How it goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// End after so many seconds, though calls are left
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) within: u64,
    /// Phones that are refused come back after so many seconds, or up to twice as many
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub(crate) retry_after: u64,
    /// Take it back into service
    #[arg(long, conflicts_with_all = ["within", "retry_after"])]
    pub(crate) undo: bool,
    /// Do not wait for its end
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Takes it out, and waits until it has ended.
///
/// # Errors
/// No server runs, or it refuses.
pub(crate) fn run(settings: &Settings, args: &Drain, is_json: bool) -> Result<()> {
    let within = if args.undo { 0 } else { args.within.max(1) };
    let params = json!({ "within": within, "retry_after": args.retry_after });
    call(settings, "drain", &params).map_err(MiError::into_error)?;
    if args.undo {
        return say_done("back in service", is_json);
    }
    if args.no_wait {
        return say_done("taken out of service; it ends when no call is left", is_json);
    }
    loop {
        match left(settings) {
            Ok((calls, connections)) if !is_json => {
                say(&format!("{calls} calls and {connections} connections are left"))?;
            }
            Ok(_) => {}
            Err(MiError::NotRunning(_)) => return say_done("it has ended", is_json),
            Err(error) => return Err(error.into_error()),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Calls and connections that are left.
fn left(settings: &Settings) -> Result<(u64, u64), MiError> {
    let names = ["dialog:early_dialogs", "dialog:active_dialogs", "net:tcp_connections"];
    let found = call(settings, "get_statistics", &json!({ "statistics": names }))?;
    let of = |name: &str| found[name].as_u64().unwrap_or(0);
    Ok((of(names[0]) + of(names[1]), of(names[2])))
}
