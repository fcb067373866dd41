//! Records in files: CSV or JSON lines. The file's name may hold the date (`%Y-%m-%d`), so that each day has its own.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local, SecondsFormat};
use serde::Serialize;

use crate::calls::stored::Cdr;
use crate::calls::{Numbered, Sink, Written};
use crate::error::StoreError;

/// Appends to files.
#[derive(Debug)]
pub(crate) struct Lines {
    /// With `%` and what follows it in place of parts of the date.
    pattern: PathBuf,
    is_csv: bool,
    times: Times,
}

/// Seconds whose texts are kept.
const KNOWN_TIMES: usize = 8;

/// One line.
#[derive(Serialize)]
struct Record<'a> {
    begun: String,
    answered: Option<String>,
    ended: String,
    duration_s: u64,
    setup_s: u64,
    ms_duration: u64,
    caller: &'a str,
    callee: &'a str,
    caller_aor: &'a str,
    callee_aor: &'a str,
    sip_code: u16,
    sip_reason: &'a str,
    ended_by: &'a str,
    callid: &'a str,
    from_tag: &'a str,
    to_tag: &'a str,
}

impl<'a> Record<'a> {
    fn of(cdr: &'a Cdr<'_>, times: &mut Times) -> Record<'a> {
        Record {
            begun: times.of(cdr.begun_s),
            answered: cdr.answered_s.map(|answered_s| times.of(answered_s)),
            ended: times.of(cdr.ended_s),
            duration_s: cdr.duration_s(),
            setup_s: cdr.setup_s(),
            ms_duration: cdr.lasted_ms,
            caller: &cdr.caller,
            callee: &cdr.callee,
            caller_aor: &cdr.caller_aor,
            callee_aor: &cdr.callee_aor,
            sip_code: cdr.code,
            sip_reason: &cdr.reason,
            ended_by: &cdr.ended_by,
            callid: &cdr.call_id,
            from_tag: &cdr.from_tag,
            to_tag: &cdr.to_tag,
        }
    }
}

impl Lines {
    /// Takes the name of the files: `.csv` makes CSV, all else JSON lines.
    ///
    /// # Errors
    /// [`StoreError::AccFile`] when the name's date is none, or the file cannot be written.
    pub(crate) fn open(pattern: &Path) -> Result<Lines, StoreError> {
        let lines = Lines {
            pattern: pattern.to_path_buf(),
            times: Times::default(),
            is_csv: pattern.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("csv")),
        };
        let error = |source| StoreError::AccFile { path: pattern.to_path_buf(), source };
        if StrftimeItems::new(&pattern.to_string_lossy()).any(|item| item == Item::Error) {
            return Err(error(io::Error::other(
                "a % is not followed by a part of the date, such as %Y, %m or %d",
            )));
        }
        lines.file(Local::now()).map_err(error)?;
        Ok(lines)
    }

    fn path(&self, at: DateTime<Local>) -> PathBuf {
        let pattern = self.pattern.to_string_lossy();
        if pattern.contains('%') { at.format(&pattern).to_string().into() } else { self.pattern.clone() }
    }

    fn file(&self, at: DateTime<Local>) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o640).open(self.path(at))
    }

    /// Those of some records that the file does not have.
    fn missing<'r>(&self, records: Vec<&'r Numbered>, at: DateTime<Local>) -> io::Result<Vec<&'r Numbered>> {
        let mut missing = records;
        if missing.is_empty() {
            return Ok(missing);
        }
        let Ok(file) = File::open(self.path(at)) else { return Ok(missing) };
        for line in BufReader::new(file).split(b'\n') {
            if missing.is_empty() {
                break;
            }
            let line = line?;
            let has = |text: &str| memchr::memmem::find(&line, text.as_bytes()).is_some();
            missing.retain(|(_, cdr)| !(has(&cdr.call_id) && has(&cdr.from_tag)));
        }
        Ok(missing)
    }

    /// What is wrong with the file.
    pub(super) fn error(&self, source: io::Error) -> StoreError {
        StoreError::AccFile { path: self.pattern.clone(), source }
    }

    /// Appends records, all or none of them.
    pub(crate) fn append<'r>(&mut self, records: impl Iterator<Item = &'r Cdr<'r>>) -> io::Result<()> {
        let mut file = self.file(Local::now())?;
        let length = file.metadata()?.len();
        let Lines { is_csv, times, .. } = self;
        let mut bytes = Vec::new();
        match is_csv {
            true => {
                let mut writer = csv::WriterBuilder::new().has_headers(length == 0).from_writer(&mut bytes);
                for cdr in records {
                    writer.serialize(Record::of(cdr, times)).map_err(io::Error::other)?;
                }
                writer.flush()?;
            }
            false => {
                for cdr in records {
                    serde_json::to_writer(&mut bytes, &Record::of(cdr, times))?;
                    bytes.push(b'\n');
                }
            }
        }
        file.write_all(&bytes).inspect_err(|_| {
            // It is tried again.
            let _ = file.set_len(length);
        })
    }
}

