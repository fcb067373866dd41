//! `roost db`: the tables of the database.

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::DbCommand;
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
