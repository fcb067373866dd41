//! `roost user import`: extensions from a CSV file into the database, all of them or none.

use std::fmt::Write as _;
use std::io::{BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use csv::{ByteRecord, ReaderBuilder, Terminator};
use indicatif::{ProgressBar, ProgressStyle};
use roost_store::{Account, Accounts, Imported, OnExisting, Store};
use serde_json::json;

use crate::commands::account::{check_account, forget_all, warn_of_other_database};
use crate::output::say;
use crate::settings::Settings;

/// Bad lines that are shown; the others are counted.
const MOST_SHOWN: usize = 20;

/// Imports a file, `-` for standard input.
///
/// # Errors
/// Every bad line with its number and reason; nothing is written then.
pub(crate) fn run(settings: &Settings, file: &Path, replace: bool, is_json: bool) -> Result<()> {
    let name = match file.to_str() {
        Some("-") => "standard input".to_string(),
        _ => file.display().to_string(),
    };
    let input: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(std::fs::File::open(file).with_context(|| format!("cannot read {name}"))?),
    };
    let started = Instant::now();
    let (mut accounts, mut bad) = read(settings, input, &name)?;
    accounts.sort();
    for (line, first) in accounts.duplicates(settings.core.identity.use_domain) {
        bad.push((line, format!("the same extension as in line {first}")));
    }
    let on_existing = if replace { OnExisting::Replace } else { OnExisting::Refuse };
    if !bad.is_empty() {
        // Who corrects the file wants to know all that is wrong with it; asking makes no database.
        if !replace && Store::exists(&settings.database, &settings.folder())? {
            bad.extend(existing(settings.open_store()?.existing_users(&accounts)?));
        }
        return Err(report(&name, bad));
    }
    if accounts.is_empty() {
        bail!("{name} holds no extension below its header");
    }
    let bar = bar(accounts.len());
    let realm = &settings.core.policy.auth.realm;
    let store = settings.open_store()?;
    let imported = store
        .import_users(&accounts, realm, on_existing, &mut |done| bar.set_position(done))
        .context("nothing is imported")?;
    bar.finish_and_clear();
    match imported {
        Imported::Existing(lines) => Err(report(&name, existing(lines).collect())),
        Imported::Done { added, replaced } => {
            forget_all(settings);
            warn_of_other_database(settings, &store);
            tell(added, replaced, started.elapsed(), is_json)
        }
    }
}

/// The columns of a file, by their place in a line.
struct Columns {
    username: usize,
    password: usize,
    domain: Option<usize>,
}

/// Every line that is an account, and what is wrong with the others.
fn read(settings: &Settings, input: Box<dyn Read>, name: &str) -> Result<(Accounts, Vec<(u64, String)>)> {
    // Lines end in "\n": then the reader's count of lines is exact, and a "\r" before it is ours to cut. The last line
    // gets an end in any case.
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .terminator(Terminator::Any(b'\n'))
        .from_reader(BufReader::new(input.chain(&b"\n"[..])));
    let (mut accounts, mut bad) = (Accounts::default(), Vec::new());
    let mut columns = None;
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).with_context(|| format!("cannot read {name}"))? {
        if record.as_slice().contains(&b'\n') {
            let line = record.position().map_or(0, csv::Position::line);
            bad.push((
                line,
                "a field runs over several lines: is its closing quotation mark missing?".into(),
            ));
            continue;
        }
        let line = reader.position().line() - 1;
        let fields = match fields(&record) {
            Ok(fields) => fields,
            Err(reason) => {
                bad.push((line, reason));
                continue;
            }
        };
        if fields == [""] {
            continue;
        }
        let Some(columns) = &columns else {
            columns = Some(header(&fields).map_err(|reason| anyhow!("{name}:{line}: {reason}"))?);
            continue;
        };
        if let Err(reason) = take(settings, columns, &fields, line, &mut accounts) {
            bad.push((line, reason));
        }
    }
    match columns {
        Some(_) => Ok((accounts, bad)),
        None => bail!("{name} is empty: {HEADER}"),
    }
}