impl Sink for Lines {
    fn name(&self) -> &'static str {
        "file"
    }

    fn write(&mut self, records: &[Numbered], in_doubt: u64) -> Result<Written, StoreError> {
        let (doubtful, new): (Vec<_>, Vec<_>) = records.iter().partition(|(seq, _)| *seq <= in_doubt);
        let appended = self.missing(doubtful, Local::now()).and_then(|missing| {
            let records = missing.into_iter().chain(new);
            self.append(records.map(|(_, cdr)| &**cdr))
        });
        appended.map_err(|source| self.error(source))?;
        Ok(Written::default())
    }
}

/// The last seconds as texts: most records of a while have the same.
#[derive(Debug, Default)]
struct Times(Vec<(u64, String)>);

impl Times {
    fn of(&mut self, unix_s: u64) -> String {
        if let Some((_, text)) = self.0.iter().find(|(known, _)| *known == unix_s) {
            return text.clone();
        }
        if self.0.len() == KNOWN_TIMES {
            self.0.remove(0);
        }
        let text = time(unix_s);
        self.0.push((unix_s, text.clone()));
        text
    }
}

/// As RFC 3339 has it, in local time.
fn time(unix_s: u64) -> String {
    let at = DateTime::from_timestamp(unix_s as i64, 0).unwrap_or_default();
    at.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roost_core::CallEnd;

    use super::*;
    use crate::calls::stored::call;

    fn records() -> Vec<Numbered> {
        let cdr =
            |number| Arc::new(Cdr::of(&call(number), CallEnd::CallerHungUp, 1_800_000_009).into_owned());
        (1..=3).map(|number| (u64::from(number), cdr(number))).collect()
    }

    #[test]
    fn csv_has_one_head_and_each_record_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Lines::open(&folder.path().join("%Y.csv")).unwrap();
        lines.write(&records()[..2], 0).unwrap();
        // All have the same Call-ID here: the first that is looked for is there.
        lines.write(&records()[2..], 0).unwrap();
        lines.write(&records()[..1], 1).unwrap();
        let path = folder.path().join(format!("{}.csv", Local::now().format("%Y")));
        let text = std::fs::read_to_string(path).unwrap();
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(rows.len(), 4, "{text}");
        assert!(
            rows[0].starts_with("begun,answered,ended,duration_s,") && rows[1].contains("sip:9001@a.test")
        );
    }

    #[test]
    fn json_lines_are_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        Lines::open(&path).unwrap().write(&records(), 0).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (text.lines().count(), &first["ended_by"], &first["sip_code"]),
            (3, &"caller".into(), &200.into())
        );
    }

    #[test]
    fn a_name_that_cannot_be_is_refused() {
        for name in ["/no/such/folder/x.csv", "%Q.csv"] {
            assert!(matches!(Lines::open(Path::new(name)), Err(StoreError::AccFile { .. })), "{name}");
        }
    }
}
