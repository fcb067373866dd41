//! Who has changed what: a line of JSON for each change, in a file that only grows.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;
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
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change<'a> {
    pub(crate) what: &'a str,
    /// What it is done to.
    pub(crate) of: &'a str,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
}

impl Audit {
    pub(crate) fn new(path: &Path) -> Audit {
        Audit { path: path.to_path_buf(), turn: Mutex::default() }
    }

    /// Makes a change of somebody, from an address, once it is written down; that it came to nothing is written down, too.
    ///
    /// # Errors
    /// It cannot be written down, or why it came to nothing.
    pub(crate) async fn carried_out<Done>(
        &self,
        (who, from): (&str, IpAddr),
        change: Change<'_>,
        work: impl Future<Output = Result<Done, String>>,
    ) -> Result<Done, String> {
        let Change { what, of, .. } = change;
        self.write((who, from), change, "")?;
        let done = work.await;
        match &done {
            Ok(_) => tracing::info!(who, %from, what, of, "changed in the console"),
            Err(failure) => {
                tracing::warn!(who, %from, what, of, failure, "not changed in the console");
                if let Err(error) = self.write((who, from), change, failure) {
                    tracing::error!(%error, "the audit log cannot be written");
                }
            }
        }
        done
    }

    fn write(&self, (who, from): (&str, IpAddr), change: Change<'_>, failure: &str) -> Result<(), String> {
        let cut = |text: &str| -> String { text.chars().take(MOST_TEXT).collect() };
        let Change { what, of, before, after } = change;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = json!({
            "time_s": at, "who": who, "from": from.to_string(), "what": what, "of": cut(of),
            "before": cut(before), "after": cut(after), "failure": cut(failure),
        });
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

    #[tokio::test]
    async fn a_change_is_written_down_before_it_is_made_and_again_if_it_came_to_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(&folder.path().join("audit.log"));
        let ada = ("ada", [127, 0, 0, 1].into());
        assert!(audit.last().is_empty());
        let change = |of| Change { what: "password", of, ..Change::default() };
        let seen = async { Ok(audit.last().len()) };
        assert_eq!(audit.carried_out(ada, change("9001"), seen).await, Ok(1));
        let failing = async { Err::<(), _>("no such extension".to_string()) };
        assert!(audit.carried_out(ada, change("9002"), failing).await.is_err());
        let last = audit.last();
        let told: Vec<_> = last.iter().map(|one| (&one["of"], &one["failure"])).collect();
        let [none, why] = [json!(""), json!("no such extension")];
        let [one, other] = [json!("9001"), json!("9002")];
        assert_eq!(told, [(&other, &why), (&other, &none), (&one, &none)]);
        // What cannot be written down is not made.
        let nowhere = Audit::new(Path::new("/nowhere/audit.log"));
        let never = async { panic!("it was made") };
        assert!(nowhere.carried_out::<()>(ada, change("9001"), never).await.is_err());
    }
}