const HEADER: &str = "the first line must name the columns: username,password,domain (in any order, domain may be \
    left out)";

/// The fields of a line as text.
fn fields(record: &ByteRecord) -> Result<Vec<&str>, String> {
    let text =
        |field| std::str::from_utf8(field).map_err(|_| "is not UTF-8: save the file as UTF-8".to_string());
    let mut fields = record.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    if let Some(last) = fields.last_mut() {
        *last = last.strip_suffix('\r').unwrap_or(last);
    }
    Ok(fields)
}

/// The line that names the columns. What it says otherwise is not repeated: it may be a password.
fn header(fields: &[&str]) -> Result<Columns, String> {
    let names: Vec<_> = fields.iter().map(|field| field.trim().to_ascii_lowercase()).collect();
    let place = |wanted: &str| names.iter().position(|name| name == wanted);
    let is_known = |name: &String| matches!(name.as_str(), "username" | "password" | "domain");
    let is_once = names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1);
    match (place("username"), place("password")) {
        (Some(username), Some(password)) if names.iter().all(is_known) && is_once => {
            Ok(Columns { username, password, domain: place("domain") })
        }
        _ if names.len() == 1 && names[0].contains([';', '\t']) => {
            Err(format!("{HEADER}; separate them with commas"))
        }
        _ => Err(HEADER.to_string()),
    }
}

fn take(
    settings: &Settings,
    columns: &Columns,
    fields: &[&str],
    line: u64,
    accounts: &mut Accounts,
) -> Result<(), String> {
    let wanted = 2 + usize::from(columns.domain.is_some());
    if fields.len() != wanted {
        return Err(format!(
            "{} fields, the header has {wanted} (a field that holds a comma needs quotation marks)",
            fields.len()
        ));
    }
    let field = |place: usize| fields.get(place).copied().unwrap_or("");
    let (user, password) = (field(columns.username), field(columns.password));
    let domain = columns.domain.map_or("", field);
    if domain.is_empty() && settings.core.identity.use_domain {
        return Err("the domain is missing, and use_domain is set".to_string());
    }
    check_account(&settings.core, user, domain, password).map_err(|error| error.to_string())?;
    accounts.push(Account { line, user, domain, password }).map_err(|error| error.to_string())
}

fn existing(lines: Vec<u64>) -> impl Iterator<Item = (u64, String)> {
    let reason = "the extension exists already (--replace gives it the password of this file)";
    lines.into_iter().map(move |line| (line, reason.to_string()))
}

fn report(name: &str, mut bad: Vec<(u64, String)>) -> anyhow::Error {
    bad.sort_unstable();
    let plural = if bad.len() == 1 { "line is" } else { "lines are" };
    let mut text = format!("{name}: {} {plural} wrong, nothing is imported", bad.len());
    for (line, reason) in bad.iter().take(MOST_SHOWN) {
        let _ = write!(text, "\n{name}:{line}: {reason}");
    }
    if bad.len() > MOST_SHOWN {
        let _ = write!(text, "\n… and {} more", bad.len() - MOST_SHOWN);
    }
    anyhow!(text)
}

/// On standard error, where that is a terminal.
fn bar(accounts: usize) -> ProgressBar {
    let bar = ProgressBar::new(accounts as u64);
    match ProgressStyle::with_template("importing [{bar:40}] {human_pos}/{human_len} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn tell(added: u64, replaced: u64, took: Duration, is_json: bool) -> Result<()> {
    let (all, seconds) = (added + replaced, took.as_secs_f64());
    if is_json {
        let told = json!({ "imported": all, "added": added, "replaced": replaced, "seconds": seconds });
        return say(&serde_json::to_string_pretty(&told)?);
    }
    let plural = if all == 1 { "" } else { "s" };
    let replaced = if replaced == 0 { String::new() } else { format!(", {replaced} of them were there") };
    say(&format!("imported {all} subscriber{plural} in {seconds:.1} s{replaced}"))
}
