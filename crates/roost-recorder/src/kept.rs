//! What is remembered, in a file over a restart: a JSON object a line, who was heard of longest ago first.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use roost_core::{CallEnd, Gone, Reason};
use serde::{Deserialize, Serialize};

use crate::Recorder;
use crate::life::Life;
use crate::note::{CallOutcome, Note, What};

/// The longest line that is read: a life has 2 kB, and JSON may need some more.
const MAX_LINE: usize = 64 << 10;

#[derive(Serialize, Deserialize)]
struct KeptLife {
    aor: String,
    /// Whether it is an extension, as far as is known.
    is_known: bool,
    notes: Vec<KeptNote>,
}

#[derive(Serialize, Deserialize)]
struct KeptNote {
    what: String,
    /// A reason's word, or how a call ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    word: String,
    /// What belongs to it, by its kind.
    #[serde(default)]
    numbers: [i64; 3],
    first_ms: u64,
    last_ms: u64,
    count: u32,
    #[serde(default)]
    granted_s: u32,
    source: Option<SocketAddr>,
    #[serde(default)]
    text: Box<str>,
    #[serde(default)]
    call_id: Box<str>,
}

impl Recorder {
    /// Writes everything to a file, in place of what was there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = BufWriter::new(File::create(&beside)?);
        let inner = self.inner();
        for (shelf, is_known) in [(&inner.strangers, false), (&inner.extensions, true)] {
            for (aor, life) in shelf.iter().rev() {
                let Ok(aor) = std::str::from_utf8(aor) else { continue };
                let kept = KeptLife {
                    aor: aor.to_string(),
                    is_known,
                    notes: life.notes().map(KeptNote::of).collect(),
                };
                serde_json::to_writer(&mut file, &kept)?;
                file.write_all(b"\n")?;
            }
        }
        file.into_inner()?.sync_all()?;
        std::fs::rename(&beside, path)
    }

    /// Takes up what such a file holds, and removes it: after a crash it would be out of date. How many lives it held; what
    /// cannot be read is passed over.
    ///
    /// # Errors
    /// There is a file that cannot be read.
    pub fn load(&self, path: &Path) -> io::Result<usize> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut inner = self.inner();
        let mut taken = 0;
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            let kept = serde_json::from_slice::<KeptLife>(&line).ok().filter(|_| line.len() <= MAX_LINE);
            let Some(kept) = kept else { continue };
            let mut life = Life::default();
            kept.notes.into_iter().filter_map(KeptNote::get).for_each(|note| life.add(note));
            let shelf = if kept.is_known { &mut inner.extensions } else { &mut inner.strangers };
            if life.last().is_some() && shelf.peek(kept.aor.as_bytes()).is_none() {
                shelf.put(kept.aor.as_bytes(), life);
                taken += 1;
            }
        }
        drop(inner);
        std::fs::remove_file(path)?;
        Ok(taken)
    }
}

impl KeptNote {
    fn of(note: &Note) -> KeptNote {
        let (what, word, numbers) = match note.what {
            What::Challenged { reason, is_register } => {
                ("challenged", reason.word(), [i64::from(is_register), 0, 0])
            }
            What::Refused { code, reason, is_register } => {
                ("refused", reason.word(), [i64::from(code), i64::from(is_register), 0])
            }
            What::Registered => ("registered", String::new(), [0; 3]),
            What::Refreshed { least_left_ms, moves } => {
                ("refreshed", String::new(), [least_left_ms, i64::from(moves), 0])
            }
            What::Gone(why) => ("gone", why.word().to_string(), [0; 3]),
            What::FlowLost => ("flow-lost", String::new(), [0; 3]),
            What::PingsLost(count) => ("pings-lost", String::new(), [i64::from(count), 0, 0]),
            What::NotStored => ("not-stored", String::new(), [0; 3]),
            What::Banned { seconds } => ("banned", String::new(), [seconds as i64, 0, 0]),
            What::CallRefused { code, reason, is_caller } => {
                ("call-refused", reason.word(), [i64::from(code), i64::from(is_caller), 0])
            }
            What::WasCalled(outcome) => call("was-called", outcome),
            What::CalledOthers(outcome) => call("called-others", outcome),
        };
        KeptNote {
            what: what.to_string(),
            word,
            numbers,
            first_ms: note.first_ms,
            last_ms: note.last_ms,
            count: note.count,
            granted_s: note.granted_s,
            source: note.source,
            text: note.text.clone(),
            call_id: note.call_id.clone(),
        }
    }

    /// The note again; `None` for what no roost has written.
    fn get(self) -> Option<Note> {
        let [first, second, third] = self.numbers;
        let reason = || Reason::ALL.iter().copied().find(|reason| reason.word() == self.word);
        let outcome = || {
            let end = end_of(&self.word, third as u16)?;
            // Where nobody rang it is less than 0.
            let (has_rung, rang_s) = if first < 0 { (false, -1 - first) } else { (true, first) };
            Some(CallOutcome { end, has_rung, rang_s: rang_s as u32, talked_s: second as u32 })
        };
        let what = match self.what.as_str() {
            "challenged" => What::Challenged { reason: reason()?, is_register: first != 0 },
            "refused" => What::Refused { code: first as u16, reason: reason()?, is_register: second != 0 },
            "call-refused" => {
                What::CallRefused { code: first as u16, reason: reason()?, is_caller: second != 0 }
            }
            "registered" => What::Registered,
            "refreshed" => What::Refreshed { least_left_ms: first, moves: second as u32 },
            "gone" => What::Gone(Gone::ALL.into_iter().find(|why| why.word() == self.word)?),
            "flow-lost" => What::FlowLost,
            "pings-lost" => What::PingsLost(first as u32),
            "not-stored" => What::NotStored,
            "banned" => What::Banned { seconds: first as u64 },
            "was-called" => What::WasCalled(outcome()?),
            "called-others" => What::CalledOthers(outcome()?),
            _ => return None,
        };
        let KeptNote { first_ms, last_ms, count, granted_s, source, text, call_id, .. } = self;
        Some(Note { what, first_ms, last_ms, count, granted_s, source, text, call_id })
    }
}

fn call(what: &'static str, outcome: CallOutcome) -> (&'static str, String, [i64; 3]) {
    let CallOutcome { end, rang_s, has_rung, talked_s } = outcome;
    let rang_s = if has_rung { i64::from(rang_s) } else { -1 - i64::from(rang_s) };
    let (word, code) = match end {
        CallEnd::Failed(code) => ("failed", code),
        end => (end.as_str(), 0),
    };
    (what, word.to_string(), [rang_s, i64::from(talked_s), i64::from(code)])
}

fn end_of(word: &str, code: u16) -> Option<CallEnd> {
    const ENDS: [CallEnd; 6] = [
        CallEnd::CallerHungUp,
        CallEnd::CalleeHungUp,
        CallEnd::Operator,
        CallEnd::CallerGone,
        CallEnd::CalleeGone,
        CallEnd::Timeout,
    ];
    match word {
        "failed" => Some(CallEnd::Failed(code)),
        word => ENDS.into_iter().find(|end| end.as_str() == word),
    }
}
