//! `roost user export`: all extensions in a CSV file, as `user import` takes it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::output::say;
use crate::settings::Settings;

/// Writes them, `-` to standard output.
///
/// # Errors
/// Passwords are not there, only their hashes; or the file is there, or cannot be written.
pub(crate) fn run(settings: &Settings, file: &Path, is_json: bool) -> Result<()> {
    if !settings.core.policy.auth_db.calculate_ha1 {
        bail!(
            "[auth_db] calculate_ha1 = false: the table holds hashes, and no password can be read from them; `roost db copy` copies them"
        );
    }
    let store = settings.open_store()?;
    let is_printed = file.as_os_str() == "-";
    let out: Box<dyn Write> = match is_printed {
        true => Box::new(io::stdout().lock()),
        false => {
            let mut options = fs::OpenOptions::new();
            let made = options.write(true).create_new(true).mode(0o600).open(file);
            Box::new(made.with_context(|| format!("cannot make {}", file.display()))?)
        }
    };
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["username", "domain", "password"])?;
    let (mut rows, mut failed) = (0_u64, None);
    store.export_users(&mut |page| {
        for row in page {
            if failed.is_none() {
                failed = csv.write_record(row).err();
            }
        }
        rows += page.len() as u64;
        Ok(())
    })?;
    match failed {
        Some(error) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
        None => csv.flush().with_context(|| format!("cannot write {}", file.display()))?,
    }
    match (is_printed, is_json) {
        (true, _) => Ok(()),
        (false, true) => say(&json!({ "file": file.display().to_string(), "extensions": rows }).to_string()),
        (false, false) => {
            say(&format!("{}: {rows} extensions with their passwords, for you alone", file.display()))
        }
    }
}
