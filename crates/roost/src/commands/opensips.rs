//! `roost import`: a script of OpenSIPS becomes a configuration, and each of its lines a line of a report.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use roost_import::{Fate, Imported, Line, import};
use serde_json::{Value, json};

use crate::output::{say, say_error};
use crate::settings::Settings;

/// What is read, and where it goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// OpenSIPS's script, 2.4 to 4.0
    pub(crate) script: PathBuf,
    /// Where the configuration goes; - prints it
    #[arg(long, value_name = "FILE", default_value = "roost.toml")]
    pub(crate) output: PathBuf,
    /// Where the report goes, every line of the script with what became of it
    #[arg(long, value_name = "FILE", default_value = "roost-import.txt")]
    pub(crate) report: PathBuf,
    /// Write over files that are there
    #[arg(long)]
    pub(crate) force: bool,
}

/// Reads the script, and writes both files.
///
/// # Errors
/// A line that is not understood, or a file that is there.
pub(crate) fn run(args: &Import, is_json: bool) -> Result<()> {
    let is_printed = args.output == Path::new("-");
    let files = [&args.output, &args.report];
    if let Some(there) = files.into_iter().find(|file| file.exists() && !args.force).filter(|_| !is_printed) {
        bail!(
            "{} is there already: --force writes over it, --output and --report name others",
            there.display()
        );
    }
    let folder = args.output.parent().unwrap_or(Path::new(""));
    let mut imported = import(&args.script, &|database| sets(database, folder, is_json))?;
    comment_out_refused(&mut imported);
    if let Err(error) = Settings::parse(&imported.toml, &args.output.display().to_string()) {
        say_error(&error.context("what was written needs a look"), is_json);
    }
    let counts = Counts::of(&imported.lines);
    if is_printed && !is_json {
        say(imported.toml.trim_end())?;
    } else if !is_printed {
        write(&args.output, &imported.toml)?;
        write(&args.report, &report(&args.script, &imported, &counts))?;
    }
    if is_json {
        return say(&serde_json::to_string_pretty(&shown(&imported, &counts))?);
    }
    if is_printed {
        return Ok(());
    }
    say(&format!(
        "{}\n{}: the configuration\n{}: what became of every line",
        counts.text(),
        args.output.display(),
        args.report.display()
    ))?;
    for line in imported.lines.iter().filter(|line| matches!(line.fate, Fate::Missing(_))) {
        say(&format!("\n{}:{}: {}\n    {}", line.file, line.number, line.text.trim(), said(&line.fate).1))?;
    }
    for difference in &imported.differences {
        say(&format!("\ndifferent: {difference}"))?;
    }
    Ok(())
}

/// The sets of dispatcher's table, where the script's database can be reached from here.
fn sets(database: &str, folder: &Path, is_json: bool) -> Vec<(u32, String)> {
    roost_store::dispatcher(database, folder).unwrap_or_else(|error| {
        let error = anyhow::Error::new(error).context("the sets of dispatcher are not carried over");
        say_error(&error, is_json);
        Vec::new()
    })
}

/// What roost does not take as it stands (a number out of range, a broken regular expression) is left as a comment, with the reason.
fn comment_out_refused(imported: &mut Imported) {
    const NAME: &str = "roost.toml";
    const MOST: usize = 100;
    for _ in 0..MOST {
        let Err(error) = Settings::parse(&imported.toml, NAME) else { return };
        let message = format!("{error:#}");
        let refused = message.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(':'));
        let refused = refused.and_then(|rest| rest.split_once(": "));
        let Some((at, why)) = refused.and_then(|(line, why)| Some((line.parse::<usize>().ok()?, why))) else {
            return;
        };
        let why = why.lines().next().unwrap_or_default();
        let lines: Vec<&str> = imported.toml.lines().collect();
        let Some(index) = at.checked_sub(1).filter(|index| *index < lines.len()) else { return };
        let (first, last) = refused_lines(&lines, index);
        let mut toml = String::new();
        for (index, line) in lines.iter().enumerate() {
            if index == first {
                let _ = writeln!(toml, "# Not taken: {why}");
            }
            let _ = match (first..=last).contains(&index) {
                true => writeln!(toml, "# {line}"),
                false => writeln!(toml, "{line}"),
            };
        }
        let origin = lines.get(first).and_then(|line| line.rsplit_once("# line ")?.1.parse::<usize>().ok());
        let script = imported.lines.first().map(|line| line.file.clone());
        let of_origin = |line: &&mut Line| Some(line.number) == origin && Some(&line.file) == script.as_ref();
        if let Some(line) = imported.lines.iter_mut().find(of_origin) {
            line.fate = Fate::Missing(why.to_string());
        }
        imported.toml = toml;
    }
}

