//! Who has changed what: a line of JSON for each change, in a file that only grows.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// So much of the file's end is shown.
const SHOWN: u64 = 512 << 10;
/// Characters of each text: no change hides those before it.
const MOST_TEXT: usize = 2_000;
/// And so many changes.
const MOST: usize = 200;

#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    /// One writes at a time.
    turn: Mutex<()>,
}

/// A change.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) who: &'a str,
    pub(crate) from: std::net::IpAddr,
    pub(crate) what: &'a str,
    /// What it was done to.
    pub(crate) of: &'a str,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
}

impl Audit {
    pub(crate) fn new(path: &Path) -> Audit {
        Audit { path: path.to_path_buf(), turn: Mutex::default() }
    }

    /// Writes a change down.
    ///
    /// # Errors
    /// The file cannot be written: then the change is not made.
    pub(crate) fn write(&self, change: &Change<'_>) -> Result<(), String> {
        let Change { who, from, what, .. } = change;
        let cut = |text: &str| -> String { text.chars().take(MOST_TEXT).collect() };
        let (of, before, after) = (cut(change.of), cut(change.before), cut(change.after));
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = json!({
            "time_s": at, "who": who, "from": from.to_string(), "what": what, "of": of, "before": before, "after": after
        });
        tracing::info!(who, %from, what, of, "changed in the console");
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        let written = file.as_mut().map_err(|error| error.to_string()).and_then(|file| {
            file.write_all(format!("{line}\n").as_bytes()).map_err(|error| error.to_string())
        });
        written.map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }

    /// The last changes, the newest first.
    pub(crate) fn last(&self) -> Vec<Value> {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).take(MOST).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_kept_in_order_and_what_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(&folder.path().join("audit.log"));
        assert!(audit.last().is_empty());
        for of in ["9001", "9002"] {
            let from = [127, 0, 0, 1].into();
            audit.write(&Change { who: "ada", from, what: "password", of, before: "", after: "" }).unwrap();
        }
        let last = audit.last();
        assert_eq!((&last[0]["of"], &last[1]["of"]), (&json!("9002"), &json!("9001")));
        let nowhere = Audit::new(Path::new("/nowhere/audit.log"));
        let from = [127, 0, 0, 1].into();
        assert!(
            nowhere.write(&Change { who: "a", from, what: "b", of: "c", before: "", after: "" }).is_err()
        );
    }
}
