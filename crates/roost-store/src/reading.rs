//! Whole readings of the subscriber table: at start, and again and again while the server runs, so that a phone's
//! first REGISTER after a restart waits for no query. Only what is new or has changed is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use roost_core::{Reading, Secrets, SubscriberRow};

use crate::error::StoreError;
use crate::job::{Preload, ReadTold, spawn};
use crate::link::Link;
use crate::store::Store;
use crate::value::Value;

/// Rows that are told at once.
const CHUNK: usize = 512;
/// A reading takes at most this part of one core's time.
const PART: u32 = 50;

/// The thread that reads the table again and again; dropping it ends it.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    thread: Option<JoinHandle<()>>,
    stop: Option<Sender<()>>,
}

impl Readings {
    /// Reads the table once before it returns, then in a thread. A table with more than `preload.limit` rows is not
    /// kept in memory: its users are looked up one by one.
    pub(crate) fn start(store: &Store, preload: Preload) -> Result<Readings, StoreError> {
        let Preload { limit, every, mut tell } = preload;
        let mut none = Readings::default();
        if limit == 0 || every.is_zero() {
            return Ok(none);
        }
        let mut reader = Reader::new(store, limit);
        let begun = Instant::now();
        match reader.read(&mut *tell)? {
            Some(rows) => {
                tracing::debug!(rows, milliseconds = begun.elapsed().as_millis() as u64, "subscribers read");
            }
            None => {
                tracing::info!(
                    limit,
                    "more subscribers than auth_db.preload: each is looked up when it is needed"
                );
                return Ok(none);
            }
        }
        let (stop, stopped) = channel();
        let took = begun.elapsed();
        let run = move || read_again(&mut reader, every.max(took * PART), &mut *tell, &stopped);
        none.thread = Some(spawn("roost-readings", run)?);
        none.stop = Some(stop);
        Ok(none)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.stop.is_some() && self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Readings {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_again(
    reader: &mut Reader,
    mut every: Duration,
    tell: &mut dyn FnMut(ReadTold),
    stopped: &Receiver<()>,
) {
    let shortest = every;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
        let begun = Instant::now();
        match reader.read(tell) {
            Ok(_) => every = shortest.max(begun.elapsed() * PART),
            // What is in memory counts until its time is over; then each user is looked up.
            Err(error) => tracing::warn!(%error, "subscriber cannot be read"),
        }
    }
}

/// Reads the table and remembers of each row a fingerprint.
struct Reader {
    link: Link,
    sql: String,
    seen: Seen,
}

/// What was read before.
struct Seen {
    limit: usize,
    use_domain: bool,
    /// By the hash of user and domain: that of the secrets, and the reading that it was seen in last.
    rows: HashMap<u64, (u64, u32)>,
    hasher: RandomState,
    reading: u32,
    count: usize,
    chunk: Vec<SubscriberRow>,
}

impl Reader {
    fn new(store: &Store, limit: usize) -> Reader {
        Reader {
            link: Link::new(store.database.clone()),
            sql: format!("SELECT {} FROM subscriber", store.lookup_columns().join(", ")),
            seen: Seen {
                limit,
                use_domain: store.columns.use_domain,
                rows: HashMap::new(),
                hasher: RandomState::new(),
                reading: 0,
                count: 0,
                chunk: Vec::new(),
            },
        }
    }

    /// How many rows there are; `None`, and nothing more is told, when there are too many.
    fn read(&mut self, tell: &mut dyn FnMut(ReadTold)) -> Result<Option<usize>, StoreError> {
        self.seen.begin(tell);
        let Reader { link, sql, seen } = self;
        let is_whole = link.run(|client| {
            client.each(sql, &[], &mut |row| {
                let columns: Vec<_> = row.into_iter().map(Value::into_bytes).collect();
                <[Box<[u8]>; 6]>::try_from(columns).is_ok_and(|columns| seen.take(columns, tell))
            })
        })?;
        Ok(if is_whole { Some(self.seen.end(tell)) } else { None })
    }
}

impl Seen {
    fn begin(&mut self, tell: &mut dyn FnMut(ReadTold)) {
        tell(ReadTold::Begin);
        self.reading = self.reading.wrapping_add(1);
        self.count = 0;
        self.chunk.clear();
    }

    /// Takes a row: user, domain and the four secrets; false when there are too many.
    fn take(&mut self, row: [Box<[u8]>; 6], tell: &mut dyn FnMut(ReadTold)) -> bool {
        let [user, domain, password, password_2, sha256, sha512t256] = row;
        let domain = if self.use_domain { domain.to_ascii_lowercase() } else { Vec::new() };
        let secrets = Secrets { password, password_2, sha256, sha512t256 };
        let name = self.hasher.hash_one((&user, &domain));
        let Secrets { password, password_2, sha256, sha512t256 } = &secrets;
        let print = self.hasher.hash_one((password, password_2, sha256, sha512t256));
        match self.rows.entry(name) {
            // Without domains the first of a user's rows is the user's.
            Entry::Occupied(known) if known.get().1 == self.reading => return true,
            Entry::Occupied(mut known) => {
                let is_same = known.get().0 == print;
                known.insert((print, self.reading));
                self.count += 1;
                if is_same {
                    return true;
                }
            }
            Entry::Vacant(place) => {
                place.insert((print, self.reading));
                self.count += 1;
            }
        }
        if self.count > self.limit {
            return false;
        }
        self.chunk.push(SubscriberRow { user, domain: domain.into(), secrets });
        if self.chunk.len() == CHUNK {
            tell(ReadTold::Part(Reading::Rows(std::mem::take(&mut self.chunk))));
        }
        true
    }

    /// All rows were taken; how many there are.
    fn end(&mut self, tell: &mut dyn FnMut(ReadTold)) -> usize {
        if !self.chunk.is_empty() {
            tell(ReadTold::Part(Reading::Rows(std::mem::take(&mut self.chunk))));
        }
        if self.count < self.rows.len() {
            self.rows = HashMap::new();
            tell(ReadTold::Part(Reading::SomeGone));
        } else {
            tell(ReadTold::Part(Reading::Done));
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Columns};

    fn told(reader: &mut Reader) -> (Option<usize>, Vec<String>) {
        let mut told = Vec::new();
        let count = reader
            .read(&mut |part| match part {
                ReadTold::Part(Reading::Rows(rows)) => told.extend(rows.iter().map(|row| {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    format!("{}@{}={}", text(&row.user), text(&row.domain), text(&row.secrets.password))
                })),
                ReadTold::Part(Reading::SomeGone) => told.push("gone".to_string()),
                ReadTold::Part(Reading::Done) => told.push("done".to_string()),
                ReadTold::Begin => {}
            })
            .unwrap();
        (count, told)
    }

    #[test]
    fn each_reading_tells_what_is_new_or_changed() {
        let folder = tempfile::tempdir().unwrap();
        let columns = Columns { use_domain: true, ..Columns::default() };
        let store = Store::open("sqlite:test.db", folder.path(), &Access::default(), columns).unwrap();
        let mut reader = Reader::new(&store, 3);
        let run = |sql: &str| store.sqlite().execute_batch(sql).unwrap();
        run(
            "INSERT INTO subscriber (username, domain, password) VALUES ('1', 'A.com', 'x'), ('2', 'a.com', 'y')",
        );
        let line = |text: &[&str]| text.iter().map(|line| (*line).to_string()).collect::<Vec<_>>();
        assert_eq!(told(&mut reader), (Some(2), line(&["1@a.com=x", "2@a.com=y", "done"])));
        assert_eq!(told(&mut reader), (Some(2), line(&["done"])));
        run("UPDATE subscriber SET password = 'z' WHERE username = '2'");
        assert_eq!(told(&mut reader), (Some(2), line(&["2@a.com=z", "done"])));
        run("DELETE FROM subscriber WHERE username = '1'");
        assert_eq!(told(&mut reader), (Some(1), line(&["gone"])));
        assert_eq!(told(&mut reader), (Some(1), line(&["2@a.com=z", "done"])));
        run("INSERT INTO subscriber (username, domain) VALUES ('3', 'b'), ('4', 'b'), ('5', 'b')");
        assert_eq!(told(&mut reader), (None, Vec::new()));
    }
}
