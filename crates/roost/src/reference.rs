//! `docs/reference.md`, made from the key table and from the command line's own definition.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use roost_admin::{STATISTICS, Statistic, StatisticKind};

use crate::cli::Cli;
use crate::settings::key::{Key, Kind};
use crate::settings::keys::KEYS;
use crate::settings::keys_of_tables::{ALIAS_KEYS, HEP_KEYS, ROUTE_KEYS, TLS_DOMAIN_KEYS, WEBHOOK_KEYS};
use crate::settings::live::is_live;

/// The whole page, with a line end.
pub(crate) fn page() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n## Configuration\n");
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    for section in sections {
        let title = if section.is_empty() { "Top level".to_string() } else { format!("[{section}]") };
        let _ = write!(
            page,
            "\n### {title}\n\n| key | type | default | meaning | OpenSIPS | live |\n|---|---|---|---|---|---|\n"
        );
        for key in KEYS.iter().filter(|key| key.section == section) {
            write_key(key, &mut page);
        }
    }
    page.push_str(ROUTES);
    for key in ROUTE_KEYS {
        write_key(key, &mut page);
    }
    page.push_str(ALIASES);
    for key in ALIAS_KEYS {
        write_key(key, &mut page);
    }
    page.push_str(TLS_DOMAINS);
    for key in TLS_DOMAIN_KEYS {
        write_key(key, &mut page);
    }
    page.push_str(WEBHOOKS);
    for key in WEBHOOK_KEYS {
        write_key(key, &mut page);
    }
    page.push_str(HEP);
    for key in HEP_KEYS {
        write_key(key, &mut page);
    }
    page.push_str(STATISTICS_HEAD);
    for Statistic { name, kind, help, .. } in STATISTICS {
        let kind = if *kind == StatisticKind::Counter { "counter" } else { "gauge" };
        let _ = writeln!(page, "| `{name}` | {kind} | {help} |");
    }
    page.push_str("\n## Commands\n\nEvery command takes:\n\n");
    let mut cli = Cli::command();
    cli.build();
    for arg in cli.get_arguments().filter(|arg| arg.is_global_set()) {
        write_arg(arg, &mut page);
    }
    for command in cli.get_subcommands() {
        write_command(command, "roost", &mut page);
    }
    page
}

const HEAD: &str = "# Reference

Every key of the configuration file and every command. [README](../README.md) says how they go together. A key that is
*live* counts from `roost reload` on; the others from the next start.

This page is made by `cargo run -q -- config reference > docs/reference.md`; a test compares the two.
";

const ROUTES: &str = "
### [[route]]

Where calls go that are for no extension: any number of tables, of which the first that fits decides. `ds_reload` reads
them anew.

| key | type | default | meaning | OpenSIPS | live |
|---|---|---|---|---|---|
";

const ALIASES: &str = "
### [[alias]]

Numbers that stand for extensions: any number of tables, of which the first of each number counts. Those of the table of
[alias_db] come after them.

| key | type | default | meaning | OpenSIPS | live |
|---|---|---|---|---|---|
";

const TLS_DOMAINS: &str = "
### [[tls.domain]]

Certificates for names that clients ask for: any number of tables. Who asks for none of them gets the one of [tls].

| key | type | default | meaning | OpenSIPS | live |
|---|---|---|---|---|---|
";

const STATISTICS_HEAD: &str = "
## Statistics

What `get_statistics` and `roost stats` know. `/metrics` calls `group:name` `opensips_group_name`, and those of roost's own groups
`roost_name` or `roost_group_name`; characters other than letters and digits become `_`. A counter only grows, until
`reset_statistics` (metrics are not reset). [Monitoring](monitoring.md) lists the metrics that are no statistics.

| name | kind | meaning |
|---|---|---|
";

const HEP: &str = "
### [[hep]]

Who is sent copies of all messages, by HEPv3 (Homer, sngrep): any number of tables, up to 16. Passwords are masked, TLS and WSS are in
clear text. One that is slow loses its own. `trace_start` adds others while roost runs.

