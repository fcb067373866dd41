//! What commands print.

use std::io::Write as _;

use anyhow::Result;

/// One answer on standard output; a reader that has gone is not an error.
pub(crate) fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What the running server has done: its "OK" for scripts, words for people.
pub(crate) fn say_done(text: &str, is_json: bool) -> Result<()> {
    say(if is_json { "\"OK\"" } else { text })
}
