//! Who has changed what: lines of JSON in a file that only grows. A change is one line before it is made, and one of the same
//! `id` that says what became of it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// The last number that was given. One writes at a time.
    last_id: Mutex<u64>,
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

/// What was made, and what of it is not as it should be yet; that is for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome<Done> {
    pub(crate) done: Done,
    pub(crate) but: Option<String>,
}

impl<Done> Outcome<Done> {
    pub(crate) fn wholly(done: Done) -> Outcome<Done> {
        Outcome { done, but: None }
    }
}

impl Audit {
    pub(crate) fn new(path: &Path) -> Audit {
        Audit { path: path.to_path_buf(), last_id: Mutex::default() }
    }

    /// Makes a change of somebody, from an address, once it is written down; what became of it is written down, too.
    ///
    /// # Errors
    /// It cannot be written down, or why it came to nothing.
    pub(crate) async fn carried_out<Done, Failure: ToString + From<String>>(
        &self,
        (who, from): (&str, IpAddr),
        change: Change<'_>,
        work: impl Future<Output = Result<Outcome<Done>, Failure>>,
    ) -> Result<Outcome<Done>, Failure> {
        let Change { what, of, .. } = change;
        let id = self.begin((who, from), change)?;
        let done = work.await;
        let (outcome, why) = match &done {
            Ok(Outcome { but, .. }) => {
                let but = but.clone().unwrap_or_default();
                tracing::info!(who, %from, what, of, but, "changed in the console");
                ("made", but)
            }
            Err(failure) => {
                let why = failure.to_string();
                tracing::warn!(who, %from, what, of, why, "not changed in the console");
                ("failed", why)
            }
        };
        let line = json!({ "id": id, "time_s": now_us() / 1_000_000, "outcome": outcome, "why": cut(&why) });
        if let Err(error) = self.append(&self.turn(), &line) {
            tracing::error!(error, "the audit log cannot be written");
        }
        done
    }

    /// Its number.
    fn begin(&self, (who, from): (&str, IpAddr), change: Change<'_>) -> Result<u64, String> {
        let Change { what, of, before, after } = change;
        let mut last = self.turn();
        let at_us = now_us();
        // Numbers of another run are lower, too.
        *last = at_us.max(*last + 1);
        let line = json!({
            "id": *last, "time_s": at_us / 1_000_000, "who": who, "from": from.to_string(), "what": what,
            "of": cut(of), "before": cut(before), "after": cut(after),
        });
        self.append(&last, &line)?;
        Ok(*last)
    }

    fn append(&self, _turn: &MutexGuard<'_, u64>, line: &Value) -> Result<(), String> {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        let written = file.as_mut().map_err(|error| error.to_string()).and_then(|file| {
            file.write_all(format!("{line}\n").as_bytes()).map_err(|error| error.to_string())
        });
        written.map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }

    fn turn(&self) -> MutexGuard<'_, u64> {
        self.last_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last changes with their `outcome` (`made`, `failed`; null: it is under way, or the server ended meanwhile) and `why`, the newest
    /// first.
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
        let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        // What became of a change stands behind it.
        let mut outcomes = HashMap::new();
        let mut changes = Vec::new();
        for mut line in lines {
            let id = line["id"].as_u64();
            if line.get("what").is_none() {
                outcomes.insert(id, line);
                continue;
            }
            if let Some(mut outcome) = outcomes.remove(&id) {
                for name in ["outcome", "why"] {
                    line[name] = outcome[name].take();
                }
            }
            changes.push(line);
            if changes.len() == MOST {
                break;
            }
        }
        changes
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

/// Microseconds of unix time.
fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_written_down_before_it_is_made_and_so_is_what_became_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(&folder.path().join("audit.log"));
        let ada = ("ada", [127, 0, 0, 1].into());
        assert!(audit.last().is_empty());
        let change = |of| Change { what: "password", of, ..Change::default() };
        // While it is made nobody knows what will become of it.
        let seen = async { Ok::<_, String>(Outcome::wholly(audit.last())) };
        let seen = audit.carried_out(ada, change("9001"), seen).await.unwrap().done;
        assert!(seen.len() == 1 && seen[0].get("outcome").is_none(), "{seen:?}");
        let failing = async { Err::<Outcome<()>, _>("no such extension".to_string()) };
        assert!(audit.carried_out(ada, change("9002"), failing).await.is_err());
        let partly = async { Ok::<_, String>(Outcome { done: (), but: Some("not yet".to_string()) }) };
        assert!(audit.carried_out(ada, change("9003"), partly).await.is_ok());
        let last = audit.last();
        let told: Vec<_> = last.iter().map(|one| json!([one["of"], one["outcome"], one["why"]])).collect();
        assert_eq!(
            json!(told),
            json!([
                ["9003", "made", "not yet"],
                ["9002", "failed", "no such extension"],
                ["9001", "made", ""]
            ])
        );
        // What cannot be written down is not made.
        let nowhere = Audit::new(Path::new("/nowhere/audit.log"));
        let never = async { panic!("it was made") };
        assert!(nowhere.carried_out::<(), String>(ada, change("9001"), never).await.is_err());
    }
}
