//! `roost db`: the tables of the database.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use indicatif::ProgressBar;
use roost_store::{Copied, ListTable, Sum};
use serde_json::json;

use crate::cli::DbCommand;
use crate::mi_client::{MiError, call};
use crate::output::{say, say_done, table};
use crate::settings::Settings;

/// Runs one of the commands.
///
/// # Errors
/// What is wrong with the database, and the remedy.
pub(crate) fn run(settings: &Settings, command: &DbCommand, is_json: bool) -> Result<()> {
    match command {
        DbCommand::Init => {
            say_done(&format!("the tables of {} are there", settings.open_store()?.name()), is_json)
        }
        DbCommand::Check => check(settings, is_json),
        DbCommand::Migrate => migrate(settings, is_json),
        DbCommand::Copy { from, to } => copy(settings, (from, to), is_json),
        DbCommand::Backup { file } => back_up(settings, file, is_json),
    }
}

fn copy(settings: &Settings, (from, to): (&str, &str), is_json: bool) -> Result<()> {
    let (source, target) = (settings.open_store_at(from)?, settings.open_store_at(to)?);
    if source.identity() == target.identity() {
        bail!("{from} and {to} are one database");
    }
    let bar = ProgressBar::new_spinner();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let copied =
        source.copy_to(&target, now, &mut |table, rows| bar.set_message(format!("{table}: {rows} rows")))?;
    bar.finish_and_clear();
    let copied: Vec<Copied> =
        copied.into_iter().chain(source.copy_lists(&target, &lists(settings)?)?).collect();
    let is_whole = copied.iter().all(Copied::is_whole);
    if is_json {
        let one = |one: &Copied| {
            let sum = |sum: &Sum| json!({ "rows": sum.rows, "hash": format!("{:016x}", sum.hash) });
            let (source, target) = (sum(&one.source), sum(&one.target));
            json!({ "table": one.table, "copied": one.rows, "source": source, "target": target, "left_out": one.left_out })
        };
        say(&serde_json::to_string_pretty(&copied.iter().map(one).collect::<Vec<_>>())?)?;
    } else {
        let mut shown = table();
        shown.set_header(["table", "copied", "in the source", "in the target", "the same"]);
        for one in &copied {
            let (rows, same) = (one.rows.to_string(), if one.is_whole() { "yes" } else { "no" });
            let (source, target) = (one.source.rows.to_string(), one.target.rows.to_string());
            shown.add_row([one.table.clone(), rows, source, target, same.to_string()]);
        }
        say(&shown.trim_fmt())?;
        for one in copied.iter().filter(|one| !one.left_out.is_empty()) {
            say(&format!(
                "the target has no columns {} of {}: they were left out",
                one.left_out.join(", "),
                one.table
            ))?;
        }
    }
    if !is_whole {
        bail!(
            "the two differ: the target had other rows before, or the source has changed meanwhile (stop what writes to it, and copy \
             again)"
        );
    }
    Ok(())
}

/// The tables of aliases and networks, by OpenSIPS's names where the configuration names none.
fn lists(settings: &Settings) -> Result<[ListTable; 2]> {
    let named = |own: &str, usual: &str| if own.is_empty() { usual.to_string() } else { own.to_string() };
    let aliases = ListTable::of_aliases(&named(&settings.alias_table, "dbaliases"), &settings.alias_columns)?;
    Ok([aliases, ListTable::of_addresses(&named(&settings.address_table, "address"))?])
}

/// What was accepted before is in the table so long after it was flushed, at most.
const FOLDS: Duration = Duration::from_millis(1_500);

fn back_up(settings: &Settings, file: &Path, is_json: bool) -> Result<()> {
    settings.require_database()?;
    let store = settings.open_store()?;
    match call(settings, "ul_flush", &json!({})) {
        Ok(_) => std::thread::sleep(FOLDS),
        // Opening it has folded what a server left behind.
        Err(MiError::NotRunning(_)) => {}
        Err(error) => return Err(error.into_error()),
    }
    let bytes = store.back_up(file)?;
    let (name, size) = (file.display(), bytes as f64 / 1e6);
    match is_json {
        true => say(&json!({ "file": name.to_string(), "bytes": bytes }).to_string()),
        false => say(&format!("{name}: {size:.1} MB, checked; with all that was accepted before")),
    }
}

fn check(settings: &Settings, is_json: bool) -> Result<()> {
    if !settings.has_tables()? {
        bail!("the database has no tables: `roost db init` makes them");
    }
    let store = settings.open_store()?;
    let (tables, missing) = (store.tables()?, store.missing_index()?);
    if is_json {
        let tables: Vec<_> = tables
            .iter()
            .map(|table| json!({ "table": table.name, "version": table.version, "rows": table.rows }))
            .collect();
        let report = json!({ "database": store.name(), "tables": tables, "missing_index": missing });
        return say(&serde_json::to_string_pretty(&report)?);
    }
    let mut shown = table();
    shown.set_header(["table", "version", "rows"]);
    for table in tables {
        let version = table.version.map_or("-".to_string(), |version| version.to_string());
        shown.add_row([table.name.to_string(), version, table.rows.to_string()]);
    }
    say(&shown.trim_fmt())?;
    match missing {
        Some(sql) if store.is_shared() => say(&format!(
            "registrar.exclusive_check = \"database\" would be slow: there is no index on location's user; \
             `roost db migrate` makes it:\n{sql}"
        )),
        _ => Ok(()),
    }
}

fn migrate(settings: &Settings, is_json: bool) -> Result<()> {
    let made = settings.migrate_tables()?;
    let store = settings.open_store()?;
    let index = match store.is_shared() {
        true => store.make_index()?,
        // An SQLite file is read by one roost, and whole.
        false => None,
    };
    if is_json {
        return say(&serde_json::to_string_pretty(&json!({ "tables": made, "index": index }))?);
    }
    for table in &made {
        say(&format!("table `{table}` made"))?;
    }
    if let Some(sql) = &index {
        say(sql)?;
    }
    match made.is_empty() && index.is_none() {
        true => say(&format!("nothing to do: {} has all that roost needs", store.name())),
        false => Ok(()),
    }
}