/// All of a `[[table]]`, or the one line of a key.
fn refused_lines(lines: &[&str], at: usize) -> (usize, usize) {
    let header = lines.iter().take(at + 1).rposition(|line| line.starts_with('['));
    match header.filter(|header| lines.get(*header).is_some_and(|line| line.starts_with("[["))) {
        Some(first) => {
            let length = lines.iter().skip(first).take_while(|line| !line.trim().is_empty()).count();
            (first, first + length.saturating_sub(1))
        }
        None => (at, at),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// How many lines became what.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    carried: usize,
    unneeded: usize,
    missing: usize,
}

impl Counts {
    fn of(lines: &[Line]) -> Counts {
        let mut counts = Counts { all: lines.len(), ..Counts::default() };
        for line in lines {
            match line.fate {
                Fate::Nothing => {}
                Fate::Unneeded(_) => counts.unneeded += 1,
                Fate::Carried(_) => counts.carried += 1,
                Fate::Missing(_) => counts.missing += 1,
            }
        }
        counts
    }

    fn text(&self) -> String {
        let Counts { all, carried, unneeded, missing } = self;
        format!("{all} lines: {carried} carried over, {unneeded} not needed, {missing} not carried over")
    }
}

fn said(fate: &Fate) -> (&'static str, &str) {
    match fate {
        Fate::Nothing => ("", ""),
        Fate::Unneeded(why) => ("not needed", why),
        Fate::Carried(to) => ("carried to", to),
        Fate::Missing(remedy) => ("NOT CARRIED", remedy),
    }
}

fn report(script: &Path, imported: &Imported, counts: &Counts) -> String {
    let mut out = format!("What became of {}\n\n{}\n", script.display(), counts.text());
    if !imported.differences.is_empty() {
        out.push_str("\nWhere roost behaves in another way on purpose:\n");
        for difference in &imported.differences {
            let _ = writeln!(out, "  - {difference}");
        }
    }
    let mut file = "";
    for line in &imported.lines {
        if file != line.file {
            file = &line.file;
            let _ = writeln!(out, "\n{file}");
        }
        let (word, text) = said(&line.fate);
        let _ = writeln!(out, "{:>5} | {}", line.number, line.text);
        if !word.is_empty() {
            let _ = writeln!(out, "      |     -> {word}: {text}");
        }
    }
    out
}

fn shown(imported: &Imported, counts: &Counts) -> Value {
    let line = |line: &Line| {
        let (word, text) = said(&line.fate);
        json!({ "file": line.file, "line": line.number, "text": line.text, "fate": word, "what": text })
    };
    json!({
        "lines": counts.all,
        "carried": counts.carried,
        "not_needed": counts.unneeded,
        "not_carried": counts.missing,
        "differences": imported.differences,
        "toml": imported.toml,
        "each": imported.lines.iter().map(line).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_not_taken_stands_as_a_comment_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("opensips.cfg");
        let text = "listen=udp:10.0.0.1:5060\nloadmodule \"tm.so\"\nmodparam(\"tm\", \"fr_timeout\", 0)\nroute {\n\
                    \tif ($rU =~ \"^0\") { strip(100); $rd = \"10.0.0.2\"; t_relay(); exit; }\n\tif ($rU =~ \"^1\") { $rd = \"10.0.0.3\"; t_relay(); }\n}\n";
        std::fs::write(&script, text).unwrap();
        let mut imported = roost_import::import(&script, &|_| Vec::new()).unwrap();
        comment_out_refused(&mut imported);
        let settings = Settings::parse(&imported.toml, "x")
            .unwrap_or_else(|error| panic!("{error:#}\n{}", imported.toml));
        assert_eq!(settings.routes.len(), 1, "{}", imported.toml);
        assert!(imported.toml.contains("# Not taken: `tm.fr_timeout` must be"), "{}", imported.toml);
        assert!(matches!(&imported.lines[2].fate, Fate::Missing(why) if why.contains("must be")));
    }

    /// A registrar's script becomes a configuration on which phones and server say what OpenSIPS's own recording says. Another
    /// script may be named by ROOST_SCRIPT.
    #[test]
    fn the_recorded_registration_goes_the_same_way_on_an_imported_script() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let own = crates.join("roost-import/tests/scripts/registrar-2.4.cfg");
        let script = std::env::var_os("ROOST_SCRIPT").map_or(own, std::path::PathBuf::from);
        let imported = roost_import::import(&script, &|_| Vec::new()).unwrap();
        let settings = Settings::parse(&imported.toml, "imported").unwrap();
        let registrar = &settings.core.policy.registrar;
        assert!(
            registrar.exclusive_ip && registrar.force_registration && settings.core.identity.write_through
        );
        let flow =
            std::fs::read_to_string(crates.join("roost-sim/tests/golden/seed-section-5.flow")).unwrap();
        // With `use_domain` the extensions are those of the domain that the phones name.
        let flow = match settings.core.identity.use_domain {
            true => flow
                .replace("\nuser 401999 ", "\nuser 401999 @10.2.84.19 ")
                .replace("\nuser 401998 ", "\nuser 401998 @10.2.84.19 "),
            false => flow,
        };
        if let Err(error) = roost_sim::golden::run_on(settings.core, &flow) {
            panic!("{error}");
        }
    }
}