| key | type | default | meaning | OpenSIPS | live |
|---|---|---|---|---|---|
";

const WEBHOOKS: &str = "
### [[webhook]]

Where events are posted: any number of tables. What is not taken waits (10,000 events for each) and is tried again for an hour.

| key | type | default | meaning | OpenSIPS | live |
|---|---|---|---|---|---|
";

fn write_key<T>(key: &Key<T>, page: &mut String) {
    let Key { section, name, default, meaning, opensips, .. } = key;
    let (kind, meaning, opensips) = (kind(key.kind), cell(meaning), cell(opensips));
    let live = if is_live(section, name) { "yes" } else { "" };
    let _ = writeln!(page, "| `{name}` | {kind} | `{default}` | {meaning} | {opensips} | {live} |");
}

/// What values a key takes, in words.
fn kind(kind: Kind) -> String {
    let one_of = |choices: &[&str]| {
        let choices: Vec<_> = choices.iter().map(|choice| format!("`\"{choice}\"`")).collect();
        choices.join(", ")
    };
    match kind {
        Kind::Text => "string".to_string(),
        Kind::Secret => "string, never shown".to_string(),
        Kind::Url => "string, a URL".to_string(),
        Kind::Switch => "`true` or `false`".to_string(),
        Kind::Number(least, most) => format!("{least} to {most}"),
        Kind::Choice(choices) => one_of(choices),
        Kind::List => "list of strings".to_string(),
        Kind::Secrets => "list of strings, never shown".to_string(),
        Kind::Choices(choices) => format!("list of {}", one_of(choices)),
    }
}

/// One command, or those below it.
fn write_command(command: &Command, above: &str, page: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{above} {}", command.get_name());
    if command.has_subcommands() {
        command.get_subcommands().for_each(|below| write_command(below, &name, page));
        return;
    }
    let shown = |arg: &&Arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help";
    let own: Vec<_> = command.get_arguments().filter(shown).collect();
    let mut usage = name.clone();
    for arg in &own {
        let _ = match (arg.is_positional(), arg.is_required_set()) {
            (true, true) => write!(usage, " {}", value(arg)),
            (true, false) => write!(usage, " [{}]", value(arg)),
            (false, true) => write!(usage, " {}", option(arg)),
            (false, false) => write!(usage, " [{}]", option(arg)),
        };
    }
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let (first, more) = about.split_once('\n').unwrap_or((&about, ""));
    let _ = write!(page, "\n### {name}\n\n```text\n{usage}\n```\n\n{}.\n", first.trim_end_matches('.'));
    if !more.trim().is_empty() {
        let _ = write!(page, "\n{}\n", more.trim());
    }
    if !own.is_empty() {
        page.push('\n');
        own.into_iter().for_each(|arg| write_arg(arg, page));
    }
}

fn write_arg(arg: &Arg, page: &mut String) {
    let name = if arg.is_positional() { value(arg) } else { option(arg) };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let choices = arg.get_possible_values();
    let _ = write!(page, "- `{name}`: {help}");
    if arg.get_action().takes_values() && !choices.is_empty() {
        let names: Vec<_> = choices.iter().map(|choice| format!("`{}`", choice.get_name())).collect();
        let _ = write!(page, ": {}", names.join(", "));
    }
    if arg.get_action().takes_values()
        && let [default] = arg.get_default_values()
    {
        let _ = write!(page, " (default: `{}`)", default.to_string_lossy());
    }
    page.push('\n');
}

/// `FILE`.
fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| arg.get_id().as_str().to_ascii_uppercase(), ToString::to_string)
}

/// `--config FILE`.
fn option(arg: &Arg) -> String {
    let name = arg.get_long().unwrap_or_default();
    if arg.get_action().takes_values() { format!("--{name} {}", value(arg)) } else { format!("--{name}") }
}

/// In a table a bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
