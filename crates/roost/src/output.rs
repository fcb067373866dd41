//! What commands print.

use std::io::Write as _;

use anyhow::Result;
use serde_json::json;

/// One answer on standard output; a reader that has gone is not an error.
pub(crate) fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What was done: "OK" for scripts, words for people.
pub(crate) fn say_done(text: &str, is_json: bool) -> Result<()> {
    say(if is_json { "\"OK\"" } else { text })
}

/// What went wrong, on standard error: an object for scripts, words for people.
pub(crate) fn say_error(error: &anyhow::Error, is_json: bool) {
    let text = told(error);
    match is_json {
        true => eprintln!("{}", json!({ "error": text })),
        false => eprintln!("roost: {text}"),
    }
}

/// An error and its causes, each once: many of our messages say their cause themselves, with the remedy behind it.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // What is said last is the heart of it: the rest is how a library got there.
        let heart = cause.rsplit(": ").next().unwrap_or(&cause);
        if !text.contains(&cause) && !text.contains(heart) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// A table without lines, as wide as the terminal: longer cells are wrapped. What is no terminal gets it as it is.
pub(crate) fn table() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if let Some(width) = terminal_width() {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        table.set_width(width);
    }
    table
}

/// Columns of the terminal on standard output, if it is one.
pub(crate) fn terminal_width() -> Option<u16> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn each_cause_is_told_once() {
        let io = || std::io::Error::other("Connection refused (os error 111)");
        let error = Err::<(), _>(io())
            .context("cannot open x: I/O error: Connection refused (os error 111); start it");
        assert_eq!(
            told(&error.unwrap_err()),
            "cannot open x: I/O error: Connection refused (os error 111); start it"
        );
        let error = Err::<(), _>(io()).context("reading x").context("starting");
        assert_eq!(told(&error.unwrap_err()), "starting: reading x: Connection refused (os error 111)");
    }
}
